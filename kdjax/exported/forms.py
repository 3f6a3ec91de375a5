"""The forms of an exported net, each made as bytes, and run.

Axes: B examples, C classes. A call takes raw inputs [B, ...] and gives logits [B, C], float32, both
on the host.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from kdjax.data import one_line
from kdjax.nets import export
from kdjax.nets.net import Array, Variables
from kdjax.raw import accepted
from kdjax.rules import InputError

CONFIG, CARD = "config.json", "README.md"
PARAMETERS, PROGRAM, ONNX = "model.safetensors", "forward.stablehlo", "model.onnx"
PACKAGES = ("onnx", "onnxruntime")  # of the extra
CLOSE = 1e-5  # between logits of two forms, of the largest logit and at least of 1
TRIED = (1, 7, 32)  # examples that the forms are compared on
SECONDS, CALLS = 0.1, 5  # of one latency, at least

Call = Callable[[np.ndarray], np.ndarray]


def parameters(variables: Variables) -> bytes:
    """The variables of one member as a safetensors file, with names such as
    "params/Dense_0/kernel", as `flax.traverse_util.flatten_dict(variables, sep="/")` has them.

    Raises:
      InputError: a name has a "/" of its own, so that two could not be told apart.
    """
    arrays = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        names = [str(key.key) for key in path]
        odd = [name for name in names if "/" in name]
        if odd:
            raise InputError(
                f"a variable has the name {odd[0]!r}; it must have no / to be exported"
            )
        arrays["/".join(names)] = np.array(leaf, order="C")
    return save(arrays)


def program(call: Callable[[Array], jax.Array], input_shape: tuple[int, ...], dtype: str) -> bytes:
    """The whole forward pass as `jax.export` writes it: raw inputs -> logits, on CPU, CUDA and TPU.

    Args:
      call: (raw inputs [B, ...]) -> logits [B, C] float32, its parameters within.
    """
    return export.whole(call, input_shape, dtype)


def run_program(data: bytes, classes: int, input_shape: tuple[int, ...], dtype: str) -> Call:
    """A call of what `program` wrote.

    Raises:
      ValueError: it is no such program, or one of other inputs or classes.
    """
    call = jax.jit(export.load_whole(data, classes, input_shape, dtype))
    return lambda inputs: np.asarray(call(np.asarray(inputs, dtype)))


def onnx_asked(given: bool | None) -> bool:
    """Whether an ONNX file is written.

    Args:
      given: None where it is if the packages are there.

    Raises:
      InputError: it is asked for, and they are not.
    """
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if given and lacking:
        raise InputError(
            f"onnx is True, but the package {lacking[0]} is not installed; install kdjax[onnx], or "
            "give onnx=False"
        )
    return not lacking if given is None else bool(given)


def onnx_file(data: bytes, class_names: tuple[str, ...], says: str) -> bytes:
    """What `program` wrote as an ONNX file.

    Raises:
      InputError: ONNX, or kdjax's writer of it, lacks an operation.
    """
    from kdjax.nets import to_onnx  # here, for only this needs its packages

    try:
        return to_onnx.to_onnx(jax.export.deserialize(bytearray(data)), "kdjax", class_names)
    except to_onnx.Unknown as error:
        raise InputError(
            f"{says} cannot be written as ONNX, for it has {error}; onnx=False leaves that form out"
        ) from error


def run_onnx(data: bytes, says: str) -> Call:
    """A call of an ONNX file.

    Raises:
      InputError: onnxruntime does not take it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    except Exception as error:  # whatever the runtime lacks
        raise InputError(
            f"{says} cannot be run as ONNX ({one_line(error)}); onnx=False leaves that form out"
        ) from error
    return lambda inputs: session.run(["logits"], {"inputs": inputs})[0]


def examples(meta: Mapping[str, Any], count: int) -> np.ndarray:
    """Random raw inputs, spread as the data set's may be."""
    random, shape = np.random.default_rng(0), (count, *meta["input_shape"])
    mean, scale = (np.array(meta["preprocessing"][k], np.float32) for k in ("mean", "scale"))
    low, high = accepted(meta)
    if meta["input_dtype"] == "float32":
        wide = np.where(scale == 0, 1.0, scale)
        return (random.normal(size=shape) / wide + mean).clip(low, high).astype(np.float32)
    return random.integers(int(low), int(high), shape, meta["input_dtype"], endpoint=True)


def largest_difference(ours: Call, other: Call, meta: Mapping[str, Any], says: str) -> float:
    """Of the logits of two forms, as a fraction of the largest logit, or of 1.

    Raises:
      InputError: it is more than `CLOSE`.
    """
    found = 0.0
    for count in TRIED:
        inputs = examples(meta, count)
        try:
            here, there = ours(inputs), other(inputs)
        except Exception as error:  # whatever a runtime raises
            raise InputError(
                f"{says} does not run on {count} examples ({one_line(error)})"
            ) from error
        if here.shape != there.shape:
            raise InputError(f"{says} gives logits {there.shape}, which must be {here.shape}")
        same = (here == there) | (np.isnan(here) & np.isnan(there))  # masked classes, too
        size = max(1.0, np.abs(here[np.isfinite(here)]).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(here - there) / size)
        found = max(found, float(np.nan_to_num(apart, nan=np.inf).max()))
    if found > CLOSE:
        raise InputError(
            f"{says} gives logits that differ by {found:.2g} of the largest, or of 1; it must be "
            f"at most {CLOSE:g}"
        )
    return found


def latencies(calls: Mapping[str, Call], meta: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """{form: {examples of a call: milliseconds}}, the median of some calls after warm-up, with
    inputs and logits on the host."""
    return {
        form: {str(n): _median_ms(call, examples(meta, n)) for n in (1, 100)}
        for form, call in calls.items()
    }


def _median_ms(call: Call, inputs: np.ndarray) -> float:
    call(inputs), call(inputs)
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < CALLS or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        call(inputs)
        found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found)
