"""The user's own arrays in an .npz file, which is not trusted: nothing in it is run, and its sizes
are checked before it is read."""

import math
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from kdjax.data.classes import listed
from kdjax.data.in_memory import checked
from kdjax.data.sources import FIELD, SPLIT_NAMES, UNLABELLED, RawSet, one_line, printable
from kdjax.host import files, memory
from kdjax.rules import InputError

NEEDED = ("train_inputs", "train_labels", "test_inputs", "test_labels")
OPTIONAL = ("validation_inputs", "validation_labels", "unlabelled_inputs", "class_names")


def from_npz(path: str) -> RawSet:
    """Train, test and perhaps validation split of an .npz file.

    Raises:
      InputError: there is no such file, or it is not what it must be.
    """
    says = f"{FIELD} is {path!r}"
    found, others = read(path, says, _known)
    own = [name for name in OPTIONAL if name.startswith("validation")]
    asked = [*NEEDED, *(own if any(name in found for name in own) else ())]
    missing = [name for name in asked if name not in found]
    if missing:
        known = listed(sorted([*found, *others])) or "none"
        raise InputError(
            f"{says}, which has no {', '.join(missing)}; it must have the arrays "
            f"{', '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}; it has {known}"
        )
    class_names = found.pop("class_names").tolist() if "class_names" in found else None
    if class_names is not None and not isinstance(class_names, list):
        raise InputError(
            f"{says}, whose class_names are {class_names!r}; they must be a list of text"
        )
    raw = checked(f"{says}, whose ", {n: found[n] for n in _order(found)}, class_names)
    notes = (f"not read: the arrays {', '.join(map(printable, others))}",) * bool(others)
    return replace(raw, notes=notes)


def _order(names: Iterable[str]) -> list[str]:
    """The arrays in the order in which the version of the content has them."""
    return [name for name in (*NEEDED, *OPTIONAL) if name in names]


def _known(name: str) -> str | None:
    """Which of the arrays one in the file is; None if none."""
    word, _, part = name.casefold().rpartition("_")
    for split, words in (*SPLIT_NAMES.items(), ("unlabelled", UNLABELLED)):
        if word in words and f"{split}_{part}" in (*NEEDED, *OPTIONAL):
            return f"{split}_{part}"
    return name if name == "class_names" else None


def read(
    path: str, says: str, known: Callable[[str], str | None]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays that the file has of those that are read, and the names of its others; what they
    say of their size is checked first.

    Args:
      says: begins the sentence of a refusal.
      known: (the name of an array in the file) -> the name that it is read by; None if it is not.

    Raises:
      InputError: the file cannot be read.
    """
    try:
        path = os.path.abspath(files.expand(path))
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("it is no regular file")
        with zipfile.ZipFile(path) as archive:
            every = [name.removesuffix(".npy") for name in archive.namelist()]
            members: dict[str, str] = {}
            for name in every:
                known_as = known(name)
                if known_as in members:
                    raise ValueError(f"it has {name} beside {members[known_as]}, of one split")
                members |= {known_as: f"{name}.npy"} if known_as else {}
            sizes = [_declared(archive, member) for member in members.values()]
            memory.check("its arrays are", sizes)
            arrays = {name: _read_array(archive, member) for name, member in members.items()}
            return arrays, [name for name in every if not known(name)]
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
