"""Losses of logits beside the classic ones: values and gradients against float64 NumPy references
whose derivatives are differences."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_terms import CASES
from test_losses import (
    LABELS,
    B,
    C,
    any_logits,
    any_temperature,
    assert_close,
    explore,
    gradient_into_teacher,
    pair,
    value_and_gradient,
)

from kdjax import losses

TEMPERATURES = (0.5, 1.0, 4.0, 1000.0)
every_loss = pytest.mark.parametrize("name", CASES)
every_taught_loss = pytest.mark.parametrize("name", [n for n in CASES if n != "virtual_teacher"])


def differences(reference, z, v, y, t):
    """The gradient [B, C] of values [B], to the fourth order in the step."""
    relative = "standardized" in reference.__name__  # which knows no scale of the logits
    h, gradient = 1e-3 * min(t, 1.0) * (z.std() if relative else 1.0), np.empty((B, C))
    for c in range(C):
        step = h * np.eye(C)[c]
        e, f, g, i = (reference(z + n * step, v, y, t) for n in (-2, -1, 1, 2))
        gradient[:, c] = (e - 8 * f + 8 * g - i) / (12 * h)
    return gradient


@every_loss
@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_match_the_reference(name, t, dtype):
    loss, reference = CASES[name]
    z, v = pair()
    with jax.enable_x64(dtype == "float64"):
        value, gradient = value_and_gradient(loss, z, v, LABELS, t)
    chex.assert_shape([value, gradient], [(B,), (B, C)])
    chex.assert_type([value, gradient], np.dtype(dtype))
    wide, rtol = dtype == "float64", 3e-7 * max(t, 10)
    assert_close([value], [reference(z, v, LABELS, t)], 1e-9 if wide else rtol)
    assert_close([gradient], [differences(reference, z, v, LABELS, t)], 2e-6 if wide else rtol)


@every_loss
@pytest.mark.parametrize("t", [0.5, 4.0])
def test_any_axes_before_the_classes_stay_and_examples_do_not_mix(name, t):
    z, v = pair()
    loss = CASES[name][0]
    batch = value_and_gradient(loss, z, v, LABELS, t)
    alone = [value_and_gradient(loss, z[i], v[i], LABELS[i], t) for i in range(B)]
    chex.assert_shape(alone[0], [(), (C,)])
    assert_close(batch, [np.stack(x) for x in zip(*alone, strict=True)], rtol=2e-6)
    batches = [np.stack([x, x[::-1]])[:, None] for x in (z, v, LABELS)]  # [2, 1, B, ...]
    actual = value_and_gradient(loss, *batches, t)
    chex.assert_shape(actual, [(2, 1, B), (2, 1, B, C)])
    assert_close(actual, [np.stack([x, x[::-1]])[:, None] for x in batch], rtol=2e-6)


@every_loss
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_logits_of_ten_thousand_match_the_reference(name, t):
    loss, reference = CASES[name]
    z, v = 1e4 * np.sign(pair())
    z[:, 1], v[:, 2] = 0, 0
    value, gradient = value_and_gradient(loss, z, v, LABELS, t)
    chex.assert_tree_all_finite((value, gradient))
    small = "standardized" in name and t > 1  # logits about 1 divided by T: float32 loses digits
    assert_close([value], [reference(z, v, LABELS, t)], rtol=5e-3 if small else 5e-6)
    gradients = [gradient], [differences(reference, z, v, LABELS, t)]
    assert_close(*gradients, rtol=5e-3 if small else 2e-4)


@every_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_the_float32_loss_of_the_rounded_logits(name, dtype):
    z, v = pair()
    z[0, 0], v[0, 1] = 1e4, -1e4
    z, v = jnp.asarray(z, dtype), jnp.asarray(v, dtype)
    wide_z, wide_v = z.astype(jnp.float32), v.astype(jnp.float32)
    value, gradient = value_and_gradient(CASES[name][0], z, v, LABELS, 4.0)
    expected, wide_gradient = value_and_gradient(CASES[name][0], wide_z, wide_v, LABELS, 4.0)
    chex.assert_type([value, gradient], [jnp.float32, dtype])
    chex.assert_trees_all_close(value, expected, rtol=1e-6)
    eps = float(jnp.finfo(dtype).eps)
    assert_close([gradient.astype(jnp.float32)], [wide_gradient], rtol=eps)


@every_taught_loss
@pytest.mark.parametrize("t", [0.5, 4.0])
def test_no_gradient_reaches_the_teacher(name, t):
    z, v = (jnp.asarray(x) for x in pair())
    to_teacher = gradient_into_teacher(CASES[name][0])(v, z, jnp.asarray(LABELS), t)
    chex.assert_trees_all_equal(to_teacher, jnp.zeros((B, C)))


@every_loss
def test_members_have_temperatures_of_their_own(name):
    z, v = pair()
    several = np.array([0.5, 2.0, 8.0], np.float32)
    loss = CASES[name][0]
    each = jax.vmap(lambda t: value_and_gradient(loss, z, v, LABELS, t))(several)
    for place, t in enumerate(several):
        expected = value_and_gradient(loss, z, v, LABELS, t)
        assert_close([x[place] for x in each], expected, rtol=2e-6)


@explore
@hypothesis.given(any_logits(2, 8, C), any_temperature)
@pytest.mark.parametrize(
    "loss", [losses.reverse_kl, losses.jensen_shannon, losses.skew_kl, losses.ttm, losses.wttm]
)
def test_a_divergence_is_finite_and_never_negative(loss, logits, t):
    value, gradient = value_and_gradient(loss, *logits, t)
    chex.assert_tree_all_finite((value, gradient))
    assert (np.asarray(value) >= 0).all()


@pytest.mark.parametrize(
    "loss", [losses.reverse_kl, losses.jensen_shannon, losses.skew_kl, losses.kl_divergence]
)
def test_at_a_large_temperature_a_divergence_is_its_share_of_the_squared_difference(loss):
    """T^2 stands there once: the limit is neither 0 nor infinite."""
    z, v = pair()
    share = {losses.jensen_shannon: 0.25, losses.skew_kl: 0.81}.get(loss, 1.0)
    value, gradient = value_and_gradient(loss, z, v, 1e4)
    centred = (z - z.mean(axis=1, keepdims=True)) - (v - v.mean(axis=1, keepdims=True))
    limit = [(centred**2).sum(axis=1) / 2 / C, centred / C]
    assert_close([value, gradient], [share * x for x in limit], rtol=1e-2)
