"""Losses of labels.

Axes: C classes, after any others. Every loss is per example, in at least float32 and in log space.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import at_least_float32, labels_of


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.Array | float = 0.0
) -> jax.Array:
    """Cross-entropy with hard labels at T = 1, in nats.

    With `label_smoothing` e the target is `(1 - e) one_hot(label) + e / C` (arXiv 1512.00567),
    where C counts the classes whose logits are not -inf: a masked class costs nothing, but as the
    label it costs infinity.

    Args:
      logits: [..., C].
      labels: [...] integers in 0..C-1; an example with a negative label has no label and costs 0.
      label_smoothing: scalar or [...], in [0, 1).

    Returns:
      [...].

    Raises:
      InputError: the labels are not integers, or do not have the shape of the logits without C.
    """
    logits = at_least_float32(logits)
    labels = labels_of(labels, logits)
    log_q = jax.nn.log_softmax(logits)
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    target_log_q = jnp.sum(jnp.where(is_label, log_q, 0.0), axis=-1)
    there = logits != -jnp.inf
    spread = jnp.sum(jnp.where(there, log_q, 0.0), axis=-1) / there.sum(axis=-1)
    loss = -(1 - label_smoothing) * target_log_q - label_smoothing * spread
    return jnp.where(labels >= 0, loss, 0.0)
