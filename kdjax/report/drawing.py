"""What the figures share: the canvas, bands over members, ticks, labels that avoid each other.

Figures are made without pyplot: no display, no global state, nothing to close, any thread.
"""

import functools
import io
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

WIDE = 8  # an axis over more than this factor is logarithmic
# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")  # with the colours: curves that coincide still show
INK, MUTED, GRID = "#333333", "#666666", "#e5e5e5"
SPREAD = "mean over the n members; band: ± 1 s.d."
DPI = 160
FONT, LONGEST = "DejaVu Sans", 24  # that of Matplotlib's default style; letters of a name
NOTEBOOK_DPI = 120  # a notebook keeps its figures in its file
NEAR = 14  # points away, a label needs no line to its point
# Where a label may stand, in points from its own point, the best place first.
OFFSETS = sorted(
    itertools.product((8, -8, 0, 30, -30, 55, -55, 80, -80, 110), range(-160, 161, 4)),
    key=lambda place: abs(place[0]) + 1.5 * abs(place[1]) + 6 * (place[0] <= 0),
)
# The SVG follows its reader's theme: what is black or grey on white becomes light on the page.
DARK = {
    **{"#000000": "#e4e4e4", INK: "#d4d4d4", MUTED: "#a0a0a0", GRID: "#3a3f45"},
    **{"#ffffff": "none", "#0072b2": "#3d9bd6"},
}


class Picture(Figure):
    """A figure that a notebook shows."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return png(self, NOTEBOOK_DPI), {"width": round(96 * self.get_figwidth())}


def fixed_style() -> AbstractContextManager:
    """Makes the bytes of figures depend on nothing but the figures, whatever the user's style."""
    fixed = {"svg.hashsalt": "kdjax", "svg.fonttype": "path", "text.parse_math": False}
    return matplotlib.style.context(["default", fixed])


def new_figure(width: float, height: float) -> Picture:
    """An empty figure of so many inches."""
    figure = Picture(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def short(name: str, otherwise: str) -> str:
    """A name with no more letters than a tick has room for, or the other if the font lacks one."""
    if any(ord(letter) not in _letters() for letter in name):
        return otherwise
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def settle(figure: Figure) -> None:
    """Lays the figure out once and for all: pixels are known, and drawing is cheaper."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def png(figure: Figure, dpi: int = DPI) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": "kdjax"})
    return content.getvalue()


def svg(figure: Figure) -> str:
    """The figure for a web page, light or dark."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    rules = [
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    ]
    rules = f"svg{{fill:{DARK['#000000']}}}{''.join(rules)}"  # text has no colour of its own
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{rules}}}</style>"
    before, defs, after = content.getvalue().partition("<defs>")
    return before[before.index("<svg") :] + style + defs + after


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Any]]:
    """A page's width of panels, each `height` inches high."""
    lines = -(-count // columns)
    figure = new_figure(8, height * lines + 0.8)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def legend(figure: Figure, columns: int, axes: Any = None, title: str = SPREAD) -> None:
    """Below the axes; of all of them, or of one whose entries stand for all."""
    entries = axes.get_legend_handles_labels() if axes else ()
    style = {"frameon": False, "fontsize": 9, "title_fontsize": 9}
    drawn = figure.legend(*entries, loc="outside lower center", ncols=columns, title=title, **style)
    drawn.get_title().set_multialignment("center")


def tidy(axes: Any) -> None:
    """Only the frame that carries ticks, and a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def is_wide(values: Any) -> bool:
    """Whether these numbers need a logarithmic axis, and can have one."""
    values = np.ma.compressed(np.ma.masked_invalid(values))
    return bool(len(values)) and values.min() > 0 and values.max() / values.min() > WIDE


def log_axis(axis: Any) -> None:
    """A logarithmic axis with plain numbers (0.02, 5, 20k) at its ticks; set its limits before."""
    {"x": axis.axes.set_xscale, "y": axis.axes.set_yscale}[axis.axis_name]("log")
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1,) if decades > 3 else (1, 2, 5) if decades > 0.7 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    thousands = EngFormatter(sep="")
    axis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v) if v >= 1000 else f"{v:g}"))


def count_axis(axis: Any) -> None:
    """Ticks at whole numbers."""
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


def mean_and_std(values: np.ndarray) -> tuple[np.ma.MaskedArray, np.ma.MaskedArray]:
    """[S] and [S] of `values` [S, M] over its finite members, masked where too few are."""
    known = np.ma.masked_invalid(values)
    return known.mean(axis=1), known.std(axis=1, ddof=1)


def band(
    axes: Any, x: Sequence[float], values: np.ndarray, log: bool = False, **style: Any
) -> None:
    """The mean of `values` [S, M] over its finite members, and one s.d. around it where two are.

    On an axis that is to be logarithmic (`log`), which would draw a fall to the bottom, the band
    ends at the lowest member where the mean less the s.d. is not above 0.
    """
    mean, std = mean_and_std(values)
    low = mean - std
    if log:
        low = np.ma.where(low > 0, low, np.ma.masked_invalid(values).min(axis=1))
    style = {"marker": "o" if len(x) == 1 else None} | style
    axes.plot(x, mean, linewidth=1.5, **style)
    axes.fill_between(x, low, mean + std, color=style["color"], alpha=0.18, linewidth=0)


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
    pixel = axes.figure.dpi / 72
    settle(axes.figure)
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

    def line_to(x: float, y: float, dx: int, dy: int, place: Any) -> list[Any]:
        """What the line from a point to its label covers, away from the point."""
        if abs(dx) + abs(dy) <= NEAR:
            return []
        start = axes.transData.transform((x, y))
        end = place.min + (place.max - place.min) * _attached(dx, dy)
        own = [there for there in taken if there.contains(*start)]
        line = []
        for spot in np.linspace(start, end, 20)[:-1]:
            here = Bbox([spot - pixel, spot + pixel])
            if np.hypot(*(spot - start)) > NEAR * pixel or not here.count_overlaps(own):
                line.append(here)  # not along its own bar for long
        return line

    def free(place: Any, line: Sequence[Any] = ()) -> bool:
        inside = all(frame.contains(*corner) for corner in place.corners())
        return inside and not any(part.count_overlaps(taken) for part in (place, *line))

    for x, y, text, colour in labels:
        measured = axes.text(x, y, text, fontsize=8)
        size = measured.get_window_extent()
        measured.remove()
        places = [(dx, dy, box(x, y, dx, dy, size)) for dx, dy in OFFSETS]
        chosen = None
        for place in places:
            if free(place[2]):
                chosen = chosen or place
                if free(place[2], line_to(x, y, *place)):
                    chosen = place
                    break
        dx, dy, place = chosen or places[0]
        taken += [place, *line_to(x, y, dx, dy, place)]
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            text,
            (x, y),
            (dx, dy),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[np.sign(dx)],
            va="center",
            fontsize=8,
            color=INK,
            arrowprops=leader | {"relpos": _attached(dx, dy)} if abs(dx) + abs(dy) > NEAR else None,
        )


def _attached(dx: int, dy: int) -> tuple[float, float]:
    """Where on a label, from 0 to 1 each way, the line from its point ends."""
    return {-1: 1.0, 0: 0.5, 1: 0.0}[np.sign(dx)], 0.5 if dx else float(dy < 0)
