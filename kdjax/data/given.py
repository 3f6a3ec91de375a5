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
