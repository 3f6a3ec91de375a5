"""Views of digits: what they are, and what they depend on."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdjax import views as augment
from kdjax.data import Preprocessing
from kdjax.rules import InputError
from kdjax.views import AugmentSpec, check_augment, preprocess

IMAGES = load_digits().images[..., None].astype(np.uint8)  # [1797, 8, 8, 1]
INDEX = np.arange(len(IMAGES), dtype=np.int32)
RAW = Preprocessing(mean=(0.0,), scale=(1.0,))
PER_CHANNEL = Preprocessing(mean=(1.0, 2.0, 3.0), scale=(0.5, 0.25, 0.125))
BOTH = AugmentSpec(shift=2, flip=True)
KEY = jax.random.key(5)
view = jax.jit(augment.view, static_argnums=(3, 4))


def moved(image, down, right, flip):
    """[H, W, C] -> [H, W, C] by padding and cutting."""
    image = image[:, ::-1] if flip else image
    (height, width, _), pad = image.shape, 3
    image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    return image[pad - down :, pad - right :][:height, :width]


def test_preprocessing_is_per_channel():
    inputs = np.stack([IMAGES[:4, ..., 0]] * 3, axis=-1)
    expected = (inputs.astype(np.float32) - [1, 2, 3]) * [0.5, 0.25, 0.125]
    result = preprocess(jnp.asarray(inputs), PER_CHANNEL)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    rows = preprocess(jnp.ones((2, 3)), PER_CHANNEL)
    np.testing.assert_allclose(rows, [[0, -0.25, -0.25]] * 2, rtol=1e-6)


def test_without_augmentation_a_view_is_the_example():
    unit = Preprocessing(mean=(0.0,), scale=(1 / 16,))
    jaxpr = jax.make_jaxpr(lambda x, i: view(x, i, KEY, AugmentSpec(), unit))(IMAGES, INDEX)
    assert "random" not in str(jaxpr) and "gather" not in str(jaxpr)
    result = view(jnp.asarray(IMAGES), INDEX, KEY, AugmentSpec(), unit)
    np.testing.assert_allclose(result, IMAGES / 16, rtol=1e-6)


@pytest.mark.parametrize(
    "spec", [AugmentSpec(shift=1), AugmentSpec(shift=3), AugmentSpec(flip=True), BOTH]
)
def test_a_view_is_a_shifted_and_perhaps_flipped_image(spec):
    """Every move is as frequent as it should be, within 5 standard deviations."""
    marked = np.arange(1, 65, dtype=np.uint8).reshape(8, 8, 1)  # so that no two moves look alike
    views = np.asarray(view(jnp.tile(marked, (1797, 1, 1, 1)), INDEX, KEY, spec, RAW))
    span = range(-spec.shift, spec.shift + 1)
    moves = [(d, r, f) for d in span for r in span for f in range(1 + spec.flip)]
    found = [np.sum(np.all(views == moved(marked, *move), axis=(1, 2, 3))) for move in moves]
    assert sum(found) == len(views)
    share = len(views) / len(moves)
    assert np.all(np.abs(np.array(found) - share) < 5 * np.sqrt(share))


def test_what_is_shifted_in_repeats_the_edge():
    images = jnp.asarray(np.arange(3 * 8 * 8, dtype=np.uint8).reshape(1, 8, 8, 3))
    views = view(jnp.tile(images, (200, 1, 1, 1)), INDEX[:200], KEY, AugmentSpec(shift=1), RAW)
    allowed = {moved(images[0], d, r, False).tobytes() for d in (-1, 0, 1) for r in (-1, 0, 1)}
    assert {np.asarray(v, np.uint8).tobytes() for v in views} == allowed


def test_a_view_depends_on_key_and_index_alone():
    whole = view(jnp.asarray(IMAGES), INDEX, KEY, BOTH, RAW)
    some = np.random.default_rng(0).permutation(1797)[:50].astype(np.int32)
    part = view(jnp.asarray(IMAGES[some]), some, KEY, BOTH, RAW)
    np.testing.assert_array_equal(part, whole[some])
    other = view(jnp.asarray(IMAGES), INDEX, jax.random.key(6), BOTH, RAW)
    assert np.mean(np.all(np.asarray(other == whole), axis=(1, 2, 3))) < 0.1


def test_members_views_and_steps_views_are_those_of_their_keys():
    keys = jax.random.split(KEY, 3)
    images, index = jnp.asarray(IMAGES[:20]), jnp.asarray(INDEX[:20])
    one = lambda key: view(images, index, key, BOTH, RAW)
    expected = jnp.stack([one(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(keys), expected)
    steps = jax.lax.scan(lambda carry, key: (carry, one(key)), 0, keys)[1]
    np.testing.assert_array_equal(steps, expected)
    chex.assert_shape(expected, (3, 20, 8, 8, 1))


def test_an_impossible_augmentation_is_an_error():
    check_augment(AugmentSpec(), (64,), "a")
    check_augment(AugmentSpec(shift=7, flip=True), (8, 8, 1), "a")
    with pytest.raises(InputError, match=r"^a is shift 1; .* the shape \(64,\)$"):
        check_augment(AugmentSpec(shift=1), (64,), "a")
    with pytest.raises(InputError, match=r"^a is flip True; .* the shape \(8, 8\)$"):
        check_augment(AugmentSpec(flip=True), (8, 8), "a")
    with pytest.raises(InputError, match=r"^a\.shift is 8; .* less than the sides .* 8 and 9$"):
        check_augment(AugmentSpec(shift=8), (8, 9, 1), "a")
