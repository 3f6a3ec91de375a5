"""A net's forward pass as a file that needs none of its code: StableHLO, by jax.export.

Axes: B examples, C classes.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np
from jax import ShapeDtypeStruct

from kdjax.nets import calls, program
from kdjax.nets.check import name_of
from kdjax.nets.net import Net, Variables
from kdjax.rules import InputError

PLATFORMS = ("cpu", "cuda", "tpu")
CUSTOM_CALLS = ("shape_assertion", "ApproxTopK")  # XLA has these everywhere; others call the host
DIGEST = hashlib.sha256().digest_size

Call = Callable[[Variables, jax.Array], jax.Array]


class Forward(NamedTuple):
    """A forward pass that was read from a file.

    Attributes:
      call: (variables of one member, preprocessed inputs [B, ...]) -> logits [B, C]. It runs within
        jit, pmap, scan and `lax.map`, not vmap, and has no derivative.
      kind: "convolutional" if it convolves, else "dense".
      data: the file's content.
    """

    call: Call
    kind: str
    data: bytes


def export(
    net: Net, variables: Variables, input_shape: tuple[int, ...], path: str = "net"
) -> bytes:
    """The forward pass of one member in evaluation, for any number of examples.

    Args:
      variables: of one member; shapes and dtypes are enough.
      input_shape: of one example.
      path: of the net, for messages.

    Returns:
      What `jax.export.deserialize` reads: (variables, inputs [B, ...] float32) -> logits [B, C] on
      CPU, CUDA and TPU, B at least 1. A digest, which it skips, is at the end.

    Raises:
      InputError: the net cannot be exported, such as one that calls back to Python.
    """
    whole: Call = lambda v, x: net.apply(v, x, None, ())[0].logits
    silent: Call = lambda v, x: program.silent(whole, v, x)
    # a net may need to know how many examples there are: here, one
    each: Call = lambda v, x: jax.vmap(lambda example: silent(v, example[None])[0])(x)
    shapes = jax.tree.map(lambda x: ShapeDtypeStruct(x.shape, x.dtype), variables)
    inputs = ShapeDtypeStruct((_batch(), *input_shape), "float32")
    exported, first = None, Exception()
    for call in (whole, silent, each):
        try:
            exported = _exported(call, shapes, inputs)
            break
        except Exception as error:  # whatever the net's code, or a platform, does not do
            first = error if call is whole else first
    if exported is None:
        raise InputError(
            f"{path} is {name_of(net)}, which cannot be exported: {calls.reason(first)}"
        ) from first
    data = bytes(exported.serialize())
    return data + _digest(data)


def load(data: bytes, variables: Variables, input_shape: tuple[int, ...], classes: int) -> Forward:
    """The forward pass that `export` has written; nothing is run.

    Args:
      data: the file's content.
      variables: of one member; shapes and dtypes are enough.
      input_shape: of one example.
      classes: of the logits.

    Raises:
      ValueError: the file is damaged, or is of another net.
    """
    inner, digest = data[:-DIGEST], data[-DIGEST:]
    if digest != _digest(inner):  # XLA does not survive damage
        raise ValueError("it is damaged, or no exported net")
    try:
        exported = jax.export.deserialize(bytearray(inner))
        text = exported.mlir_module()
        _check_calls(exported)
    except Exception as error:
        raise ValueError(f"it is no exported net ({calls.reason(error)})") from error
    described = lambda tree: jax.tree.map(lambda x: (tuple(x.shape), str(x.dtype)), tree)
    structure = jax.tree.structure(((variables, 0), {}))
    *leaves, _ = exported.in_avals
    if str(exported.in_tree) != str(structure) or described(leaves) != described(
        jax.tree.leaves(variables)
    ):
        raise ValueError("its variables are not those of the net")
    _check_shapes(exported, input_shape, classes)
    kind = "convolutional" if "stablehlo.convolution" in text else "dense"
    return Forward(exported.call, kind, data)


def check_same(
    net: Net, variables: Variables, forward: Forward, input_shape: tuple[int, ...], path: str
) -> None:
    """Whether a net is the one that a stage's directory was written from: it has the same
    variables, and its program is the same, or gives nearly the same logits.

    Args:
      variables: of one member of the stage.
      path: of the directory, for messages.

    Raises:
      InputError: it is another one.
    """
    says, example = f"net is {name_of(net)}", ShapeDtypeStruct((1, *input_shape), "float32")
    try:
        ours = jax.eval_shape(net.init, jax.eval_shape(jax.random.key, 0), example)
    except Exception as error:  # whatever a net does with a shape that it does not fit
        raise InputError(
            f"{says}, which does not take examples of the shape {input_shape}, as the net of "
            f"{path} does: {calls.reason(error)}"
        ) from error
    described = lambda tree: jax.tree.map(lambda x: f"{x.dtype}{x.shape}", tree)
    if described(ours) != described(variables):
        raise InputError(f"{says}, which has other variables than the net of {path}")
    if export(net, variables, input_shape) == forward.data:
        return
    x = np.random.default_rng(0).normal(size=(2, *input_shape)).astype(np.float32)
    own: Call = lambda v, x: net.apply(v, x, None, ())[0].logits
    here, there = (np.asarray(jax.jit(f)(variables, x), float) for f in (own, forward.call))
    close = 0.02 * abs(there[np.isfinite(there)]).max(initial=0)  # another version may round
    if here.shape != there.shape or not np.allclose(here, there, 0, close, equal_nan=True):
        raise InputError(f"{says}, which gives other logits than the net of {path}")


def whole(
    call: Callable[[jax.Array], jax.Array], input_shape: tuple[int, ...], dtype: str
) -> bytes:
    """A forward pass whose parameters are within, for any number of examples.

    Args:
      call: (raw inputs [B, ...]) -> logits [B, C].
      input_shape: of one example.
      dtype: of the raw inputs.

    Returns:
      What `jax.export.deserialize` reads: inputs [B, ...] -> logits [B, C] on CPU, CUDA and TPU.
    """
    return bytes(_exported(call, ShapeDtypeStruct((_batch(), *input_shape), dtype)).serialize())


def load_whole(
    data: bytes, classes: int, input_shape: tuple[int, ...], dtype: str
) -> Callable[[jax.Array], jax.Array]:
    """The forward pass that `whole` has written, traceable; nothing is run.

    Args:
      data: the file's content, which is known not to be damaged.

    Raises:
      ValueError: it is no such program, or of other inputs or classes.
    """
    try:
        exported = jax.export.deserialize(bytearray(data))
        _check_calls(exported)
    except Exception as error:
        raise ValueError(f"it is no exported net ({calls.reason(error)})") from error
    if [str(aval.dtype) for aval in exported.in_avals] != [dtype]:
        raise ValueError(f"its inputs are not one array of {dtype}")
    _check_shapes(exported, input_shape, classes)
    return exported.call


def _check_shapes(exported: Any, input_shape: tuple[int, ...], classes: int) -> None:
    inputs, outputs = exported.in_avals[-1], exported.out_avals
    batch = inputs.shape[0] if inputs.shape else 1
    if not jax.export.is_symbolic_dim(batch) or inputs.shape[1:] != tuple(input_shape):
        raise ValueError(f"its inputs {inputs.shape} are not [B, ...] of examples {input_shape}")
    if len(outputs) != 1 or outputs[0].shape != (batch, classes):
        raise ValueError(f"its logits are not those of {classes} classes")


def _batch() -> Any:
    (batch,) = jax.export.symbolic_shape("b")
    return batch


def _exported(function: Callable[..., jax.Array], *arguments: Any) -> Any:
    option = "jax_traceback_in_locations_limit"
    limit = getattr(jax.config, option)
    jax.config.update(option, 0)  # else the paths of this machine's source files go into the file
    try:
        exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    finally:
        jax.config.update(option, limit)
    _check_calls(exported)
    return exported


def _check_calls(exported: Any) -> None:
    """Whether the program is XLA's alone, so that a file that somebody else wrote runs no code of
    the host's."""
    text = exported.mlir_module()
    known = "|".join(CUSTOM_CALLS)
    others = re.findall(rf"custom_call(?! @(?:{known})\()[^\n(]*", text)
    if others:
        raise ValueError(
            f"it calls {others[0].removeprefix('custom_call').strip(' @')} on the host"
        )


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
