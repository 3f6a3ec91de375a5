"""Layers in training and in evaluation, and the nets made of them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays
from jax import lax
from jax.test_util import check_grads

from kdjax.nets import cost
from kdjax.nets.layers import BatchNorm, Dropout, Training, convolve_few_channels, max_pool
from kdjax.nets.modules import CNN, MLP, ResNet, WideResNet


def drop(rate, x, key=0):
    training = Training(jnp.arange(len(x)))
    return np.asarray(Dropout(rate).apply({}, x, training, rngs={"dropout": jax.random.key(key)}))


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_dropout_drops_units_at_its_rate_and_keeps_the_mean(rate):
    x = drop(rate, jnp.ones((500, 3, 5, 7)))
    units = 3 * 5 * 7
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs((x == 0).mean() - rate) < 5 * deviation
    each = (x == 0).reshape(500, units)
    assert (abs(each.mean(axis=0) - rate) < 6 * np.sqrt(rate * (1 - rate) / 500)).all()
    correlation = np.corrcoef(each.T) - np.eye(units)
    assert abs(correlation).max() < 6 / np.sqrt(500)
    np.testing.assert_allclose(x[x != 0], 1 / (1 - rate), rtol=1e-4)


def test_dropout_differs_between_places_and_keys_and_rests_in_evaluation():
    x = jnp.ones((2, 64))
    first, second = drop(0.5, x)
    assert (first != second).any() and (drop(0.5, x, key=1)[0] != first).any()
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, None), x)


@pytest.mark.parametrize("training", [Training(jnp.arange(30)), None])
def test_batch_norm_is_that_of_flax(training):
    images, _ = arrays()
    x = jnp.asarray(images[:30] / 16, jnp.float32)
    x = x * jnp.array([1.0, 30.0]).reshape(1, 1, 1, 2) + 5
    ours, theirs = BatchNorm(), nn.BatchNorm(momentum=0.9, use_running_average=training is None)
    params = {"scale": jnp.array([0.5, 2.0]), "bias": jnp.array([1.0, -1.0])}
    mean, variance = jnp.array([4.0, 9.0]), jnp.array([0.3, 50.0])

    def run(module, stats, *arguments):
        def objective(params, x):
            y, state = module.apply(
                {"params": params, "batch_stats": stats}, x, *arguments, mutable=["batch_stats"]
            )
            return (y**3).sum(), (y, state["batch_stats"])

        return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(params, x)

    (_, (y, stats)), gradient = run(ours, {"mean": mean, "variance": variance}, training)
    (_, (their_y, their_stats)), their_gradient = run(theirs, {"mean": mean, "var": variance})
    np.testing.assert_allclose(y, their_y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(stats["mean"], their_stats["mean"], rtol=1e-5)
    np.testing.assert_allclose(stats["variance"], their_stats["var"], rtol=1e-4)
    for a, b in zip(*map(jax.tree.leaves, (gradient, their_gradient)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * abs(b).max())


@pytest.mark.parametrize("size", [8, 7])
def test_max_pool_is_that_of_flax(size):
    images, _ = arrays()
    noise = np.random.default_rng(0).normal(size=(20, size, size, 3))  # no two are equal
    x = jnp.asarray(images[:20, :size, :size] + noise, jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(20, size // 2, size // 2, 3)))
    theirs = lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))
    np.testing.assert_array_equal(max_pool(x), theirs(x))
    ours, their = (jax.grad(lambda x, p=p: (p(x) * weights).sum())(x) for p in (max_pool, theirs))
    np.testing.assert_array_equal(ours, their)


def test_equals_share_the_gradient_of_max_pool_evenly():
    x = jnp.array([[1.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)[0, ..., 0]
    np.testing.assert_allclose(gradient, [[1 / 3, 1 / 3], [1 / 3, 0.0]])


def test_max_pool_has_derivatives_of_both_modes_and_of_second_order():
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 5, 4, 3)))
    check_grads(lambda x: max_pool(x) ** 3, (x,), order=2, eps=1e-3, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_convolution_of_few_channels_is_that_of_lax(channels, dtype):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(4, 9, 6, channels)), dtype)
    kernel = jnp.asarray(random.normal(size=(3, 3, channels, 8)), dtype)
    form = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def both(convolve):
        return jax.vjp(lambda x, k: convolve(x, k, (1, 1), "SAME", **form), x, kernel)

    (ours, pull), (theirs, their_pull) = both(convolve_few_channels), both(lax.conv_general_dilated)
    rtol = 1e-5 if dtype == "float32" else 2e-2
    assert ours.dtype == theirs.dtype
    for a, b in zip((ours, *pull(ours)), (theirs, *their_pull(ours)), strict=True):
        np.testing.assert_allclose(*map(np.float32, (a, b)), rtol, atol=10 * rtol)


@pytest.mark.parametrize(
    ("net", "millions"),
    [  # arXiv 1512.03385, table 6; arXiv 1605.07146, tables 4 and 5
        (ResNet(10, blocks=3), 0.27),
        (ResNet(10, blocks=9), 0.85),
        (WideResNet(10, blocks=6, widen=4), 8.9),
        (WideResNet(10, blocks=4, widen=10), 36.5),
    ],
)
def test_residual_nets_have_the_size_of_the_papers(net, millions):
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert cost.parameters(variables["params"]) / 1e6 == pytest.approx(millions, rel=0.06)


@pytest.mark.parametrize(
    "net",
    [
        MLP(10, (32,), dropout=0.5),
        CNN(10, (4, 8), 16, dropout=0.5),
        CNN(10, (4, 8), 16, norm="batch"),
        ResNet(10, blocks=1, stem=4, channels=(4, 8)),
        WideResNet(10, blocks=1, widen=1, dropout=0.5),
    ],
    ids=lambda net: type(net).__name__,
)
def test_bfloat16_is_for_the_arithmetic_alone(net):
    images, _ = arrays()
    x = jnp.asarray(images[:20] / 16, jnp.float32)
    half = net.clone(dtype="bfloat16")
    variables = jax.jit(half.init)(jax.random.key(0), x)

    @functools.partial(jax.jit, static_argnums=0)
    def train(net):
        training, rngs = Training(jnp.arange(20)), {"dropout": jax.random.key(1)}
        return net.apply(variables, x, training, rngs=rngs, mutable=["batch_stats"])

    (exact, _), (rounded, state) = train(net), train(half)
    assert rounded.dtype == exact.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state))} == {jnp.dtype("float32")}
    error = jnp.sqrt(jnp.mean((rounded - exact) ** 2) / jnp.mean(exact**2))
    assert 1e-5 < error < 0.05


def test_a_cnn_is_normalised_after_its_pooling():
    images, _ = arrays()
    x = jnp.asarray(images[:20], jnp.float32)
    net, training = CNN(10, (4, 8), 16, norm="batch"), Training(jnp.arange(20))
    variables = net.init(jax.random.key(0), x)
    _, state = net.apply(
        variables, x, training, mutable=["batch_stats", "intermediates"], capture_intermediates=True
    )
    inside = state["intermediates"]
    for layer in range(2):
        (before,) = inside[f"Conv_{layer}"]["__call__"]
        (after,) = inside[f"BatchNorm_{layer}"]["__call__"]
        pooled = nn.max_pool(before, (2, 2), strides=(2, 2))
        mean, deviation = pooled.mean((0, 1, 2)), pooled.std((0, 1, 2))
        shape = (1, 1, 1, -1)
        expected = (pooled - mean.reshape(shape)) / jnp.sqrt(deviation**2 + 1e-5).reshape(shape)
        np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-3)
    plain = CNN(10, (4, 8), 16).init(jax.random.key(0), x)
    assert "batch_stats" not in plain and "bias" in plain["params"]["Conv_0"]
    assert "bias" not in variables["params"]["Conv_0"]
