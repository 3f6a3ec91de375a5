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
