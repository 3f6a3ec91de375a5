"""Where raw inputs and labels come from, and the sources that are arrays in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FIELD = "config.dataset.name"
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # in folders and files, in any case
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
UNLABELLED = ("unlabelled", "unlabeled")


class Source(Protocol):
    """N examples, read at any places and by several threads at once."""

    def labels(self) -> np.ndarray:
        """[N] int32."""

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        """[b] places -> [b, ...] raw inputs."""


@dataclass(frozen=True, eq=False)
class Split:
    """The n examples of a source that are for training, for validation or for the test."""

    source: Source
    index: np.ndarray  # [n] places in the source
    labels: np.ndarray  # [n] int32, -1 where an example is unlabelled

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False, repr=False)
class RawSet:
    """A data set as its source has it.

    Attributes:
      splits: "train", "test" and perhaps "validation"; or "all", of which the test is a part.
        Only "train" and "all" have unlabelled examples.
      class_names: [C], in the order of the labels.
      version: of the content, part of what determines results.
      name: for reports.
      notes: what the user must know of how it was read, a line each.
      columns: the names of a table's columns; () where they have none.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    version: str
    name: str = ""
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return f"<{self.name or 'data'}: {sizes} examples of {len(self.class_names)} classes>"


def all_of(source: Source) -> Split:
    """All examples of a source as one split."""
    labels = source.labels()
    return Split(source, np.arange(len(labels)), labels)


@dataclass(frozen=True, eq=False)
class ArraySource:
    inputs: np.ndarray  # [N, ...]
    targets: np.ndarray  # [N]

    def labels(self) -> np.ndarray:
        return self.targets.astype(np.int32)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return self.inputs[indices]


@dataclass(frozen=True, eq=False)
class JoinedSource:
    """Sources one after another."""

    parts: tuple[Source, ...]
    sizes: tuple[int, ...]

    def labels(self) -> np.ndarray:
        return np.concatenate([part.labels() for part in self.parts])

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        ends = np.cumsum(self.sizes)
        which = np.searchsorted(ends, indices, side="right")
        found: np.ndarray | None = None
        for number in np.unique(which):
            places = np.flatnonzero(which == number)
            start = ends[number] - self.sizes[number]
            part = self.parts[number].fetch(np.asarray(indices)[places] - start)
            if found is None:
                found = np.empty((len(indices), *part.shape[1:]), part.dtype)
            found[places] = part
        return self.parts[0].fetch(indices) if found is None else found


def joined(splits: Sequence[Split]) -> Split:
    """All examples of splits that are each the whole of their sources, as one."""
    if len(splits) == 1:
        return splits[0]
    source = JoinedSource(tuple(s.source for s in splits), tuple(map(len, splits)))
    labels = np.concatenate([split.labels for split in splits])
    return Split(source, np.arange(len(labels)), labels)


def digits() -> ArraySource:
    """Scikit-learn's 1,797 digits: [N, 8, 8, 1] uint8 from 0 to 16."""
    from sklearn.datasets import load_digits  # here, for it takes a second

    images, labels = load_digits(return_X_y=True)
    return ArraySource(images.reshape(-1, 8, 8, 1).astype(np.uint8), labels)


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(map(str, range(classes)))


def printable(name: str) -> str:
    """A name, with escapes for the letters that cannot be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def one_line(error: Exception) -> str:
    """An error's message on one line, not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__
