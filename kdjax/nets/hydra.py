"""One net with a head for each teacher.

Axes: B examples, K heads, C classes.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.nets.net import EVERY, Array, Net, Outputs, PyTree, Training, Variables
from kdjax.rules import InputError

HEADS = "heads"  # the path of what each head says


def hydra(body: Net, heads: int) -> Net:
    """A net whose prediction is the mean of those of its heads (arXiv 2001.04694).

    Args:
      body: a net with logits [B, K x C]: its last layer is the heads.
      heads: K.

    Returns:
      The net: its logits [B, C] are the logarithm of the mean probability. Its tap "heads" has the
      logits of each head [B, K, C], float32 or more, beside the taps of the body.
    """

    def apply(
        variables: Variables,
        inputs: Array,
        training: Training | None = None,
        taps: tuple[str, ...] = (),
    ) -> tuple[Outputs, dict[str, PyTree]]:
        inner = tuple(tap for tap in taps if tap != HEADS)
        outputs, others = body.apply(variables, inputs, training, inner)
        wide = outputs.logits
        if wide.shape[-1] % heads:
            raise InputError(
                f"the body has {wide.shape[-1]} outputs; they must be {heads} times the classes"
            )
        of_heads = wide.astype(jnp.promote_types(wide.dtype, jnp.float32))
        of_heads = of_heads.reshape(of_heads.shape[0], heads, wide.shape[-1] // heads)
        mean = jax.nn.logsumexp(jax.nn.log_softmax(of_heads), axis=1) - jnp.log(heads)
        tapped = {HEADS: of_heads} if {HEADS, EVERY} & set(taps) else {}
        return Outputs(mean, dict(outputs.features) | tapped), others

    spec = {"name": "hydra", "heads": heads, "body": dict(body.spec)}
    return dataclasses.replace(body, apply=apply, name=f"hydra of {body.name}", spec=spec)
