"""The curves of a session as figures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.session import Curve
from kdjax import drawing
from kdjax.host import files

COLUMNS = 3  # of panels
TITLE = 40  # letters of a line above a panel


def write(curves: Sequence[Curve], path: Path) -> Path:
    """A PNG of a benchmark's curves: a panel for each axis and title."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing.fixed_style():
        files.write(path, drawing.png(draw(curves)))
    return path


def draw(curves: Sequence[Curve]) -> Any:
    """Means over the repeats, and bands of one standard deviation, from zero."""
    columns = min(COLUMNS, len(curves))
    lines = -(-len(curves) // columns)
    figure = drawing.new_figure(3.6 * columns, 3.2 * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, curve in zip(panels, curves, strict=False):
        values = np.array(curve.values)
        style = dict(color=drawing.COLOURS[0], marker="o", markersize=4)
        drawing.band(panel, curve.sizes, values, **style)
        panel.set_xlim(min(curve.sizes), max(curve.sizes))
        if drawing.is_wide(curve.sizes):
            drawing.log_axis(panel.xaxis)
        panel.set_ylim(bottom=0)
        panel.set_xlabel(curve.axis, fontsize=9)
        panel.set_ylabel(curve.unit, fontsize=9)
        title = textwrap.fill(f"{curve.title} (n = {values.shape[1]})", TITLE)
        panel.set_title(title, fontsize=8)
        drawing.tidy(panel)
    for panel in panels[len(curves) :]:
        panel.remove()
    return figure
