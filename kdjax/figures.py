"""The figures of a report: functions from its numbers to a matplotlib Figure.

matplotlib is imported where it is used (it takes a third of a second), never pyplot.
"""

import io
import itertools
import math
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import files
from kdjax.drawing import (
    INK,
    MUTED,
    band,
    count_axis,
    is_wide,
    log_axis,
    new_figure,
    place_labels,
    tidy,
)
from kdjax.report import ENSEMBLE

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")  # with the colours: curves that coincide still show
SHOWN = 10  # most classes of one bar chart
TICKS = 12  # most values of an axis that each have a tick
CROWD = 6  # most points of one size that are all labelled
ERRORS = "errors (examples)"


def of_report(report: Any) -> dict[str, Any]:
    """Every figure that a `report.Report` has the numbers for, by file name."""
    figures = {}
    curves = {stage: curve for stage, curve in report.curves.items() if len(curve["step"])}
    if curves:
        figures["training_curves"] = training_curves(curves)
    if any(row.mean("errors") is not None for row in report.rows):
        figures["errors_against_parameters"] = errors_against_parameters(report.rows, report.taught)
    if report.soft_targets:
        figures["soft_targets"] = soft_targets(report.soft_targets)
    for axis, stages in swept(report.rows).items():
        figures[f"sweep_{axis}"] = sweep(report.rows, stages, axis)
    if report.missing:
        figures["missing_classes"] = missing_classes(report.missing)
    return figures


def training_curves(curves: dict[str, dict]) -> Any:
    """Loss and validation errors against steps: means over members, bands of one s.d.

    Args:
      curves: {stage: {"step": [S], "loss": [S][M], "validation_accuracy": [S][M]}}; None where a
        member has diverged.
    """
    names = {stage: f"{stage} ({_members(curve['loss'][-1])})" for stage, curve in curves.items()}
    columns = max(1, 100 // (8 + max(map(len, names.values()))))  # of the legend
    figure = new_figure(8, 3.5 + 0.22 * math.ceil(len(names) / columns))
    left, right = figure.subplots(1, 2)
    losses, errors = [], []
    for i, (stage, curve) in enumerate(curves.items()):
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
        wrong = 100 * (1 - np.array(curve["validation_accuracy"], float))
        loss = np.array(curve["loss"], float)
        losses.append(band(left, curve["step"], loss, label=names[stage], **style))
        errors.append(band(right, curve["step"], wrong, **style))
    left.set_ylabel("training loss\n(different kinds do not compare)")
    right.set_ylabel("validation errors (%)")
    if np.ma.concatenate(losses).min() > 0:
        log_axis(left.yaxis)
    if is_wide(np.ma.concatenate(errors)):
        right.set_ylim(bottom=np.ma.concatenate(errors).min() / 2)  # a band may reach 0
        log_axis(right.yaxis)
    for axes in (left, right):
        axes.set_xlabel("step")
        count_axis(axes.xaxis)
        tidy(axes)
    title = "mean over the n members, band: \u00b1 1 s.d."
    style = {"frameon": False, "fontsize": 9, "title_fontsize": 9}
    figure.legend(loc="outside lower center", ncols=columns, title=title, **style)
    return figure


def _members(values: Sequence[float | None]) -> str:
    lost = sum(value is None for value in values)
    return f"n = {len(values)}" + f", {lost} diverged" * (lost > 0)


def errors_against_parameters(rows: Sequence[Any], taught: Container[str] = ()) -> Any:
    """One point per row, with an arrow from the largest ensemble to the best student of each size.

    Args:
      rows: `report.Row`s; those without errors (all members diverged) are left out. Rows of the
        same size stand side by side, so that their bars do not hide each other; where they are
        many, the cells of a grid share one label.
      taught: the stages that arrows may lead to.
    """
    rows = [row for row in rows if row.mean("errors") is not None]
    stages = dict.fromkeys(row.stage.removesuffix(ENSEMBLE) for row in rows)
    colours = dict(zip(stages, itertools.cycle(COLOURS), strict=False))
    rows = sorted(rows, key=lambda row: -row.mean("errors"))
    sizes = [row.parameters for row in rows]
    span = max(10.0, max(sizes) / min(sizes))
    figure = new_figure(6, 4)
    axes = figure.subplots()
    points, labels, students = [], {}, {}
    for i, row in enumerate(rows):
        same = sizes.count(row.parameters)
        place = sizes[:i].count(row.parameters) - (same - 1) / 2
        x, y = row.parameters * span ** (place * min(0.03, 0.2 / same)), row.mean("errors")
        colour, half = colours[row.stage.removesuffix(ENSEMBLE)], row.std("errors")
        marker = "D" if row.is_ensemble else "o"
        axes.errorbar(x, y, half, color=colour, marker=marker, markersize=5, lw=1.2, capsize=2)
        points.append((x, y, half or 0))
        cells = [other.cell for other in rows if other.stage == row.stage]
        crowded = same > CROWD and len(cells) > 1
        n = f"{len(cells)} cells, " * crowded + f"n = {row.members - row.diverged}"
        text = row.stage if crowded else row.label
        labels[text] = (x, y, text if row.is_ensemble else f"{text} ({n})", colour)
        if row.stage in taught:
            students[row.parameters] = (x, y)  # in the end, the best
    ensembles = [(row, p[:2]) for p, row in zip(points, rows, strict=True) if row.is_ensemble]
    arrows = []
    if len({row.stage for row, _ in ensembles}) == 1:
        _, largest = max(ensembles, key=lambda ensemble: ensemble[0].parameters)
        arrows = [(largest, student) for student in students.values()]
    for start, end in arrows:
        style = {"arrowstyle": "->", "color": MUTED, "ls": "--", "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", end, start, arrowprops=style, zorder=1)
        axes.set_title("arrows: to the ensemble's best student of each size", fontsize=9)
    axes.set_xlim(min(sizes) / span**0.2, max(sizes) * span**0.35)
    log_axis(axes.xaxis)
    count_axis(axes.yaxis)
    axes.set_xlabel(
        "parameters (an ensemble: of all members; equal sizes side by side)", fontsize=9
    )
    axes.set_ylabel(f"{ERRORS}, mean \u00b1 s.d. over n members", fontsize=9)
    tidy(axes)
    place_labels(axes, list(labels.values()), points, arrows)
    return figure


def soft_targets(targets: dict[str, Any]) -> Any:
    """Real examples beside the ensemble's distribution over classes at each temperature.

    Args:
      targets: {"images": [E, H, W], [E, H, W, Ch] or None, "labels": [E], "class_names": [C],
        "temperatures": [T], "probabilities": [T][E][C]}. Of many classes, the label
        and those of highest probability are shown.
    """
    p = np.array(targets["probabilities"])
    labels, names = targets["labels"], np.array(targets["class_names"])
    pictures = int(targets["images"] is not None)  # columns of them
    longest = max(map(len, names))
    height = 1.05 + 0.07 * longest * (longest > 2)
    figure = new_figure(0.5 + pictures + 1.9 * len(p), 0.7 + height * len(labels))
    grid = figure.subplots(
        len(labels),
        pictures + len(p),
        squeeze=False,
        width_ratios=[0.45] * pictures + [1] * len(p),
    )
    for e, (row, label) in enumerate(zip(grid, labels, strict=True)):
        if pictures:
            _picture(row[0], np.asarray(targets["images"][e]))
        row[pictures].set_ylabel("probability", fontsize=8)
        row[0].set_ylabel(f"label: {names[label]}" + "\nprobability" * (not pictures), fontsize=8)
        shown = np.arange(len(names))
        if len(names) > SHOWN:
            order = np.argsort(-p[:, e].mean(axis=0), kind="stable")
            shown = np.append(order[order != label][: SHOWN - 1], label)
        for axes, distribution in zip(row[pictures:], p[:, e], strict=True):
            colours = [COLOURS[0] if c == label else COLOURS[4] for c in shown]
            axes.bar(range(len(shown)), distribution[shown], color=colours)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=7)
            axes.set_xticks(range(len(shown)), names[shown], fontsize=7)
            if longest > 2:
                axes.tick_params("x", rotation=90)
            tidy(axes)
    for axes, temperature in zip(grid[0, pictures:], targets["temperatures"], strict=True):
        axes.set_title(f"T = {temperature:g}", fontsize=9)
    figure.supxlabel("class (blue: the label)", fontsize=9)
    return figure


def _picture(axes: Any, image: np.ndarray) -> None:
    """Grey or RGB, its own smallest value dark and its largest bright."""
    image = image.astype(float)
    if image.ndim == 3 and image.shape[2] != 3:
        image = image.mean(axis=2)
    bright = (image - image.min()) / (np.ptp(image) or 1)
    axes.imshow(bright, cmap="gray", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def sweep(rows: Sequence[Any], stages: Sequence[str], axis: str) -> Any:
    """Errors of each stage against one numeric axis of their grids."""
    figure = new_figure(6, 3.8 + 0.2 * len(stages))
    axes = figure.subplots()
    values, means = set(), []
    for i, stage in enumerate(stages):
        own = sorted((row for row in rows if row.stage == stage), key=lambda row: row.cell[axis])
        x = [row.cell[axis] for row in own]
        errors = np.array([row.metrics["errors"]["values"] for row in own], float)
        counts = np.isfinite(errors).sum(axis=1)
        n = " to ".join(map(str, sorted({counts.min(), counts.max()})))
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
        label = f"{stage} (n = {n})"
        means.append(band(axes, x, errors, marker="o", markersize=5, label=label, **style))
        values |= set(x)
    if is_wide(sorted(values)):
        log_axis(axes.xaxis)
    if len(values) <= TICKS:
        axes.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    count_axis(axes.yaxis)
    if len(stages) > 1 and is_wide(np.ma.concatenate(means)):
        log_axis(axes.yaxis)
    axes.set_xlabel(axis.replace("_", " "))
    axes.set_ylabel(ERRORS)
    axes.set_title("mean over n members, band: \u00b1 1 s.d.", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    tidy(axes)
    return figure


def swept(rows: Iterable[Any]) -> dict[str, list[str]]:
    """{axis: stages} for the stages whose cells differ in exactly one axis, at two values or more.

    Cells in which every member diverged do not count.
    """
    cells: dict[str, list[dict]] = {}
    for row in rows:
        if row.mean("errors") is not None:
            cells.setdefault(row.stage, []).append(row.cell)
    found: dict[str, list[str]] = {}
    for stage, points in cells.items():
        varied = [axis for axis in points[0] if len({cell[axis] for cell in points}) > 1]
        for axis in varied if len(varied) == 1 else []:
            found.setdefault(axis, []).append(stage)
    return found


def missing_classes(found: Sequence[dict[str, Any]]) -> Any:
    """Errors against the shift of the missing classes' biases, a panel for each student.

    Args:
      found: as `missing.examine` returns them, each with the `label` of its row.
    """
    columns = min(len(found), 3)
    lines = -(-len(found) // columns)
    figure = new_figure(max(4.2 * columns, 6), 3.2 * lines + 1)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.remove()
    for axes, student in zip(panels, found, strict=False):
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
        axes.set_ylabel(ERRORS, fontsize=9)
        names = ",".join(map(str, student["classes"]))
        axes.set_title(f"{student['label']}\nmissing: {names} (n = {len(some)})", fontsize=9)
        count_axis(axes.yaxis)
        tidy(axes)
    handles, texts = panels[0].get_legend_handles_labels()
    title = (
        "curves: one shift for all, mean over the n members, band: \u00b1 1 s.d.; "
        "marks: means, each member with its own shift"
    )
    style = {"frameon": False, "fontsize": 9, "title_fontsize": 8}
    figure.legend(
        handles, texts, loc="outside lower center", ncols=columns + 1, title=title, **style
    )
    return figure


def save(figure: Any, path: str | os.PathLike) -> None:
    """Writes a PNG whose bytes depend on nothing but the figure; whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160, metadata={"Software": "kdjax"})
    files.write(Path(path), content.getvalue())
