"""Several teachers as one distribution.

Axes: K teachers, C classes.
"""

import chex
import jax
import jax.numpy as jnp

from kdjax.losses.labels import at_least_float32

MEANS = ("arithmetic", "geometric")


def ensemble_logits(
    logits: jax.Array,
    temperature: jax.Array | float,
    mean: str = "arithmetic",
    weights: jax.Array | None = None,
) -> jax.Array:
    """Logits whose softmax at `temperature` is the ensemble's distribution at `temperature`.

    The mean is taken after the temperature: of the probabilities (arithmetic), or of the
    log-probabilities, renormalised (geometric); arXiv 1503.02531, section 2 and 5.4.

    Args:
      logits: [K, ..., C] raw logits of K teachers.
      temperature: scalar T > 0.
      mean: "arithmetic" or "geometric".
      weights: [K], not negative, with sum 1; equal if None. Zero leaves a teacher out.

    Returns:
      [..., C], at least float32.

    Raises:
      ValueError: for another mean.
    """
    logits = at_least_float32(logits)
    if weights is None:
        weights = jnp.full(len(logits), 1 / len(logits), logits.dtype)
    chex.assert_shape(weights, (len(logits),))
    wide = weights.reshape(-1, *(1,) * (logits.ndim - 1))
    if mean == "arithmetic":
        log_p = jax.nn.log_softmax(logits / temperature)
        return temperature * jax.nn.logsumexp(log_p, axis=0, b=wide)
    if mean == "geometric":
        heard = jnp.where(wide > 0, logits, 0.0)  # not 0 times infinity
        return jnp.tensordot(weights, heard, axes=1, precision=jax.lax.Precision.HIGHEST)
    raise ValueError(f"mean is {mean!r}; it must be one of: {', '.join(MEANS)}")
