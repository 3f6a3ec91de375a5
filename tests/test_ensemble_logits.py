"""Ensembles: the combined distribution against float64 NumPy means of the teachers' own."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import MEANS, ensemble_logits, kl_divergence
from kdjax.rules import InputError

K, B, C = 3, 5, 7
TEMPERATURES = (0.01, 0.5, 1.0, 4.0, 20.0, 1000.0)
UNEQUAL = np.array([0.5, 0.2, 0.3])
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)
every_mean = pytest.mark.parametrize("mean", MEANS)
equal_and_unequal = pytest.mark.parametrize("weights", [None, UNEQUAL], ids=["equal", "unequal"])


mixed = jax.jit(ensemble_logits, static_argnames="mean")


def teachers(scale=3.0):
    """Logits of K teachers, [K, B, C], float64 but exact in float32."""
    logits = scale * np.random.default_rng(1).normal(size=(K, B, C))
    return logits.astype(np.float32).astype(np.float64)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def softmax(x):
    return np.exp(log_softmax(x))


def centred(x):
    x = np.asarray(x)
    return x - x.mean(axis=-1, keepdims=True)


def reference(v, t, mean, weights):
    """The ensemble's distribution, [B, C]."""
    weights = np.full(len(v), 1 / len(v)) if weights is None else weights
    if mean == "arithmetic":
        return np.einsum("k,kbc->bc", weights, softmax(v / t))
    return softmax(np.einsum("k,kbc->bc", weights, log_softmax(v / t)))


@every_mean
@every_temperature
@equal_and_unequal
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_at_t_is_the_mean_of_the_teachers_softmaxes_at_t(mean, t, weights, dtype):
    v = teachers()
    with jax.enable_x64(dtype == "float64"):
        w = None if weights is None else jnp.asarray(weights)
        logits = mixed(jnp.asarray(v), t, mean, w)
    p = reference(v, t, mean, weights)
    rtol = (1e-14 if dtype == "float64" else 3e-6) * max(t, 1 / t, 10)
    chex.assert_shape(logits, (B, C))
    chex.assert_type(logits, np.dtype(dtype))
    q = softmax(np.asarray(logits, np.float64) / t)
    # Against what is left without the uniform distribution, which is all there is at high T.
    np.testing.assert_allclose(q - 1 / C, p - 1 / C, rtol, atol=rtol * np.abs(p - 1 / C).max())


@every_mean
@equal_and_unequal
def test_any_axes_between_teachers_and_classes_stay(mean, weights):
    v = teachers()
    w = None if weights is None else jnp.asarray(weights)
    expected = mixed(jnp.asarray(v), 4.0, mean, w)
    boxes = mixed(jnp.asarray(np.stack([v, v[:, ::-1]], axis=1)[:, :, None]), 4.0, mean, w)
    chex.assert_shape(boxes, (2, 1, B, C))
    np.testing.assert_allclose(boxes[0, 0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(boxes[1, 0], expected[::-1], rtol=1e-5, atol=1e-5)
    alone = mixed(jnp.asarray(v[:, 0]), 4.0, mean, w)
    chex.assert_shape(alone, (C,))
    np.testing.assert_allclose(alone, expected[0], rtol=1e-5, atol=1e-5)
    eager = ensemble_logits(jnp.asarray(v), 4.0, mean, w)
    np.testing.assert_allclose(eager, expected, rtol=1e-5, atol=1e-5)


@every_mean
@every_temperature
def test_one_teacher_is_itself_up_to_a_shift(mean, t):
    v = teachers()[:1]
    logits = mixed(jnp.asarray(v), t, mean)
    np.testing.assert_allclose(centred(logits), centred(v[0]), atol=1e-6 * max(t, 10))


@every_mean
@every_temperature
def test_a_weight_of_one_picks_its_teacher(mean, t):
    v = teachers()
    for k in range(K):
        logits = mixed(jnp.asarray(v), t, mean, jnp.eye(K)[k])
        np.testing.assert_allclose(centred(logits), centred(v[k]), atol=1e-6 * max(t, 10))


@every_mean
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_a_weight_of_zero_leaves_a_teacher_out_however_large_its_logits(mean, t):
    v = teachers()
    v[1] *= 1e30
    left_out = mixed(jnp.asarray(v), t, mean, jnp.array([0.4, 0.0, 0.6]))
    absent = mixed(jnp.asarray(v[[0, 2]]), t, mean, jnp.array([0.4, 0.6]))
    np.testing.assert_allclose(centred(left_out), centred(absent), atol=1e-6 * max(t, 10))


@functools.partial(jax.jit, static_argnames="mean")
@jax.grad
def gradient_of_sum(v, t, mean):
    return ensemble_logits(v, t, mean).sum()


@every_mean
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_logits_of_ten_thousand_match_reference_with_finite_gradient(mean, t):
    v = teachers(scale=1e4)
    logits = mixed(jnp.asarray(v), t, mean)
    gradient = gradient_of_sum(jnp.asarray(v), t, mean)
    chex.assert_tree_all_finite((logits, gradient))
    p = softmax(np.asarray(logits, np.float64) / t)
    np.testing.assert_allclose(p, reference(v, t, mean, None), rtol=1e-5, atol=1e-5)


kl_gradient = jax.jit(jax.grad(lambda z, teacher, t: kl_divergence(z, teacher, t).sum()))


@every_temperature
@equal_and_unequal
def test_the_gradient_of_a_class_probability_is_that_of_the_reference(t, weights):
    """d q_c / d v_k, of q the softmax of the ensemble at T, with q the mean of the softmaxes p_k:
    w_k p_k[c] (e_c - p_k) / T; of the geometric mean w_k q[c] (e_c - q) / T."""
    v, c = teachers(), 2
    w = np.full(K, 1 / K) if weights is None else weights
    p, q = softmax(v / t), reference(v, t, "geometric", w)
    expected = {
        "arithmetic": w[:, None, None] * p[..., [c]] * (np.eye(C)[c] - p) / t,
        "geometric": w[:, None, None] * (q[..., [c]] * (np.eye(C)[c] - q))[None] / t,
    }
    for mean in MEANS:
        with jax.enable_x64(True):
            actual = probability_gradient(jnp.asarray(v), t, mean, jnp.asarray(w), c)
        np.testing.assert_allclose(actual, expected[mean], rtol=1e-8, atol=1e-12 / t)


@functools.partial(jax.jit, static_argnames=("mean", "c"))
@jax.grad
def probability_gradient(v, t, mean, weights, c):
    return jax.nn.softmax(ensemble_logits(v, t, mean, weights) / t)[..., c].sum()


@every_temperature
@equal_and_unequal
def test_kl_to_the_arithmetic_mean_has_the_mean_of_the_gradients(t, weights):
    v = teachers()
    z = np.random.default_rng(2).normal(size=(B, C))
    with jax.enable_x64(True):
        z, v = jnp.asarray(z), jnp.asarray(v)
        w = jnp.full(K, 1 / K) if weights is None else jnp.asarray(weights)

        to_ensemble = kl_gradient(z, mixed(v, t, "arithmetic", w), t)
        of_each = jnp.stack([kl_gradient(z, teacher, t) for teacher in v])
        mean_of_each = jnp.tensordot(w, of_each, axes=1)
    scale = np.abs(mean_of_each).max()
    np.testing.assert_allclose(to_ensemble, mean_of_each, rtol=1e-9, atol=1e-10 * scale)


@every_temperature
@equal_and_unequal
def test_both_means_of_equal_teachers_are_that_teacher(t, weights):
    teacher = teachers()[0]
    v = jnp.asarray(np.stack([teacher] * K))
    for mean in MEANS:
        logits = mixed(v, t, mean, None if weights is None else jnp.asarray(weights))
        np.testing.assert_allclose(centred(logits), centred(teacher), atol=1e-6 * max(t, 10))


def test_the_two_means_approach_each_other_as_one_over_t():
    t = 2.0 ** np.arange(6, 14)
    with jax.enable_x64(True):
        v = jnp.asarray(teachers())
        arithmetic, geometric = (
            jax.vmap(lambda t, mean=mean: ensemble_logits(v, t, mean))(t) for mean in MEANS
        )
    error = np.linalg.norm(centred(arithmetic) - centred(geometric), axis=-1)
    chex.assert_shape(error, (len(t), B))
    np.testing.assert_allclose(np.polyfit(np.log(t), np.log(error), 1)[0], -1, atol=0.05)


def test_arithmetic_is_the_default():
    v = jnp.asarray(teachers())
    assert (mixed(v, 1.0) != mixed(v, 1.0, "geometric")).any()
    chex.assert_trees_all_equal(mixed(v, 1.0), mixed(v, 1.0, "arithmetic"))


@every_mean
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_the_float32_ensemble_of_the_rounded_logits(mean, dtype):
    v = jnp.asarray(teachers(), dtype)
    logits = mixed(v, 4.0, mean)
    chex.assert_type(logits, jnp.float32)
    chex.assert_trees_all_equal(logits, mixed(v.astype(jnp.float32), 4.0, mean))


def test_another_mean_is_refused_with_the_choices():
    with pytest.raises(InputError, match="'harmonic'; it must be one of: arithmetic, geometric"):
        ensemble_logits(jnp.asarray(teachers()), 1.0, "harmonic")


@every_mean
@pytest.mark.parametrize(
    ("logits", "weights"), [[(B, C), (B + 1,)], [(K, B, C), (K + 1,)], [(K, B, C), ()]]
)
def test_weights_of_another_shape_are_refused(mean, logits, weights):
    says = f"weights has shape {weights}; it must have shape ({logits[0]},), one weight for each "
    with pytest.raises(InputError, match=re.escape(says)):
        ensemble_logits(jnp.zeros(logits), 1.0, mean, jnp.ones(weights))


@every_mean
def test_logits_without_an_axis_of_teachers_are_refused(mean):
    with pytest.raises(InputError, match=r"logits has shape \(7,\); it must have at least 2 axes"):
        ensemble_logits(jnp.zeros(C), 1.0, mean)
