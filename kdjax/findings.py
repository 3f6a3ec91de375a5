"""What the finished stages of an experiment say: its report, and all that goes into it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kdjax import checkpoint, evaluation, missing
from kdjax.data import Dataset, fetch
from kdjax.prepare import Job
from kdjax.report import ENSEMBLE, METRICS, Report, Row, environment, summarise
from kdjax.spec import ExperimentSpec, cells, grid
from kdjax.stage import open_stage, open_teachers
from kdjax.teachers import ensemble_logits

PICTURED = 4  # test examples whose soft targets the report shows
TEMPERATURES = (1.0, 4.0, 20.0)


def report_of(
    config: dict[str, Any], spec: ExperimentSpec, dataset: Dataset, jobs: tuple[Job, ...]
) -> Report:
    """The report of finished stages, on the split that the experiment evaluates."""
    results = {job.stage.name: checkpoint.results(job.directory) for job in jobs}
    rows, curves, ensembles, lacking = [], {}, {}, []
    for job in jobs:
        result = results[job.stage.name]
        if result["teacher"] is not None and job.teachers not in ensembles:
            name = "+".join(path.name for path in job.teachers)
            if name in ensembles.values():
                name = "+".join(map(str, job.teachers))
            ensembles[job.teachers] = name
            rows += _ensembles(name, job, jobs, result["teacher"], dataset, spec.evaluate)
        own = _rows(job, result, spec.evaluate)
        rows += own
        lacking += _missing(job, own, result["diverged"], dataset, spec.evaluate)
        curves[job.stage.name] = _curves(job, result["diverged"])
    return Report(
        rows=tuple(rows),
        environment=environment(),
        config=config,
        evaluate=spec.evaluate,
        curves=curves,
        soft_targets=_soft_targets(dataset, jobs, spec.evaluate),
        missing=tuple(lacking),
    )


def _rows(job: Job, result: dict[str, Any], split: str) -> list[Row]:
    """A row for each cell of the stage's grid, over its seeds."""
    members = grid(job.stage)
    return [
        Row(
            stage=job.stage.name,
            cell=here,
            members=len(places),
            diverged=sum(result["diverged"][i] for i in places),
            metrics=_summaries(result["metrics"][split], places, result["diverged"]),
            **_cost(result),
            seconds=result["seconds"] * len(places) / len(members),
        )
        for here, places in cells(job.stage)
    ]


def _ensembles(
    name: str,
    job: Job,
    jobs: tuple[Job, ...],
    whole: dict[str, Any],
    dataset: Dataset,
    split: str,
) -> list[Row]:
    """The job's teachers as one classifier: all of them and, where students of theirs learn from
    the first so many, the first so many."""
    seconds = sum(checkpoint.results(path)["seconds"] for path in job.teachers)
    teachers = open_teachers(job.teachers)
    count = teachers.count
    alike = [other for other in jobs if other.teachers == job.teachers]
    sizes = {member["ensemble_size"] or count for other in alike for member in grid(other.stage)}
    if sizes == {count}:
        return [_ensemble_row(name, {}, whole, split, seconds)]
    labels = dataset.splits[split].labels
    logits = teachers.predict(_inputs(dataset, split))
    rows = []
    for size in sorted(sizes | {count}):
        measured = whole
        if size < count:
            measured = evaluation.ensemble_cost(teachers.first(size), evaluation.example(dataset))
            measured["metrics"] = {split: evaluation.ensemble_metrics(logits[:size], labels)}
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
        members=1,
        diverged=0,
        metrics=_summaries(values, [0], [False]),
        **_cost(measured),
        seconds=seconds,
    )


def _missing(
    job: Job, rows: list[Row], diverged: list[bool], dataset: Dataset, split: str
) -> Iterator[dict[str, Any]]:
    """What each cell of a stage with teachers makes of the classes that its subset left out."""
    classes = missing.missing_classes(job.stage.subset, dataset.classes)
    if not classes or not job.teachers:
        return
    inputs = _inputs(dataset, "validation")
    student, teachers = open_stage(job.directory), open_teachers(job.teachers).predict(inputs)
    logits = student.predict(inputs), student.predict(_inputs(dataset, split))
    _, hparams, _ = checkpoint.open_variables(job.directory)
    for row, (_, places) in zip(rows, cells(job.stage), strict=True):
        places = [place for place in places if not diverged[place]]
        if places:
            taught = [ensemble_logits(teachers, 1.0, weights=hparams["mixing"][m]) for m in places]
            unlabelled, examined = (values[places] for values in logits)
            labels = dataset.splits[split].labels
            found = missing.examine(unlabelled, np.stack(taught), examined, labels, classes)
            yield {"label": row.label, **found}


def _inputs(dataset: Dataset, split: str) -> np.ndarray:
    """All raw inputs [N, ...] of a split."""
    return fetch(dataset.splits[split], np.arange(len(dataset.splits[split])))


def _cost(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("parameters", "flops_per_example", "latency_ms")}


def _summaries(values: dict[str, list], places: list[int], diverged: list[bool]) -> dict[str, dict]:
    return {
        name: summarise(
            [values[name][i] if name in values and not diverged[i] else None for i in places]
        )
        for name in METRICS
    }


def _curves(job: Job, diverged: list[bool]) -> dict[str, list]:
    rows = checkpoint.read_metrics(job.directory)
    keep = lambda values: [None if d else v for v, d in zip(values, diverged, strict=True)]
    return {
        "step": [row["step"] for row in rows],
        "loss": [keep(row["loss"]) for row in rows],
        "validation_accuracy": [keep(row["validation"]["accuracy"]) for row in rows],
    }


def _soft_targets(dataset: Dataset, jobs: tuple[Job, ...], split: str) -> dict[str, Any] | None:
    """What the first teachers of the experiment say of a few examples they are least sure of."""
    taught = [job for job in jobs if job.teachers]
    if not taught:
        return None
    examples = dataset.splits[split]
    positions = np.arange(min(len(examples), 500))
    inputs = fetch(examples, positions)
    logits = open_teachers(taught[0].teachers).predict(inputs)
    mean = np.asarray(ensemble_logits(logits, 1.0))
    unsure = np.argsort(np.sort(mean, axis=1)[:, -1] - np.sort(mean, axis=1)[:, -2])[:PICTURED]
    probabilities = [
        np.exp(np.asarray(ensemble_logits(logits[:, unsure], t)) / t) for t in TEMPERATURES
    ]
    return {
        "images": inputs[unsure] if inputs.ndim == 4 else None,
        "labels": examples.labels[unsure].tolist(),
        "class_names": [str(c) for c in range(dataset.classes)],
        "temperatures": list(TEMPERATURES),
        "probabilities": [p.tolist() for p in probabilities],
    }
