"""What the finished stages of an experiment say: its report, and all that goes into it."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import evaluation, metrics
from kdjax.config.spec import ExperimentSpec, cells, grid
from kdjax.data.dataset import Dataset
from kdjax.evaluation import Examined
from kdjax.host import checkpoint, files
from kdjax.host.versions import environment
from kdjax.losses.logits import LOSSES
from kdjax.mixing import ensemble_logits
from kdjax.prepare import Job
from kdjax.report import missing
from kdjax.report.report import ENSEMBLE, METRICS, Report, Row, representatives, summarise
from kdjax.stage import open_stage
from kdjax.teachers import open_teachers

PICTURED = 4  # examples whose soft targets the report shows, chosen among the first
AMONG = 500
SOFT = 4.0  # temperature at which the teachers are shown beside a student of T = 1


@dataclass(frozen=True)
class Found:
    """A finished stage on the examined split.

    Attributes:
      result: what its directory says.
      rows: one for each cell of its grid.
      places: label of a row to where its members stand in the grid, less those that diverged.
      logits: [M, N, C].
    """

    job: Job
    result: dict[str, Any]
    rows: list[Row]
    places: dict[str, list[int]]
    logits: np.ndarray


def report_of(
    config: dict[str, Any], spec: ExperimentSpec, dataset: Dataset, jobs: tuple[Job, ...]
) -> Report:
    """The report of finished stages, on the split that the experiment evaluates."""
    inputs, labels = dataset.arrays(spec.evaluate)
    taught = lambda paths: open_teachers(paths).predict(inputs) if paths else None
    exam = functools.cache(lambda paths: Examined(inputs, labels, taught(paths)))
    learners = [job for job in jobs if LOSSES[job.stage.loss].teacher]
    pictured, soft_targets = max(learners, key=_reads_temperature, default=None), None
    names: dict[tuple[Path, ...], str] = {(): ""}
    rows, curves, calibration, lacking, environments, layouts = [], {}, [], [], {}, {}
    for job in jobs:
        if job.teachers not in names:
            name = "+".join(path.name for path in job.teachers)
            name = "+".join(map(str, job.teachers)) if name in names.values() else name
            names[job.teachers] = name
            ensembles = _ensembles(name, job, jobs, exam(job.teachers), dataset, spec.evaluate)
            calibration += _ensembles_calibration(ensembles, exam(job.teachers))
            rows += ensembles
        found = _open(job, inputs, spec.evaluate)
        rows += found.rows
        curves |= _curves(found)
        calibration += _calibration(found, labels)
        lacking += _missing(found, labels, dataset)
        if "environment" in found.result:
            environments[job.stage.name] = found.result["environment"]
        layouts[job.stage.name] = found.result.get("layout")
        if job is pictured:
            soft_targets = _soft_targets(found, exam(job.teachers), dataset.class_names)
    return Report(
        rows=tuple(rows),
        environment=environment(),
        environments=environments,
        config=config,
        evaluate=spec.evaluate,
        examples={name: len(dataset.splits[name]) for name in ("train", "validation", "test")},
        curves=curves,
        calibration=tuple(calibration),
        soft_targets=soft_targets,
        missing=tuple(lacking),
        layouts=layouts,
    )


def _open(job: Job, inputs: np.ndarray, split: str) -> Found:
    """The stage, with a row for each cell of its grid, over its seeds."""
    result, count = checkpoint.results(job.directory), len(grid(job.stage))
    rows, healthy = [], {}
    for here, places in cells(job.stage):
        measured = {
            name: _summaries(result["metrics"][name], places, result["diverged"])
            for name in ("validation", split)
        }
        row = Row(
            stage=job.stage.name,
            cell=here,
            seeds=tuple(grid(job.stage)[i]["seed"] for i in places),
            members=len(places),
            diverged=sum(result["diverged"][i] for i in places),
            metrics=measured[split],
            validation_errors=measured["validation"]["errors"]["mean"],
            **_cost(result),
            seconds=result["seconds"] * len(places) / count,
        )
        rows.append(row)
        healthy[row.label] = [i for i in places if not result["diverged"][i]]
    return Found(job, result, rows, healthy, open_stage(job.directory).predict(inputs))


def _ensembles(
    name: str, job: Job, jobs: tuple[Job, ...], exam: Examined, dataset: Dataset, split: str
) -> list[Row]:
    """The job's teachers as one classifier: all of them and, where students of theirs learn from
    the first so many, the first so many."""
    seconds = sum(checkpoint.results(path)["seconds"] for path in job.teachers)
    whole, teachers = checkpoint.results(job.directory)["teacher"], open_teachers(job.teachers)
    count = teachers.count
    alike = [other for other in jobs if other.teachers == job.teachers]
    sizes = {member["ensemble_size"] or count for other in alike for member in grid(other.stage)}
    if sizes == {count}:
        return [_ensemble_row(name, {}, whole, split, seconds)]
    rows = []
    for size in sorted(sizes | {count}):
        measured = whole
        if size < count:
            logits = exam.teacher_logits[:size]
            measured = evaluation.ensemble_cost(teachers.first(size), evaluation.example(dataset))
            measured["metrics"] = {split: evaluation.ensemble_metrics(logits, exam.labels)}
        cell = {"ensemble_size": size}
        rows.append(_ensemble_row(name, cell, measured, split, seconds * size / count))
    return rows


def _ensemble_row(
    name: str, cell: dict[str, int], measured: dict[str, Any], split: str, seconds: float
) -> Row:
    values = {name: [value] for name, value in measured["metrics"][split].items()}
    return Row(
        stage=name + ENSEMBLE,
        cell=cell,
        seeds=(),
        members=1,
        diverged=0,
        metrics=_summaries(values, [0], [False]),
        validation_errors=None,
        **_cost(measured),
        seconds=seconds,
    )


def _missing(found: Found, labels: np.ndarray, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """What each cell of a stage with teachers makes of the classes that its subset left out."""
    job = found.job
    classes = missing.missing_classes(job.stage.subset, dataset.classes)
    if not classes or not job.teachers:
        return
    inputs, _ = dataset.arrays("validation")
    teachers = open_teachers(job.teachers).predict(inputs)
    unlabelled = open_stage(job.directory).predict(inputs)
    _, hparams, _ = checkpoint.open_variables(job.directory)
    for label, here in found.places.items():
        if here:
            taught = [ensemble_logits(teachers, 1.0, weights=hparams["mixing"][m]) for m in here]
            students = unlabelled[here], np.stack(taught), found.logits[here]
            yield {"label": label, **missing.examine(*students, labels, classes)}


def _calibration(found: Found, labels: np.ndarray) -> list[dict[str, Any]]:
    """How often the members of a stage are right, by how sure they are."""
    shown = representatives(found.rows)
    return [_bins(row, found.logits[found.places[row.label]], labels) for row in shown]


def _ensembles_calibration(rows: Sequence[Row], exam: Examined) -> list[dict[str, Any]]:
    """The same of ensembles."""
    logits, bins = exam.teacher_logits, []
    for row in representatives(rows):
        size = row.cell.get("ensemble_size", len(logits))
        bins.append(_bins(row, ensemble_logits(logits[:size], 1.0)[None], exam.labels))
    return bins


def _bins(row: Row, logits: jax.Array | np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found = jax.jit(jax.vmap(metrics.calibration, (0, None)))(logits, labels)
    return {"label": row.label} | files.strict(found)


def _cost(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("parameters", "flops_per_example", "latency_ms")}


def _summaries(values: dict[str, list], places: list[int], diverged: list[bool]) -> dict[str, dict]:
    return {
        name: summarise(
            [values[name][i] if name in values and not diverged[i] else None for i in places]
        )
        for name in METRICS
    }


def _curves(found: Found) -> dict[str, dict[str, list]]:
    """{label of a row: the training curves of its members}."""
    lines, diverged = checkpoint.read_metrics(found.job.directory), found.result["diverged"]

    def keep(values: Sequence[float], places: Sequence[int]) -> list[float | None]:
        return [None if diverged[i] else values[i] for i in places]

    return {
        row.label: {
            "step": [line["step"] for line in lines],
            "loss": [keep(line["loss"], places) for line in lines],
            "validation_accuracy": [keep(line["validation"]["accuracy"], places) for line in lines],
        }
        for row, (_, places) in zip(found.rows, cells(found.job.stage), strict=True)
    }


def _reads_temperature(job: Job) -> bool:
    return "temperature" in LOSSES[job.stage.loss].hparams


def _soft_targets(
    found: Found, exam: Examined, class_names: tuple[str, ...]
) -> dict[str, Any] | None:
    """What teachers and their students say of a few examples, each of another class, that the
    teachers are least sure of."""
    teachers, job = exam.teacher_logits, found.job
    mean = lambda logits, t: np.exp(np.asarray(ensemble_logits(logits, t)) / t)  # [N, C]
    ranked = np.sort(mean(teachers[:, :AMONG], 1.0), axis=1)
    unsure = np.argsort(ranked[:, -1] - ranked[:, -2])
    _, first = np.unique(exam.labels[unsure], return_index=True)
    chosen = unsure[np.sort(first)][:PICTURED]
    if not representatives(found.rows):
        return None
    [row] = representatives(found.rows)
    places = found.places[row.label]
    temperature = grid(job.stage)[places[0]]["temperature"] if _reads_temperature(job) else 1.0
    title = f"mean of {len(teachers)} teachers" if len(teachers) > 1 else "the teacher"
    shown = {
        f"{title}\nT = {t:g}": mean(teachers[:, chosen], t)
        for t in (1.0, SOFT if temperature == 1 else temperature)
    }
    student = mean(found.logits[places][:, chosen], temperature)
    shown[f"{row.label}\nn = {len(places)}, T = {temperature:g}"] = student
    return {
        "images": exam.inputs[chosen] if exam.inputs.ndim == 4 else None,
        "labels": exam.labels[chosen].tolist(),
        "distributions": shown,
        "class_names": class_names,
    }
