"""Losses of the derivatives of logits along directions of the inputs, and such directions.

Axes: R directions, C classes, after any others; H, W, C of an image. Losses are per example, in at
least float32, and let no gradient into the teacher. A class whose logit is -inf in both nets costs
nothing; one that is masked in one net alone costs infinity.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import at_least_float32, check_derivatives, student_and_teacher
from kdjax.rules import InputError

Directions = Callable[[jax.Array, jax.Array], jax.Array]  # (key, one example) -> [R, ...]


def log_softmax_derivatives(
    logits: jax.Array, derivatives: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """The derivatives of `log_softmax(logits / temperature)`: `(dz - sum(p dz)) / T`.

    Args:
      logits: [..., C].
      derivatives: [..., R, C] of the logits.
      temperature: scalar T > 0.

    Returns:
      [..., R, C], at least float32; 0 for a masked class.

    Raises:
      InputError: the shapes do not fit.
    """
    logits, derivatives = _fitting(logits, derivatives)
    p = jax.nn.softmax(logits / temperature)[..., None, :]
    moved = jnp.where((logits == -jnp.inf)[..., None, :], 0.0, derivatives)
    found = (moved - jnp.sum(p * moved, axis=-1, keepdims=True)) / temperature
    return jnp.where((logits == -jnp.inf)[..., None, :], 0.0, found)


def derivative_matching(
    student_logits: jax.Array,
    student_derivatives: jax.Array,
    teacher_logits: jax.Array,
    teacher_derivatives: jax.Array,
    temperature: jax.Array | float | None,
) -> jax.Array:
    """T^2 / 2 times the squared difference of the derivatives of the log-probabilities at T, summed
    over classes, the mean over directions (arXiv 1803.00443 and, by directions, 1706.04859).

    A temperature of None matches the derivatives of the centred logits, to which the loss tends as
    T grows, as `kl_divergence` tends to `logit_matching`.

    Args:
      student_logits, teacher_logits: [..., C].
      student_derivatives, teacher_derivatives: [..., R, C] of those logits along the same
        directions.
      temperature: scalar T > 0, or None.

    Returns:
      [...].

    Raises:
      InputError: the shapes do not fit.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    student_derivatives, teacher_derivatives = student_and_teacher(
        student_derivatives, teacher_derivatives
    )
    difference = _scaled(student_logits, student_derivatives, temperature) - _scaled(
        teacher_logits, teacher_derivatives, temperature
    )
    loss = 0.5 * jnp.sum(difference**2, axis=-1).mean(axis=-1)
    alone = (student_logits == -jnp.inf) != (teacher_logits == -jnp.inf)
    return jnp.where(alone.any(axis=-1), jnp.inf, loss)


def tangent_penalty(
    logits: jax.Array, derivatives: jax.Array, temperature: jax.Array | float | None
) -> jax.Array:
    """`derivative_matching` with a teacher whose derivatives are 0: what the net says should not
    change along the directions (tangent propagation, Simard, Victorri, LeCun and Denker 1991).

    Args:
      logits: [..., C].
      derivatives: [..., R, C].
      temperature: scalar T > 0, or None.

    Returns:
      [...].

    Raises:
      InputError: the shapes do not fit.
    """
    return 0.5 * jnp.sum(_scaled(logits, derivatives, temperature) ** 2, axis=-1).mean(axis=-1)


def random_directions(count: int) -> Directions:
    """(key, one example) -> `count` directions [R, ...] uniform on the sphere whose radius is the
    root of the number of inputs, so that the mean square of a linear function of one is the sum of
    its squared coefficients: the loss is an unbiased estimate of that of the whole Jacobian."""

    def directions(key: jax.Array, example: jax.Array) -> jax.Array:
        drawn = jax.random.normal(key, (count, *example.shape), example.dtype)
        axes = tuple(range(1, drawn.ndim))
        return drawn * jax.lax.rsqrt(jnp.mean(drawn**2, axis=axes, keepdims=True))

    return directions


def translations(key: jax.Array, example: jax.Array) -> jax.Array:
    """(key, image [H, W, C]) -> its derivatives [2, H, W, C] as it moves down and to the right, per
    pixel, by central differences; the key is not used.

    Raises:
      InputError: the example is no image of two rows and columns or more.
    """
    if example.ndim != 3 or min(example.shape[:2]) < 2:
        raise InputError(
            f"translations are of images [height, width, channels], of 2 pixels or more, but the "
            f"inputs have the shape {example.shape}"
        )
    return -jnp.stack(jnp.gradient(example, axis=(0, 1)))


def _scaled(
    logits: jax.Array, derivatives: jax.Array, temperature: jax.Array | float | None
) -> jax.Array:
    """T times the derivatives of the log-probabilities; of the centred logits if T is None."""
    if temperature is not None:
        return temperature * log_softmax_derivatives(logits, derivatives, temperature)
    flat = jnp.where(jnp.asarray(logits) == -jnp.inf, -jnp.inf, 0.0)  # alike where not masked
    return log_softmax_derivatives(flat, derivatives, 1.0)


def _fitting(logits: jax.Array, derivatives: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits = at_least_float32(logits)
    derivatives = at_least_float32(derivatives, "derivatives", axes=2)
    check_derivatives(derivatives, logits)
    return logits, derivatives
