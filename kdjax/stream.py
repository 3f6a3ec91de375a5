"""Inputs that do not fit on the devices, read by Grain while the devices compute."""

from collections.abc import Iterable, Iterator

import grain
import numpy as np

from kdjax.data import fetch
from kdjax.sources import Split

PIECE = 256  # examples in one read, so that all threads work on the same chunk


def chunks(split: Split, positions: Iterable[np.ndarray], threads: int) -> Iterator[np.ndarray]:
    """The raw inputs of one chunk after another; the next is read while one is in use.

    A chunk depends on its own positions only: to resume, start from a later one.

    Args:
      split: where the examples are.
      positions: for each chunk, [r] positions in the split; asked for one chunk ahead.
      threads: that read and decode.

    Yields:
      [r, ...] raw inputs.
    """
    positions = iter(positions)
    reader = _started(split, next(positions, None), threads)
    try:
        while reader is not None:
            inputs = np.concatenate(list(reader))
            reader.close()
            reader = _started(split, next(positions, None), threads)
            yield inputs
    finally:
        if reader is not None:
            reader.close()


def _started(split: Split, rows: np.ndarray | None, threads: int) -> grain.DatasetIterator | None:
    """A reader of the pieces of one chunk, already at work; None where there is no chunk."""
    if rows is None:
        return None
    pieces = [rows[at : at + PIECE] for at in range(0, len(rows), PIECE)]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=len(pieces))
    reading = grain.MapDataset.source(pieces).map(lambda piece: fetch(split, piece))
    reader = iter(reading.to_iter_dataset(options))
    reader.start_prefetch()
    return reader
