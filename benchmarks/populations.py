"""kdjax's side: populations that train as `kdjax.loop` trains them, and finished stages."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
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
from kdjax import config, evaluation, loop, member, parallel, population, setup
from kdjax.config.spec import ExperimentSpec
from kdjax.data import Dataset
from kdjax.evaluation import Evaluated
from kdjax.feed import feed
from kdjax.host.checkpoint import Checkpoints
from kdjax.host.progress import Displays
from kdjax.prepare import Job, prepare
from kdjax.setup import Setup, cached_logits, calls, chunks
from kdjax.teachers import together

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
    job, spec, evaluated = _prepared(stage, data, NOWHERE, plan)
    return setup.set_up(job, spec, data, evaluated)


def finish(stage: ConfigDict, data: Dataset, directory: Path) -> Path:
    """Trains a stage from its config to its finished directory; without a report."""
    job, spec, evaluated = _prepared(stage, data, directory, "auto")
    say, track, stop = lambda line: None, lambda job, done: Displays(), lambda: False
    loop.train(job, spec, data, evaluated, None, say, track, stop)
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
) -> tuple[Job, ExperimentSpec, Evaluated]:
    spec = config.parse(config.experiment(stages={STAGE: stage}, execution=dict(plan=plan)))
    (job,) = prepare(spec, data, directory)
    teacher = together(job.teachers) if job.teachers else None
    return job, spec, evaluation.evaluated(data, teacher)


def case(name: str, setup: Setup, validate: bool, saved: Checkpoints | None = None) -> Case:
    """A population's turns; the unit is a member's step. Each turn ends with a checkpoint in
    `saved`, unless that is None."""
    turns = _turns(setup, validate, saved)
    return Case(name, lambda: next(turns), len(setup.hparams["seed"]) * setup.job.stage.chunk)


def of_stage(work: Work, members: int, plan: str = "auto") -> Setup:
    """So many members at this work."""
    return set_up(stage(work, members), dataset(work.data), plan)


def of_work(work: Work, members: int, plan: str = "auto") -> Case:
    """The turns of so many members at this work."""
    return case(label(members, plan), of_stage(work, members, plan), work.validate)


def label(members: int, plan: str = "auto") -> str:
    return f"kdjax M={members}" + f" {plan}" * (plan != "auto")


def member_bytes(setup: Setup) -> int:
    """The bytes of one member's state."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(setup.one))


def _turns(setup: Setup, validate: bool, saved: Checkpoints | None) -> Iterator[None]:
    """Chunk after chunk, each to its end, with the programs and the feed of `kdjax.loop`."""
    job, layout, plan, teacher = setup.job, setup.job.layout, setup.plan, setup.live
    train = population.train_chunk(
        setup.recipe,
        plan,
        parallel.shards(layout),
        setup.dataset.preprocessing,
        job.stage.augment,
        job.stage.order,
        None if teacher is None else lambda v, x: teacher.apply(v, x, setup.recipe.teacher_taps),
    )
    train = parallel.pmap(train, layout, donate=(0,))
    evaluate = evaluation.program(setup.recipe, plan.members, setup.dataset, layout)
    validation, placed = setup.evaluated.splits["validation"], evaluation.on_devices()
    hparams = parallel.place_members(setup.hparams, layout)
    teachers = () if teacher is None else parallel.replicate(teacher.variables, layout)
    init = lambda h: member.init(setup.recipe, h, setup.example, setup.teacher_example)
    state = parallel.pmap(population.over_members(init, plan.members, (0,)), layout)(hparams)
    fed = feed(job, setup.dataset, True, cached_logits(setup), chunks(setup, 0), calls(setup))
    with contextlib.closing(fed):
        for step, data, parts in fed:
            losses = []
            for examples in parts:
                state, loss = train(state, hparams, data, teachers, examples)
                losses.append(loss)
            if validate:
                batches = placed(validation, layout)
                sums = [evaluate(state, hparams, batch, known) for batch, known in batches]
                evaluation.finish(sums, layout)
            if not all(np.isfinite(loss).all() for loss in losses):
                raise FloatingPointError(f"diverged by step {step}; its time means nothing")
            if saved:
                saved.save(step, *loop.items(setup, parallel.fetch_members(state, layout), {}))
            jax.block_until_ready(state)
            yield
