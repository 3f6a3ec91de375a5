"""Numbers in human units, and columns of text as a table of Markdown or of a terminal."""

import math
import textwrap
from collections.abc import Callable, Sequence

from kdjax.statistics import Statistics

Columns = list[tuple[str, list[str]]]  # (heading, cells); the first column names the rows
WIDTH = 100  # of a terminal
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, form: str) -> str:
    """The number in a format, or "-" where there is none."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def spread(found: Statistics, form: str, scale: float = 1, alone: str = "") -> str:
    """Mean ± s.d. in one format, or the mean in the format `alone` where there is no s.d."""
    mean, std = (None if v is None else scale * v for v in (found["mean"], found["std"]))
    if std is None:
        return number(mean, alone or form)
    return f"{number(mean, form)} ± {number(std, form)}"


def rounded(value: float | None, units: Sequence[tuple[float, str]] = ()) -> str:
    """Three digits: 1234.5 as 1,230 or, in units, as 1.23 k; 0.012345 as 0.0123."""
    if (text := number(value, ".3g")) == "-":
        return text
    size, unit = next((u for u in units if float(text) >= u[0]), (1, ""))
    return f"{float(text) / size:,.10g} {unit}".strip()


def markdown(columns: Columns, plain: Callable[[str], str] = str) -> str:
    """A GitHub table of named columns, aligned: the first to the left, numbers to the right."""
    texts = [[plain(c).replace("|", r"\|") for c in (name, *cells)] for name, cells in columns]
    widths = [max(map(len, (*cells, "---"))) for cells in texts]
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    header, *lines = zip(*texts, strict=True)
    forms = [f"{side}{width}" for side, width in zip("<" + ">" * len(widths), widths, strict=False)]
    return "\n".join(
        f"| {' | '.join(map(format, line, forms))} |" for line in (header, rules, *lines)
    )


def plain(columns: Columns) -> str:
    """The same for a terminal: a name that is too long takes more lines."""
    (heading, names), *others = columns
    texts = [(name, *cells) for name, cells in others]
    widths = [max(map(len, cells)) for cells in texts]
    room = max(12, WIDTH - sum(widths) - 2 * len(widths))
    wrapped = [textwrap.wrap(n, room, subsequent_indent="  ") or [""] for n in (heading, *names)]
    room = max(len(line) for lines in wrapped for line in lines)
    found = []
    for (first, *rest), *cells in zip(wrapped, *texts, strict=True):
        aligned = [f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True)]
        found += ["  ".join([f"{first:<{room}}", *aligned]), *rest]
    return "\n".join([found[0], "-" * len(found[0]), *found[1:]])


def wrapped(line: str) -> str:
    """A line as lines of a terminal."""
    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
