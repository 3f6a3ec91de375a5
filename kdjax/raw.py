"""Raw inputs of a net, as its data set has them: what `predict` takes, read, checked and asked in
batches.

Axes: B examples.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import DIGITS, shaped
from kdjax.data.given import as_array, check_columns, columns, finite
from kdjax.rules import InputError, check, number, one_of, text, tuple_of, whole

BATCH = 1000  # examples of one call, at most


def read_images(
    paths: str | Path | Iterable[str | Path], meta: Mapping[str, Any], where: str
) -> np.ndarray:
    """Image files [B, H, W, C] uint8: read as those of a folder are, cropped to the shape of the
    net's inputs and scaled to it.

    Args:
      meta: of the net: `input_shape`, `input_dtype`, `input_range`, `dataset`.
      where: the net is, for messages.

    Raises:
      InputError: the net was not trained on images of 8 bits, or a file is none.
    """
    from kdjax.data import images  # here, for only images need Pillow

    shape, dtype = meta["input_shape"], meta["input_dtype"]
    _, high = accepted(meta)
    if len(shape) != 3 or shape[2] not in (1, 3) or dtype != "uint8" or high != 255:
        raise InputError(
            f"{where} was trained on inputs of the shape {shape}, dtype {dtype}"
            f"{f', from 0 to {high:g}' * (dtype == 'uint8')}; image files can be read for nets "
            "that were trained on images [H, W, 1 or 3] of 8 bits, from 0 to 255"
        )
    return images.read_images(paths, shape)


def check_facts(meta: Mapping[str, Any], names: Sequence[str]) -> None:
    """Whether what a file says of a net's inputs and classes can be so.

    Args:
      names: of the classes; none where they have none.

    Raises:
      ValueError: it cannot.
    """
    check(text(), "its model", meta["model"])
    check(whole(2), "its number of classes", meta["classes"])
    check(tuple_of(whole(1)), "its input shape", meta["input_shape"])
    check(one_of(("uint8", "uint16", "float32")), "its inputs' dtype", meta["input_dtype"])
    for name, numbers in meta["preprocessing"].items():
        check(tuple_of(number(-math.inf)), f"its preprocessing's {name}", numbers)
    if meta.get("input_range") is not None:
        check(tuple_of(number(-math.inf)), "the range of its inputs", meta["input_range"])
        if len(meta["input_range"]) != 2:
            raise ValueError("the range of its inputs is not of two numbers")
    check(tuple_of(text()), "its inputs' columns", meta.get("columns") or ())
    check(tuple_of(text()), "its classes' names", names)
    if len(names) not in (0, meta["classes"]):
        raise ValueError(f"it has {len(names)} names of {meta['classes']} classes")


def accepted(meta: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the largest input that `predict` takes: of integers those of the data set, of
    floats those within ten times its range on either side."""
    dtype, known = meta["input_dtype"], meta.get("input_range")
    if dtype == "float32":
        low, high = known or (-math.inf, math.inf)
        far = 10 * (high - low) or math.inf
        return low - far, high + far
    if known is None and meta["dataset"].get("version") == DIGITS:
        return 0, 16
    return tuple(known) if known else (0, float(np.iinfo(dtype).max))


def checked(inputs: Any, meta: Mapping[str, Any]) -> np.ndarray:
    """Inputs of the shape, the kind and the range that the net was trained on.

    Args:
      meta: of the net: `input_shape`, `input_dtype`, `input_range`, `columns`, `dataset`.

    Raises:
      InputError: they are of another.
    """
    check_columns("inputs", columns(inputs), meta.get("columns") or (), "the data set")
    inputs = shaped(as_array("inputs", inputs), meta["input_shape"])
    shape, dtype = tuple(meta["input_shape"]), meta["input_dtype"]
    if inputs.ndim == 0 or inputs.shape[1:] != shape:
        raise InputError(
            f"inputs have the shape {inputs.shape}; it must be [B, {', '.join(map(str, shape))}]"
        )
    if inputs.dtype.kind not in "biuf":
        raise InputError(f"inputs are {inputs.dtype}; they must be numbers")
    floats = inputs.dtype.kind == "f"
    if floats:
        inputs = finite("inputs", inputs)
    if floats != (dtype == "float32"):
        kind = "floats" if dtype == "float32" else "integers"
        raise InputError(
            f"inputs are {'floats' if floats else inputs.dtype}; they must be {kind}, as the data "
            "set has them"
        )
    low, high = accepted(meta)
    if inputs.dtype.kind == "b" and high != 1:
        raise InputError(f"inputs are bool; they must be integers from {low:g} to {high:g}")
    if inputs.size and not (low <= inputs.min() and inputs.max() <= high):
        known = meta["input_range"] if floats else (low, high)
        of_data = "near those of the data set, " if floats else ""
        raise InputError(
            f"inputs have values from {inputs.min():g} to {inputs.max():g}; they must be "
            f"{of_data}from {known[0]:g} to {known[1]:g}"
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
