"""Losses of relations: how the examples of a batch lie to each other in a layer of the student and
in one of a teacher, and their terms.

Axes: B examples, F and G features, which need not be alike; further axes, such as pixels, are
features too. Every loss is one number of the whole batch, in at least float32, and lets no gradient
into the teacher. The terms gather the batch, so that no layout of devices changes them. A term of
several layers is the sum over them; of several teachers the mean, weighted as the member mixes
them. The published weights are those of the authors' or RepDistiller's code (arXiv
1910.10699) beside a cross-entropy of weight 1.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kdjax.losses.layers import EXACT, Paths, both_layers, layer_term, pairs, unit
from kdjax.losses.term import Term
from kdjax.rules import number

EPSILON = 1e-7  # of `pkt`, as its authors have it
ANCHORS = 8  # whose distances or angles to all others are worked out at a time


def similarity_preserving(student: ArrayLike, teacher: ArrayLike) -> jax.Array:
    """The mean squared difference of the products of all examples with each other, each row divided
    by its length (arXiv 1907.09682). Published weight 3000.

    Args:
      student: [B, F].
      teacher: [B, G].

    Returns:
      A scalar.

    Raises:
      InputError: they are not of the same examples.
    """
    return _mean_square(lambda x: unit(_products(x)), student, teacher)


def correlation_congruence(
    student: ArrayLike, teacher: ArrayLike, gamma: jax.Array | float = 0.4, order: int = 2
) -> jax.Array:
    """The mean squared difference of the kernels `exp(-gamma |x - y|^2)` of all pairs of
    examples, each divided by its length, by the Taylor series of exp(2 gamma x . y) up to `order`
    (arXiv 1904.01802). RepDistiller's loss of this name is another one, a product of neighbours in
    the batch, and so is its weight of 0.02.

    Args:
      student: [B, F].
      teacher: [B, G].
      gamma: scalar > 0.

    Returns:
      A scalar.

    Raises:
      InputError: they are not of the same examples.
    """

    def kernel(x: jax.Array) -> jax.Array:
        cosines = _products(unit(x))
        terms = ((2 * gamma * cosines) ** p / math.factorial(p) for p in range(order + 1))
        return jnp.exp(-2 * gamma) * sum(terms)

    return _mean_square(kernel, student, teacher)


def rkd_distance(student: ArrayLike, teacher: ArrayLike) -> jax.Array:
    """The mean Huber loss of the distances of all pairs of examples, each divided by the mean of
    those above 0 (arXiv 1904.05068). Published weight 25. Examples that lie together have a
    gradient of 0.

    Args:
      student: [B, F].
      teacher: [B, G].

    Returns:
      A scalar.

    Raises:
      InputError: they are not of the same examples.
    """

    def distances(x: jax.Array) -> jax.Array:
        found = _from_every_anchor(_lengths, x)
        apart = found > 0
        mean = jnp.sum(found) / jnp.maximum(jnp.sum(apart), 1)
        return found / jnp.where(mean > 0, mean, 1.0)

    f, g = map(distances, _rows(student, teacher))
    return jnp.mean(_huber(f - g))


def rkd_angle(student: ArrayLike, teacher: ArrayLike) -> jax.Array:
    """The mean Huber loss of the cosines of the angles of all triplets of examples (arXiv
    1904.05068). Published weight 50. An angle with a side of length 0 has the cosine 0.

    It takes B^3 steps, and 8 B^2 numbers at a time: some anchors after the others, worked out again
    for the gradient.

    Args:
      student: [B, F].
      teacher: [B, G].

    Returns:
      A scalar.

    Raises:
      InputError: they are not of the same examples.
    """
    f, g = _rows(student, teacher)

    def of_anchor(f: jax.Array, g: jax.Array) -> jax.Array:
        cosines = lambda x: _products(unit(x))
        return jnp.mean(_huber(cosines(f) - cosines(g)))

    return jnp.mean(_from_every_anchor(of_anchor, f, g))


def pkt(student: ArrayLike, teacher: ArrayLike) -> jax.Array:
    """Probabilistic knowledge transfer (arXiv 1803.10837): the mean over all pairs of examples of
    p log(p / q), where p of the teacher and q of the student are (1 + cosine) / 2, each row divided
    by its sum, the example itself included. Published weight 30000, which is for this mean: the
    divergence of a row is B times larger.

    Args:
      student: [B, F].
      teacher: [B, G].

    Returns:
      A scalar.

    Raises:
      InputError: they are not of the same examples.
    """

    def chances(x: jax.Array) -> jax.Array:
        similarity = (1 + _products(unit(x))) / 2
        return similarity / jnp.sum(similarity, axis=1, keepdims=True)

    q, p = map(chances, _rows(student, teacher))
    return jnp.mean(p * (jnp.log(p + EPSILON) - jnp.log(q + EPSILON)))


def _rows(student: ArrayLike, teacher: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """[B, ...] as [B, F]."""
    f, g = both_layers(student, teacher)
    return f.reshape(len(f), -1), g.reshape(len(g), -1)


def _products(x: jax.Array) -> jax.Array:
    """[B, F] -> [B, B]."""
    return jnp.matmul(x, x.T, precision=EXACT)


def _mean_square(
    relation: Callable[[jax.Array], jax.Array], student: ArrayLike, teacher: ArrayLike
) -> jax.Array:
    f, g = map(relation, _rows(student, teacher))
    return jnp.mean((f - g) ** 2)


def _huber(x: jax.Array) -> jax.Array:
    """x^2 / 2 up to 1, then |x| - 1/2."""
    size = jnp.abs(x)
    near = jnp.minimum(size, 1.0)
    return near * (size - 0.5 * near)


def _lengths(x: jax.Array) -> jax.Array:
    """[B, F] -> [B], with a gradient of 0 where it is 0."""
    square = jnp.sum(x**2, axis=1)
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def _from_every_anchor(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """`function` of the differences [B, F] of all examples from one, for each of them."""

    count = len(arrays[0])
    chunks = -(-count // ANCHORS)
    places = jnp.minimum(jnp.arange(chunks * ANCHORS), count - 1).reshape(chunks, ANCHORS)

    @jax.checkpoint
    @jax.vmap
    def of_anchor(anchors: tuple[jax.Array, ...]) -> jax.Array:
        return function(*(x - a[None] for x, a in zip(arrays, anchors, strict=True)))

    found = jax.lax.map(of_anchor, tuple(x[places] for x in arrays))
    return found.reshape(chunks * ANCHORS, *found.shape[2:])[:count]


def _row(loss: Callable[..., jax.Array], **hparams: Any) -> Callable[..., Term]:
    """The row of a table for a loss of the whole batch."""

    def row(student: Paths = "", teacher: Paths = "") -> Term:
        return layer_term(loss.__name__, loss, pairs(student, teacher), hparams=hparams, whole=True)

    row.__doc__ = f"""A term of `{loss.__name__}`.

    Args:
      student, teacher: the paths of layers, one each or as many of the teacher as of the student.
    """
    return row


RELATIONS: dict[str, Callable[..., Term]] = {
    "similarity_preserving": _row(similarity_preserving),
    "correlation_congruence": _row(correlation_congruence, gamma=(0.4, number(0, 1e3, above=True))),
    "rkd_distance": _row(rkd_distance),
    "rkd_angle": _row(rkd_angle),
    "pkt": _row(pkt),
}
