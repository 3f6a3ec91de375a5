"""What a run found: its rows, and all that its table, its figures and its files are made of."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdjax.report import table
from kdjax.report.rows import METRICS, Row, Statistics, representatives, summarise

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Report:
    """All rows of an experiment, and what its files and figures need beside them.

    `kdjax.figures` draws it; a notebook shows it as its table. All of it is plain data.

    Attributes:
      rows: one for each cell of each stage, and for each ensemble.
      dataset: name of the data set.
      evaluate: the split that all numbers are of.
      examples: {split: how many it has}.
      class_names: [C], in the order of the logits.
      environment: versions, devices and the command of the process that wrote the report.
      environments: {stage: the same of the process that trained it}, of stages that say so.
      config: all fields of the experiment.
      settings: {stage: {field: value}}, the fields in which any stage differs from the defaults.
      taught: the stages whose objective reads a teacher; others may name one to be compared with.
      teaching: the stages of this run that are teachers of others.
      mixtures: {stage with teachers: "arithmetic" or "geometric"}, the mean of its teachers that
        agreement and teacher KL compare it with.
      curves: {label of a row: {"step": [S], "loss": [S][M], "validation_accuracy": [S][M]}};
        None where a member has diverged.
      calibration: of each of `representatives`, `metrics.calibration` with a leading [M], None for
        NaN, and the `label` of the row.
      soft_targets: the arguments of `figures.soft_targets`; None if no stage is taught.
      missing: as `kdjax.missing.examine` returns it, with the `label` of a row.
      layouts: {stage: the fields of the `parallel.Layout` that it finished on}; None for a stage
        directory that does not say.
    """

    rows: tuple[Row, ...]
    dataset: str
    evaluate: str
    examples: dict[str, int]
    class_names: tuple[str, ...]
    environment: dict[str, Any]
    environments: dict[str, dict[str, Any]]
    config: dict[str, Any]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    taught: frozenset[str] = frozenset()
    teaching: frozenset[str] = frozenset()
    mixtures: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: tuple[dict[str, Any], ...] = ()
    soft_targets: dict[str, Any] | None = None
    missing: tuple[dict[str, Any], ...] = ()
    layouts: dict[str, dict[str, int] | None] = field(default_factory=dict)

    @property
    def representatives(self) -> tuple[Row, ...]:
        """The rows that stand for their stage in a figure; see `rows.representatives`."""
        return representatives(self.rows)

    @property
    def baseline(self) -> Row | None:
        """The first row with an s.d. whose stage neither teaches nor is taught, in the cell of its
        grid that stands for it; the others are compared with it."""
        rows = (r for r in self.representatives if r.stage not in self.taught | self.teaching)
        return next((r for r in rows if r.std("errors") is not None and not r.is_ensemble), None)

    @property
    def curves_shown(self) -> list[tuple[Row, dict[str, Any]]]:
        """The training curves of the rows that stand for their stages."""
        found = [(row, self.curves.get(row.label)) for row in self.representatives]
        return [(row, curve) for row, curve in found if curve and len(curve["step"])]

    def frame(self) -> "pandas.DataFrame":
        """A pandas DataFrame: one row per row, the cell as text and one column per axis."""
        import pandas  # here, for it takes a second

        means = lambda r: {f"{m}_{s}": r.metrics[m][s] for m in METRICS for s in ("mean", "std")}
        records = [vars(r) | {"cell": r.cell_text} | r.cell | means(r) for r in self.rows]
        return pandas.DataFrame(records).drop(columns=["metrics", "seeds"])

    def table(self) -> str:
        """A Markdown table that also reads well in a terminal."""
        return table.markdown(table.columns(self.rows, table.SUMMARY))

    def __repr__(self) -> str:
        return self.table()

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        data = f"{self.dataset}, {self.evaluate} split of {self.examples[self.evaluate]:,} examples"
        return f"{self.table()}\n\n{data}; mean ± s.d. over n members"

    def row(self, name: str) -> Row:
        """The one row of this stage or of this label.

        Raises:
          ValueError: it names no row, or several.
        """
        rows = [row for row in self.rows if name in (row.stage, row.label)]
        if len(rows) != 1:
            labels = ", ".join(row.label for row in self.rows)
            raise ValueError(f"{name!r} names {len(rows)} rows; name one of: {labels}")
        return rows[0]

    def difference(
        self, stage_a: str, stage_b: str, metric: str = "errors", paired: bool = False
    ) -> dict[str, float | None]:
        """How much higher a metric is in one row than in another, and how sure that is.

        Args:
          stage_a: stage or label of a row; a label where the stage has a grid.
          stage_b: the same of the row to subtract.
          metric: one of METRICS.
          paired: compare members of equal seeds; sharper if a seed means the same in both.

        Raises:
          ValueError: a name that is not of one row; to pair, seeds that are not the same.

        Returns:
          `mean` of a minus b, its `standard_error`, and `ratio`, the one over the other. None
          for what cannot be said: no spread from fewer than two members, no ratio over zero.
        """
        rows = self.row(stage_a), self.row(stage_b)
        a, b = (row.metrics[metric] for row in rows)
        if paired:
            gaps = summarise(_gaps(*rows, metric))
            mean, error = gaps["mean"], _standard_error(gaps)
        else:
            x, y, e, f = a["mean"], b["mean"], _standard_error(a), _standard_error(b)
            mean = None if x is None or y is None else x - y
            error = None if e is None or f is None else math.hypot(e, f)
        ratio = mean / error if mean is not None and error else None
        return {"mean": mean, "standard_error": error, "ratio": ratio}


def _gaps(a: Row, b: Row, metric: str) -> list[float | None]:
    """The metric of a's members less that of b's with the same seeds."""
    if not a.seeds or set(a.seeds) != set(b.seeds):
        raise ValueError(
            f"{a.label} has the seeds {list(a.seeds)}, {b.label} {list(b.seeds)}: no pairs"
        )
    x, y = (dict(zip(r.seeds, r.metrics[metric]["values"], strict=True)) for r in (a, b))
    pairs = ((x[seed], y[seed]) for seed in a.seeds)
    return [None if u is None or v is None else u - v for u, v in pairs]


def _standard_error(found: Statistics) -> float | None:
    known = [v for v in found["values"] if v is not None]
    return None if found["std"] is None else found["std"] / math.sqrt(len(known))
