"""What a caller gives as an array, as NumPy has it."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.dtypes import issubdtype  # NumPy's knows no bfloat16

from kdjax.data.sources import one_line, printable
from kdjax.rules import InputError, shown


def as_array(says: str, value: Any, kind: type | None = None) -> np.ndarray:
    """An array; floats that NumPy does not know, such as bfloat16, are float32.

    Args:
      says: begins the message, such as "inputs".
      kind: of its elements, where NumPy does not choose it.

    Raises:
      InputError: NumPy makes no array of it, or some of its values are masked.
    """
    masked = np.ma.count_masked(value) if isinstance(value, np.ma.MaskedArray) else 0
    if masked:
        raise InputError(f"{says} have {masked} masked values; all must be known")
    try:
        array = np.asarray(value, kind)
    except Exception as error:  # whatever an object of the user's raises
        raise InputError(f"{says} are no array ({one_line(error)}); they must be one") from error
    unknown = array.dtype.kind == "V" and issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if unknown else array


def columns(value: Any) -> tuple[str, ...]:
    """The names of a table's columns, such as those of a pandas DataFrame; () where it has none, or
    names that are not all text."""
    found = getattr(value, "columns", ())
    names = tuple(found) if isinstance(found, Iterable) else ()
    named = all(isinstance(name, str) for name in names)
    return tuple(map(printable, names)) if named else ()


def check_columns(says: str, found: Sequence[str], known: Sequence[str], whose: str) -> None:
    """Whether a table has the columns of another in its order, where both have names.

    Raises:
      InputError: it does not.
    """
    if not found or not known or list(found) == list(known):
        return
    pairs = itertools.zip_longest(found, known)
    place = next(n for n, (one, other) in enumerate(pairs) if one != other)
    at = lambda names: shown(names[place]) if place < len(names) else "absent"
    raise InputError(
        f"{says} have other columns than {whose}, or the same in another order: column {place} is "
        f"{at(found)}, and there {at(known)}; the columns must be the same, in the same order"
    )


def finite(says: str, inputs: np.ndarray, copy: bool = False) -> np.ndarray:
    """Floats as float32, a copy of them where `copy` is set.

    Raises:
      InputError: some are NaN, infinite, or too large for float32; `says` begins the message.
    """
    with np.errstate(over="ignore"):
        inputs = inputs.astype(np.float32, copy=copy)
    wrong = inputs.size - np.count_nonzero(np.isfinite(inputs))
    if wrong:
        raise InputError(
            f"{says} have {wrong} values NaN or infinite; they must be finite in float32"
        )
    return inputs
