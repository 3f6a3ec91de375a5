"""Prefetching: the next chunk is read while one is in use."""

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from kdjax.data.dataset import fetch
from kdjax.data.sources import Split

PIECE = 256  # examples in one read, so that all threads work on the same chunk
T = TypeVar("T")


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The items in order, each made by a thread while the one before is in use.

    No more than one is made in advance. An error in making an item is raised where the item
    would be used.
    """
    items = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


def read(split: Split, positions: np.ndarray, threads: int) -> np.ndarray:
    """[r] positions in a split -> [r, ...] raw inputs, read and decoded by so many threads."""
    import grain  # here, for only data that is not resident needs it

    pieces = [positions[at : at + PIECE] for at in range(0, len(positions), PIECE)]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=len(pieces))
    reading = grain.MapDataset.source(pieces).map(lambda piece: fetch(split, piece))
    with contextlib.closing(iter(reading.to_iter_dataset(options))) as reader:
        return np.concatenate(list(reader))
