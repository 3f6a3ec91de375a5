"""How the rows of a report read as tables: numbers in human units, and Markdown."""

import math
from collections.abc import Sequence
from typing import Any

Columns = list[tuple[str, list[str]]]  # (heading, cells), the first naming its row


def of_rows(rows: Sequence[Any]) -> str:
    """One Markdown table of these `report.Row`s, without what applies to none of them."""
    measured = ((heading, lambda r, m=m: _mean(r, *m)) for heading, *m in METRICS)
    return markdown(_columns(rows, (*NAMES, *measured, *COSTS)))


def results(rows: Sequence[Any]) -> Columns:
    """What the members do: every metric with its s.d."""
    measured = ((heading, lambda r, m=m: _spread(r, *m)) for heading, *m in METRICS)
    return _columns(rows, (*NAMES, *measured))


def costs(rows: Sequence[Any]) -> Columns:
    """What one member, or an ensemble of all, costs to serve, and what training took."""
    return _columns(rows, (NAMES[0], *COSTS))


def markdown(columns: Sequence[tuple[str, list[str]]]) -> str:
    """A GitHub table of named columns, aligned: the first to the left, numbers to the right."""
    columns = [[cell.replace("|", r"\|") for cell in (name, *cells)] for name, cells in columns]
    widths = [max(map(len, (*cells, "---"))) for cells in columns]
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    header, *lines = zip(*columns, strict=True)
    sides = "<" + ">" * (len(columns) - 1)
    return "\n".join(
        "| " + " | ".join(map(format, line, map("{}{}".format, sides, widths))) + " |"
        for line in (header, rules, *lines)
    )


def number(value: float | None, form: str) -> str:
    """The number in a format, or "-" where there is none."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def errors(row: Any) -> str:
    """Mean ± s.d., or the number of the one net there is."""
    mean, std = row.mean("errors"), row.std("errors")
    return number(mean, ".10g") if std is None else f"{mean:.1f} ± {std:.1f}"


def _columns(rows: Sequence[Any], kinds: Sequence[tuple[str, Any]]) -> Columns:
    columns = [(heading, [text(row) for row in rows]) for heading, text in kinds]
    return [column for column in columns if set(column[1]) != {"-"}]


def _mean(row: Any, metric: str, scale: float, form: str) -> str:
    mean = row.mean(metric)
    if metric == "errors":
        return errors(row)
    return number(None if mean is None else scale * mean, form)


def _spread(row: Any, metric: str, scale: float, form: str) -> str:
    mean, std = _mean(row, metric, scale, form), row.std(metric)
    return mean if std is None or metric == "errors" else f"{mean} ± {scale * std:{form}}"


def _three_digits(value: float | None) -> str:
    """1234.5 as 1,230 and 0.012345 as 0.0123."""
    rounded = number(value, ".3g")
    return rounded if rounded == "-" else f"{float(rounded):,.10g}"


def _units(value: float | None) -> str:
    """1234567 as 1.23 M."""
    rounded = number(value, ".3g")
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded != "-" and float(rounded) >= size:
            return f"{float(rounded) / size:.3g} {unit}"
    return rounded


NAMES = (
    ("stage", lambda r: r.label),
    ("n", lambda r: f"{r.n} ({r.diverged} diverged)" if r.diverged else f"{r.n}"),
)
METRICS = (  # heading, metric, unit, format
    ("errors", "errors", 1, ".1f"),
    ("accuracy %", "accuracy", 100, ".2f"),
    ("nll", "nll", 1, ".3f"),
    ("ece", "ece", 1, ".3f"),
    ("brier", "brier", 1, ".3f"),
    ("agreement %", "agreement", 100, ".2f"),
    ("teacher KL", "teacher_kl", 1, ".3f"),
)
COSTS = (
    ("parameters", lambda r: number(r.parameters, ",")),
    ("FLOPs per example", lambda r: _units(r.flops_per_example)),
    ("latency ms", lambda r: _three_digits(r.latency_ms)),
    ("seconds", lambda r: _three_digits(r.seconds)),
)
