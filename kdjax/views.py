"""What a net sees of raw inputs: preprocessed, and in training a new view at every step.

Teachers that run on every batch see the same view (function matching, arXiv 2106.05237). Axes: B
examples, H, W, C of an image.
"""

import dataclasses
import math
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp

from kdjax import rules
from kdjax.data.dataset import Preprocessing
from kdjax.rules import InputError

CROP = 1  # tells the key of a crop from that of a move
LONGEST = math.log(4 / 3)  # the logarithm of the sides' ratio in a crop


@dataclass(frozen=True)
class AugmentSpec:
    """A keyed random view of every training example, new at every step."""

    #: By up to how many pixels an image is moved, along each axis.
    shift: int = rules.field(0, rules.whole(0))
    #: Whether one image in two is flipped, left to right.
    flip: bool = rules.field(False, rules.truth())
    #: The least share of an image's area that a random crop keeps, scaled to the image's size.
    crop: float = rules.field(1.0, rules.number(0, 1, above=True))
    #: alpha of mixup (arXiv 1710.09412), the mean of two examples of a batch; 0 is none.
    mixup: float = rules.field(0.0, rules.number(0, 1e3))
    #: alpha of cutmix (arXiv 1905.04899), a rectangle of another image of the batch; 0 is none.
    cutmix: float = rules.field(0.0, rules.number(0, 1e3))

    @property
    def mixes(self) -> bool:
        """Whether a view is of two examples."""
        return self.mixup > 0 or self.cutmix > 0

    def __str__(self) -> str:
        changed = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return ", ".join(f"{f.name} {getattr(self, f.name)}" for f in changed) or "none"


def preprocess(inputs: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """[B, ...] raw -> [B, ...] float32."""
    shape = (1,) * (inputs.ndim - 1) + (-1,)
    mean = jnp.asarray(preprocessing.mean, jnp.float32).reshape(shape)
    scale = jnp.asarray(preprocessing.scale, jnp.float32).reshape(shape)
    return (inputs.astype(jnp.float32) - mean) * scale


def view(
    inputs: jax.Array,
    index: jax.Array,
    key: jax.Array,
    augment: AugmentSpec,
    preprocessing: Preprocessing,
) -> jax.Array:
    """A random view of each example, which depends on nothing but the key and its index.

    Args:
      inputs: [B, ...] raw; [B, H, W, C] to be augmented.
      index: [B] integers that tell the examples apart.
      key: of this step.

    Returns:
      [B, ...] float32, preprocessed. What is shifted in from outside repeats the image's edge.
    """
    chex.assert_equal_shape_prefix([inputs, index], 1)
    own = jax.vmap(lambda i: jax.random.fold_in(key, i))
    if augment.shift or augment.flip:
        inputs = jax.vmap(lambda image, key: _moved(image, key, augment))(inputs, own(index))
    inputs = preprocess(inputs, preprocessing)
    if augment.crop < 1:
        keys = jax.vmap(jax.random.fold_in, (0, None))(own(index), CROP)
        inputs = jax.vmap(lambda image, key: _cropped(image, key, augment.crop))(inputs, keys)
    return inputs


def mixed(
    inputs: jax.Array, others: jax.Array, index: jax.Array, key: jax.Array, augment: AugmentSpec
) -> tuple[jax.Array, jax.Array]:
    """Each example mixed with another, by mixup or by cutmix, whichever the spec has; where it has
    both, one example in two by each.

    Args:
      inputs, others: [B, ...] preprocessed views of two examples; images for cutmix.
      index: [B] integers that tell the examples apart.
      key: of this step.

    Returns:
      [B, ...], and [B] the share of the first, from 0 to 1, of which the label has as much.
    """

    def one(image: jax.Array, other: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        which, *keys = jax.random.split(key, 3)
        if augment.cutmix == 0:
            return _blended(image, other, keys[0], augment.mixup)
        if augment.mixup == 0:
            return _pasted(image, other, keys[1], augment.cutmix)
        blended = _blended(image, other, keys[0], augment.mixup)
        pasted = _pasted(image, other, keys[1], augment.cutmix)
        first = jax.random.bernoulli(which)
        return jax.tree.map(lambda a, b: jnp.where(first, a, b), blended, pasted)

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return jax.vmap(one)(inputs, others, keys)


def check_augment(augment: AugmentSpec, input_shape: tuple[int, ...], path: str) -> None:
    """Raises InputError if examples of this shape cannot be augmented so."""
    if augment in (AugmentSpec(), AugmentSpec(mixup=augment.mixup)):
        return
    if len(input_shape) != 3:
        raise InputError(
            f"{path} is {augment}; examples must then be images, [height, width, channels], but "
            f"theirs is the shape {input_shape}"
        )
    if augment.shift >= min(input_shape[:2]):
        raise InputError(
            f"{path}.shift is {augment.shift}; it must be less than the sides of an image, "
            f"{input_shape[0]} and {input_shape[1]}"
        )


def _moved(image: jax.Array, key: jax.Array, augment: AugmentSpec) -> jax.Array:
    """[H, W, C] -> [H, W, C], flipped or not, then moved down and right by whole pixels.

    Two takes, of rows and of columns, are on a CPU two to four times as fast as a slice of the
    padded image, a gather of pixels or products with one-hot matrices.
    """
    height, width, _ = image.shape
    down, right, flip = jax.random.bits(key, (3,))
    rows = jnp.arange(height) - _offset(down, augment.shift)
    columns = jnp.arange(width) - _offset(right, augment.shift)
    if augment.flip:
        columns = jnp.where(flip % 2 == 1, width - 1 - columns, columns)
    if augment.shift:
        image = _take(image, rows, axis=0)
    return _take(image, columns, axis=1)


def _cropped(image: jax.Array, key: jax.Array, least: float) -> jax.Array:
    """A random part of an image, of `least` to all of its area and of sides that are to each other
    as 3 to 4 at most, scaled to the image's size (arXiv 1409.4842, section 6)."""
    area_key, ratio_key, *place_keys = jax.random.split(key, 4)
    area = jax.random.uniform(area_key, minval=least)
    ratio = jnp.exp(jax.random.uniform(ratio_key, minval=-LONGEST, maxval=LONGEST))
    sides = jnp.minimum(jnp.sqrt(area * jnp.stack([ratio, 1 / ratio])), 1.0)
    size = jnp.array(image.shape[:2], jnp.float32)
    places = jnp.stack([jax.random.uniform(key) for key in place_keys]) * (1 - sides) * size
    scale = 1 / sides
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, -places * scale, "linear", antialias=False
    )


def _blended(
    image: jax.Array, other: jax.Array, key: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    share = _share(key, alpha)
    return share * image + (1 - share) * other, share


def _pasted(
    image: jax.Array, other: jax.Array, key: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """A rectangle of the other image, of the image's proportions, its centre anywhere in it."""
    share_key, place_key = jax.random.split(key)
    side = jnp.sqrt(1 - _share(share_key, alpha))
    inside = []
    for pixels, centre in zip(image.shape[:2], jax.random.uniform(place_key, (2,)), strict=True):
        half, middle = side * pixels / 2, centre * pixels
        low, high = jnp.round(middle - half), jnp.round(middle + half)
        places = jnp.arange(pixels)
        inside.append((places >= low) & (places < high))
    mask = inside[0][:, None] & inside[1][None, :]
    return jnp.where(mask[:, :, None], other, image), 1 - mask.mean()


def _share(key: jax.Array, alpha: float) -> jax.Array:
    """Of Beta(alpha, alpha), which for 1 is uniform, and then takes far less time."""
    return jax.random.uniform(key) if alpha == 1 else jax.random.beta(key, alpha, alpha)


def _offset(bits: jax.Array, shift: int) -> jax.Array:
    """32 random bits -> an integer from -shift to shift, all equally likely."""
    return (bits % (2 * shift + 1)).astype(jnp.int32) - shift


def _take(image: jax.Array, places: jax.Array, axis: int) -> jax.Array:
    """Rows or columns of an image; the nearest for places outside it."""
    return jnp.take(image, places, axis=axis, mode="clip")
