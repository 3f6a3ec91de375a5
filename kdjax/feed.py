"""What each chunk trains on: the order of the examples, and the data on the devices."""

from collections.abc import Iterator

import numpy as np

from kdjax import parallel, stream
from kdjax.data import Dataset, fetch, order
from kdjax.population import Data, Examples
from kdjax.prepare import Job
from kdjax.spec import grid

THREADS = 2  # that read data which is not resident
SHARED_SEED = 0  # of the batches and views that all members share

Chunk = tuple[int, int]  # first step, number of steps


def feed(
    job: Job, dataset: Dataset, resident: bool, logits: np.ndarray | None, chunks: list[Chunk]
) -> Iterator[tuple[Data, Examples]]:
    """The arguments of each chunk, on the devices, put there while the one before is computed.

    Args:
      resident: all inputs go to the devices at once; else each chunk's are read, by Grain, for
        that chunk. The results are the same.
      logits: [N, K, C] cached teacher logits of the stage's examples, or None.
    """
    items = _in_turn(job, dataset, resident, logits, chunks)
    # Several processes must start their programs in the same order, so that none may have a thread.
    return items if job.layout.processes > 1 else stream.ahead(items)


def _in_turn(
    job: Job, dataset: Dataset, resident: bool, logits: np.ndarray | None, chunks: list[Chunk]
) -> Iterator[tuple[Data, Examples]]:
    split, layout = dataset.splits["train"], job.layout
    if resident:
        data = Data(fetch(split, job.positions), job.labels, logits)
        data = parallel.replicate(data, layout)
        for chunk in chunks:
            index = _index(job, chunk)
            yield data, _examples(job, chunk, index, row=index)
        return
    data = parallel.replicate(Data(np.zeros(0), job.labels, logits), layout)
    for chunk in chunks:
        index = _index(job, chunk)
        seen = np.zeros(len(job.labels), bool)
        seen[index] = True  # each example of the chunk is read once
        row = (np.cumsum(seen, dtype=np.int32) - 1)[index]
        # Repeated at the end, to a size that is the same for all chunks of one shape.
        read = np.resize(np.flatnonzero(seen), min(index.size, len(seen)))
        inputs = stream.read(split, job.positions[read], THREADS)
        yield (
            data.replace(inputs=parallel.replicate(inputs, layout)),
            _examples(job, chunk, index, row),
        )


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
