"""Raw inputs of a net, as its data set has them: what `predict` takes, read, checked and asked in
batches.

Axes: B examples.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import DIGITS, shaped
from kdjax.data.given import as_array
from kdjax.rules import InputError

BATCH = 1000  # examples of one call, at most


def read_images(
    paths: str | Path | Iterable[str | Path], meta: Mapping[str, Any], where: str
) -> np.ndarray:
    """Image files [B, H, W, C] uint8: read as those of a folder are, cropped to the shape of the
    net's inputs and scaled to it.

    Args:
      meta: of the net: `input_shape`, `input_dtype`, `dataset`.
      where: the net is, for messages.

    Raises:
      InputError: the net was not trained on images of 8 bits, or a file is none.
    """
    from kdjax.data import folder  # here, for only images need Pillow

    shape, dtype = meta["input_shape"], meta["input_dtype"]
    digits = meta["dataset"].get("version") == DIGITS
    if len(shape) != 3 or shape[2] not in (1, 3) or dtype != "uint8" or digits:
        raise InputError(
            f"{where} was trained on inputs of the shape {shape}, dtype {dtype}"
            f"{', from 0 to 16' * digits}; image files can be read for nets that were trained "
            "on images [H, W, 1 or 3] of 8 bits, from 0 to 255"
        )
    return folder.read_images(paths, shape)


def checked(inputs: Any, meta: Mapping[str, Any]) -> np.ndarray:
    """Inputs of the shape, the kind and the range that the net was trained on.

    Args:
      meta: of the net: `input_shape`, `input_dtype`.

    Raises:
      InputError: they are of another.
    """
    inputs = shaped(as_array("inputs", inputs), meta["input_shape"])
    shape, dtype = tuple(meta["input_shape"]), meta["input_dtype"]
    if inputs.ndim == 0 or inputs.shape[1:] != shape:
        raise InputError(
            f"inputs have the shape {inputs.shape}; it must be [B, {', '.join(map(str, shape))}]"
        )
    if inputs.dtype.kind not in "biuf":
        raise InputError(f"inputs are {inputs.dtype}; they must be numbers")
    if inputs.dtype.kind == "f":
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32, copy=False)
        wrong = inputs.size - np.count_nonzero(np.isfinite(inputs))
        if wrong:
            raise InputError(
                f"inputs have {wrong} values NaN or infinite; they must be finite in float32"
            )
        if dtype != "float32":
            raise InputError("inputs are floats; they must be integers, as the data set has them")
    elif inputs.size and dtype in ("uint8", "uint16"):
        low, high, most = int(inputs.min()), int(inputs.max()), np.iinfo(dtype).max
        if low < 0 or high > most:
            raise InputError(
                f"inputs have values from {low} to {high}; they must be from 0 to {most}"
            )
    return inputs


def in_batches(
    call: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, axis: int
) -> np.ndarray:
    """What a compiled function gives for all inputs [B, ...], one or more, on batches of few sizes,
    so that it is compiled few times.

    Args:
      axis: of the examples, in what it gives.
    """
    size = min(BATCH, 1 << (len(inputs) - 1).bit_length())
    found = []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        padded = batch if len(batch) == size else np.resize(batch, (size, *batch.shape[1:]))
        found.append(call(padded).take(range(len(batch)), axis=axis))
    return found[0] if len(found) == 1 else np.concatenate(found, axis=axis)
