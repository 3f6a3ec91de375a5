"""Losses of features, for each example: what a layer of the student puts out against a layer of a
teacher, and their terms.

Axes: B examples, H and W pixels, F and G features (of a map: channels) of the student's layer and
of the teacher's. Every loss is in at least float32, takes the mean over pixels and features unless
it says otherwise, and lets no gradient into the teacher. The larger of two maps is averaged to the
size of the smaller one. A term of several layers is the sum over them; of several teachers the
mean, weighted as the member mixes them. The published weights are those of the authors' or of
RepDistiller's code (arXiv 1910.10699) beside a cross-entropy of weight 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.losses.layers import (
    EXACT,
    Channels,
    Paths,
    both_layers,
    layer_term,
    pairs,
    pooled,
    unit,
)
from kdjax.losses.term import Term
from kdjax.rules import InputError

VARIANCE = 5.0  # of `vid` at the start


def fitnet(student: jax.Array, teacher: jax.Array, projection: jax.Array) -> jax.Array:
    """The mean squared difference of a projection of the student's layer from the teacher's
    (arXiv 1412.6550). Published weight 100, with a projection of 3 x 3 pixels, batch normalisation
    and ReLU; here it is linear, of one pixel.

    Args:
      student: [B, F] or [B, H, W, F].
      teacher: [B, G] or [B, I, J, G].
      projection: [F, G].

    Returns:
      [B].

    Raises:
      InputError: the shapes cannot be pooled to one.
    """
    f, g = pooled(*both_layers(student, teacher))
    difference = jnp.matmul(f, projection, precision=EXACT) - g
    return jnp.mean(difference**2, axis=range(1, g.ndim))


def attention_transfer(student: jax.Array, teacher: jax.Array, power: int = 2) -> jax.Array:
    """The mean squared difference of two attention maps: the mean over channels of
    `|feature|^power`, divided by its length over the pixels (arXiv 1612.03928). The published
    weight of 1000 is for this mean over pixels; the paper has the length of the difference, and not
    its mean square.

    Args:
      student: [B, H, W, F].
      teacher: [B, I, J, G].

    Returns:
      [B].

    Raises:
      InputError: they are no maps, or cannot be pooled to one size.
    """
    f, g = _maps(student, teacher, "attention")
    attention = lambda x: unit(jnp.mean(jnp.abs(x) ** power, axis=-1))
    return jnp.mean((attention(f) - attention(g)) ** 2, axis=-1)


def nst(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Neuron selectivity transfer (arXiv 1707.01219): the squared maximum mean discrepancy of the
    channels, each divided by its length over the pixels, by the kernel (x . y)^2. Published
    weight 50.

    For each example it needs as many numbers as there are pairs of pixels, or pairs of channels if
    those are fewer.

    Args:
      student: [B, H, W, F].
      teacher: [B, I, J, G].

    Returns:
      [B].

    Raises:
      InputError: they are no maps, or cannot be pooled to one size.
    """
    f, g = (unit(x, axis=1) for x in _maps(student, teacher, "neuron selectivity"))
    product = lambda form, x, y: jnp.einsum(form, x, y, precision=EXACT)
    if f.shape[1] <= max(f.shape[2], g.shape[2]):  # of the mean of x x', whose product is (x . y)^2
        mean = lambda x: product("bpc,bqc->bpq", x, x) / x.shape[2]
        return jnp.sum((mean(f) - mean(g)) ** 2, axis=(1, 2))
    kernel = lambda x, y: jnp.mean(product("bpc,bpd->bcd", x, y) ** 2, axis=(1, 2))
    return kernel(f, f) + kernel(g, g) - 2 * kernel(f, g)


def vid(
    student: jax.Array, teacher: jax.Array, parameters: dict[str, Any], epsilon: float = 1e-5
) -> jax.Array:
    """Variational information distillation (arXiv 1904.05835): the negative log-likelihood of the
    teacher's features under a normal distribution, its mean three layers of one pixel on those of
    the student, its variance softplus(scale) + epsilon one number for each channel; without the
    constant, so that it can be negative. Published weight 1.

    Args:
      student: [B, F] or [B, H, W, F].
      teacher: [B, G] or [B, I, J, G].
      parameters: {"first": [F, G], "second": [G, G], "third": [G, G], "scale": [G]}.

    Returns:
      [B].

    Raises:
      InputError: the shapes cannot be pooled to one.
    """
    f, g = pooled(*both_layers(student, teacher))
    product = lambda x, name: jnp.matmul(x, parameters[name], precision=EXACT)
    hidden = jax.nn.relu(product(jax.nn.relu(product(f, "first")), "second"))
    variance = jax.nn.softplus(parameters["scale"]) + epsilon
    variance = variance.reshape(*(1,) * (g.ndim - 1), -1)
    loss = 0.5 * ((product(hidden, "third") - g) ** 2 / variance + jnp.log(variance))
    return jnp.mean(loss, axis=range(1, g.ndim))


def ickd(student: jax.Array, teacher: jax.Array, projection: jax.Array) -> jax.Array:
    """Inter-channel correlation (arXiv 2202.03680): the squared difference of the products of all
    channels with each other, each row divided by its length, summed over the G^2 pairs, divided by
    G. Published weight 2.5, with batch normalisation after the projection, which is left out here.

    Args:
      student: [B, H, W, F].
      teacher: [B, I, J, G].
      projection: [F, G].

    Returns:
      [B].

    Raises:
      InputError: they are no maps, or cannot be pooled to one size.
    """
    f, g = _maps(student, teacher, "the correlation of channels")
    f = jnp.matmul(f, projection, precision=EXACT)
    correlation = lambda x: unit(jnp.einsum("bpc,bpd->bcd", x, x, precision=EXACT))
    return jnp.sum((correlation(f) - correlation(g)) ** 2, axis=(1, 2)) / g.shape[-1]


def _maps(student: jax.Array, teacher: jax.Array, what: str) -> tuple[jax.Array, jax.Array]:
    """Pooled maps [B, P, F] and [B, P, G], P pixels in a row."""
    f, g = both_layers(student, teacher)
    if min(f.ndim, g.ndim) < 3:
        raise InputError(
            f"the student's layer has shape {f.shape} and the teacher's {g.shape}; {what} needs "
            "maps of both, [examples, ..., channels]"
        )
    f, g = pooled(f, g)
    row = lambda x: x.reshape(len(x), -1, x.shape[-1])
    return row(f), row(g)


def projection(key: jax.Array, features: int, others: int) -> jax.Array:
    """[features, others], normal, so that it keeps the size of what it projects."""
    return features**-0.5 * jax.random.normal(key, (features, others))


def _regressor(key: jax.Array, features: int, others: int) -> dict[str, jax.Array]:
    first, second, third = jax.random.split(key, 3)
    scale = jnp.log(jnp.expm1(VARIANCE))  # whose softplus that is
    return {
        "first": projection(first, features, others),
        "second": projection(second, others, others),
        "third": projection(third, others, others),
        "scale": jnp.full(others, scale),
    }


def _row(loss: Callable[..., jax.Array], aux: Callable | None = None) -> Callable[..., Term]:
    """The row of a table for a loss of pairs of layers."""

    def row(student: Paths = "", teacher: Paths = "", channels: Channels = None) -> Term:
        return layer_term(loss.__name__, loss, pairs(student, teacher), channels, aux)

    row.__doc__ = f"""A term of `{loss.__name__}`.

    Args:
      student, teacher: the paths of layers, one each or as many of the teacher as of the student.
      channels: where a map has its channels, "last" or "first" (Equinox), or a pair, of student and
        teacher; None: last, and a map that looks otherwise is refused.
    """
    return row


FEATURES: dict[str, Callable[..., Term]] = {
    "fitnet": _row(fitnet, projection),
    "attention_transfer": _row(attention_transfer),
    "nst": _row(nst),
    "vid": _row(vid, _regressor),
    "ickd": _row(ickd, projection),
}
