"""Several teachers as one distribution.

Axes: K teachers, C classes.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import at_least_float32, check_derivatives
from kdjax.rules import InputError, check, one_of

MEANS = ("arithmetic", "geometric")


def ensemble_logits(
    logits: jax.Array,
    temperature: jax.Array | float,
    mean: str = "arithmetic",
    weights: jax.Array | None = None,
) -> jax.Array:
    """Logits whose softmax at `temperature` is the ensemble's distribution at `temperature`.

    The mean is taken after the temperature: of the probabilities (arithmetic), or of the
    log-probabilities, renormalised (geometric); arXiv 1503.02531, section 2 and 5.4. A class is
    masked, with a logit of -inf, where it is masked in all teachers (arithmetic) or in any of them
    (geometric).

    Args:
      logits: [K, ..., C] raw logits of K teachers.
      temperature: scalar T > 0.
      mean: "arithmetic" or "geometric".
      weights: [K], not negative, with sum 1; equal if None. Zero leaves a teacher out.

    Returns:
      [..., C], at least float32.

    Raises:
      InputError: for another mean, logits without an axis of teachers, or weights of another shape.
    """
    check(one_of(MEANS), "mean", mean)
    logits = at_least_float32(logits, axes=2)
    if weights is None:
        weights = jnp.full(len(logits), 1 / len(logits), logits.dtype)
    if weights.shape != (len(logits),):
        raise InputError(
            f"weights has shape {weights.shape}; it must have shape {(len(logits),)}, one weight "
            f"for each teacher of the logits {logits.shape}"
        )
    wide = weights.reshape(-1, *(1,) * (logits.ndim - 1))
    if mean == "arithmetic":
        log_p = jax.nn.log_softmax(logits / temperature)
        return temperature * _log_mean(log_p, wide)
    used = jnp.where(wide > 0, logits, 0.0)  # not 0 times infinity
    return jnp.tensordot(weights, used, axes=1, precision=jax.lax.Precision.HIGHEST)


def ensemble_derivatives(
    logits: jax.Array,
    derivatives: jax.Array,
    temperature: jax.Array | float,
    mean: str = "arithmetic",
    weights: jax.Array | None = None,
) -> jax.Array:
    """The derivatives of `ensemble_logits` along the R directions along which the teachers' logits
    have been differentiated.

    Args:
      logits: [K, ..., C].
      derivatives: [K, ..., R, C] of those logits.
      temperature, mean, weights: as of `ensemble_logits`.

    Returns:
      [..., R, C], at least float32.

    Raises:
      InputError: as `ensemble_logits` does, or the derivatives are of other logits.
    """
    logits = at_least_float32(logits, axes=2)
    derivatives = at_least_float32(derivatives, "derivatives", axes=3).astype(logits.dtype)
    check_derivatives(derivatives, logits)
    mixture = lambda z: ensemble_logits(z, temperature, mean, weights)
    along = lambda direction: jax.jvp(mixture, (logits,), (direction,))[1]
    return jax.vmap(along, -2, -2)(derivatives)


@jax.custom_jvp
def _log_mean(log_p: jax.Array, weights: jax.Array) -> jax.Array:
    """[K, ..., C] and [K, 1, ..., 1] -> [..., C]: the logarithm of the mean probability."""
    return jax.nn.logsumexp(log_p, axis=0, b=weights)


@_log_mean.defjvp
def _log_mean_jvp(primals, tangents):
    """That of `logsumexp`, but 0 instead of NaN for a class that is masked in all teachers."""
    log_p, weights = primals
    masked = ((log_p == -jnp.inf) | (weights == 0)).all(axis=0, keepdims=True)
    finite = lambda log_p, b: jax.nn.logsumexp(jnp.where(masked, 0.0, log_p), axis=0, b=b)
    return _log_mean(log_p, weights), jax.jvp(finite, primals, tangents)[1]
