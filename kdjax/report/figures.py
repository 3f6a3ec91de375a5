"""The figures of a report: functions from a `report.Report` to a matplotlib Figure.

`of_report` draws all; the others draw one each, and refuse a report that lacks its numbers. A
stage with a grid is shown by one cell (`Report.representatives`), except in a sweep. A stage has
one colour in all figures.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kdjax.data.sources import numbered
from kdjax.report.drawing import (
    COLOURS,
    INK,
    LINES,
    MUTED,
    band,
    count_axis,
    is_wide,
    legend,
    log_axis,
    mean_and_std,
    new_figure,
    panels,
    place_labels,
    short,
    tidy,
)
from kdjax.report.report import ENSEMBLE, Report, Row, count_members, swept

SHOWN = 10  # most classes of one bar chart
MANY = 3  # most ensembles of a stage that each have a name
TICKS = 12  # most values of an axis that each have a tick


def of_report(report: Report) -> dict[str, Figure]:
    """Every figure that the report has the numbers for, by file name."""
    figures = {}
    if report.representatives:
        figures["errors_against_parameters"] = errors_against_parameters(report)
    for axis in swept(report.rows):
        figures[f"sweep_{axis}"] = sweep(report, axis)
    if report.missing:
        figures["missing_classes"] = missing_classes(report)
    if report.soft_targets:
        figures["soft_targets"] = soft_targets(**report.soft_targets)
    if report.calibration:
        figures["reliability"] = reliability(report)
    if report.curves_shown:
        figures["training_curves"] = training_curves(report)
    return figures


def training_curves(report: Report) -> Figure:
    """Loss and validation errors against steps: means over members, bands of one s.d."""
    curves, styles = report.curves_shown, _styles(report)
    _demand(curves, "curves")
    names = [f"{row.label} ({count_members([row])})" for row, _ in curves]
    columns = max(1, 100 // (8 + max(map(len, names))))  # of the legend
    figure = new_figure(8, 3.4 + 0.22 * math.ceil(len(names) / columns))
    left, right = figure.subplots(1, 2)
    losses = [np.array(curve["loss"], float) for _, curve in curves]
    errors = [100 * (1 - np.array(curve["validation_accuracy"], float)) for _, curve in curves]
    falls, wide = _means(losses).min() > 0, is_wide(_means(errors))
    for (row, curve), name, loss, wrong in zip(curves, names, losses, errors, strict=True):
        style = styles[row.stage]
        band(left, curve["step"], loss, falls, label=name, **style)
        band(right, curve["step"], wrong, wide, **style)
    left.set_ylabel("training loss (kinds do not compare)", fontsize=9)
    right.set_ylabel("validation errors (%)", fontsize=9)
    if falls:
        log_axis(left.yaxis)
    if wide:
        right.set_ylim(bottom=_means(errors).min() / 2)  # a band may reach 0
        log_axis(right.yaxis)
    for axes in (left, right):
        axes.set_xlabel("training step", fontsize=9)
        count_axis(axes.xaxis)
        tidy(axes)
    legend(figure, columns)
    return figure


def errors_against_parameters(report: Report) -> Figure:
    """One point per row, with an arrow from the largest ensemble to the best student of each size.

    Rows of the same size stand side by side, so that their bars do not hide each other. Of a
    stage's many ensembles the smallest and the largest are named, the others on a line between.
    """
    rows = sorted(report.representatives, key=lambda row: -row.mean("errors"))
    _demand(rows, "errors")
    styles, sizes = _styles(report), [row.parameters for row in rows]
    span = max(10.0, max(sizes) / min(sizes))
    figure = new_figure(7, 4.4)
    axes = figure.subplots()
    points, labels, students, unnamed = [], [], {}, _between(rows)
    for i, row in enumerate(rows):
        same = sizes.count(row.parameters)
        place = sizes[:i].count(row.parameters) - (same - 1) / 2
        x, y = row.parameters * span ** (place * min(0.03, 0.2 / same)), row.mean("errors")
        colour, half = styles[row.stage]["color"], row.std("errors")
        marker = "D" if row.is_ensemble else "o"
        axes.errorbar(x, y, half, color=colour, marker=marker, markersize=5, lw=1.2, capsize=2)
        points.append((x, y, half or 0))
        text = row.label if row.is_ensemble else f"{row.label} ({count_members([row])})"
        if i not in unnamed:
            labels.append((x, y, text, colour))
        if row.stage in report.taught:
            students[row.parameters] = (x, y)  # in the end, the best
    ensembles = [(row, p[:2]) for p, row in zip(points, rows, strict=True) if row.is_ensemble]
    for stage in {row.stage for row, _ in ensembles}:
        line = sorted(place for row, place in ensembles if row.stage == stage)
        axes.plot(*zip(*line, strict=True), color=styles[stage]["color"], lw=0.8, zorder=1)
    arrows = []
    if len({row.stage for row, _ in ensembles}) == 1:
        _, largest = max(ensembles, key=lambda ensemble: ensemble[0].parameters)
        arrows = [(largest, student) for student in students.values()]
    for start, end in arrows:
        style = {"arrowstyle": "->", "color": MUTED, "ls": "--", "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", end, start, arrowprops=style, zorder=1)
        axes.set_title("arrows: to the ensemble's best student of each size", fontsize=9)
    axes.set_xlim(min(sizes) / span**0.45, max(sizes) * span**0.35)
    log_axis(axes.xaxis)
    count_axis(axes.yaxis)
    axes.set_xlabel(
        "parameters (an ensemble: of all members; equal sizes side by side)", fontsize=9
    )
    axes.set_ylabel(f"{_errors(report)}, mean ± s.d. over n members", fontsize=9)
    tidy(axes)
    place_labels(axes, labels, points, arrows)
    return figure


def sweep(report: Report, axis: str) -> Figure:
    """Errors against one numeric axis, such as "temperature", of all stages swept along it alone.

    Raises:
      ValueError: there is no such stage.
    """
    found, styles = swept(report.rows), _styles(report)
    if axis not in found:
        raise ValueError(f"no stage is swept along {axis!r} alone; swept: {', '.join(found)}")
    stages: dict[str, list[Row]] = {}
    for row in found[axis]:
        stages.setdefault(row.stage, []).append(row)
    errors = [
        np.array([row.metrics["errors"]["values"] for row in own], float) for own in stages.values()
    ]
    figure = new_figure(6.5, 3.8 + 0.2 * len(stages))
    axes = figure.subplots()
    wide = len(stages) > 1 and is_wide(_means(errors))
    for (stage, own), wrong in zip(stages.items(), errors, strict=True):
        style = {"marker": "o", "markersize": 5, "label": f"{stage} ({count_members(own)})"}
        band(axes, [row.cell[axis] for row in own], wrong, wide, **style | styles[stage])
    values = {row.cell[axis] for row in found[axis]}
    if is_wide(sorted(values)):
        log_axis(axes.xaxis)
    if len(values) <= TICKS:
        axes.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    count_axis(axes.yaxis)
    if wide:
        log_axis(axes.yaxis)
    axes.set_xlabel(axis.replace("_", " "), fontsize=9)
    axes.set_ylabel(_errors(report), fontsize=9)
    tidy(axes)
    legend(figure, 2)
    return figure


def missing_classes(report: Report) -> Figure:
    """Errors against the shift of the missing classes' biases, a panel for each student."""
    _demand(report.missing, "missing")
    figure, each = panels(len(report.missing), columns=2, height=3.0)
    for axes, student in zip(each, report.missing, strict=True):
        curve = student["curve"]
        some = np.array(curve["missing_errors"], float)
        every = np.array(curve["errors"], float)
        for values, text, i in (
            (every, "all classes", 6),
            (some, "missing classes", 1),
            (every - some, "other classes", 0),
        ):
            style = {"color": COLOURS[i], "linestyle": LINES[i % len(LINES)], "label": text}
            band(axes, curve["shift"], values.T, **style)
        for name, text, marker in (
            ("matched", "shift matched without labels", "o"),
            ("best", "best shift on these labels", "*"),
        ):
            shift = np.mean(student[name]["shift"])
            points = [np.mean(student[name][kind]) for kind in ("errors", "missing_errors")]
            style = {"marker": marker, "markersize": 8, "linestyle": "", "color": INK}
            axes.plot([shift, shift], points, markerfacecolor="white", label=text, **style)
        axes.set_xlabel("shift of the missing classes' biases (logits)", fontsize=9)
        axes.set_ylabel(_errors(report), fontsize=9)
        names = ",".join(map(str, student["classes"]))
        missing = textwrap.fill(f"missing: {names} (n = {len(some)})", 45)
        axes.set_title(f"{textwrap.fill(student['label'], 45)}\n{missing}", fontsize=9)
        count_axis(axes.yaxis)
        tidy(axes)
    title = (
        "curves: one shift for all, mean over the n members, band: ± 1 s.d.\n"
        "marks: means, each member with its own shift"
    )
    legend(figure, 3, each[0], title)
    return figure


def reliability(report: Report) -> Figure:
    """Accuracy against confidence, a panel for each stage and ensemble (arXiv 1706.04599)."""
    _demand(report.calibration, "calibration")
    figure, each = panels(len(report.calibration), columns=3, height=2.5)
    for axes, found in zip(each, report.calibration, strict=True):
        row = report.row(found["label"])
        style = {"color": _styles(report)[row.stage]["color"], "zorder": 3}
        count, confidence, accuracy = (
            np.ma.masked_invalid(np.array(found[name], float))  # [M, bins]
            for name in ("count", "confidence", "accuracy")
        )
        x, y = ((count * v).sum(axis=0) / count.sum(axis=0) for v in (confidence, accuracy))
        std = np.ma.masked_where((count == 0).any(axis=0), mean_and_std(accuracy.T)[1])
        share = count.sum(axis=0) / count.sum()
        x, y, std, share = (values[~np.ma.getmaskarray(x)] for values in (x, y, std, share))
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, linestyle="--")
        bars = [np.ma.minimum(std, room).filled(np.nan) for room in (y, 1 - y)]
        axes.errorbar(x, y, bars, fmt="none", elinewidth=1, capsize=2, **style)
        axes.scatter(x, y, 8 + 120 * share, linewidths=0, **style)
        ece = [f"{v:.3f}" for v in (row.mean("ece"), row.std("ece")) if v is not None]
        numbers = f"{count_members([row])}, ECE {' ± '.join(ece)}"
        axes.set_title(f"{textwrap.fill(row.label, 30)}\n{numbers}", fontsize=9)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.08), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("confidence", fontsize=9)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("accuracy", fontsize=9)
        tidy(axes)
    note = (
        "point: all n members' examples in a bin, area: their share\n"
        "bar: ± 1 s.d. over the members, where each has examples"
    )
    legend(figure, 1, each[0], note)
    return figure


def soft_targets(
    images: np.ndarray | None,
    labels: Sequence[int],
    distributions: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Examples beside distributions over their classes, a column for each.

    Args:
      images: [E, H, W] or [E, H, W, channels]; None shows none.
      labels: [E].
      distributions: {title: [E, C] probabilities}. Of many classes, the label and those of
        highest probability are shown. Columns share a scale where that is within a factor of two.
      class_names: [C]; numbers if None.
    """
    p = np.array(list(distributions.values()))
    numbers = numbered(p.shape[2])
    names = np.array([*map(short, class_names or numbers, numbers)])
    pictures = int(images is not None)  # columns of them
    longest = max(map(len, names))
    height = 1.05 + 0.07 * longest * (longest > 2)
    figure = new_figure(0.6 + pictures + 2.1 * len(p), 0.7 + height * len(labels))
    grid = figure.subplots(
        len(labels),
        pictures + len(p),
        squeeze=False,
        width_ratios=[0.45] * pictures + [1] * len(p),
    )
    most = p.max(axis=(1, 2))
    top = [np.ceil(10 * most[most <= 2 * m].max() + 0.1) / 10 for m in most]
    for e, (row, label) in enumerate(zip(grid, labels, strict=True)):
        if pictures:
            _picture(row[0], np.asarray(images[e]))
        row[pictures].set_ylabel("probability", fontsize=8)
        row[0].set_ylabel(f"label: {names[label]}" + "\nprobability" * (not pictures), fontsize=8)
        shown = np.arange(len(names))
        if len(names) > SHOWN:
            order = np.argsort(-p[:, e].mean(axis=0), kind="stable")
            shown = np.append(order[order != label][: SHOWN - 1], label)
        for axes, distribution, high in zip(row[pictures:], p[:, e], top, strict=True):
            colours = [COLOURS[0] if c == label else COLOURS[4] for c in shown]
            axes.bar(range(len(shown)), distribution[shown], color=colours)
            axes.set_ylim(0, high)
            axes.set_yticks([0, high / 2, high], [f"{v:g}" for v in (0, high / 2, high)])
            axes.set_xticks(range(len(shown)), names[shown])
            tidy(axes)
            axes.grid(visible=False, axis="x")
            axes.tick_params(labelsize=8)
            axes.tick_params("x", length=0)
            if longest > 2:
                axes.tick_params("x", rotation=90)
    for axes, title in zip(grid[0, pictures:], distributions, strict=True):
        axes.set_title("\n".join(textwrap.fill(line, 26) for line in title.split("\n")), fontsize=9)
    figure.supxlabel("class (blue: the label)", fontsize=9)
    return figure


def _between(rows: Sequence[Row]) -> set[int]:
    """Which rows are ensembles neither the smallest nor the largest of a stage that has many."""
    found = set()
    for stage in {row.stage for row in rows if row.is_ensemble}:
        own = [i for i, row in enumerate(rows) if row.is_ensemble and row.stage == stage]
        own.sort(key=lambda i: rows[i].parameters)
        found |= set(own[1:-1]) if len(own) > MANY else set()
    return found


def _picture(axes: Any, image: np.ndarray) -> None:
    """Grey or RGB, its own smallest value dark and its largest bright."""
    image = image.astype(float)
    if image.ndim == 3 and image.shape[2] != 3:
        image = image.mean(axis=2)
    bright = (image - image.min()) / (np.ptp(image) or 1)
    axes.imshow(bright, cmap="gray", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])


def _means(populations: Sequence[np.ndarray]) -> np.ma.MaskedArray:
    """Every mean over members of these [S, M]."""
    return np.ma.concatenate([mean_and_std(values)[0] for values in populations])


def _demand(numbers: Any, name: str) -> None:
    if not numbers:
        raise ValueError(f"the report has no {name} to draw")


def _styles(report: Report) -> dict[str, dict[str, str]]:
    """Colour and line of each stage; an ensemble's are its members'."""
    names = list(dict.fromkeys(row.stage.removesuffix(ENSEMBLE) for row in report.rows))
    cycle = itertools.cycle({"color": c} for c in COLOURS), itertools.cycle(LINES)
    styles = {n: c | {"linestyle": line} for n, c, line in zip(names, *cycle, strict=False)}
    return {row.stage: styles[row.stage.removesuffix(ENSEMBLE)] for row in report.rows}


def _errors(report: Report) -> str:
    return f"{report.evaluate} errors (of {report.examples[report.evaluate]:,})"
