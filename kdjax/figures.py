"""The figures of a report, and what it takes to draw more in their style.

`of_report(report)` draws all of them as {name: Matplotlib figure}; each of the others draws one.
A figure of `new_figure` shows itself in a notebook, without pyplot.
"""

from kdjax.drawing import (
    COLOURS,
    INK,
    LINES,
    MUTED,
    band,
    legend,
    log_axis,
    new_figure,
    tidy,
)
from kdjax.pictures import mistakes, soft_targets
from kdjax.report.figures import (
    errors_against_parameters,
    missing_classes,
    of_report,
    reliability,
    sweep,
    training_curves,
)

__all__ = [
    "COLOURS",
    "INK",
    "LINES",
    "MUTED",
    "band",
    "errors_against_parameters",
    "legend",
    "log_axis",
    "missing_classes",
    "mistakes",
    "new_figure",
    "of_report",
    "reliability",
    "soft_targets",
    "sweep",
    "tidy",
    "training_curves",
]
