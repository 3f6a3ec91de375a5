"""What a caller gives as an array, as NumPy has it."""

from typing import Any

import numpy as np
from jax.dtypes import issubdtype  # NumPy's knows no bfloat16

from kdjax.data.sources import one_line
from kdjax.rules import InputError


def as_array(says: str, value: Any) -> np.ndarray:
    """An array; floats that NumPy does not know, such as bfloat16, are float32.

    Args:
      says: begins the message, such as "inputs".

    Raises:
      InputError: NumPy makes no array of it.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever an object of the user's raises
        raise InputError(f"{says} are no array ({one_line(error)}); they must be one") from error
    unknown = array.dtype.kind == "V" and issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if unknown else array


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
