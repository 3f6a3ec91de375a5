"""An experiment: its stages in order, then the report."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import checkpoint, data, evaluation, report
from kdjax.config import complete, parse
from kdjax.prepare import Job, claim, prepare
from kdjax.progress import Displays, Progress, TensorBoard
from kdjax.report import ENSEMBLE, METRICS, Report, Row, summarise
from kdjax.spec import ExperimentSpec, cell, grid
from kdjax.stage import open_stage
from kdjax.teachers import Teachers, ensemble_logits
from kdjax.train import train

PICTURED = 4  # test examples whose soft targets the report shows
TEMPERATURES = (1.0, 4.0, 20.0)


def run(config: Mapping[str, Any], workdir: str | Path, quiet: bool = False) -> Report:
    """Runs the stages that are not finished, and writes and returns the report.

    Args:
      config: plain data, as `kdjax.config.experiment` makes it.
      workdir: where stages keep their checkpoints; a rerun goes on from what stands there.
      quiet: print nothing.

    Raises:
      InputError: config, data or workdir cannot be used; nothing has been computed or written.
      Diverged: every member of a stage has.
    """
    workdir = Path(workdir)
    say = (lambda line: None) if quiet else print
    spec = parse(config)
    dataset = data.load(spec.dataset, spec.data_dir)
    prepare(spec, dataset, workdir)  # all refusals, before anything is written
    checkpoint.check_writable(workdir)
    with checkpoint.lock(workdir):
        jobs = prepare(spec, dataset, workdir)  # again: another run may have ended since
        checkpoint.write_claim(workdir, claim(spec, dataset))
        say(f"workdir: {workdir}")
        _train_all(jobs, spec, dataset, say, quiet)
        result = _report(complete(config).to_dict(), spec, dataset, jobs)
        report.write(result, workdir)
    say(f"\n{result.table()}\n\nreport: {workdir / 'report.md'}")
    return result


def _train_all(
    jobs: tuple[Job, ...],
    spec: ExperimentSpec,
    dataset: data.Dataset,
    say: Callable[[str], None],
    quiet: bool,
) -> None:
    """Trains the stages that are not finished; each set of teachers sits one exam a run."""
    opened = functools.cache(
        lambda paths: Teachers(tuple(open_stage(path).healthy() for path in paths))
    )
    exam = functools.cache(lambda paths: evaluation.exam(dataset, opened(paths)))
    for job in jobs:
        if job.status == "done":
            say(f"{job.stage.name}: done before")
        else:
            track = lambda job, done: _display(job, done, spec, quiet)
            train(job, spec, dataset, exam(job.teachers), say, track)


def _display(job: Job, done: int, spec: ExperimentSpec, quiet: bool) -> Displays:
    bars = [] if quiet else [Progress(job, done)]
    return Displays(*bars, *([TensorBoard(job)] if spec.tensorboard else []))


def _report(
    config: dict[str, Any], spec: ExperimentSpec, dataset: data.Dataset, jobs: tuple[Job, ...]
) -> Report:
    results = {job.stage.name: checkpoint.results(job.directory) for job in jobs}
    rows, curves, ensembles = [], {}, {}
    for job in jobs:
        result = results[job.stage.name]
        if result["teacher"] is not None and job.teachers not in ensembles:
            name = "+".join(path.name for path in job.teachers)
            if name in ensembles.values():
                name = "+".join(map(str, job.teachers))
            ensembles[job.teachers] = name
            seconds = sum(checkpoint.results(path)["seconds"] for path in job.teachers)
            rows.append(_ensemble_row(name, result["teacher"], spec.evaluate, seconds))
        rows += _rows(job, result, spec.evaluate)
        curves[job.stage.name] = _curves(job, result["diverged"])
    return Report(
        rows=tuple(rows),
        environment=report.environment(),
        config=config,
        evaluate=spec.evaluate,
        curves=curves,
        soft_targets=_soft_targets(dataset, jobs, spec.evaluate),
    )


def _rows(job: Job, result: dict[str, Any], split: str) -> list[Row]:
    """A row for each cell of the stage's grid, over its seeds."""
    members = grid(job.stage)
    cells = [cell(job.stage, member) for member in members]
    rows = []
    for here in [c for i, c in enumerate(cells) if c not in cells[:i]]:
        places = [i for i, c in enumerate(cells) if c == here]
        rows.append(
            Row(
                stage=job.stage.name,
                cell=here,
                members=len(places),
                diverged=sum(result["diverged"][i] for i in places),
                metrics=_summaries(result["metrics"][split], places, result["diverged"]),
                **_cost(result),
                seconds=result["seconds"] * len(places) / len(members),
            )
        )
    return rows


def _ensemble_row(name: str, teacher: dict[str, Any], split: str, seconds: float) -> Row:
    values = {name: [value] for name, value in teacher["metrics"][split].items()}
    return Row(
        stage=name + ENSEMBLE,
        cell={},
        members=1,
        diverged=0,
        metrics=_summaries(values, [0], [False]),
        **_cost(teacher),
        seconds=seconds,
    )


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


def _soft_targets(
    dataset: data.Dataset, jobs: tuple[Job, ...], split: str
) -> dict[str, Any] | None:
    """What the first teachers of the experiment say of a few examples they are least sure of."""
    taught = [job for job in jobs if job.teachers]
    if not taught:
        return None
    examples = dataset.splits[split]
    positions = np.arange(min(len(examples), 500))
    inputs = data.fetch(examples, positions)
    teachers = Teachers(tuple(open_stage(path).healthy() for path in taught[0].teachers))
    logits = teachers.predict(inputs)
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
