"""An experiment: its stages in order, then the report."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import data, evaluation, findings, parallel, report
from kdjax.config.parse import complete, parse
from kdjax.config.spec import ExperimentSpec, plain
from kdjax.host import checkpoint, files, processes, versions
from kdjax.host.progress import Displays, Progress, TensorBoard
from kdjax.prepare import Job, claim, prepare
from kdjax.report import Report
from kdjax.rules import Preempted, choose
from kdjax.teachers import open_teachers
from kdjax.train import train

KEPT = 10  # stages whose compiled programs are kept until they are forgotten; tens of MiB each


def run(
    config: Mapping[str, Any],
    workdir: str | Path,
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Runs the stages that are not finished, and writes and returns the report.

    Args:
      config: plain data, as `kdjax.config.experiment` makes it.
      workdir: where stages keep their checkpoints; a rerun goes on from what stands there.
      quiet: print nothing.
      stop: asked before and after every chunk whether to end here; the same in all processes.

    Raises:
      InputError: config, data or workdir cannot be used; nothing has been computed or written,
        unless only a finished teacher could show it (members of it diverged).
      Diverged: every member of a stage has.
      Preempted: `stop` said so; the same call goes on from there.
    """
    workdir = Path(workdir)
    quiet = quiet or not processes.first()
    say = (lambda line: None) if quiet else print
    spec = parse(config)
    dataset = data.load(spec.dataset, spec.data_dir, spec.cache_dir)
    prepare(spec, dataset, workdir)  # all refusals, before anything is written
    with checkpoint.lock(workdir):
        jobs = prepare(spec, dataset, workdir)  # again: another run may have ended since
        processes.check_alike(_content(spec, dataset, jobs))
        checkpoint.write_claim(workdir, claim(spec, dataset))
        say(f"workdir: {workdir}")
        _train_all(jobs, spec, dataset, say, quiet, functools.partial(_end_if, stop))
        result = findings.report_of(complete(config).to_dict(), spec, dataset, jobs)
        processes.by_first(report.write)(result, workdir)
        processes.written(workdir / "report.json")
    parallel.forget_programs()
    say(f"\n{result.table()}\n\nreport: {workdir / 'report.html'}")
    return result


def examples(config: Mapping[str, Any], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw inputs [N, ...] and labels [N] of an experiment's data, as `Stage.predict` takes them.

    Args:
      config: as of `run`.
      split: "train", "validation" or "test".

    Raises:
      InputError: there is no such split, or the data cannot be read.
    """
    spec = parse(config)
    choose(("train", "validation", "test"), "split", split)
    return data.load(spec.dataset, spec.data_dir, spec.cache_dir).whole(split)


def _content(spec: ExperimentSpec, dataset: data.Dataset, jobs: tuple[Job, ...]) -> str:
    """All that results, and the programs of several processes, depend on."""
    stages = [(job.identity, job.status) for job in jobs]
    how = plain(spec.execution), spec.dataset.resident, spec.evaluate, versions.versions()
    return files.to_json([claim(spec, dataset), stages, how])


def _train_all(
    jobs: tuple[Job, ...],
    spec: ExperimentSpec,
    dataset: data.Dataset,
    say: Callable[[str], None],
    quiet: bool,
    end_if_asked: Callable[[], None],
) -> None:
    """Trains the stages that are not finished; each set of teachers sits one exam a run."""
    exam = functools.cache(lambda paths: evaluation.exam(dataset, open_teachers(paths)))
    for number, job in enumerate(jobs, 1):
        if processes.agreed(job.status == "done"):
            say(f"{job.stage.name}: done before")
        else:
            track = lambda job, done: _display(job, done, spec, quiet)
            train(job, spec, dataset, exam(job.teachers), say, track, end_if_asked)
        if number % KEPT == 0:
            parallel.forget_programs()


def _end_if(stop: Callable[[], bool]) -> None:
    if stop():
        raise Preempted("asked to stop; the same command goes on from the last checkpoint")


def _display(job: Job, done: int, spec: ExperimentSpec, quiet: bool) -> Displays:
    bars = [] if quiet else [Progress(job, done)]
    boards = [TensorBoard(job)] if spec.tensorboard and processes.first() else []
    return Displays(*bars, *boards)
