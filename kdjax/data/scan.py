"""What only a look at all inputs of a data set tells: their range, and copies between splits."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from kdjax.data.sources import Split

BATCH = 1000  # examples in memory at once
LARGE = 20  # the largest float that is not said to be unscaled
APART = 10  # how many times the range of a split may be that of another
LIMIT = 2**31  # bytes of a set whose copies are counted unasked: a second or two


def parts(split: Split) -> Iterator[np.ndarray]:
    """The raw inputs [b, ...] of a split, some at a time."""
    for start in range(0, len(split), BATCH):
        yield split.source.fetch(split.index[start : start + BATCH])


def range_of(split: Split) -> tuple[float, float]:
    """The least and the largest value of floats."""
    found = [(float(p.min()), float(p.max())) for p in parts(split)]
    return min(low for low, _ in found), max(high for _, high in found)


def apart(ranges: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """What is said of splits whose values have ranges of other sizes."""
    sizes = sorted((high - low, name) for name, (low, high) in ranges.items() if high > low)
    if not sizes or sizes[-1][0] <= APART * sizes[0][0]:
        return ()
    (least, small), (most, large) = sizes[0], sizes[-1]
    return (
        f"the {large} inputs have {most / least:.0f} times the range of the {small} inputs; all "
        "splits must be scaled alike",
    )


def largest(splits: Iterable[Split], enough: int) -> int:
    """The largest value of integers, or one above `enough`, at which the search ends."""
    most = 0
    for split in splits:
        for part in parts(split):
            most = max(most, int(part.max()))
            if most > enough:
                return most
    return most


def copies(digests: Mapping[str, list[bytes]]) -> dict[str, np.ndarray]:
    """{"train", "validation": [n] whether an example's inputs are, to the last bit, those of an
    example of a later split}; of the digests of train, validation and test."""
    later: set[bytes] = set(digests["test"])
    found = {}
    for name in ("validation", "train"):
        found[name] = np.array([digest in later for digest in digests[name]], bool)
        later.update(digests[name])
    return found


def contradictions(digests: Mapping[str, list[bytes]], splits: Mapping[str, Split]) -> int:
    """How many examples have the inputs of an example of another class."""
    examples = [(d, c) for s in splits for d, c in zip(digests[s], splits[s].labels, strict=True)]
    first: dict[bytes, int] = {}
    of_two = {d for d, c in examples if c >= 0 and first.setdefault(d, c) != c}
    return sum(d in of_two for d, c in examples if c >= 0)


def digests_of(split: Split) -> list[bytes]:
    """What tells the inputs of each example from others."""
    rows = (np.ascontiguousarray(row) for part in parts(split) for row in part)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def without(split: Split, left_out: np.ndarray) -> Split:
    """The split less those of its [n] examples."""
    return replace(split, index=split.index[~left_out], labels=split.labels[~left_out])
