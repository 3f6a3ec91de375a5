"""A row of a report: the members of one population, and statistics over them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kdjax.statistics import Statistics

METRICS = ("errors", "accuracy", "nll", "ece", "brier", "agreement", "teacher_kl")
AMONG = 500  # examples, the first, among which those of a report's soft targets are chosen
ENSEMBLE = "/ensemble"  # after the teacher stages (a+b) whose members are one classifier


@dataclass(frozen=True)
class Row:
    """The members of one cell of one stage's grid.

    Attributes:
      cell: the values of the axes of the grid other than the seed.
      seeds: of the members, in the order of their values; an ensemble has none.
      metrics: each as `summarise` returns it; accuracy and agreement are fractions of 1.
      validation_errors: mean over the members that did not diverge, by which a cell is chosen;
        None if none is left, and for an ensemble.
      unlearned: the members that are no better than guessing; see `mistakes.unlearned`.
    """

    stage: str
    cell: dict[str, Any]
    seeds: tuple[int, ...]
    members: int
    diverged: int
    metrics: dict[str, Statistics]
    validation_errors: float | None
    parameters: int
    flops_per_example: float
    latency_ms: float
    seconds: float
    unlearned: int = 0

    @property
    def cell_text(self) -> str:
        return " ".join(f"{k}={v:.12g}" for k, v in self.cell.items())

    @property
    def label(self) -> str:
        """The stage and where in its grid, such as "sweep temperature=4"."""
        return f"{self.stage} {self.cell_text}".strip()

    @property
    def is_ensemble(self) -> bool:
        return self.stage.endswith(ENSEMBLE)

    @property
    def n(self) -> int:
        """The members that did not diverge, over which every mean and s.d. is."""
        return self.members - self.diverged

    def mean(self, metric: str) -> float | None:
        return self.metrics[metric]["mean"]

    def std(self, metric: str) -> float | None:
        return self.metrics[metric]["std"]


def count_members(rows: Sequence[Row]) -> str:
    """The n of the means and s.d. of these rows, such as "n = 2 to 3, 1 diverged"."""
    counts, lost = sorted(row.n for row in rows), sum(row.diverged for row in rows)
    n = " to ".join(map(str, dict.fromkeys(counts[:1] + counts[-1:])))
    return f"n = {n}" + f", {lost} diverged" * (lost > 0)


def representatives(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Of the cells of one stage that have equally many parameters, the one with the fewest errors
    on the validation split.

    Cells of which every member diverged are left out.
    """
    best: dict[tuple[str, int], int] = {}

    def errors(i: int) -> float:
        known = rows[i].validation_errors
        return math.inf if known is None else known

    for i in sorted((i for i, row in enumerate(rows) if row.n), key=errors):
        best.setdefault((rows[i].stage, rows[i].parameters), i)
    return tuple(rows[i] for i in sorted(best.values()))


def swept(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """{axis: rows} of the stages whose cells differ in exactly one axis, at two values or more,
    stage by stage and in the order of the values.

    Cells in which every member diverged do not count.
    """
    rows = list(rows)
    found: dict[str, list[Row]] = {}
    for stage in dict.fromkeys(row.stage for row in rows):
        own = [row for row in rows if row.stage == stage]
        cells = [row.cell for row in own if row.n]
        varied = [axis for axis in own[0].cell if len({cell[axis] for cell in cells}) > 1]
        for axis in varied if len(varied) == 1 else ():
            found.setdefault(axis, []).extend(sorted(own, key=lambda row: row.cell[axis]))
    return found
