"""Knowledge review (arXiv 2104.09044): maps of the student, from the deepest to the shallowest,
each fused with those below it, against the maps of a teacher; and its term.

Axes: K teachers, B examples, L levels from shallow to deep, H and W pixels, F and G channels of the
student's map and of the teacher's, C channels within the fusion.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from kdjax.losses.layers import (
    EXACT,
    Channels,
    Paths,
    averaged,
    both_layers,
    layer_term,
    over_teachers,
    pairs,
    read,
)
from kdjax.losses.term import Context, Term
from kdjax.nets.net import Outputs, PyTree
from kdjax.rules import InputError

MOST_CHANNELS = 512  # within the fusion
LEVELS = (4, 2, 1)  # pixels of a side
Mean = Callable[[jax.Array], jax.Array]

_uniform = jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


def hierarchical_context(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """The mean squared difference of two maps, and of both averaged to 4 x 4, 2 x 2 and 1 x 1
    pixels where that is smaller, with weights 1, 1/2, 1/4 and 1/8 that are divided by their sum.

    Args:
      student, teacher: [B, H, W, G].

    Returns:
      [B].

    Raises:
      InputError: the shapes differ.
    """
    f, g = both_layers(student, teacher)
    if f.shape != g.shape or f.ndim != 4:
        raise InputError(
            f"the student's maps have shape {f.shape} and the teacher's {g.shape}; they must have "
            "one shape, [examples, height, width, channels]"
        )
    square = lambda f, g: jnp.mean((f - g) ** 2, axis=(1, 2, 3))
    total, weight, weights = square(f, g), 1.0, 1.0
    for level in LEVELS:
        if level < min(f.shape[1:3]):
            weight /= 2
            total += weight * square(averaged(f, (level, level)), averaged(g, (level, level)))
            weights += weight
    return total / weights


def review_maps(
    maps: Sequence[jax.Array],
    sizes: Sequence[tuple[int, int]],
    parameters: Sequence[PyTree],
    mean: Mean = lambda x: x,
) -> list[jax.Array]:
    """The student's maps in the form of the teacher's: each goes through a layer of one pixel, is
    added to what the deeper ones have made, by gates for each pixel, and goes through one of 3 x 3
    pixels; each layer is normalised by the statistics of the batch (arXiv 2104.09044, figure 3).

    Args:
      maps: L of [B, H, W, F].
      sizes: L, the pixels of the teacher's maps.
      parameters: L, as `review_parameters` makes them.
      mean: averages over the parts of a batch, where this is one of them.

    Returns:
      L of [B, I, J, G].
    """
    found: list[jax.Array] = []
    deeper: jax.Array | None = None
    for x, size, own in reversed(list(zip(maps, sizes, parameters, strict=True))):
        within = own["within"]
        x = _normalised(jnp.matmul(x, within["kernel"], precision=EXACT), within, mean)
        if deeper is not None:
            y = _nearest(deeper, x.shape[1:3])
            both = jnp.concatenate([x, y], axis=-1)
            gates = jnp.matmul(both, own["gates"]["kernel"], precision=EXACT)
            gates = jax.nn.sigmoid(gates + own["gates"]["bias"].reshape(1, 1, 1, 2))
            x = x * gates[..., :1] + y * gates[..., 1:]
        deeper = _nearest(x, size)
        out = jax.lax.conv_general_dilated(
            deeper,
            own["out"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=EXACT,
        )
        found.insert(0, _normalised(out, own["out"], mean))
    return found


def review_parameters(key: jax.Array, channels: Sequence[tuple[int, int]]) -> tuple[PyTree, ...]:
    """Parameters of `review_maps`.

    Args:
      channels: L, (F, G) of each level.
    """
    inner, found = min(MOST_CHANNELS, channels[-1][0]), []
    for number, (features, others) in enumerate(channels):
        within, gates, out = jax.random.split(jax.random.fold_in(key, number), 3)
        norm = lambda size: {"scale": jnp.ones(size), "bias": jnp.zeros(size)}
        own = {
            "within": {"kernel": _uniform(within, (features, inner))} | norm(inner),
            "out": {"kernel": _uniform(out, (3, 3, inner, others))} | norm(others),
        }
        if number < len(channels) - 1:
            own["gates"] = {"kernel": _uniform(gates, (2 * inner, 2)), "bias": jnp.zeros(2)}
        found.append(own)
    return tuple(found)


def _normalised(x: jax.Array, own: PyTree, mean: Mean, epsilon: float = 1e-5) -> jax.Array:
    """Over the whole batch and all pixels."""
    wide = lambda v: v.reshape(1, 1, 1, -1)
    centre = mean(x.mean(axis=(0, 1, 2)))
    variance = mean(((x - wide(centre)) ** 2).mean(axis=(0, 1, 2)))
    factor = own["scale"] * jax.lax.rsqrt(variance + epsilon)
    return (x - wide(centre)) * wide(factor) + wide(own["bias"])


def _nearest(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C], each pixel that of its place rounded down, as in PyTorch."""
    for axis, new in enumerate(size, 1):
        old = x.shape[axis]
        if old != new:
            x = jnp.take(x, jnp.arange(new) * old // new, axis=axis)
    return x


def review_kd(student: Paths = "", teacher: Paths = "", channels: Channels = None) -> Term:
    """A term of `review_maps` and `hierarchical_context`, the sum over the levels; of several
    teachers, each with parameters of its own, the mean, weighted as the member mixes them.
    Published weight 0.6 to 8 by the pair of nets (5 for resnet32x4 and resnet8x4), which the
    authors raise from 0 over the first 20 epochs (`weight` 0 and a `weight_end` raise it over all
    steps).

    Args:
      student, teacher: the paths of layers from shallow to deep, as many of the teacher as of the
        student; a layer without pixels, such as the features before the logits, is one pixel.
      channels: where a map has its channels, "last" or "first" (Equinox), or a pair, of student and
        teacher; None: last, and a map that looks otherwise is refused.
    """
    layers = pairs(student, teacher)

    def maps(student: Outputs, teacher: Outputs) -> tuple[list[jax.Array], list[jax.Array]]:
        """L of [B, H, W, F], and of [K, B, I, J, G]."""
        found: tuple[list[jax.Array], list[jax.Array]] = [], []
        for pair in layers:
            f, g = read(student.features, teacher.features, pair, channels)
            f, g = (_as_map(x, axes) for x, axes in ((f, 1), (g, 2)))
            f, g = both_layers(f, jnp.moveaxis(g, 1, 0))
            found[0].append(f)
            found[1].append(jnp.moveaxis(g, 0, 1))
        return found

    def parameters(key: jax.Array, student: Outputs, teacher: Outputs | None) -> PyTree:
        assert teacher is not None
        ours, theirs = maps(student, teacher)
        levels = [(f.shape[-1], g.shape[-1]) for f, g in zip(ours, theirs, strict=True)]
        keys = jax.random.split(key, len(theirs[0]))
        return jax.vmap(functools.partial(review_parameters, channels=levels))(keys)

    def function(context: Context) -> jax.Array:
        assert context.teacher is not None
        ours, theirs = maps(context.student, context.teacher)
        mean = lambda x: context.gather(x[None]).mean(axis=0)

        def of_teacher(theirs: list[jax.Array], own: PyTree) -> jax.Array:
            sizes = [(g.shape[1], g.shape[2]) for g in theirs]
            each = zip(review_maps(ours, sizes, own, mean), theirs, strict=True)
            return jnp.sum(jnp.stack([hierarchical_context(f, g) for f, g in each]), axis=0)

        return over_teachers(context, jax.vmap(of_teacher)(theirs, context.aux))

    term = layer_term("review_kd", hierarchical_context, layers, channels)  # for what it declares
    return dataclasses.replace(term, function=function, aux=parameters)


def _as_map(x: jax.Array, axes: int) -> jax.Array:
    """With the pixels of an image, after the `axes` of teachers and examples."""
    pixels = x.ndim - axes - 1
    if pixels not in (0, 2):
        raise InputError(
            f"a layer puts out {list(x.shape[axes:])} for an example; knowledge review takes maps, "
            "[height, width, channels], and features without pixels"
        )
    return x if pixels else x.reshape(*x.shape[:axes], 1, 1, x.shape[-1])
