"""The figures of a report: functions from a `Report` to a Matplotlib Figure.

`of_report` draws all; the others draw one each, and raise a ValueError for a report that lacks its
numbers. A stage with a grid is shown by one cell (`Report.representatives`), except in a sweep. A
stage has one colour in all figures.
"""

import functools
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kdjax import drawing
from kdjax.drawing import COLOURS, INK, LINES, MUTED, band, is_wide, legend, log_axis, tidy
from kdjax.pictures import mistakes, soft_targets
from kdjax.report.report import Report
from kdjax.report.rows import ENSEMBLE, count_members, swept
from kdjax.report.table import errors
from kdjax.tables import spread

TICKS = 12  # most values of an axis that each have a tick


def of_report(report: Report) -> dict[str, Figure]:
    """Every figure that the report has the numbers for, by file name."""
    figures: dict[str, tuple[Callable[[Report], Figure], Any]] = {}
    figures["errors_against_parameters"] = errors_against_parameters, report.representatives
    for axis in swept(report.rows):
        figures[f"sweep_{axis}"] = functools.partial(sweep, axis=axis), axis
    figures["missing_classes"] = missing_classes, report.missing
    figures["soft_targets"] = (lambda r: soft_targets(**r.soft_targets or {})), report.soft_targets
    figures["mistakes"] = (lambda r: mistakes(**r.mistakes or {})), report.mistakes
    figures["reliability"] = reliability, report.calibration
    figures["training_curves"] = training_curves, report.curves_shown
    return {name: draw(report) for name, (draw, numbers) in figures.items() if numbers}


def training_curves(report: Report) -> Figure:
    """Loss and validation errors against steps: means over members, bands of one s.d."""
    curves, styles = _checked(report.curves_shown, "curves"), _styles(report)
    names = [f"{row.label} ({count_members([row])})" for row, _ in curves]
    columns = max(1, 100 // (8 + max(map(len, names))))  # of the legend
    figure = drawing.new_figure(8, 3.4 + 0.22 * math.ceil(len(names) / columns))
    left, right = figure.subplots(1, 2)
    losses = [np.array(curve["loss"], float) for _, curve in curves]
    wrongs = [100 * (1 - np.array(curve["validation_accuracy"], float)) for _, curve in curves]
    for axes, values, log, y in (
        (left, losses, _means(losses).min() > 0, "training loss (kinds do not compare)"),
        (right, wrongs, is_wide(_means(wrongs)), "validation errors (%)"),
    ):
        for (row, curve), name, each in zip(curves, names, values, strict=True):
            band(axes, curve["step"], each, log, label=name, **styles[row.stage])
        if log:
            axes.set_ylim(bottom=_means(values).min() / 2)  # a band may reach 0
            log_axis(axes.yaxis)
        drawing.count_axis(axes.xaxis)
        tidy(axes, "training step", y)
    legend(figure, columns, left)
    return figure


def errors_against_parameters(report: Report) -> Figure:
    """One point per row, with an arrow from the largest ensemble to the best student of each size.

    Bars of rows of one size lie on each other: the fewer errors, the wider the caps. Ensembles of
    unknown size, as of logits from elsewhere, are left out.
    """
    known = [row for row in report.representatives if math.isfinite(row.parameters)]
    rows = _checked(sorted(known, key=lambda r: -r.mean("errors")), "errors")
    styles, sizes = _styles(report), [row.parameters for row in rows]
    text = lambda r: f"{r.label}: {errors(r)}" + f" ({count_members([r])})" * (not r.is_ensemble)
    names = [textwrap.fill(text(row), 48) for row in rows]
    figure = drawing.new_figure(8, max(4.4, 1 + 0.2 * sum(1 + n.count("\n") for n in names)))
    axes = figure.subplots()
    points: list[tuple] = []
    students: dict[int, tuple[float, float]] = {}
    ensembles: dict[str, list] = {}
    for i, row in enumerate(rows):
        point, marker = (row.parameters, row.mean("errors")), "D" if row.is_ensemble else "o"
        style = {"color": styles[row.stage]["color"], "marker": marker, "markersize": 5, "lw": 1.2}
        cap = 2 + 1.5 * sizes[:i].count(row.parameters)
        axes.errorbar(*point, row.std("errors"), capsize=cap, **style)
        points.append((*point, names[i], style["color"]))
        if row.stage in report.taught:
            students[row.parameters] = point  # in the end, the best
        if row.is_ensemble:
            ensembles.setdefault(row.stage, []).append(point)
    for stage, line in ensembles.items():
        axes.plot(*zip(*sorted(line), strict=True), color=styles[stage]["color"], lw=0.8, zorder=1)
    for student in students.values() if len(ensembles) == 1 else ():
        [largest] = map(max, ensembles.values())
        style = {"arrowstyle": "->", "color": MUTED, "ls": "--", "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", student, largest, arrowprops=style, zorder=1)
        axes.set_title("arrows: from the ensemble to its best student of each size", fontsize=9)
    if is_wide(sizes):
        log_axis(axes.xaxis)
    drawing.count_axis(axes.yaxis)
    y = f"{_errors(report)}, mean ± s.d. over n members"
    tidy(axes, "parameters (of an ensemble: of all members)", y)
    drawing.name_points(axes, points)
    return figure


def sweep(report: Report, axis: str) -> Figure:
    """Errors against an axis such as "temperature", of the stages that are swept along it alone."""
    found, styles = swept(report.rows), _styles(report)
    if axis not in found:
        raise ValueError(f"no stage is swept along {axis!r} alone; swept: {', '.join(found)}")
    stages = [list(own) for _, own in itertools.groupby(found[axis], lambda row: row.stage)]
    wrongs = [np.array([r.metrics["errors"]["values"] for r in own], float) for own in stages]
    figure = drawing.new_figure(6.5, 3.8 + 0.2 * len(stages))
    axes = figure.subplots()
    wide = len(stages) > 1 and is_wide(_means(wrongs))
    for own, wrong in zip(stages, wrongs, strict=True):
        stage, x = own[0].stage, [row.cell[axis] for row in own]
        style = {"marker": "o", "markersize": 5, "label": f"{stage} ({count_members(own)})"}
        band(axes, x, wrong, wide, **styles[stage] | style)
    ticks = sorted({row.cell[axis] for row in found[axis]})
    if is_wide(ticks):
        log_axis(axes.xaxis)
    if len(ticks) <= TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    (log_axis if wide else drawing.count_axis)(axes.yaxis)
    tidy(axes, axis.replace("_", " "), _errors(report))
    legend(figure, 2)
    return figure


def missing_classes(report: Report) -> Figure:
    """Errors against the shift of the missing classes' biases, a panel for each student."""
    students = _checked(report.missing, "missing")
    figure, each = drawing.panels(len(students), columns=2, height=3.0)
    for axes, student in zip(each, students, strict=True):
        every, some = (np.array(student["curve"][k], float) for k in ("errors", "missing_errors"))
        for kind, values, i in (
            ("all", every, 6),
            ("missing", some, 1),
            ("other", every - some, 0),
        ):
            style: dict[str, Any] = {"color": COLOURS[i], "linestyle": LINES[i % len(LINES)]}
            band(axes, student["curve"]["shift"], values.T, label=f"{kind} classes", **style)
        for repair, marker, text in (
            ("matched", "o", "shift matched without labels"),
            ("best", "*", "best shift on these labels"),
        ):
            mean = {name: np.mean(values) for name, values in student[repair].items()}
            style = {"marker": marker, "markersize": 8, "linestyle": "", "color": INK}
            points = [mean["shift"]] * 2, [mean["errors"], mean["missing_errors"]]
            axes.plot(*points, markerfacecolor="white", label=text, **style)
        names = ", ".join(drawing.short(report.class_names[c], str(c)) for c in student["classes"])
        missing = textwrap.fill(f"missing: {names} (n = {len(some)})", 45)
        title = f"{textwrap.fill(student['label'], 45)}\n{missing}"
        tidy(axes, "shift of the missing classes' biases (logits)", _errors(report), title)
        drawing.count_axis(axes.yaxis)
    note = "curves: one shift for all, mean over the n members, band: ± 1 s.d."
    legend(figure, 3, each[0], f"{note}\nmarks: means, each member with its own shift")
    return figure


def reliability(report: Report) -> Figure:
    """Accuracy against confidence, a panel for each stage and ensemble (arXiv 1706.04599)."""
    calibration = _checked(report.calibration, "calibration")
    figure, each = drawing.panels(len(calibration), columns=3, height=2.5)
    for axes, found in zip(each, calibration, strict=True):
        row = report.row(found["label"])
        style = {"color": _styles(report)[row.stage]["color"], "zorder": 3}
        count, confidence, accuracy = (
            np.ma.masked_invalid(np.array(found[name], float))  # [M, bins]
            for name in ("count", "confidence", "accuracy")
        )
        x, y = ((count * v).sum(axis=0) / count.sum(axis=0) for v in (confidence, accuracy))
        std = np.ma.masked_where((count == 0).any(axis=0), drawing.mean_and_std(accuracy.T)[1])
        share = count.sum(axis=0) / count.sum()
        x, y, std, share = (values[~np.ma.getmaskarray(x)] for values in (x, y, std, share))
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, linestyle="--")
        bars = [np.ma.minimum(std, room).filled(np.nan) for room in (y, 1 - y)]
        axes.errorbar(x, y, bars, fmt="none", elinewidth=1, capsize=2, **style)
        axes.scatter(x, y, 8 + 120 * share, linewidths=0, **style)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.08), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        numbers = f"{count_members([row])}, ECE {spread(row.metrics['ece'], '.3f')}"
        y = "accuracy" if each.index(axes) % 3 == 0 else ""
        tidy(axes, "confidence", y, f"{textwrap.fill(row.label, 30)}\n{numbers}")
    note = "point: all n members' examples in a bin, area: their share"
    legend(figure, 1, each[0], f"{note}\nbar: ± 1 s.d. over the members, where each has examples")
    return figure


def _means(populations: Sequence[np.ndarray]) -> np.ma.MaskedArray:
    """Every mean over members of these [S, M]."""
    return np.ma.concatenate([drawing.mean_and_std(values)[0] for values in populations])


def _checked(numbers: Sequence[Any], name: str) -> Sequence[Any]:
    if not numbers:
        raise ValueError(f"the report has no {name} to draw")
    return numbers


def _styles(report: Report) -> dict[str, dict[str, Any]]:
    """Colour and line of each stage; an ensemble's are its members'."""
    names = list(dict.fromkeys(row.stage.removesuffix(ENSEMBLE) for row in report.rows))
    cycle = itertools.cycle({"color": c} for c in COLOURS), itertools.cycle(LINES)
    styles = {n: c | {"linestyle": line} for n, c, line in zip(names, *cycle, strict=False)}
    return {row.stage: styles[row.stage.removesuffix(ENSEMBLE)] for row in report.rows}


def _errors(report: Report) -> str:
    return f"{report.evaluate} errors (of {report.examples[report.evaluate]:,})"
