"""The derivatives of a net's logits along directions of its inputs.

Axes: K teachers, B examples, R directions, C classes.
"""

from collections.abc import Callable, Mapping

import jax
from jax.custom_derivatives import SymbolicZero

from kdjax.nets.net import Array, Net, Outputs, PyTree, Variables
from kdjax.rules import InputError


def along(
    apply: Callable[[jax.Array], tuple[Outputs, PyTree]],
    inputs: jax.Array,
    directions: Mapping[str, jax.Array],
) -> tuple[Outputs, PyTree]:
    """What `apply` makes of the inputs, with the derivatives of the logits along directions.

    The net runs once, and its linear part once for each direction: dropout has one mask, and
    statistics of the batch are taken once and are part of what is differentiated.

    Args:
      apply: (inputs [B, ...]) -> outputs with logits [..., B, C], and whatever else the net gives.
      directions: {name: [B, R, ...]}, each [B, ...] of them a direction of the whole batch.

    Returns:
      The same as `apply`; `derivatives` of the outputs has {name: [..., B, R, C]}.
    """
    if not directions:
        return apply(inputs)

    def logits_of(inputs: jax.Array) -> tuple[jax.Array, tuple[Outputs, PyTree]]:
        outputs, others = apply(inputs)
        return outputs.logits, (outputs, others)

    logits, linear, (outputs, others) = jax.linearize(logits_of, inputs, has_aux=True)
    found = {name: jax.vmap(linear, 1, -2)(each) for name, each in directions.items()}
    return outputs._replace(logits=logits, derivatives=found), others


def by_code(
    program: Callable[[Variables, jax.Array], jax.Array], net: Net | None, where: str
) -> Callable[[Variables, Array], jax.Array]:
    """An exported program, which has no derivative, with the derivative by the inputs that the
    net's own code has.

    Args:
      program: (variables, inputs) -> the logits of `net` in evaluation.
      net: None where its code is not at hand.
      where: the stage that the program is of, for messages.

    Returns:
      The same program. It raises InputError once it is differentiated without a net, or by the
      variables.
    """
    differentiable = jax.custom_jvp(program)

    def derivative(
        primals: tuple[Variables, jax.Array], tangents: tuple[PyTree, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        variables, inputs = primals
        if net is None:
            raise InputError(
                f"{where} is opened without its code, so that its derivatives cannot be taken; it "
                "must be trained in the same experiment"
            )
        if not all(isinstance(x, SymbolicZero) for x in jax.tree.leaves(tangents[0])):
            raise InputError(f"{where} can be differentiated by its inputs alone")
        logits = lambda inputs: net.apply(variables, inputs, None, ())[0].logits
        return jax.jvp(logits, (inputs,), (tangents[1],))

    differentiable.defjvp(derivative, symbolic_zeros=True)
    return differentiable
