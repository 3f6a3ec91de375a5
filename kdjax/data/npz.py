"""The user's own arrays in an .npz file, which is not trusted: nothing in it is run, and its sizes
are checked before it is read."""

import math
import os
import zipfile

import numpy as np

from kdjax.data.in_memory import checked
from kdjax.data.sources import FIELD, RawSet, one_line
from kdjax.host import files, memory
from kdjax.rules import InputError


def from_npz(path: str) -> RawSet:
    """Train, test and perhaps validation split of an .npz file.

    Raises:
      InputError: there is no such file, or it is not what it must be.
    """
    says = f"{FIELD} is {path!r}"
    needed = [f"{split}_{part}" for split in ("train", "test") for part in ("inputs", "labels")]
    own = ["validation_inputs", "validation_labels"]
    found = read(path, says, needed + own)
    asked = needed + own * any(name in found for name in own)
    missing = [name for name in asked if name not in found]
    if missing:
        raise InputError(
            f"{says}, which has no {', '.join(missing)}; it must have the arrays "
            f"{', '.join(needed)}, and may have {' and '.join(own)}"
        )
    return checked(f"{says}, whose ", {name: found[name] for name in asked})


def read(path: str, says: str, names: list[str]) -> dict[str, np.ndarray]:
    """Those of the arrays that the file has; what they say of their size is checked first.

    Raises:
      InputError: the file cannot be read; `says` begins the sentence.
    """
    try:
        path = os.path.abspath(files.expand(path))
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
