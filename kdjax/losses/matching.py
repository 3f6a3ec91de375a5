"""Losses that match what is made of the teacher's distribution: its powers, and its correlations.

Axes: B examples of a batch, C classes, after any others. Every loss is in at least float32, and
lets no gradient into the teacher. A class whose logit is -inf in both nets costs nothing.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.arrays import relative_entropy, student_and_teacher
from kdjax.rules import InputError

EPSILON = 1e-8  # beside the product of two norms, as the authors of DIST have it


def ttm(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """Transformed teacher matching: KL(t_T || s), the student at T = 1 (arXiv 2402.11148).

    t_T is the teacher at temperature T, which is its distribution to the power of 1 / T,
    normalised. The source has no factor T^2, and published weights are large, such as 45 at T = 10.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, of the teacher alone.

    Returns:
      [...], in nats.

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    log_t = jax.nn.log_softmax(teacher_logits / temperature)
    return relative_entropy(log_t, jax.nn.log_softmax(student_logits))


def wttm(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """Weighted `ttm`: each example counts by how smooth its target is (arXiv 2402.11148).

    Its weight is the sum over the classes of t^(1 / T), t of the teacher at T = 1: from 1 where the
    teacher is certain to C^(1 - 1 / T) where it is uniform, for T above 1. No gradient passes.

    Args:
      student_logits, teacher_logits: [..., C].
      temperature: scalar T > 0, of the teacher alone.

    Returns:
      [...], in nats times the weight.

    Raises:
      InputError: the shapes differ.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    log_t = jax.nn.log_softmax(teacher_logits)
    weight = jnp.exp(jax.nn.logsumexp(log_t / temperature, axis=-1))
    return weight * ttm(student_logits, teacher_logits, temperature)


def dist(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: jax.Array | float,
    beta: jax.Array | float = 1.0,
    gamma: jax.Array | float = 1.0,
) -> jax.Array:
    """T^2 times 1 - Pearson's correlation of the rows and of the columns (DIST, arXiv 2205.10536).

    `beta (1 - mean of the rows' correlations) + gamma (1 - mean of the columns')` of the
    probabilities [B, C] of student and teacher at temperature T: a row is an example, a column is a
    class. The whole batch is needed: parts of it have other columns. A row or column that is
    constant has a correlation of 0.

    Args:
      student_logits, teacher_logits: [..., B, C].
      temperature: scalar T > 0, used for both.
      beta, gamma: scalars >= 0.

    Returns:
      [...], one for each batch.

    Raises:
      InputError: the shapes differ, or have fewer than two axes.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    if student_logits.ndim < 2:
        raise InputError(
            f"student_logits has shape {student_logits.shape}; it must have at least two axes, the "
            "last of a batch and of classes"
        )
    there = (student_logits != -jnp.inf) | (teacher_logits != -jnp.inf)
    s, t = (jax.nn.softmax(x / temperature) for x in (student_logits, teacher_logits))
    rows, columns = (_one_minus_correlation(s, t, there, axis) for axis in (-1, -2))
    return temperature**2 * (beta * rows + gamma * columns)


def _one_minus_correlation(x: jax.Array, y: jax.Array, there: jax.Array, axis: int) -> jax.Array:
    """1 - the mean of the correlations along `axis`, of all vectors that have an entry."""
    count = there.sum(axis=axis, keepdims=True)

    def centred(values: jax.Array) -> jax.Array:
        mean = values.sum(axis=axis, keepdims=True) / jnp.maximum(count, 1)  # 0 where not there
        return jnp.where(there, values - mean, 0.0)

    x, y = centred(x), centred(y)
    correlation = (x * y).sum(axis=axis) / (_norm(x, axis) * _norm(y, axis) + EPSILON)
    some = jnp.squeeze(count, axis) > 0
    return 1 - correlation.sum(axis=-1) / some.sum(axis=-1)


def _norm(x: jax.Array, axis: int) -> jax.Array:
    """The Euclidean norm, with a gradient of 0 at 0."""
    square = (x**2).sum(axis=axis)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
