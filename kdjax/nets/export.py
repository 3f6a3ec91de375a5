"""A net's evaluation as a file that needs none of its code.

The program is of one member; it may be called inside `jit`, `scan`, `lax.map` and `pmap`, and, as
`jax.export` has no rule for it, not inside `vmap`.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import export as jax_export

from kdjax.nets.net import Net, Variables
from kdjax.rules import InputError

PLATFORMS = ("cpu", "cuda", "tpu")
Forward = Callable[[Variables, jax.Array], jax.Array]


def export(net: Net, variables: Variables, input_shape: Sequence[int]) -> bytes:
    """`(variables, inputs [b, ...] float32, preprocessed) -> logits [b, C]` for any b, in
    evaluation, on CPUs, GPUs and TPUs.

    Args:
      variables: of one member, or their shapes.
      input_shape: of one example.

    Raises:
      InputError: the net's program depends on the size of a batch or on the kind of machine.
    """
    [size] = jax_export.symbolic_shape("b")
    inputs = jax.ShapeDtypeStruct((size, *input_shape), np.float32)
    batched = lambda v, x: net.apply(v, x, None, ())[0].logits.astype(np.float32)
    # A net that asks for the size of its batch, as by `len(inputs)`, is told that it is one.
    single = lambda v, x: jax.vmap(lambda one: batched(v, one[None])[0])(x)
    failed: Exception | None = None
    for function in (batched, single):
        try:
            exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(variables, inputs)
            return bytes(exported.serialize())
        except Exception as error:  # whatever a net does with a batch of unknown size
            failed = error
    why = (str(failed).strip().splitlines() or [type(failed).__name__])[0]
    raise InputError(
        f"the net {net.name} cannot be exported, so that its stage would not open without its "
        f"code: {why}; it must compute the same for a batch of any size, on any machine"
    ) from failed


def load(program: bytes) -> Forward:
    """What `export` wrote."""
    return jax_export.deserialize(bytearray(program)).call


def check(
    program: bytes,
    variables: Variables,
    members: int,
    input_shape: Sequence[int],
    classes: int,
) -> None:
    """Raises ValueError unless the program takes these variables, each leaf [M, ...], member by
    member, and such inputs, and gives logits of these classes."""
    exported = jax_export.deserialize(bytearray(program))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], x.dtype), variables)
    inputs = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    leaves, structure = jax.tree.flatten(((one, inputs), {}))
    if structure != exported.in_tree or {len(x) for x in jax.tree.leaves(variables)} != {members}:
        raise ValueError("its arrays are not those of its program and members")
    for leaf, wanted in zip(leaves[:-1], exported.in_avals[:-1], strict=True):
        if (leaf.shape, leaf.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError("its arrays are not those of its program and members")
    if exported.in_avals[-1].shape[1:] != inputs.shape[1:]:
        raise ValueError("its program takes other inputs than it was trained on")
    if [aval.shape[1:] for aval in exported.out_avals] != [(classes,)]:
        raise ValueError("its program has other classes than it was trained on")
