"""What every loss asks of its arrays: at least float32, and shapes that fit together."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kdjax.rules import InputError


def at_least_float32(logits: ArrayLike, name: str = "logits", axes: int = 1) -> jax.Array:
    """The logits as float32, or as they are if they are wider.

    Raises:
      InputError: fewer axes than `axes`.
    """
    logits = jnp.asarray(logits)
    if logits.ndim < axes:
        least = "one axis" if axes == 1 else f"{axes} axes"
        raise InputError(
            f"{name} has shape {logits.shape}; it must have at least {least}, the last of classes"
        )
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def student_and_teacher(
    student_logits: ArrayLike, teacher_logits: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Both as at least float32; the teacher under `stop_gradient`.

    Raises:
      InputError: they differ in shape.
    """
    student = at_least_float32(student_logits, "student_logits")
    teacher = at_least_float32(teacher_logits, "teacher_logits")
    if student.shape != teacher.shape:
        raise InputError(
            f"teacher_logits has shape {teacher.shape}; it must have the shape of "
            f"student_logits, {student.shape}"
        )
    return student, jax.lax.stop_gradient(teacher)


def relative_entropy(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p || q) of log-probabilities [..., C], with a gradient into both: [...], in nats.

    Never negative. Infinite where q lacks a class that p has; the gradient is finite there, too.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    absent = log_q == -jnp.inf
    r = jnp.where(absent, 0.0, log_p - log_q)
    # KL = sum(p r - p + q) with r = log(p / q). Each term is non-negative, so nothing cancels as
    # p nears q, where sum(p r) would lose all its digits; q (r e^r - (e^r - 1)) is that term for
    # small r, and the other form cannot overflow for large r. Below -100, p is 0.
    small, large = jnp.clip(r, -100.0, 1.0), jnp.where(r < 1, 0.0, r)
    near = q * (small * jnp.exp(small) - jnp.expm1(small))
    far = p * (large - 1) + q
    each = jnp.where(absent, 0.0, jnp.where(r < 1, near, far))
    lacking = (absent & (p > 0)).any(axis=-1)
    return jnp.where(lacking, jnp.inf, jnp.sum(each, axis=-1))


def log_total(log_p: jax.Array, of: jax.Array) -> jax.Array:
    """The logarithm of the total probability of some classes, [..., C] and truths [..., C]: [...].

    It is -inf, with a gradient of 0, where those classes have none.
    """
    chosen = jnp.where(of, log_p, -jnp.inf)
    some = (chosen > -jnp.inf).any(axis=-1, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(some, chosen, 0.0), axis=-1)
    return jnp.where(some[..., 0], total, -jnp.inf)


def weighted(weight: jax.Array | float, loss: jax.Array) -> jax.Array:
    """The loss times its weight; a weight of 0 leaves it out, also where it is infinite."""
    return jnp.where(weight == 0, 0.0, weight * loss)


def labels_of(labels: ArrayLike, logits: jax.Array) -> jax.Array:
    """The labels as an array.

    Raises:
      InputError: they are not integers, or not one for each row of the logits.
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels is of {labels.dtype}; it must be of integers")
    if labels.shape != logits.shape[:-1]:
        raise InputError(
            f"labels has shape {labels.shape}; it must have the shape of the logits without the "
            f"classes, {logits.shape[:-1]}"
        )
    return labels


def check_derivatives(derivatives: jax.Array, logits: jax.Array) -> None:
    """Raises InputError if derivatives [..., R, C] do not have the shape of logits [..., C]."""
    if (*derivatives.shape[:-2], derivatives.shape[-1]) != logits.shape:
        raise InputError(
            f"derivatives has shape {derivatives.shape}; it must be that of the logits "
            f"{logits.shape} with an axis of directions before the last"
        )
