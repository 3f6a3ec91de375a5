"""What each chunk trains on: the order of the examples, and the data on the devices."""

import dataclasses
from collections.abc import Generator, Iterator

import numpy as np

from kdjax import parallel
from kdjax.config.spec import grid
from kdjax.data import Dataset, Split, fetch, order, stream
from kdjax.nets.net import Array
from kdjax.population import Data, Examples
from kdjax.prepare import Job

THREADS = 2  # that read data which is not resident
SHARED_SEED = 0  # of the batches and views that all members share

Chunk = tuple[int, int]  # first step, number of steps
Reading = tuple[Chunk, np.ndarray, np.ndarray, np.ndarray | None]


def feed(
    job: Job,
    dataset: Dataset,
    resident: bool,
    logits: np.ndarray | None,
    chunks: list[Chunk],
    calls: int,
) -> Generator[tuple[int, Data, Iterator[Examples]], None, None]:
    """The step after each chunk, its data, and the examples of each of its calls, on the devices;
    what the next chunk needs is read while this one computes.

    Args:
      resident: all inputs go to the devices at once; else each chunk's are read, by Grain, for
        that chunk. The results are the same.
      logits: [N, K, C] cached teacher logits of the stage's examples, or None.
      calls: the number of steps in one call, at most.
    """
    split, layout = dataset.splits["train"], job.layout
    inputs: Array = fetch(split, job.positions) if resident else np.zeros(0)
    data = parallel.replicate(Data(inputs, job.labels, logits), layout)
    # The thread starts no program: several processes must start theirs in the same order.
    for chunk, index, row, read in stream.prefetch(_read(job, split, resident, chunks)):
        if read is not None:
            data = dataclasses.replace(data, inputs=parallel.replicate(read, layout))
        yield sum(chunk), data, _calls(job, chunk, index, row, calls)


def _read(job: Job, split: Split, resident: bool, chunks: list[Chunk]) -> Iterator[Reading]:
    """Each chunk, which of the stage's N examples its steps train on, in which rows of the inputs
    on the device they are, and those inputs where they are not resident."""
    for chunk in chunks:
        index = _index(job, chunk)
        if resident:
            yield chunk, index, index, None
            continue
        seen = np.zeros(len(job.labels), bool)
        seen[index] = True  # each example of the chunk is read once
        row = (np.cumsum(seen, dtype=np.int32) - 1)[index]
        # Repeated at the end, to a size that is the same for all chunks of one shape.
        needed = np.resize(np.flatnonzero(seen), min(index.size, len(seen)))
        yield chunk, index, row, stream.read(split, job.positions[needed], THREADS)


def _index(job: Job, chunk: Chunk) -> np.ndarray:
    """Which of the stage's N examples each step trains on: [S, B], or [M, S, B] in own order."""
    numbers = len(job.labels), job.stage.batch, *chunk
    if job.stage.order == "shared":
        return order(SHARED_SEED, *numbers)
    seeds = [int(member["seed"]) for member in grid(job.stage)]
    by_seed = {seed: order(seed, *numbers) for seed in set(seeds)}
    return np.stack([by_seed[seed] for seed in seeds])


def _calls(
    job: Job, chunk: Chunk, index: np.ndarray, row: np.ndarray, calls: int
) -> Iterator[Examples]:
    """The examples of a chunk, a part for each call."""
    axis = 0 if job.stage.order == "shared" else 1
    for first in range(0, chunk[1], calls):
        part = np.arange(first, min(first + calls, chunk[1]))
        here = chunk[0] + first, len(part)
        yield _examples(job, here, index.take(part, axis), row.take(part, axis))


def _examples(job: Job, chunk: Chunk, index: np.ndarray, row: np.ndarray) -> Examples:
    start, steps = chunk
    layout = job.layout
    step = np.arange(start, start + steps, dtype=np.int32)
    own = job.stage.order == "own"
    place = lambda x: parallel.place_batch(x, layout, axis=1 + own, by_member=own)
    batches = dict(index=place(index), row=place(row))
    if job.stage.augment.mixes:  # each example with the next of its batch, the last with the first
        other = lambda x: place(np.roll(x, -1, axis=-1))
        batches |= dict(other=other(index), other_row=other(row))
    if not own:
        seed = np.full(steps, SHARED_SEED, np.int32)
        parts = dict(step=step, seed=seed)
        return Examples(**batches, **{k: parallel.replicate(v, layout) for k, v in parts.items()})
    seeds = np.array([member["seed"] for member in grid(job.stage)], np.int32)
    parts = dict(step=np.tile(step, (len(seeds), 1)), seed=np.tile(seeds[:, None], (1, steps)))
    return Examples(**batches, **{k: parallel.place_members(v, layout) for k, v in parts.items()})
