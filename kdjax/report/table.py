"""How the rows of a report read as tables: numbers in human units, and Markdown."""

import math
from collections.abc import Callable, Sequence

from kdjax.report.rows import Row, Statistics

Columns = list[tuple[str, list[str]]]  # (heading, cells); the first column names the rows
Kinds = Sequence[tuple[str, Callable[[Row], str]]]  # (heading, the cell of a row)
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


def errors(row: Row) -> str:
    """Mean ± s.d. of the count of errors, or the count of the one net that there is."""
    return spread(row.metrics["errors"], ".1f", alone=".10g")


def columns(rows: Sequence[Row], kinds: Kinds) -> Columns:
    """One of RESULTS, COSTS and SUMMARY for these rows, without what applies to none of them."""
    found = [(heading, [text(row) for row in rows]) for heading, text in kinds]
    return [column for column in found if set(column[1]) != {"-"}]


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


def _rounded(value: float | None, units: Sequence[tuple[float, str]] = ()) -> str:
    """Three digits: 1234.5 as 1,230 or, in units, as 1.23 k; 0.012345 as 0.0123."""
    if (text := number(value, ".3g")) == "-":
        return text
    size, unit = next((u for u in units if float(text) >= u[0]), (1, ""))
    return f"{float(text) / size:,.10g} {unit}".strip()


METRICS = (  # heading, metric, format, unit
    ("accuracy %", "accuracy", ".2f", 100),
    ("nll", "nll", ".3f", 1),
    ("ece", "ece", ".3f", 1),
    ("brier", "brier", ".3f", 1),
    ("agreement %", "agreement", ".2f", 100),
    ("teacher KL", "teacher_kl", ".3f", 1),
)
NAMES: Kinds = (
    ("stage", lambda r: r.label),
    ("n", lambda r: f"{r.n} ({r.diverged} diverged)" if r.diverged else f"{r.n}"),
    ("errors", errors),
)
_mean = lambda row, metric: Statistics(mean=row.mean(metric), std=None, values=[])
MEANS = [(h, lambda r, m=m, f=f: spread(_mean(r, m), *f)) for h, m, *f in METRICS]
SPREADS = [(h, lambda r, m=m, f=f: spread(r.metrics[m], *f)) for h, m, *f in METRICS]
RESULTS: Kinds = (*NAMES, *SPREADS)  # what the members do
COSTS: Kinds = (  # what one member, or an ensemble of all, costs to serve, and to train
    ("stage", lambda r: r.label),
    ("parameters", lambda r: number(r.parameters, ",")),
    ("FLOPs per example", lambda r: _rounded(r.flops_per_example, UNITS)),
    ("latency ms", lambda r: _rounded(r.latency_ms)),
    ("seconds", lambda r: _rounded(r.seconds)),
)
SUMMARY: Kinds = (*NAMES, *MEANS, *COSTS[1:])  # all on one line
