"""What the figures share: the canvas, bands over members, ticks, labels that avoid each other.

Figures are made without pyplot: no display, no global state, nothing to close, any thread.
"""

import functools
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

WIDE = 8  # an axis over more than this factor is logarithmic
# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")  # with the colours: curves that coincide still show
INK, MUTED, GRID = "#333333", "#666666", "#e5e5e5"
SPREAD = "mean over the n members; band: ± 1 s.d."
DPI, NOTEBOOK_DPI = 160, 120  # a notebook keeps its figures in its file
FONT, LONGEST = "DejaVu Sans", 24  # that of Matplotlib's default style; letters of a name
# The SVG follows its reader's theme: what is black or grey on white becomes light on the page.
DARK = {"#000000": "#e4e4e4", INK: "#d4d4d4", MUTED: "#a0a0a0", GRID: "#3a3f45"}
DARK |= {"#ffffff": "none", "#0072b2": "#3d9bd6"}


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
    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def panels(count: int, columns: int, height: float) -> tuple[Picture, list[Axes]]:
    """A page's width of panels, each `height` inches high."""
    lines = -(-count // columns)
    figure = new_figure(8, height * lines + 0.8)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def short(name: str, otherwise: str) -> str:
    """A name with no more letters than a tick has room for, or the other if the font lacks one."""
    if any(ord(letter) not in _letters() for letter in name):
        return otherwise
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def picture(axes: Axes, image: np.ndarray) -> None:
    """Draws an image [H, W] or [H, W, C], grey or RGB, its least value dark, its largest bright."""
    image = image.astype(float)
    if image.ndim == 3 and image.shape[2] != 3:
        image = image.mean(axis=2)
    axes.imshow((image - image.min()) / (np.ptp(image) or 1), cmap="gray", interpolation="none")
    axes.set(xticks=[], yticks=[])


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
    dark = f"svg{{fill:{DARK['#000000']}}}{''.join(rules)}"  # text has no colour of its own
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{dark}}}</style>"
    before, defs, after = content.getvalue().partition("<defs>")
    return before[before.index("<svg") :] + style + defs + after


def legend(figure: Figure, columns: int, axes: Axes | None = None, title: str = SPREAD) -> None:
    """Below the axes; of all of them, or of one whose entries stand for all."""
    entries = axes.get_legend_handles_labels() if axes else ()
    style = {"frameon": False, "fontsize": 9, "title_fontsize": 9}
    drawn = figure.legend(*entries, loc="outside lower center", ncols=columns, title=title, **style)
    drawn.get_title().set_multialignment("center")


def tidy(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Only the frame that carries ticks, a faint grid behind the data, and these small texts."""
    for put, text in ((axes.set_xlabel, x), (axes.set_ylabel, y), (axes.set_title, title)):
        if text:
            put(text, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def is_wide(values: Any) -> bool:
    """Whether these numbers need a logarithmic axis, and can have one."""
    values = np.ma.compressed(np.ma.masked_invalid(values))
    return bool(len(values)) and values.min() > 0 and values.max() / values.min() > WIDE


def log_axis(axis: XAxis | YAxis) -> None:
    """A logarithmic axis with plain numbers (0.02, 5, 20k) at its ticks; draw and limit before."""
    {"x": axis.axes.set_xscale, "y": axis.axes.set_yscale}[axis.axis_name]("log")
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1,) if decades > 3 else (1, 2, 5) if decades > 0.9 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=100))
    axis.set_minor_locator(NullLocator())
    thousands = EngFormatter(sep="")
    axis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v) if v >= 1000 else f"{v:g}"))


def count_axis(axis: XAxis | YAxis) -> None:
    """Ticks at whole numbers."""
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


def mean_and_std(values: np.ndarray) -> tuple[np.ma.MaskedArray, np.ma.MaskedArray]:
    """[S] and [S] of `values` [S, M] over its finite members, masked where too few are."""
    known = np.ma.masked_invalid(values)
    return known.mean(axis=1), known.std(axis=1, ddof=1)


def band(
    axes: Axes, x: Sequence[float], values: np.ndarray, log: bool = False, **style: Any
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


def name_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Names points in the right margin, each at its height or as near as there is room, with a
    line to it.

    Args:
      points: (x, y, text, colour) of each; the axes have their limits.
    """
    points, (low, high) = sorted(points, key=lambda point: point[1]), axes.get_ylim()
    wanted = (np.array([y for _, y, *_ in points]) - low) / (high - low)  # heights, of 1
    point = axes.figure.dpi / 72 / axes.figure.bbox.height
    sizes = point * np.array([4 + 11 * (1 + text.count("\n")) for *_, text, _ in points])
    above = np.cumsum(sizes) - (sizes[0] + sizes) / 2
    heights = np.minimum(np.maximum.accumulate(wanted - above), 1 - above[-1]) + above
    for (x, y, text, colour), height in zip(points, heights, strict=True):
        style = {"arrowstyle": "-", "color": colour, "lw": 0.6, "ls": ":", "relpos": (0, 0.5)}
        axes.annotate(
            text,
            (x, y),
            xytext=(1.02, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=INK,
            arrowprops=style,
        )
