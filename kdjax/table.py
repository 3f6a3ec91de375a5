"""How the rows of a report read as text: one Markdown table, numbers in human units."""

import math
from collections.abc import Sequence
from typing import Any


def of_rows(rows: Sequence[Any]) -> str:
    """The table of these `report.Row`s, without the columns that apply to none of them."""
    columns = [(name, [text(row) for row in rows]) for name, text in COLUMNS]
    return markdown([column for column in columns if set(column[1]) != {"-"}])


def markdown(columns: Sequence[tuple[str, list[str]]]) -> str:
    """A GitHub table of named columns, aligned: the first to the left, numbers to the right."""
    widths = [max(map(len, (name, *cells, "---"))) for name, cells in columns]
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[name for name, _ in columns], rules]
    lines += zip(*(cells for _, cells in columns), strict=True)
    sides = "<" + ">" * (len(columns) - 1)
    return "\n".join(
        "| " + " | ".join(map(format, line, map("{}{}".format, sides, widths))) + " |"
        for line in lines
    )


def number(value: float | None, form: str) -> str:
    """The number in a format, or "-" where there is none."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def _errors(row: Any) -> str:
    mean, std = row.mean("errors"), row.std("errors")
    return number(mean, ".10g") if std is None else f"{mean:.1f} ± {std:.1f}"


def _percent(row: Any, metric: str) -> str:
    mean = row.mean(metric)
    return number(None if mean is None else 100 * mean, ".2f")


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


COLUMNS = (
    ("stage", lambda r: r.label),
    ("n", lambda r: f"{r.members} ({r.diverged} diverged)" if r.diverged else f"{r.members}"),
    ("errors", _errors),
    ("accuracy %", lambda r: _percent(r, "accuracy")),
    ("nll", lambda r: number(r.mean("nll"), ".3f")),
    ("ece", lambda r: number(r.mean("ece"), ".3f")),
    ("brier", lambda r: number(r.mean("brier"), ".3f")),
    ("agreement %", lambda r: _percent(r, "agreement")),
    ("teacher KL", lambda r: number(r.mean("teacher_kl"), ".3f")),
    ("parameters", lambda r: number(r.parameters, ",")),
    ("FLOPs per example", lambda r: _units(r.flops_per_example)),
    ("latency ms", lambda r: _three_digits(r.latency_ms)),
    ("seconds", lambda r: _three_digits(r.seconds)),
)
