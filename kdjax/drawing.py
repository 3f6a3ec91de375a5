"""What the figures share: the canvas, bands over members, ticks, labels that avoid each other."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

WIDE = 8  # an axis over more than this factor is logarithmic
INK, MUTED = "#333333", "#666666"
# Where a label may stand, in points from its own point, the best place first.
OFFSETS = sorted(
    itertools.product((8, -8, 0, 30, -30, 55, -55, 80, -80, 110), range(-160, 161, 4)),
    key=lambda place: abs(place[0]) + 1.5 * abs(place[1]) + 6 * (place[0] <= 0),
)


def new_figure(width: float, height: float) -> Any:
    """A figure without pyplot: no display, no global state, usable in any thread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """Only the frame that carries ticks, and a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)


def is_wide(values: Any) -> bool:
    """Whether these numbers need a logarithmic axis, and can have one."""
    values = np.ma.compressed(np.ma.masked_invalid(values))
    return bool(len(values)) and values.min() > 0 and values.max() / values.min() > WIDE


def log_axis(axis: Any) -> None:
    """A logarithmic axis with plain numbers (0.02, 5, 20k) at its ticks; set its limits before."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

    {"x": axis.axes.set_xscale, "y": axis.axes.set_yscale}[axis.axis_name]("log")
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1,) if decades > 3 else (1, 2, 5) if decades > 1 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    thousands = EngFormatter(sep="")
    axis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v) if v >= 1000 else f"{v:g}"))


def count_axis(axis: Any) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


def band(axes: Any, x: Sequence[float], values: np.ndarray, **style: Any) -> np.ndarray:
    """The mean of `values` [S, M] over its finite members, and one s.d. around it.

    Where a mean less its s.d. is not above 0, the band ends at the lowest member: a logarithmic
    axis would draw a fall to the bottom.
    """
    known = np.ma.masked_invalid(values)
    mean = known.mean(axis=1)
    std = known.std(axis=1, ddof=1).filled(0) if values.shape[1] > 1 else 0 * mean
    low = np.ma.where(mean - std > 0, mean - std, known.min(axis=1))
    style = {"marker": "o" if len(x) == 1 else None} | style
    axes.plot(x, mean, linewidth=1.5, **style)
    axes.fill_between(x, low, mean + std, color=style["color"], alpha=0.18, linewidth=0)
    return mean


def place_labels(
    axes: Any,
    labels: Sequence[tuple[float, float, str, str]],
    points: Sequence[tuple[float, float, float]],
    lines: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
) -> None:
    """Writes each label at the nearest place free of points, error bars, lines and other labels.

    Args:
      labels: (x, y, text, colour).
      points: (x, y, half the error bar).
      lines: pairs of (x, y).
    """
    from matplotlib.transforms import Bbox

    figure, pixel = axes.figure, axes.figure.dpi / 72
    figure.draw_without_rendering()  # settles the layout, from which on pixels are known
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()
    taken = []
    for x, y, half in points:
        low, high = axes.transData.transform([(x, y - half), (x, y + half)])
        taken.append(Bbox([low - 4 * pixel, high + 4 * pixel]))
    for line in lines:
        for spot in np.linspace(*axes.transData.transform(line), 100):
            taken.append(Bbox([spot - pixel, spot + pixel]))

    def box(x: float, y: float, dx: int, dy: int, size: Any) -> Any:
        left, bottom = axes.transData.transform((x, y)) + pixel * np.array([dx, dy])
        shift = {-1: -1, 0: -0.5, 1: 0}[np.sign(dx)]
        shifted = left + shift * size.width, bottom - size.height / 2
        return Bbox.from_bounds(*shifted, size.width, size.height)

    def free(place: Any) -> bool:
        corners = place.corners()
        inside = all(frame.contains(*corner) for corner in corners)
        return inside and not place.count_overlaps(taken)

    for x, y, text, colour in labels:
        measured = axes.text(x, y, text, fontsize=8)
        size = measured.get_window_extent()
        measured.remove()
        places = ((dx, dy, box(x, y, dx, dy, size)) for dx, dy in OFFSETS)
        dx, dy, place = next((p for p in places if free(p[2])), (8, 0, box(x, y, 8, 0, size)))
        taken.append(place)
        side, relative = {-1: ("right", 1), 0: ("center", 0.5), 1: ("left", 0)}[np.sign(dx)]
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        leader["relpos"] = (relative, 0.5 if dx else float(dy < 0))
        axes.annotate(
            text,
            (x, y),
            (dx, dy),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
            color=INK,
            arrowprops=leader if abs(dx) + abs(dy) > 14 else None,
        )
