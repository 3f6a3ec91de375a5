"""kdjax's side: populations that train as `kdjax.train` does it, and finished stages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from kdjax.chunks import chunks
from ml_collections import ConfigDict

from benchmarks.data_sets import dataset
from benchmarks.session import Session
from benchmarks.timing import Case
from benchmarks.work import (
    DROPOUT,
    DROPOUT_INPUT,
    MAX_SQUARED_NORM,
    OPTIMIZERS,
    SHIFT,
    Work,
)
from kdjax import config, evaluation, member, parallel, population, setup, train
from kdjax.config.spec import ExperimentSpec
from kdjax.data import Dataset
from kdjax.evaluation import Exam
from kdjax.host.checkpoint import Checkpoints
from kdjax.host.progress import Displays
from kdjax.prepare import Job, prepare
from kdjax.setup import Setup
from kdjax.teachers import open_teachers

STAGE = "timed"
ENDLESS = 10**6  # steps of a stage that nobody ends
NOWHERE = Path("nowhere")  # the directory of a stage that writes nothing


def stage(work: Work, seeds: int, **fields: Any) -> ConfigDict:
    """A population's config, without an end: each of its chunks is a turn."""
    model = dict(name="mlp", hidden=work.hidden)
    optimizer = dict(OPTIMIZERS[work.optimizer])
    if work.channels:
        (dense,) = work.hidden
        model = dict(name="cnn", channels=work.channels, dense=dense)
    elif work.regularised:
        model |= dict(dropout_input=DROPOUT_INPUT, dropout=DROPOUT)
    if work.regularised:
        optimizer["max_squared_norm"] = MAX_SQUARED_NORM
    chosen = dict(
        model=model,
        optimizer=optimizer,
        augment=dict(shift=SHIFT[work.data]),
        subset=dict(size=float(work.examples)),
        members=dict(seed=seeds),
        batch=work.batch,
        steps=ENDLESS,
        chunk=work.steps,
    )
    return config.stage(**chosen | fields)


def set_up(stage: ConfigDict, data: Dataset, plan: str = "auto") -> Setup:
    """What `kdjax.setup` makes of a stage."""
    job, spec, exam = _prepared(stage, data, NOWHERE, plan)
    return setup.set_up(job, spec, data, exam)


def finish(stage: ConfigDict, data: Dataset, directory: Path) -> Path:
    """Trains a stage from its config to its finished directory; without a report."""
    job, spec, exam = _prepared(stage, data, directory, "auto")
    track = lambda job, done: Displays()
    train.train(job, spec, data, exam, lambda line: None, track, lambda: None)
    return job.directory


def finished(session: Session, work: Work, data: Dataset, members: int) -> str:
    """The directory of a finished stage of so many nets, trained once a session. It trains for one
    step, which makes nets as good as any for what is measured."""
    directory = session.directory / f"{work.name} M={members} C={data.classes}"
    if not directory.exists():
        finish(stage(work, members, steps=1, chunk=1), data, directory)
    return str(directory / STAGE)


def _prepared(
    stage: ConfigDict, data: Dataset, directory: Path, plan: str
) -> tuple[Job, ExperimentSpec, Exam]:
    spec = config.parse(config.experiment(stages={STAGE: stage}, execution=dict(plan=plan)))
    (job,) = prepare(spec, data, directory)
    return job, spec, evaluation.exam(data, open_teachers(job.teachers))


def case(name: str, setup: Setup, validate: bool, kept: Checkpoints | None = None) -> Case:
    """A population's turns; the unit is a member's step. With `kept`, each turn's end is saved."""
    turns = _turns(setup, validate, kept)
    return Case(name, lambda: next(turns), len(setup.hparams.seed) * setup.job.stage.chunk)


def of_stage(work: Work, members: int, plan: str = "auto") -> Setup:
    """So many members at this work."""
    return set_up(stage(work, members), dataset(work.data), plan)


def of_work(work: Work, members: int, plan: str = "auto") -> Case:
    """The turns of so many members at this work."""
    return case(label(members, plan), of_stage(work, members, plan), work.validate)


def label(members: int, plan: str = "auto") -> str:
    return f"kdjax M={members}" + f" {plan}" * (plan != "auto")


def _turns(setup: Setup, validate: bool, kept: Checkpoints | None) -> Iterator[None]:
    """Chunk after chunk, by the loop of `kdjax.train` itself, and its evaluation after each."""
    layout, plan = setup.job.layout, setup.plan
    hparams = parallel.split_members(setup.hparams, layout)
    example = evaluation.example(setup.dataset)
    init = lambda h: member.init(setup.recipe, h, example)
    state = parallel.pmap(population.over_members(init, plan.members, (0,)), layout)(hparams)
    evaluate = evaluation.program(setup.recipe, plan.members, setup.dataset, layout)
    validation = setup.exam.splits["validation"]
    for step, now, loss in chunks(setup, state, hparams, 0, resident=True):
        if not np.isfinite(loss).all():
            raise FloatingPointError(f"diverged by step {step}; its time means nothing")
        if validate:
            evaluation.evaluate(evaluate, now, hparams, validation, layout)
        if kept:
            kept.save(step, *train.items(setup, parallel.join_members(now, layout), {}))
        jax.block_until_ready(now)
        yield
