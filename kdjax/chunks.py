"""A stage chunk by chunk: S steps of all members in one call, or in S calls."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np

from kdjax import parallel, population
from kdjax.config.spec import grid
from kdjax.data.dataset import fetch
from kdjax.feed import Chunk, feed
from kdjax.losses.logits import LOSSES
from kdjax.member import Hparams, State
from kdjax.population import Examples
from kdjax.rules import InputError
from kdjax.setup import Setup

TAUGHT_BYTES = 2**28  # most that the logits of live teachers may take in one chunk
READ = 10_000  # examples read at a time for the teachers' cached logits


def chunks(
    setup: Setup, state: State, hparams: Hparams, done: int, resident: bool
) -> Iterator[tuple[int, State, np.ndarray]]:
    """Runs the chunks that are left: the step after each, the state, and the mean loss
    [M] of the steps where it is finite."""
    job, layout, teachers = setup.job, setup.job.layout, setup.exam.teachers
    logits = None
    if LOSSES[job.stage.loss].teacher and not setup.live:
        logits = _teacher_logits(setup)
    program = population.train_chunk(
        setup.recipe,
        setup.plan,
        parallel.shards(layout),
        setup.dataset.preprocessing,
        teachers.teach if setup.live else None,
    )
    program = parallel.pmap(program, layout, donate=(0,))
    variables = parallel.replicate(teachers.variables, layout) if setup.live else ()
    planned = _plan_chunks(setup, done)
    with contextlib.closing(feed(job, setup.dataset, resident, logits, planned)) as fed:
        coming = next(fed, None)
        for start, steps in planned:
            data, examples = coming
            losses = []
            for part in [examples] if setup.plan.scan else _single_steps(examples, job.stage.order):
                state, loss = program(state, hparams, data, variables, part)
                losses.append(loss)
            coming = next(fed, None)  # goes to the devices while they compute
            losses = [parallel.join_members(loss, layout) for loss in losses]
            finite = np.ma.masked_invalid(np.concatenate(losses, axis=1))
            yield start + steps, state, finite.mean(axis=1, dtype=np.float64).filled(np.nan)


def _plan_chunks(setup: Setup, done: int) -> list[Chunk]:
    """(first step, number of steps) of each chunk after `done`."""
    stage, size = setup.job.stage, setup.job.stage.chunk
    if setup.live:
        forwards = len(grid(stage)) if stage.order == "own" else 1
        numbers = forwards * setup.exam.teachers.count * stage.batch * setup.dataset.classes
        size = max(1, min(size, TAUGHT_BYTES // (4 * numbers)))
    return [(s, min(size, stage.steps - s)) for s in range(done, stage.steps, size)]


def _single_steps(examples: Examples, order: str) -> Iterator[Examples]:
    """The steps [D, S, ...] (own order: [D, M/Dm, S, ...]) one by one."""
    axis = 2 if order == "own" else 1
    for s in range(examples.step.shape[axis]):
        yield jax.tree.map(lambda x, s=s: np.take(x, [s], axis=axis), examples)


def _teacher_logits(setup: Setup) -> np.ndarray:
    """Raw logits [N, K, C] of the teachers on the stage's examples, as they are stored; float16,
    which takes half the memory, where the stage says so."""
    split, positions = setup.dataset.splits["train"], setup.job.positions
    dtype = np.float16 if setup.job.stage.teacher_logits == "cached_float16" else np.float32
    logits = np.empty((len(positions), setup.exam.teachers.count, setup.dataset.classes), dtype)
    for i in range(0, len(positions), READ):
        part = setup.exam.teachers.predict(fetch(split, positions[i : i + READ]))
        if abs(part).max() > np.finfo(dtype).max:
            raise InputError(
                f"{setup.job.path}.teacher_logits is 'cached_float16', which holds numbers up to "
                f"65504, but the teachers' reach {abs(part).max():.0f}; it must be 'cached'"
            )
        logits[i : i + READ] = np.moveaxis(part, 0, 1)
    return logits
