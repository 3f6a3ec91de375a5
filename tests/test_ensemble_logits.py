"""Ensembles: the combined distribution against float64 NumPy means of the teachers' own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import kl_divergence
from kdjax.mixing import MEANS, ensemble_logits

K, B, C = 3, 5, 7
TEMPERATURES = (0.01, 0.5, 1.0, 4.0, 20.0, 1000.0)
UNEQUAL = np.array([0.5, 0.2, 0.3])
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)
every_mean = pytest.mark.parametrize("mean", MEANS)
equal_and_unequal = pytest.mark.parametrize("weights", [None, UNEQUAL], ids=["equal", "unequal"])


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
        eager = ensemble_logits(jnp.asarray(v), t, mean, w)
        jitted = jax.jit(ensemble_logits, static_argnames="mean")(jnp.asarray(v), t, mean, w)
    p = reference(v, t, mean, weights)
    rtol = (1e-14 if dtype == "float64" else 3e-6) * max(t, 1 / t, 10)
    for logits in (eager, jitted):
        chex.assert_shape(logits, (B, C))
        chex.assert_type(logits, np.dtype(dtype))
        q = softmax(np.asarray(logits, np.float64) / t)
        # Against what is left without the uniform distribution, which is all there is at high T.
        np.testing.assert_allclose(q - 1 / C, p - 1 / C, rtol, atol=rtol * np.abs(p - 1 / C).max())


@every_mean
@every_temperature
def test_one_teacher_is_itself_up_to_a_shift(mean, t):
    v = teachers()[:1]
    logits = ensemble_logits(jnp.asarray(v), t, mean)
    np.testing.assert_allclose(centred(logits), centred(v[0]), atol=1e-6 * max(t, 10))


@every_mean
@every_temperature
def test_a_weight_of_one_picks_its_teacher(mean, t):
    v = teachers()
    for k in range(K):
        logits = ensemble_logits(jnp.asarray(v), t, mean, jnp.eye(K)[k])
        np.testing.assert_allclose(centred(logits), centred(v[k]), atol=1e-6 * max(t, 10))


@every_mean
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_a_weight_of_zero_leaves_a_teacher_out_however_large_its_logits(mean, t):
    v = teachers()
    v[1] *= 1e30
    left_out = ensemble_logits(jnp.asarray(v), t, mean, jnp.array([0.4, 0.0, 0.6]))
    absent = ensemble_logits(jnp.asarray(v[[0, 2]]), t, mean, jnp.array([0.4, 0.6]))
    np.testing.assert_allclose(centred(left_out), centred(absent), atol=1e-6 * max(t, 10))


@every_mean
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_logits_of_ten_thousand_match_reference_with_finite_gradient(mean, t):
    v = teachers(scale=1e4)
    logits = ensemble_logits(jnp.asarray(v), t, mean)
    gradient = jax.grad(lambda v: ensemble_logits(v, t, mean).sum())(jnp.asarray(v))
    chex.assert_tree_all_finite((logits, gradient))
    p = softmax(np.asarray(logits, np.float64) / t)
    np.testing.assert_allclose(p, reference(v, t, mean, None), rtol=1e-5, atol=1e-5)


@every_temperature
@equal_and_unequal
def test_kl_to_the_arithmetic_mean_has_the_mean_of_the_gradients(t, weights):
    v = teachers()
    z = np.random.default_rng(2).normal(size=(B, C))
    with jax.enable_x64(True):
        z, v = jnp.asarray(z), jnp.asarray(v)
        w = jnp.full(K, 1 / K) if weights is None else jnp.asarray(weights)

        def gradient(teacher):
            return jax.grad(lambda z: kl_divergence(z, teacher, t).sum())(z)

        to_ensemble = gradient(ensemble_logits(v, t, "arithmetic", w))
        mean_of_each = jnp.tensordot(w, jnp.stack([gradient(teacher) for teacher in v]), axes=1)
    scale = np.abs(mean_of_each).max()
    np.testing.assert_allclose(to_ensemble, mean_of_each, rtol=1e-9, atol=1e-10 * scale)


@every_temperature
@equal_and_unequal
def test_both_means_of_equal_teachers_are_that_teacher(t, weights):
    teacher = teachers()[0]
    v = jnp.asarray(np.stack([teacher] * K))
    for mean in MEANS:
        logits = ensemble_logits(v, t, mean, None if weights is None else jnp.asarray(weights))
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
    assert (ensemble_logits(v, 1.0) != ensemble_logits(v, 1.0, "geometric")).any()
    chex.assert_trees_all_equal(ensemble_logits(v, 1.0), ensemble_logits(v, 1.0, "arithmetic"))


@every_mean
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_the_float32_ensemble_of_the_rounded_logits(mean, dtype):
    v = jnp.asarray(teachers(), dtype)
    logits = ensemble_logits(v, 4.0, mean)
    chex.assert_type(logits, jnp.float32)
    chex.assert_trees_all_equal(logits, ensemble_logits(v.astype(jnp.float32), 4.0, mean))


def test_another_mean_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'harmonic'; it must be one of: arithmetic, geometric"):
        ensemble_logits(jnp.asarray(teachers()), 1.0, "harmonic")


@every_mean
@pytest.mark.parametrize(
    "logits, weights",
    [[(B, C), (B,)], [(1, K, B, C), (1,)], [(K, B, C), (K + 1,)], [(K, B, C), ()]],
)
def test_logits_and_weights_of_other_shapes_are_refused(mean, logits, weights):
    with pytest.raises(AssertionError):
        ensemble_logits(jnp.zeros(logits), 1.0, mean, jnp.ones(weights))
