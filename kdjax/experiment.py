"""An experiment: its stages in order, then the report."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdjax import checkpoint, data, evaluation, findings, parallel, report
from kdjax.config import complete, parse
from kdjax.prepare import Job, claim, prepare
from kdjax.progress import Displays, Progress, TensorBoard
from kdjax.report import Report
from kdjax.spec import ExperimentSpec
from kdjax.stage import open_teachers
from kdjax.train import train

KEPT = 10  # stages whose compiled programs are kept until they are forgotten; some 30 MiB each


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
        result = findings.report_of(complete(config).to_dict(), spec, dataset, jobs)
        report.write(result, workdir)
    parallel.forget_programs()
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
    exam = functools.cache(lambda paths: evaluation.exam(dataset, open_teachers(paths)))
    for number, job in enumerate(jobs, 1):
        if job.status == "done":
            say(f"{job.stage.name}: done before")
        else:
            track = lambda job, done: _display(job, done, spec, quiet)
            train(job, spec, dataset, exam(job.teachers), say, track)
        if number % KEPT == 0:
            parallel.forget_programs()


def _display(job: Job, done: int, spec: ExperimentSpec, quiet: bool) -> Displays:
    bars = [] if quiet else [Progress(job, done)]
    return Displays(*bars, *([TensorBoard(job)] if spec.tensorboard else []))
