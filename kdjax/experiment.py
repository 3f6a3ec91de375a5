"""An experiment: its stages in order, then the report."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import chosen, data, evaluation, findings, report
from kdjax.config import parse
from kdjax.config.plain import mapping
from kdjax.config.spec import ExperimentSpec, plain
from kdjax.host import files, ownership, processes, progress, versions
from kdjax.host.progress import Displays, Progress, TensorBoard
from kdjax.loop import train
from kdjax.prepare import Job, claim, prepare, renewed
from kdjax.report import Report
from kdjax.rules import choose
from kdjax.stage import Stage, open_stage
from kdjax.tables import wrapped
from kdjax.teachers import Teacher, of_stage, together


def run(
    config: Mapping[str, Any],
    workdir: str | Path,
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Runs the stages that are not finished, and writes and returns the report.

    Args:
      config: as `kdjax.config.experiment` makes it.
      workdir: where stages keep their checkpoints; a rerun goes on from what stands there.
      quiet: print nothing.
      stop: asked before and after every chunk whether to end here; the same in all processes.

    Raises:
      InputError: config, data or workdir cannot be used; nothing has been computed or written,
        unless only a finished teacher could show it (members of it diverged).
      Diverged: every member of a stage has.
      Preempted: `stop` said so; the same call goes on from there.
    """
    return run_stages(config, workdir, quiet, stop)[0]


def run_stages(
    config: Mapping[str, Any],
    workdir: str | Path,
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
    temporary: bool = False,
    after_stage: Callable[[], None] = lambda: None,
) -> tuple[Report, dict[str, Stage]]:
    """As `run`; returns the last of the finished stages, too, and those that later ones come from.

    Args:
      temporary: of the workdir nothing is told, and no report is written there.
      after_stage: called after each stage that was trained.
    """
    workdir = files.expand(workdir)
    quiet = quiet or not processes.is_primary()
    say = (lambda line: None) if quiet else progress.say
    spec = parse(config)
    dataset = load(spec)
    jobs = prepare(spec, dataset, workdir)  # all refusals, before anything is written
    with ownership.lock(workdir):
        jobs = renewed(jobs, spec, dataset, workdir, kept=not temporary)
        processes.check_equal(_content(spec, dataset, jobs))
        ownership.write_claim(workdir, claim(spec, dataset))
        say("" if temporary else f"workdir: {workdir}")
        for note in dataset.notes:
            say(wrapped(f"data: {note}"))
        if spec.recipe:
            say(wrapped(spec.recipe))
        stages, found = _train_all(jobs, spec, dataset, say, quiet, stop, after_stage)
        name = "" if temporary else workdir.resolve().name
        result = findings.report_of(spec, dataset, found, name)
        if not temporary:
            processes.primary_only(report.write)(result, workdir)
            processes.wait_for(workdir / "report.json")
    say(f"\n{result!r}" + f"\n\nreport: {workdir / 'report.html'}" * (not temporary))
    return result, stages


def load(spec: ExperimentSpec) -> data.Dataset:
    """The data set of an experiment."""
    return data.load(spec.dataset, spec.data_dir, spec.cache_dir, spec.arrays)


def examples(
    config: Mapping[str, Any] | data.RawSet | str, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Raw inputs [N, ...] and labels [N] of an experiment's data, as `Stage.predict` takes them.

    Labels of unlabelled examples, which a train split may have, are -1.

    Args:
      config: as of `run`, of which the stages are not read, so that their teachers need not be
        there; or the data set alone, as of `train`.
      split: "train", "validation" or "test".

    Raises:
      InputError: there is no such split, or the data cannot be read.
    """
    alone = isinstance(config, data.RawSet | str)
    given = {"dataset": {"name": config}} if alone else mapping("config", config)
    spec = parse(given | {"stages": {"none": {}}})
    choose(data.SPLITS, "split", split)
    return load(spec).arrays(split)


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
    stop: Callable[[], bool],
    after_stage: Callable[[], None],
) -> tuple[dict[str, Stage], list[findings.Found]]:
    """Trains the stages that are not finished, and opens each once; what its teachers say of the
    evaluated splits is found out once for each set of teachers. Only stages that later ones come
    from stay in memory, and the last."""
    stages: dict[str, Stage] = {}
    on_devices = evaluation.on_devices()
    by_name = functools.cache(lambda name: of_stage(stages[name]))

    @functools.cache
    def evaluated_by(teachers: tuple[str | Teacher, ...]) -> evaluation.Evaluated:
        found = [by_name(t) if isinstance(t, str) else t for t in teachers]
        return evaluation.evaluated(dataset, together(found) if found else None)

    found = []
    for number, job in enumerate(jobs):
        if job.stage.numbers_from:
            source = next(j.stage for j in jobs if j.stage.name == job.stage.numbers_from)
            numbers = chosen.best_numbers(source, stages[source.name])
            job = dataclasses.replace(job, stage=chosen.with_numbers(job.stage, numbers))
            shown = ", ".join(f"{name}={value:g}" for name, value in numbers.items())
            say(f"{job.stage.name}: takes {shown} of {source.name}")
        if processes.broadcast_int(job.status == "done"):
            say(f"{job.stage.name}: done before")
        else:
            source = stages[job.init_from] if isinstance(job.init_from, str) else job.init_from
            track = lambda job, done: _display(job, done, spec, quiet)
            seen = evaluated_by(job.teachers)
            train(job, spec, dataset, seen, source, say, track, stop, on_devices)
            after_stage()
        name, opened = job.stage.name, open_stage(job.directory)
        opened = dataclasses.replace(opened, net=job.net)  # which `prepare` has compared
        seen = evaluated_by(job.teachers)
        found.append(findings.find(job, opened, seen, dataset, spec.evaluate))
        for line in findings.warnings(found[-1], spec.evaluate):
            say(wrapped(line))
        later = jobs[number + 1 :]
        sources = [(*j.teachers, j.init_from, j.stage.numbers_from) for j in later]
        if not later or any(name in each for each in sources):
            stages[name] = opened
    return stages, found


def _display(job: Job, done: int, spec: ExperimentSpec, quiet: bool) -> Displays:
    bars = [] if quiet else [Progress(job.stage.name, job.stage.steps, done)]
    asked = spec.tensorboard and processes.is_primary()
    boards = [TensorBoard(job.directory / "tensorboard")] if asked else []
    return Displays(*bars, *boards)
