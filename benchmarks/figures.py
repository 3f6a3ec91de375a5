"""The curves of a session as figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.session import Curve
from kdjax.drawing import band, is_wide, log_axis, new_figure, tidy
from kdjax.figures import COLOURS, save

COLUMNS = 3  # of panels


def write(curves: Sequence[Curve], directory: Path) -> list[Path]:
    """A PNG of each unit: a panel for each axis and title."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for unit in dict.fromkeys(curve.unit for curve in curves):
        path = directory / f"{unit.replace(' ', '_')}.png"
        save(draw([curve for curve in curves if curve.unit == unit]), path)
        paths.append(path)
    return paths


def draw(curves: Sequence[Curve]) -> Any:
    """Means over the repeats, and bands of one standard deviation, from zero."""
    columns = min(COLUMNS, len(curves))
    lines = -(-len(curves) // columns)
    figure = new_figure(3.6 * columns, 3.2 * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, curve in zip(panels, curves, strict=False):
        values = np.array(curve.values)
        band(panel, curve.sizes, values, color=COLOURS[0], marker="o", markersize=4)
        panel.set_xlim(min(curve.sizes), max(curve.sizes))
        if is_wide(curve.sizes):
            log_axis(panel.xaxis)
        panel.set_ylim(bottom=0)
        panel.set_xlabel(curve.axis, fontsize=9)
        panel.set_ylabel(curve.unit, fontsize=9)
        panel.set_title(f"{curve.title} (n = {values.shape[1]})", fontsize=8)
        tidy(panel)
    for panel in panels[len(curves) :]:
        panel.remove()
    return figure
