"""What each chunk trains on: the order of the examples, and the data on the devices."""

from collections.abc import Iterator

import numpy as np

from kdjax import parallel
from kdjax.config.spec import grid
from kdjax.data import stream
from kdjax.data.dataset import Dataset, fetch
from kdjax.data.sources import Split
from kdjax.data.subset import order
from kdjax.population import Data, Examples
from kdjax.prepare import Job

THREADS = 2  # that read data which is not resident
SHARED_SEED = 0  # of the batches and views that all members share

Chunk = tuple[int, int]  # first step, number of steps
Reading = tuple[Chunk, np.ndarray, np.ndarray, np.ndarray | None]


def feed(
    job: Job, dataset: Dataset, resident: bool, logits: np.ndarray | None, chunks: list[Chunk]
) -> Iterator[tuple[Data, Examples]]:
    """The arguments of each chunk, on the devices; what they need is prefetched, one chunk.

    Args:
      resident: all inputs go to the devices at once; else each chunk's are read, by Grain, for
        that chunk. The results are the same.
      logits: [N, K, C] cached teacher logits of the stage's examples, or None.
    """
    split, layout = dataset.splits["train"], job.layout
    inputs = fetch(split, job.positions) if resident else np.zeros(0)
    data = parallel.replicate(Data(inputs, job.labels, logits), layout)
    # The thread starts no program: several processes must start theirs in the same order.
    for chunk, index, row, inputs in stream.prefetch(_read(job, split, resident, chunks)):
        if inputs is not None:
            data = data.replace(inputs=parallel.replicate(inputs, layout))
        yield data, _examples(job, chunk, index, row)


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
    seeds = [member["seed"] for member in grid(job.stage)]
    by_seed = {seed: order(seed, *numbers) for seed in set(seeds)}
    return np.stack([by_seed[seed] for seed in seeds])


def _examples(job: Job, chunk: Chunk, index: np.ndarray, row: np.ndarray) -> Examples:
    start, steps = chunk
    layout = job.layout
    step = np.arange(start, start + steps, dtype=np.int32)
    if job.stage.order == "shared":
        alike = {"step": step, "seed": np.full(steps, SHARED_SEED, np.int32)}
        alike = {k: parallel.repeat(v, layout) for k, v in alike.items()}
        return Examples(
            index=parallel.split_batch(index, layout, axis=1),
            row=parallel.split_batch(row, layout, axis=1),
            **alike,
        )
    seeds = np.array([member["seed"] for member in grid(job.stage)], np.int32)
    own = {"step": np.tile(step, (len(seeds), 1)), "seed": np.tile(seeds[:, None], (1, steps))}
    return Examples(
        index=parallel.split_batch(index, layout, axis=2, by_member=True),
        row=parallel.split_batch(row, layout, axis=2, by_member=True),
        **parallel.split_members(own, layout),
    )
