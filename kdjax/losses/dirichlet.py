"""A distribution over the predictions of an ensemble, in place of their mean.

Axes: K teachers, C classes, after any others. The logits z of a net are the logarithms of the
concentrations of a Dirichlet distribution, whose mean is softmax(z). Losses are per example, in at
least float32, and let no gradient into the teachers.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kdjax.losses.arrays import at_least_float32, relative_entropy, weighted
from kdjax.losses.logits import kl_divergence
from kdjax.rules import InputError

HALF_LOG_2PI = 0.9189385332046727
LARGE = 8.0  # above which Stirling's series is right to the last digit of float32


def dirichlet_likelihood(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    smoothing: jax.Array | float = 1e-4,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """T^2 times -log Dir(softmax(v / T); exp(z / T)), the mean over teachers (arXiv 1905.00076).

    Each teacher's probabilities t are smoothed to `(1 - e) t + e / C`, for the likelihood of a
    probability of 0 is 0 or infinite. The value may have either sign. It is computed from the
    logarithms of the concentrations: the difference of the logarithms of large gamma functions
    would have no digit left.

    Args:
      student_logits: [..., C].
      teacher_logits: [K, ..., C].
      temperature: scalar T > 0, used for both. The authors begin high and end at 1.
      smoothing: scalar e, from 0 to below 1.
      weights: [K] of the teachers, with sum 1; equal if None.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: the shapes do not fit.
    """
    student = at_least_float32(student_logits, "student_logits")
    teacher = jax.lax.stop_gradient(at_least_float32(teacher_logits, "teacher_logits", axes=2))
    if teacher.shape[1:] != student.shape:
        raise InputError(
            f"teacher_logits has shape {teacher.shape}; it must be that of student_logits "
            f"{student.shape} with an axis of teachers before it"
        )
    count, classes = len(teacher), student.shape[-1]
    weights = jnp.full(count, 1 / count, teacher.dtype) if weights is None else jnp.asarray(weights)
    smoothed = (1 - smoothing) * jax.nn.softmax(teacher / temperature) + smoothing / classes
    wide = weights.reshape(-1, *(1,) * student.ndim)
    log_t = jnp.log(smoothed)
    log_m = jnp.sum(jnp.where(wide > 0, wide * log_t, 0.0), axis=0)  # geometric mean

    # With log Gamma(a) = (a - 1/2) log a - a + log(2 pi) / 2 + rest(a) the large terms are
    # A sum(p log(p / m)), p the mean and A the sum of all a. That is a sum of terms that are never
    # negative: sum(p log(p / m) - p + m), and 1 - sum(m), where m is the geometric mean.
    log_a = student / temperature
    log_total = jax.nn.logsumexp(log_a, axis=-1)
    log_p = jax.nn.log_softmax(log_a)
    distance = relative_entropy(log_p, log_m) + _lacking(log_t, log_m, wide)
    value = (
        jnp.exp(log_total) * distance
        + 0.5 * (log_total - log_a.sum(axis=-1))
        + jnp.sum(_rest(log_a), axis=-1)
        - _rest(log_total)
        + (classes - 1) * HALF_LOG_2PI
        + log_m.sum(axis=-1)
    )
    return temperature**2 * value


def _lacking(log_t: jax.Array, log_m: jax.Array, weights: jax.Array) -> jax.Array:
    """1 - sum(m) of the geometric mean m of distributions t, [K, ..., C] and [..., C]: [...].

    As sum over k and classes of w m (t / m - 1 - log(t / m)), of which nothing cancels.
    """
    log_m = log_m[None]
    some = log_m > -jnp.inf
    apart = jnp.where(some, log_t - jnp.where(some, log_m, 0.0), 0.0)
    each = jnp.exp(log_m) * (jnp.expm1(apart) - apart)
    each = jnp.where(weights > 0, weights * jnp.where(some, each, jnp.exp(log_t)), 0.0)
    return jnp.sum(each, axis=(0, -1))


def _rest(log_a: jax.Array) -> jax.Array:
    """log Gamma(a) - ((a - 1/2) log a - a + log(2 pi) / 2), of the logarithm of a."""
    large = log_a > jnp.log(LARGE)
    low = jnp.where(large, 0.0, log_a)
    a = jnp.exp(low)
    direct = jax.lax.lgamma(1 + a) - (a + 0.5) * low + a - HALF_LOG_2PI
    inverse = jnp.exp(-jnp.where(large, log_a, jnp.log(LARGE)))
    square = inverse**2
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260)))
    return jnp.where(large, series, direct)


def per_teacher(
    head_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """The mean over teachers of `kl_divergence` of head k from teacher k (Hydra, arXiv 2001.04694).

    Args:
      head_logits: [..., K, C] of a net with a head for each teacher.
      teacher_logits: [K, ..., C].
      temperature: scalar T > 0, used for both.
      weights: [K] of the teachers, with sum 1; equal if None.

    Returns:
      [...], in nats times T^2.

    Raises:
      InputError: there are not as many heads as teachers, or the shapes differ.
    """
    heads = at_least_float32(head_logits, "head_logits", axes=2)
    teacher = at_least_float32(teacher_logits, "teacher_logits", axes=2)
    if heads.shape[-2] != len(teacher):
        raise InputError(
            f"the net has {heads.shape[-2]} heads and {len(teacher)} teachers; it must have a head "
            "for each"
        )
    loss = kl_divergence(heads, jnp.moveaxis(teacher, 0, -2), temperature)
    if weights is None:
        return loss.mean(axis=-1)
    return jnp.sum(weighted(jnp.broadcast_to(weights, loss.shape), loss), axis=-1)
