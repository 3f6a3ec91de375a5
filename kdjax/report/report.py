"""What a run found: a row per population, statistics over its members, a table and files."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.config.spec import StageSpec
from kdjax.host import files
from kdjax.losses.logits import LOSSES
from kdjax.report import table

METRICS = ("errors", "accuracy", "nll", "ece", "brier", "agreement", "teacher_kl")
CURVE = 200  # most steps of a curve in report.json; a stage's metrics.jsonl has all
ENSEMBLE = "/ensemble"  # after the teacher stages (a+b) whose members are one classifier


@dataclass(frozen=True)
class Row:
    """The members of one cell of one stage's grid.

    Attributes:
      seeds: of the members, in the order of their values; an ensemble has none.
      metrics: each as `summarise` returns it; accuracy and agreement are fractions of 1.
      validation_errors: mean over the members that did not diverge, by which a cell is chosen;
        None if none is left, and for an ensemble.
    """

    stage: str
    cell: dict[str, Any]
    seeds: tuple[int, ...]
    members: int
    diverged: int
    metrics: dict[str, dict]
    validation_errors: float | None
    parameters: int
    flops_per_example: float
    latency_ms: float
    seconds: float

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


@dataclass(frozen=True)
class Report:
    """All rows of an experiment, and what its files and figures need beside them.

    `kdjax.figures` draws it; a notebook shows it as its table.

    Attributes:
      rows: one for each cell of each stage, and for each ensemble.
      environment: versions, devices and the command of the process that wrote the report.
      environments: {stage: the same of the process that finished it, of which are its seconds and
        latency}, for the stages that say so.
      config: plain data.
      evaluate: the split that all numbers are of.
      examples: how many each split has.
      curves: {label of a row: {"step": [S], "loss": [S][M], "validation_accuracy": [S][M]}};
        None where a member has diverged.
      calibration: for each of `representatives`, `metrics.calibration` with a leading axis of
        members, None for NaN, and the `label` of the row.
      soft_targets: the arguments of `figures.soft_targets`; None if no stage learns from teachers.
      missing: as `missing.examine`, with the `label` of a row.
      layouts: {stage: the fields of the `parallel.Layout` that it finished on}; None for a stage
        directory that does not say.
    """

    rows: tuple[Row, ...]
    environment: dict[str, Any]
    environments: dict[str, dict[str, Any]]
    config: dict[str, Any]
    evaluate: str
    examples: dict[str, int]
    curves: dict[str, dict]
    calibration: tuple[dict[str, Any], ...]
    soft_targets: dict[str, Any] | None
    missing: tuple[dict[str, Any], ...] = ()
    layouts: dict[str, dict[str, int] | None] = field(default_factory=dict)

    @property
    def representatives(self) -> tuple[Row, ...]:
        """The rows that stand for their stage in a figure; see `representatives`."""
        return representatives(self.rows)

    @property
    def curves_shown(self) -> list[tuple[Row, dict[str, Any]]]:
        """The training curves of the rows that stand for their stages."""
        found = [(row, self.curves.get(row.label)) for row in self.representatives]
        return [(row, curve) for row, curve in found if curve and len(curve["step"])]

    @property
    def taught(self) -> set[str]:
        """The stages whose loss reads a teacher; others may name one to be compared with."""
        stages = self.config["stages"].items()
        return {n for n, s in stages if LOSSES[s.get("loss", StageSpec.loss)].teacher}

    def frame(self) -> Any:
        """A pandas DataFrame: one row per row, the cell as text and one column per axis."""
        import pandas

        return pandas.DataFrame([_record(row) for row in self.rows])

    def table(self) -> str:
        """A Markdown table that also reads well in a terminal."""
        return table.of_rows(self.rows)

    def __repr__(self) -> str:
        return self.table()

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        name, count = self.config["dataset"]["name"], self.examples[self.evaluate]
        note = f"{name}, {self.evaluate} split of {count:,} examples; mean ± s.d. over n members"
        return f"{self.table()}\n\n{note}"

    def row(self, name: str) -> Row:
        """The one row of this stage or of this label; ValueError if it is not one."""
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
            mean = None if None in (a["mean"], b["mean"]) else a["mean"] - b["mean"]
            errors = _standard_error(a), _standard_error(b)
            error = None if None in errors else math.hypot(*errors)
        return {"mean": mean, "standard_error": error, "ratio": mean / error if error else None}


def representatives(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Of the cells of one stage that have equally many parameters, that with the fewest errors on
    the validation split.

    Cells of which every member diverged are left out.
    """
    best: dict[tuple[str, int], int] = {}
    errors = lambda i: math.inf if rows[i].is_ensemble else rows[i].validation_errors
    for i in sorted((i for i, row in enumerate(rows) if row.n), key=errors):
        best.setdefault((rows[i].stage, rows[i].parameters), i)
    return tuple(rows[i] for i in sorted(best.values()))


def swept(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """{axis: rows} of the stages whose cells differ in exactly one axis, at two values or more,
    stage by stage and in the order of the values.

    Cells in which every member diverged do not count.
    """
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(row.stage, []).append(row)
    found: dict[str, list[Row]] = {}
    for own in stages.values():
        cells = [row.cell for row in own if row.n]
        varied = [axis for axis in own[0].cell if len({cell[axis] for cell in cells}) > 1]
        for axis in varied if len(varied) == 1 else []:
            found.setdefault(axis, []).extend(sorted(own, key=lambda row: row.cell[axis]))
    return found


def count_members(rows: Sequence[Row]) -> str:
    """The n of the means and s.d. of these rows, such as "n = 2 to 3, 1 diverged"."""
    counts, lost = sorted(row.n for row in rows), sum(row.diverged for row in rows)
    n = " to ".join(map(str, dict.fromkeys(counts[:1] + counts[-1:])))
    return f"n = {n}" + f", {lost} diverged" * (lost > 0)


def summarise(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation over the members that have a finite value."""
    values = [None if v is None or not math.isfinite(v) else float(v) for v in values]
    known = [v for v in values if v is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": values,
    }


def write(report: Report, directory: str | os.PathLike) -> None:
    """Writes figures/*.png, report.md, report.html and, last, report.json; each appears whole or
    not at all."""
    from kdjax.report import document, drawing, figures, page

    directory = Path(directory)
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    with drawing.fixed_style():
        drawn = figures.of_report(report)
        for name, figure in drawn.items():
            drawing.settle(figure)
            files.write(directory / "figures" / f"{name}.png", drawing.png(figure))
        pictures = {name: drawing.svg(figure) for name, figure in drawn.items()}
    content = document.of_report(report, drawn)
    files.write(directory / "report.md", page.markdown(content))
    files.write(directory / "report.html", page.html(content, pictures))
    curves = {row.label: _thinned(curve) for row, curve in report.curves_shown}
    found = {"rows": [vars(row) for row in report.rows]}
    found |= {"environment": report.environment, "environments": report.environments}
    found |= {"config": report.config, "examples": report.examples}
    found |= {"calibration": report.calibration, "curves": curves}
    if report.soft_targets:
        found["soft_targets"] = {k: v for k, v in report.soft_targets.items() if k != "images"}
    if report.missing:
        found["missing_classes"] = report.missing
    files.write(directory / "report.json", files.to_json(found, indent=1))


def _thinned(curve: dict[str, Any]) -> dict[str, list]:
    """At most CURVE steps of a curve [S], as far apart as can be, with the first and the last."""
    steps = len(curve["step"])
    shown = np.linspace(0, steps - 1, min(steps, CURVE)).round().astype(int)
    return {name: [values[i] for i in shown] for name, values in curve.items()}


def _record(row: Row) -> dict[str, Any]:
    record = vars(row) | {"cell": row.cell_text} | row.cell
    for name in METRICS:
        record |= {f"{name}_mean": row.mean(name), f"{name}_std": row.std(name)}
    return {name: value for name, value in record.items() if name not in ("metrics", "seeds")}


def _gaps(a: Row, b: Row, metric: str) -> list[float | None]:
    """The metric of a's members less that of b's with the same seeds."""
    if not a.seeds or set(a.seeds) != set(b.seeds):
        raise ValueError(
            f"{a.label} has the seeds {list(a.seeds)}, {b.label} {list(b.seeds)}: no pairs"
        )
    x, y = (dict(zip(r.seeds, r.metrics[metric]["values"], strict=True)) for r in (a, b))
    return [None if None in (x[seed], y[seed]) else x[seed] - y[seed] for seed in a.seeds]


def _standard_error(statistics: dict[str, Any]) -> float | None:
    known = [v for v in statistics["values"] if v is not None]
    return None if statistics["std"] is None else statistics["std"] / math.sqrt(len(known))
