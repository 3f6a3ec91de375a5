"""What a run found: a row per population, statistics over its members, a table and files."""

import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import files, table
from kdjax.losses import LOSSES
from kdjax.spec import StageSpec
from kdjax.versions import installed

METRICS = ("errors", "accuracy", "nll", "ece", "brier", "agreement", "teacher_kl")
ENSEMBLE = "/ensemble"  # after the teacher stages (a+b) whose members are one classifier
PACKAGES = ("kdjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclass(frozen=True)
class Row:
    """The members of one cell of one stage's grid.

    `metrics[name]` is as `summarise` returns it; accuracy and agreement are fractions of 1.
    """

    stage: str
    cell: dict[str, Any]
    members: int
    diverged: int
    metrics: dict[str, dict]
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
      environment: versions, devices and the command.
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
          paired: compare member by member in seed order; sharper if a seed means the same in both.

        Returns:
          `mean` of a minus b, its `standard_error`, and `ratio`, the one over the other. None
          for what cannot be said: no spread from fewer than two members, no ratio over zero.
        """
        a, b = (self.row(stage).metrics[metric]["values"] for stage in (stage_a, stage_b))
        if paired:
            if len(a) != len(b):
                raise ValueError(f"{stage_a} has {len(a)} members, {stage_b} {len(b)}: no pairs")
            gaps = summarise([None if None in (x, y) else x - y for x, y in zip(a, b, strict=True)])
            mean, error = gaps["mean"], _standard_error(gaps)
        else:
            a, b = summarise(a), summarise(b)
            mean = None if None in (a["mean"], b["mean"]) else a["mean"] - b["mean"]
            errors = _standard_error(a), _standard_error(b)
            error = None if None in errors else math.hypot(*errors)
        return {"mean": mean, "standard_error": error, "ratio": mean / error if error else None}


def representatives(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Of the cells of one stage that have equally many parameters, that with the fewest errors.

    Cells of which every member diverged are left out.
    """
    best: dict[tuple[str, int], int] = {}
    known = [i for i, row in enumerate(rows) if row.mean("errors") is not None]
    for i in sorted(known, key=lambda i: rows[i].mean("errors")):
        best.setdefault((rows[i].stage, rows[i].parameters), i)
    return tuple(rows[i] for i in sorted(best.values()))


def summarise(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation over the members that have a finite value."""
    values = [None if v is None or not math.isfinite(v) else float(v) for v in values]
    known = [v for v in values if v is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": values,
    }


def environment() -> dict[str, Any]:
    """What the figures depend on beside the config: versions, devices, the command."""
    devices = jax.devices()
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
        "command": shlex.join(_local(argument) for argument in sys.orig_argv),
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that results may depend on; None: not installed."""
    return {"python": platform.python_version()} | installed(PACKAGES)


def write(report: Report, directory: str | os.PathLike) -> None:
    """Writes figures/*.png, report.md, report.html and, last, report.json; each appears whole or
    not at all."""
    from kdjax import document, drawing, figures, page

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
    found = {"rows": [vars(row) for row in report.rows]}
    found |= {"environment": report.environment, "config": report.config}
    found |= {"examples": report.examples, "calibration": report.calibration}
    if report.missing:
        found["missing_classes"] = report.missing
    files.write(directory / "report.json", files.to_json(found, indent=1))


def _record(row: Row) -> dict[str, Any]:
    record = vars(row) | {"cell": row.cell_text} | row.cell
    for name in METRICS:
        record |= {f"{name}_mean": row.mean(name), f"{name}_std": row.std(name)}
    return {name: value for name, value in record.items() if name != "metrics"}


def _standard_error(statistics: dict[str, Any]) -> float | None:
    known = [v for v in statistics["values"] if v is not None]
    return None if statistics["std"] is None else statistics["std"] / math.sqrt(len(known))


def _local(argument: str) -> str:
    """An argument whose paths are below the working directory, else only their last part."""

    def local(match: re.Match) -> str:
        path = os.path.relpath(os.path.expanduser(match.group()))
        return os.path.basename(path) if path.startswith("..") else path

    return re.sub(r"(?<![\w.~/-])(?:/|~|\.\.)[^,=()'\"]*", local, argument)
