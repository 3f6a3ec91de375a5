"""How a term reads layers of the student and of its teachers, whatever it makes of them.

Axes: K teachers, B examples of the batch or of this device's part of it, F and G features of a
layer of the student and of the teacher. A layer puts out [B, F], or maps [B, ..., F] with pixels,
one axis or more, in between.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kdjax.losses.term import Context, Term
from kdjax.rules import InputError, Rule, check, one_of

Paths = str | tuple[str, ...]
Channels = str | tuple[str, str] | None
Loss = Callable[..., jax.Array]
EXACT = jax.lax.Precision.HIGHEST  # of products; a GPU's own default has 10 bits

_is_path = lambda value: isinstance(value, str) and value != ""
_are_paths = lambda v: isinstance(v, tuple | list) and bool(v) and all(map(_is_path, v))
PATHS = Rule(
    "the path of a layer, or a tuple of paths", lambda value: _is_path(value) or _are_paths(value)
)
_is_form = one_of(("first", "last")).accepts
_are_forms = lambda v: isinstance(v, tuple | list) and len(v) == 2 and all(map(_is_form, v))
CHANNELS = Rule(
    "'first' or 'last', or a pair of them for student and teacher",
    lambda value: value is None or _is_form(value) or _are_forms(value),
)


def pairs(student: Any, teacher: Any) -> tuple[tuple[str, str], ...]:
    """The layers that belong together.

    Raises:
      InputError: they are no paths, or not as many of the student as of the teacher.
    """
    found = []
    for name, paths in (("student", student), ("teacher", teacher)):
        check(PATHS, name, paths)
        found.append((paths,) if isinstance(paths, str) else tuple(paths))
    if len(found[0]) != len(found[1]):
        raise InputError(
            f"student has {len(found[0])} layers and teacher {len(found[1])}; each layer of the "
            "student must have one of the teacher"
        )
    return tuple(zip(*found, strict=True))


def both_layers(student: ArrayLike, teacher: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as at least float32; the teacher under `stop_gradient`.

    Raises:
      InputError: they are not [B, ...] of the same examples.
    """
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    if min(student.ndim, teacher.ndim) < 2 or len(student) != len(teacher):
        raise InputError(
            f"the student's layer has shape {student.shape} and the teacher's {teacher.shape}; "
            "both must be [examples, ..., features] of the same examples"
        )
    wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return wide(student), jax.lax.stop_gradient(wide(teacher))


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """`x` divided by its length along an axis; 0, with a gradient of 0, where that is 0."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis, keepdims=True))
    nothing = largest == 0
    x = x / jnp.where(nothing, 1.0, largest)  # so that no square overflows or underflows
    square = jnp.sum(x**2, axis, keepdims=True)
    return jnp.where(nothing, 0.0, x / jnp.sqrt(jnp.where(nothing, 1.0, square)))


def averaged(x: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """Maps [B, ..., F] averaged to [B, *sizes, F]; the bins of each axis are those of PyTorch's
    `adaptive_avg_pool2d`, which overlap where the sizes do not divide."""
    for axis, size in enumerate(sizes, 1):
        whole = x.shape[axis]
        if whole != size:
            bins = np.zeros((size, whole))
            for row in range(size):
                first, after = row * whole // size, -(-(row + 1) * whole // size)
                bins[row, first:after] = 1 / (after - first)
            x = jnp.tensordot(jnp.asarray(bins, x.dtype), x, axes=(1, axis), precision=EXACT)
            x = jnp.moveaxis(x, 0, axis)
    return x


def pooled(student: jax.Array, teacher: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two maps, the larger one averaged to the size of the smaller.

    Args:
      student: [B, H, W, F], or with any number of axes of pixels.
      teacher: [B, I, J, G], with as many.

    Returns:
      [B, h, w, F] and [B, h, w, G].

    Raises:
      InputError: neither is the smaller one on every axis.
    """
    sizes, others = student.shape[1:-1], teacher.shape[1:-1]
    smaller = tuple(map(min, sizes, others))
    if len(sizes) != len(others) or smaller not in (sizes, others):
        raise InputError(
            f"the student's layer has {_sizes(sizes)} and the teacher's {_sizes(others)}, which "
            "cannot be pooled to one size; one of the two must be the smaller on every axis"
        )
    return averaged(student, smaller), averaged(teacher, smaller)


def _sizes(sizes: tuple[int, ...]) -> str:
    return f"maps of {' x '.join(map(str, sizes))}" if sizes else "no maps"


def over_teachers(context: Context, losses: jax.Array) -> jax.Array:
    """[K] or [K, B] of each teacher -> the mean over the teachers, weighted as the member
    mixes them: equal weights unless the stage's `mixing` or `ensemble_size` says otherwise."""
    mixing = np.full(len(losses), 1 / len(losses)) if context.mixing is None else context.mixing
    weights = jnp.asarray(mixing, losses.dtype).reshape(-1, *(1,) * (losses.ndim - 1))
    return jnp.sum(jnp.where(weights == 0, 0.0, weights * losses), axis=0)


def read(
    student: Mapping[str, jax.Array],
    teacher: Mapping[str, jax.Array],
    pair: tuple[str, str],
    channels: Channels = "last",
) -> tuple[jax.Array, jax.Array]:
    """The two layers of a pair by their paths, [B, ..., F] and [K, B, ..., G].

    Raises:
      InputError: `channels` is None, and those of a map may be its first axis.
    """
    forms = channels if isinstance(channels, tuple | list) else (channels, channels)
    found = []
    for who, features, path, form, axis in zip(
        ("student", "teacher"), (student, teacher), pair, forms, (1, 2), strict=True
    ):
        x = features[path]
        sizes = x.shape[axis:]
        if form is None and len(sizes) > 2 and len(set(sizes[1:])) == 1 and sizes[0] != sizes[1]:
            raise InputError(
                f"the layer {path!r} of the {who} puts out {list(sizes)} for an example, whose "
                "channels may stand first, as Equinox has them; channels must be 'first' or 'last'"
            )
        found.append(jnp.moveaxis(x, axis, -1) if form == "first" and len(sizes) > 1 else x)
    return found[0], found[1]


def layer_term(
    name: str,
    loss: Loss,
    layers: tuple[tuple[str, str], ...],
    channels: Channels = "last",
    aux: Callable[[jax.Array, int, int], Any] | None = None,
    hparams: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Term:
    """A term of pairs of layers: the sum over the pairs of the mean over the teachers of a loss.

    Args:
      loss: (student [B, ..., F], teacher [B, ..., G], [parameters,] **numbers) -> [B], or a scalar
        if it is of the whole batch.
      aux: (key, F, G) -> the parameters of the loss for one teacher.
      whole: whether the loss is of the whole batch.
    """
    check(CHANNELS, "channels", channels)
    numbers = hparams or {}

    def parameters(key: jax.Array, student: Any, teacher: Any) -> Any:
        assert aux is not None
        found = []
        for number, pair in enumerate(layers):
            f, g = read(student.features, teacher.features, pair, channels)
            keys = jax.random.split(jax.random.fold_in(key, number), len(g))
            sizes = f.shape[-1], g.shape[-1]
            found.append(jax.vmap(lambda key, sizes=sizes: aux(key, *sizes))(keys))
        return tuple(found)

    def function(context: Context) -> jax.Array:
        assert context.teacher is not None
        own = {number: context.hparams[number] for number in numbers}
        total: Any = 0.0
        for number, pair in enumerate(layers):
            f, g = read(context.student.features, context.teacher.features, pair, channels)
            if whole:
                f, g = context.gather(f), jnp.moveaxis(context.gather(jnp.moveaxis(g, 1, 0)), 1, 0)
            if aux is None:
                found = jax.vmap(lambda g, f=f: loss(f, g, **own))(g)
            else:
                found = jax.vmap(lambda g, a, f=f: loss(f, g, a, **own))(g, context.aux[number])
            total += over_teachers(context, found)
        return total

    return Term(
        function,
        needs=frozenset({"teacher"}),
        hparams=numbers,
        aux=None if aux is None else parameters,
        student=tuple(dict.fromkeys(s for s, _ in layers)),
        teacher=tuple(dict.fromkeys(t for _, t in layers)),
        name=name,
    )
