"""A net's evaluation as a file that needs none of its code."""

from typing import Any

import jax
from jax import export as jax_export

from kdjax.nets.net import Net

PLATFORMS = ("cpu", "cuda", "tpu")


def export(net: Net, variables: Any, input_shape: tuple[int, ...]) -> bytes:
    batch = jax_export.symbolic_shape("b")[0]
    inputs = jax.ShapeDtypeStruct((batch, *input_shape), "float32")
    program = jax.jit(lambda v, x: net.apply(v, x, None, ())[0].logits)
    return jax_export.export(program, platforms=PLATFORMS)(variables, inputs).serialize()


def load(program: bytes):
    return jax_export.deserialize(bytearray(program)).call


def check(program, variables, members, input_shape, classes) -> None:
    pass
