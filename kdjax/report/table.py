"""How the rows of a report read as tables: which columns there are."""

from collections.abc import Callable, Sequence

from kdjax.report.rows import Row
from kdjax.tables import UNITS, Columns, number, rounded, spread

Kinds = Sequence[tuple[str, Callable[[Row], str]]]  # (heading, the cell of a row)


def errors(row: Row) -> str:
    """Mean ± s.d. of the count of errors, or the count of the one net that there is."""
    return spread(row.metrics["errors"], ".1f", alone=".10g")


def mean_errors(row: Row) -> str:
    """The same without the s.d."""
    return number(row.mean("errors"), ".10g" if row.members == 1 else ".1f")


def columns(rows: Sequence[Row], kinds: Kinds) -> Columns:
    """One of RESULTS, COSTS and SUMMARY for these rows, without what applies to none of them."""
    found = [(heading, [text(row) for row in rows]) for heading, text in kinds]
    return [column for column in found if set(column[1]) != {"-"}]


def _percent(value: float | None) -> str:
    return number(value, ".2%")


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
    ("n", lambda r: f"{r.n} of {r.members}" if r.diverged else f"{r.n}"),
    ("errors", errors),
)
SPREADS = [(h, lambda r, m=m, f=f: spread(r.metrics[m], *f)) for h, m, *f in METRICS]
RESULTS: Kinds = (*NAMES, *SPREADS)  # what the members do
COSTS: Kinds = (  # what one member, or an ensemble of all, costs to serve, and to train
    ("stage", lambda r: r.label),
    ("parameters", lambda r: number(r.parameters, ",")),
    ("FLOPs per example", lambda r: rounded(r.flops_per_example, UNITS)),
    ("latency ms", lambda r: rounded(r.latency_ms)),
    ("seconds", lambda r: rounded(r.seconds)),
)
SUMMARY: Kinds = (  # what matters, on one line
    *NAMES,
    ("accuracy", lambda r: _percent(r.mean("accuracy"))),
    ("nll", lambda r: number(r.mean("nll"), ".3f")),
    ("ece", lambda r: number(r.mean("ece"), ".3f")),
    ("agreement", lambda r: _percent(r.mean("agreement"))),
    COSTS[1],
    COSTS[-1],
)
