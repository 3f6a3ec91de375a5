"""The derivatives of a net's logits along directions of its inputs.

Axes: K teachers, B examples, R directions, C classes.
"""

from collections.abc import Callable, Mapping

import jax

from kdjax.nets.net import Outputs, PyTree


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
