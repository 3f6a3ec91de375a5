"""Derivatives along directions: losses and their gradients against float64, and nets against finite
differences."""

import chex
import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays
from sklearn.datasets import load_digits
from stages import refuses
from test_ensemble_logits import log_softmax, reference

from kdjax import losses
from kdjax.keys import stream
from kdjax.losses import (
    MEANS,
    derivative_matching,
    ensemble_derivatives,
    log_softmax_derivatives,
    logit_matching,
    tangent_penalty,
    translations,
)
from kdjax.nets.derivatives import along
from kdjax.nets.from_linen import linen
from kdjax.nets.layers import BatchNorm, Dropout
from kdjax.nets.net import Training

K, B, R, C = 3, 5, 4, 7
EPS = 1e-6
TEMPERATURES = (0.5, 1.0, 4.0, 1000.0)
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)


def draw(*shape, seed=0, scale=3.0):
    """float64, but exact in float32."""
    found = scale * np.random.default_rng(seed).normal(size=shape)
    return found.astype(np.float32).astype(np.float64)


Z, V = draw(2, B, C)
DZ, DV = draw(2, B, R, C, seed=1)


def moved(function, z, dz):
    """The derivatives [B, R, C] of a NumPy function of logits [B, C], by central differences."""
    at = lambda e: np.stack([function(z + e * dz[:, r]) for r in range(R)], axis=1)
    return (at(EPS) - at(-EPS)) / (2 * EPS)


def plain(z, dz, v, dv, t):
    """The loss [B], in float64."""
    scaled = lambda x, dx: t * moved(lambda x: log_softmax(x / t), x, dx)
    return (0.5 * (scaled(z, dz) - scaled(v, dv)) ** 2).sum(axis=2).mean(axis=1)


@every_temperature
def test_the_derivatives_of_log_probabilities_are_those_by_finite_differences(t):
    expected = moved(lambda z: log_softmax(z / t), Z, DZ)
    found = log_softmax_derivatives(jnp.asarray(Z, jnp.float32), jnp.asarray(DZ, jnp.float32), t)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@every_temperature
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_and_its_gradient_are_those_by_finite_differences(t, dtype):
    tight = dict(rtol=1e-6) if dtype == "float64" else dict(rtol=2e-5, atol=1e-4)
    with jax.enable_x64(dtype == "float64"):
        given = [jnp.asarray(x, dtype) for x in (Z, DZ, V, DV)]
        found = derivative_matching(*given, t)
        assert found.shape == (B,) and found.dtype == dtype
        np.testing.assert_allclose(found, plain(Z, DZ, V, DV, t), **tight)
        total = lambda z, dz: derivative_matching(z, dz, *given[2:], t).sum()
        gradient = [np.asarray(g, np.float64) for g in jax.grad(total, (0, 1))(*given[:2])]
    with jax.enable_x64(True):
        exact = lambda z, dz: derivative_matching(z, dz, V, DV, t).sum()
        for number, (x, g) in enumerate(zip((Z, DZ), gradient, strict=True)):
            step = draw(*x.shape, seed=2)
            given = [Z, DZ]
            ends = []
            for e in (EPS, -EPS):
                given[number] = x + e * step
                ends.append(float(exact(*given)))
            slope = (ends[0] - ends[1]) / (2 * EPS)
            np.testing.assert_allclose((g * step).sum(), slope, rtol=1e-4, atol=1e-3)


def test_no_gradient_goes_into_the_teacher():
    loss = lambda v, dv: derivative_matching(Z, DZ, v, dv, 2.0).sum()
    for gradient in jax.grad(loss, (0, 1))(jnp.asarray(V), jnp.asarray(DV)):
        assert (gradient == 0).all()


def test_the_loss_tends_to_that_of_the_centred_logits_as_the_temperature_grows():
    """Whose loss is `logit_matching` of the derivatives, which ignores a shift of the logits."""
    given = [jnp.asarray(x, jnp.float32) for x in (Z, DZ, V, DV)]
    flat = derivative_matching(*given, None)
    np.testing.assert_allclose(derivative_matching(*given, 1e4), flat, rtol=2e-3)
    np.testing.assert_allclose(flat, logit_matching(given[1], given[3]).mean(axis=1), rtol=1e-5)
    shifted = [given[0], given[1] + 100.0, *given[2:]]
    np.testing.assert_allclose(derivative_matching(*shifted, 2.0), plain(Z, DZ, V, DV, 2.0), 1e-3)


def test_the_penalty_is_the_loss_of_a_teacher_that_does_not_change():
    for t in (None, 0.5, 20.0):
        expected = derivative_matching(Z, DZ, Z, 0 * DZ, t)
        np.testing.assert_allclose(tangent_penalty(Z, DZ, t), expected, rtol=1e-6)


@pytest.mark.parametrize("t", [None, 1.0, 1e-2])
def test_extreme_logits_have_finite_losses_and_gradients(t):
    z, v = jnp.asarray(Z, jnp.float32) * 1e4, jnp.asarray(V, jnp.float32) * 1e4
    loss = lambda z, dz: derivative_matching(z, dz, v, DV, t).sum()
    for found in jax.value_and_grad(loss, (0, 1))(z, jnp.asarray(DZ, jnp.float32))[1]:
        assert jnp.isfinite(found).all()


def test_masked_classes_cost_nothing_and_one_that_one_net_lacks_costs_infinity():
    masked = lambda x: jnp.asarray(np.where(np.arange(C) == 2, -np.inf, x), jnp.float32)
    keep = np.arange(C) != 2
    nan = np.where(keep, DZ, np.nan)
    for t in (None, 2.0):
        both = lambda z, dz, t=t: derivative_matching(z, dz, masked(V), DV, t)
        left = [jnp.asarray(x[..., keep], jnp.float32) for x in (Z, DZ, V, DV)]
        np.testing.assert_allclose(both(masked(Z), nan), derivative_matching(*left, t), rtol=1e-5)
        gradient = jax.grad(lambda dz, both=both: both(masked(Z), dz).sum())(jnp.asarray(DZ))
        assert jnp.isfinite(gradient).all() and (gradient[..., 2] == 0).all()
        assert (both(jnp.asarray(Z), DZ) == jnp.inf).all()


def test_bfloat16_is_computed_in_float32():
    low = [jnp.asarray(x, jnp.bfloat16) for x in (Z, DZ, V, DV)]
    found = derivative_matching(*low, 2.0)
    assert found.dtype == jnp.float32
    wide = [x.astype(jnp.float32) for x in low]
    np.testing.assert_array_equal(found, derivative_matching(*wide, 2.0))


def test_derivatives_of_another_shape_are_refused():
    with refuses("derivatives has shape (5, 7, 4)", "the logits (5, 7) with an axis of directions"):
        log_softmax_derivatives(Z, np.swapaxes(DZ, 1, 2), 1.0)
    with refuses("teacher_logits has shape (5, 3, 7)"):
        derivative_matching(Z, DZ, V, DV[:, :3], 1.0)
    with refuses("derivatives has shape (5, 4, 7)", "the logits (3, 5, 7)"):
        ensemble_derivatives(draw(K, B, C), DZ, 1.0)


@every_temperature
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("weights", [None, (0.5, 0.0, 0.5)])
def test_the_derivatives_of_an_ensemble_are_those_of_its_mixture(mean, weights, t):
    """Those of its log-probabilities, for logits may be shifted; a teacher of weight 0 is out."""
    v, dv = draw(K, B, C), draw(K, B, R, C, seed=1)
    w = None if weights is None else np.array(weights)
    mixture = lambda e, r: np.log(reference(v + e * dv[:, :, r], t, mean, w))
    ends = [np.stack([mixture(e, r) for r in range(R)], axis=1) for e in (EPS, -EPS)]
    with jax.enable_x64(True):
        found = ensemble_derivatives(v, dv, t, mean, None if w is None else jnp.asarray(w))
        logits = losses.ensemble_logits(v, t, mean, None if w is None else jnp.asarray(w))
        log_p = log_softmax_derivatives(logits, found, t)
    expected = (ends[0] - ends[1]) / (2 * EPS)
    np.testing.assert_allclose(log_p, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_along_random_directions_a_linear_net_costs_its_whole_jacobian():
    """Half the squared Frobenius distance of the centred weights, on average over directions."""
    w, v = draw(2, 12, C, scale=1.0)
    keys = jax.random.split(jax.random.key(0), 4000)
    u = jax.vmap(lambda key: losses.random_directions(2)(key, jnp.zeros((3, 4))))(keys)
    np.testing.assert_allclose((u**2).sum(axis=(2, 3)), 12.0, rtol=1e-5)
    dz, dv = ((u.reshape(4000, 2, 12) @ m) for m in (w, v))
    found = derivative_matching(jnp.zeros((4000, C)), dz, jnp.ones((4000, C)), dv, None)
    difference = (w - v) - (w - v).mean(axis=1, keepdims=True)
    error = np.asarray(found).std() / np.sqrt(4000)
    assert abs(found.mean() - 0.5 * (difference**2).sum()) < 4 * error
    assert error < 0.03 * found.mean()


def test_the_tangents_of_a_digit_are_what_small_shifts_of_it_change():
    image = load_digits().images[7][..., None]
    down, right = translations(jax.random.key(0), jnp.asarray(image, jnp.float32))
    inner = slice(1, -1)
    for tangent, axis in ((down, 0), (right, 1)):
        expected = (np.roll(image, 1, axis) - np.roll(image, -1, axis)) / 2
        np.testing.assert_allclose(tangent[inner, inner], expected[inner, inner], rtol=1e-6)
        assert abs(tangent).max() > 1
    np.testing.assert_allclose(down[0], image[0] - image[1])  # at the rim, of what is there


class Smooth(nn.Module):
    """Without a ReLU, whose derivative jumps; its layers tell training from evaluation."""

    @nn.compact
    def __call__(self, x, training: Training | None = None):
        x = jnp.tanh(BatchNorm()(nn.Conv(4, (3, 3), strides=2)(x), training))
        x = Dropout(0.3)(x.reshape(len(x), -1), training)
        return nn.Dense(10)(jnp.tanh(nn.Dense(16)(x)))


@pytest.mark.slow
def test_a_net_in_training_has_the_derivatives_and_their_gradient_by_finite_differences():
    """With one mask of dropout, the statistics of the batch within the derivative, and statistics
    that are what they are without one."""
    net, x = linen(Smooth()), jnp.asarray(arrays()[0][:6] / 16, jnp.float32)
    variables = jax.jit(net.init)(stream(0, "init"), x[:1])
    directions = jnp.asarray(draw(6, 2, 8, 8, 1, scale=1.0), jnp.float32)
    training = Training(jnp.arange(6), jax.random.key(3))

    def whole(params, x, d):
        apply = lambda x: net.apply(variables | {"params": params}, x, training, ())
        outputs, collections = along(apply, x, {"term": d})
        return outputs, collections

    def loss(params, x, d):
        outputs, _ = whole(params, x, d)
        return (outputs.derivatives["term"] ** 2).sum() + (outputs.logits**3).sum()

    params = variables["params"]
    alone = lambda x: net.apply(variables | {"params": params}, x, training, ())
    forward = jax.jit(lambda x: alone(x)[0].logits)
    outputs, collections = jax.jit(whole)(params, x, directions)
    np.testing.assert_allclose(outputs.logits, forward(x), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(collections, alone(x)[1], rtol=1e-5)
    assert outputs.derivatives["term"].shape == (6, 2, 10)
    ends = lambda f, x, step, e: (np.asarray(f(x + e * step)) - f(x - e * step)) / (2 * e)
    for r in range(2):
        slope = ends(forward, x, directions[:, r], 1e-3)
        error = np.abs(outputs.derivatives["term"][:, r] - slope).max()
        assert error < 0.01 * np.abs(slope).max()
    flat, tree = jax.flatten_util.ravel_pytree(params)
    step = np.random.default_rng(1).normal(size=flat.shape).astype(np.float32)
    value = lambda p: loss(tree(p), x, directions)
    gradient = jax.jit(jax.grad(value))(flat)
    slope = ends(jax.jit(value), flat, step, 1e-3)
    np.testing.assert_allclose((gradient * step).sum(), slope, rtol=0.02)
