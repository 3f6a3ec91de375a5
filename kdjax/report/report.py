"""What a run found: its rows, and all that its table, its figures and its files are made of."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdjax import statistics, tables
from kdjax.report import table
from kdjax.report.rows import METRICS, Row, representatives
from kdjax.statistics import Difference

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Report:
    """All rows of an experiment, and what its files and figures need beside them.

    `kdjax.figures` draws it; a notebook shows it as its table. All of it is plain data.

    Attributes:
      name: of the experiment, as its workdir has it.
      rows: one for each cell of each stage, and for each ensemble.
      dataset: name of the data set.
      evaluate: the split that all numbers are of.
      examples: {split: how many it has}.
      class_names: [C], in the order of the logits.
      class_counts: [C], how many examples of each the evaluated split has.
      environment: versions, devices and the command of the process that wrote the report.
      environments: {stage: the same of the process that trained it}, of stages that say so.
      config: all fields of the experiment.
      settings: {stage: {field: value}}, the fields in which any stage differs from the defaults.
      taught: the stages whose objective reads a teacher; others may name one to be compared with.
      teachers: {stage: the stages of this run that are its teachers}, of those with teachers.
      ensembles: {stage: the row of its teachers together}, where they are asked before it trains.
      mixtures: {stage with teachers: "arithmetic" or "geometric"}, the mean of its teachers that
        agreement and teacher KL compare it with.
      curves: {label of a row: {"step": [S], "loss": [S][M], "validation_accuracy": [S][M]}};
        None where a member has diverged.
      calibration: of each of `representatives`, `metrics.calibration` with a leading [M], None for
        NaN, and the `label` of the row.
      soft_targets: the arguments of `figures.soft_targets`; None if no stage is taught.
      class_errors: {label of a row that stands for its stage: [n][C] errors of each member}.
      mistakes: the arguments of `figures.mistakes`; None if the inputs are no images.
      missing: as `kdjax.missing.examine` returns it, with the `label` of a row.
      layouts: {stage: the fields of the `parallel.Layout` that it finished on}; None for a stage
        directory that does not say.
    """

    rows: tuple[Row, ...]
    dataset: str
    evaluate: str
    examples: dict[str, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    environment: dict[str, Any]
    environments: dict[str, dict[str, Any]]
    config: dict[str, Any]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    taught: frozenset[str] = frozenset()
    teachers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ensembles: dict[str, str] = field(default_factory=dict)
    mixtures: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: tuple[dict[str, Any], ...] = ()
    soft_targets: dict[str, Any] | None = None
    class_errors: dict[str, list[list[int]]] = field(default_factory=dict)
    mistakes: dict[str, Any] | None = None
    missing: tuple[dict[str, Any], ...] = ()
    layouts: dict[str, dict[str, int] | None] = field(default_factory=dict)
    name: str = ""

    @property
    def representatives(self) -> tuple[Row, ...]:
        """The rows that stand for their stage in a figure; see `rows.representatives`. Stages of
        which later ones take their numbers are left out."""
        return representatives([row for row in self.rows if row.stage not in self.choosing])

    @property
    def baseline(self) -> Row | None:
        """The first row with an s.d. whose stage neither teaches nor is taught, or else without
        one, in the cell of its grid that stands for it; the others are compared with it."""
        teaching = {name for names in self.teachers.values() for name in names}
        rows = [r for r in self.representatives if r.stage not in self.taught | teaching]
        rows = [r for r in rows if not r.is_ensemble]
        return next((r for r in rows if r.std("errors") is not None), rows[0] if rows else None)

    @property
    def choosing(self) -> frozenset[str]:
        """The stages that are there for the numbers that later ones take of them."""
        stages = self.config.get("stages", {}).values()
        return frozenset(stage.get("numbers_from", "") for stage in stages)

    @property
    def plain(self) -> Row | None:
        """The first row of plain distillation: of soft targets, and perhaps labels."""
        stages, soft = self.config.get("stages", {}), {"kl_divergence", "cross_entropy"}
        terms = lambda row: {part["source"] for part in stages[row.stage]["objective"]}
        taught = (r for r in self.representatives if r.stage in self.taught & stages.keys())
        return next((row for row in taught if terms(row) <= soft), None)

    def ensemble(self, row: Row) -> Row | None:
        """The row of the teachers of a row's stage, all together."""
        found = [r for r in self.rows if r.stage == self.ensembles.get(row.stage)]
        return found[-1] if found else None

    @property
    def guessing(self) -> int:
        """The errors of always naming the most frequent class."""
        return sum(self.class_counts) - max(self.class_counts)

    @property
    def curves_shown(self) -> list[tuple[Row, dict[str, Any]]]:
        """The training curves of the rows that stand for their stages."""
        found = [(row, self.curves.get(row.label)) for row in self.representatives]
        return [(row, curve) for row, curve in found if curve and len(curve["step"])]

    def frame(self) -> "pandas.DataFrame":
        """A pandas DataFrame: one row per row, the cell as text and one column per axis.

        Raises:
          ImportError: pandas is not installed: pip install 'kdjax[pandas]'.
        """
        import pandas  # here, for it takes a second

        means = lambda r: {f"{m}_{s}": r.metrics[m][s] for m in METRICS for s in ("mean", "std")}
        records = [vars(r) | {"cell": r.cell_text} | r.cell | means(r) for r in self.rows]
        return pandas.DataFrame(records).drop(columns=["metrics", "seeds"])

    def table(self) -> str:
        """What matters of every row, as a Markdown table."""
        return tables.markdown(table.columns(self.rows, table.SUMMARY))

    def __repr__(self) -> str:
        from kdjax.report import words  # here, for it is made of reports

        return words.terminal(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        from kdjax.report import words

        data = f"{self.dataset}, {self.evaluate} split of {self.examples[self.evaluate]:,} examples"
        lines = "".join(f"\n\n{line}" for line in (*words.findings(self), *words.warnings(self)))
        return f"{self.table()}\n\n{data}; mean ± s.d. over n members{lines}"

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
    ) -> Difference:
        """How much higher a metric is in one row than in another, and how sure that is.

        Args:
          stage_a: stage or label of a row; a label where the stage has a grid.
          stage_b: the same of the row to subtract. An ensemble is taken as given, without an error.
          metric: one of METRICS.
          paired: compare members of equal seeds; sharper if a seed means the same in both.

        Raises:
          ValueError: a name that is not of one row; to pair, seeds that are not the same.

        Returns:
          `mean` of a minus b, its `standard_error`, and `ratio`, the one over the other. None
          for what cannot be said: no spread from fewer than two members, no ratio over zero.
          `verdict`: a is "better", "worse" or "not told apart" from b, by Student's t at 95 %
          (Welch's, where the members are not paired).
        """
        rows = self.row(stage_a), self.row(stage_b)
        given = lambda row: statistics.exact(row.mean(metric))
        a, b = (given(row) if row.is_ensemble else row.metrics[metric] for row in rows)
        if paired:
            a, b = statistics.summarise(_gaps(*rows, metric)), statistics.exact(0.0)
        return statistics.difference(a, b, more_is_better=metric in ("accuracy", "agreement"))


def _gaps(a: Row, b: Row, metric: str) -> list[float | None]:
    """The metric of a's members less that of b's with the same seeds."""
    if not a.seeds or set(a.seeds) != set(b.seeds):
        raise ValueError(
            f"{a.label} has the seeds {list(a.seeds)}, {b.label} {list(b.seeds)}: no pairs"
        )
    x, y = (dict(zip(r.seeds, r.metrics[metric]["values"], strict=True)) for r in (a, b))
    pairs = ((x[seed], y[seed]) for seed in a.seeds)
    return [None if u is None or v is None else u - v for u, v in pairs]
