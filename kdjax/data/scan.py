"""What only a look at all inputs of a data set tells: their range, and copies between splits."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from kdjax.data.sources import Split

BATCH = 1000  # examples in memory at once
LIMIT = 2**31  # bytes of a set whose copies are counted unasked: a second or two
DARK = 64  # the largest value of bytes that is said to be small


def parts(split: Split) -> Iterator[np.ndarray]:
    """The raw inputs [b, ...] of a split, some at a time."""
    for start in range(0, len(split), BATCH):
        yield split.source.fetch(split.index[start : start + BATCH])


def range_of(splits: Iterable[Split]) -> tuple[float, float]:
    """The least and the largest value of floats."""
    found = [(float(p.min()), float(p.max())) for split in splits for p in parts(split)]
    return min(low for low, _ in found), max(high for _, high in found)


def largest(splits: Iterable[Split], enough: int) -> int:
    """The largest value of integers, or one above `enough`, at which the search ends."""
    most = 0
    for split in splits:
        for part in parts(split):
            most = max(most, int(part.max()))
            if most > enough:
                return most
    return most


def copies(splits: Mapping[str, Split]) -> dict[str, np.ndarray]:
    """{"train", "validation": [n] whether an example's inputs are, to the last bit, those of an
    example of a later split}; the splits are train, validation and test."""
    digests = {name: _digests(split) for name, split in splits.items()}
    later: set[bytes] = set(digests["test"])
    found = {}
    for name in ("validation", "train"):
        found[name] = np.array([digest in later for digest in digests[name]], bool)
        later.update(digests[name])
    return found


def _digests(split: Split) -> list[bytes]:
    rows = (np.ascontiguousarray(row) for part in parts(split) for row in part)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def without(split: Split, left_out: np.ndarray) -> Split:
    """The split less those of its [n] examples."""
    return replace(split, index=split.index[~left_out], labels=split.labels[~left_out])
