"""Where raw inputs and labels come from, and the sources that are arrays in memory."""

import hashlib
import math
import os
import zipfile
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kdjax.host import memory
from kdjax.rules import InputError

FIELD = "config.dataset.name"


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
    labels: np.ndarray  # [n] int32

    def __len__(self) -> int:
        return len(self.index)


def whole(source: Source) -> Split:
    """All of a source."""
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


def digits() -> ArraySource:
    """Scikit-learn's 1,797 digits: [N, 8, 8, 1] uint8 from 0 to 16."""
    from sklearn.datasets import load_digits  # here, for it takes a second

    images, labels = load_digits(return_X_y=True)
    return ArraySource(images.reshape(-1, 8, 8, 1).astype(np.uint8), labels)


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(map(str, range(classes)))


def from_npz(path: str) -> tuple[dict[str, Split], tuple[str, ...], str]:
    """Train, test and perhaps validation of the user's own file, the classes' names, and the
    SHA-256 of all arrays."""
    says = f"{FIELD} is {path!r}"
    needed = [f"{split}_{part}" for split in ("train", "test") for part in ("inputs", "labels")]
    own = ["validation_inputs", "validation_labels"]
    found = _read_npz(path, says, needed + own)
    asked = needed + own * any(name in found for name in own)
    missing = [name for name in asked if name not in found]
    if missing:
        raise InputError(
            f"{says}, which has no {', '.join(missing)}; it must have the arrays "
            f"{', '.join(needed)}, and may have {' and '.join(own)}"
        )
    splits = [name.removesuffix("_inputs") for name in asked if name.endswith("inputs")]
    inputs = {s: _checked_inputs(f"{says}, whose {s}_inputs", found[f"{s}_inputs"]) for s in splits}
    labels = {s: found[f"{s}_labels"] for s in splits}
    for s in splits:
        here, train = inputs[s], inputs["train"]
        if (here.shape[1:], here.dtype) != (train.shape[1:], train.dtype):
            raise InputError(
                f"{says}, whose {s}_inputs are {here.dtype} {here.shape[1:]}; they must be as its "
                f"train_inputs are, {train.dtype} {train.shape[1:]}"
            )
        _check_labels(f"{says}, whose {s}_labels", labels[s], len(here))
    classes = int(labels["train"].max()) + 1
    if not 2 <= classes <= len(labels["train"]):
        raise InputError(
            f"{says}, whose greatest train label is {classes - 1}; labels must count classes from "
            f"0, at least 2 of them and at most one per example, of which there are "
            f"{len(labels['train'])}"
        )
    for s in splits:
        if labels[s].max() >= classes:
            raise InputError(
                f"{says}, whose {s}_labels reach {labels[s].max()}; they must be among those of "
                f"train_labels, 0 to {classes - 1}"
            )
    digest = hashlib.sha256()
    for name in asked:
        digest.update(f"{name} {found[name].dtype.str} {found[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(found[name]).data)
    return (
        {s: whole(ArraySource(inputs[s], labels[s])) for s in splits},
        numbered(classes),
        digest.hexdigest(),
    )


def _read_npz(path: str, says: str, names: list[str]) -> dict[str, np.ndarray]:
    """Those of the arrays that the file has; what they say of their size is checked first."""
    try:
        path = os.path.abspath(os.path.expanduser(path))
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("it is no regular file")
        with zipfile.ZipFile(path) as archive:
            members = {n: f"{n}.npy" for n in names if f"{n}.npy" in archive.namelist()}
            sizes = [_declared(archive, member) for member in members.values()]
            memory.check("its arrays are", sizes)
            return {name: _read_array(archive, member) for name, member in members.items()}
    except Exception as error:  # whatever a damaged or hostile file leads to; nothing in it is run
        raise InputError(
            f"{says}; it must be a file written by numpy.savez, of plain arrays ({one_line(error)})"
        ) from error


def _declared(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], int]:
    """The shape of an array, and the bytes of an element, as its first bytes have them.

    Raises:
      ValueError: it is no plain array, or not of the size that it says.
    """
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member} is not in version 1.0 of NumPy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        size = archive.getinfo(member).file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{member} has Python objects")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{member} says it is {dtype} {shape}, and has {size} bytes")
    return shape, dtype.itemsize


def _read_array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _checked_inputs(says: str, inputs: np.ndarray) -> np.ndarray:
    """[N, ...] uint8 as it is, or any float as float32."""
    if inputs.ndim < 2 or not inputs.size:
        raise InputError(f"{says} has shape {inputs.shape}; it must be [N, ...], N at least 1")
    if inputs.dtype != np.uint8 and not np.issubdtype(inputs.dtype, np.floating):
        raise InputError(f"{says} is {inputs.dtype}; it must be uint8 or float")
    if inputs.dtype == np.uint8:
        return inputs
    with np.errstate(over="ignore"):
        inputs = inputs.astype(np.float32, copy=False)
    bad = inputs.size - np.count_nonzero(np.isfinite(inputs))
    if bad:
        raise InputError(f"{says} has {bad} values NaN or infinite; it must be finite in float32")
    return inputs


def _check_labels(says: str, labels: np.ndarray, examples: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{says} are {labels.dtype}; they must be integers")
    if labels.shape != (examples,):
        raise InputError(f"{says} have shape {labels.shape}; it must be ({examples},), one each")
    if labels.min() < 0:
        raise InputError(f"{says} have {labels.min()}; they must be at least 0")


def printable(name: str) -> str:
    """A name, with escapes for the letters that cannot be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def one_line(error: Exception) -> str:
    """An error's message on one line, not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__
