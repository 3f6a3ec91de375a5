"""Teachers: how several become one distribution."""

import chex
import jax
import jax.numpy as jnp

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
      logits: [K, B, C] raw logits of K teachers.
      temperature: scalar T > 0.
      mean: "arithmetic" or "geometric".
      weights: [K], not negative, with sum 1; equal if None. Zero leaves a teacher out.

    Returns:
      [B, C], at least float32.

    Raises:
      ValueError: for another mean.
    """
    chex.assert_rank(logits, 3)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if weights is None:
        weights = jnp.full(len(logits), 1 / len(logits), logits.dtype)
    chex.assert_shape(weights, (len(logits),))
    if mean == "arithmetic":
        log_p = jax.nn.log_softmax(logits / temperature)
        return temperature * jax.nn.logsumexp(log_p, axis=0, b=weights[:, None, None])
    if mean == "geometric":
        return jnp.tensordot(weights, logits, axes=1)
    raise ValueError(f"mean is {mean!r}; it must be one of: {', '.join(MEANS)}")
