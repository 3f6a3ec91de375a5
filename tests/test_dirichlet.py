"""A distribution over an ensemble's predictions, and a head for each teacher: values and gradients
against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln, log_softmax, softmax
from stages import refuses

from kdjax.losses import TERMS, dirichlet_likelihood, kl_divergence, per_teacher

K, B, C = 3, 5, 7
E = 1e-4
TEMPERATURES = (0.5, 1.0, 4.0, 20.0)
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)


def draw(*shape, seed=0, scale=2.0):
    found = scale * np.random.default_rng(seed).normal(size=shape)
    return found.astype(np.float32).astype(np.float64)


Z, V = draw(B, C), draw(K, B, C, seed=1)


def log_mean(v, t, e=E, weights=None):
    """[B, C], of the smoothed probabilities."""
    p = (1 - e) * softmax(v / t, axis=-1) + e / v.shape[-1]
    return np.average(np.log(p), axis=0, weights=weights)


def plain(z, v, t, e=E, weights=None):
    """The value [B] as the authors write it, and its gradient [B, C] in the student's logits."""
    a = np.exp(z / t)
    total, log_m = a.sum(axis=-1, keepdims=True), log_mean(v, t, e, weights)
    value = gammaln(a).sum(axis=-1) - gammaln(total[..., 0]) - ((a - 1) * log_m).sum(axis=-1)
    return t**2 * value, t * a * (digamma(a) - digamma(total) - log_m)


def gradient(z, v, t, **options):
    return jax.grad(lambda z: dirichlet_likelihood(z, v, t, **options).sum())(z)


@every_temperature
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_value_and_the_gradient_are_those_of_the_density(t, dtype):
    rtol = 1e-11 if dtype == "float64" else 3e-6
    value, slope = plain(Z, V, t)
    with jax.enable_x64(dtype == "float64"):
        z, v = jnp.asarray(Z, dtype), jnp.asarray(V, dtype)
        found = dirichlet_likelihood(z, v, t)
        assert found.shape == (B,) and found.dtype == dtype
        np.testing.assert_allclose(found, value, rtol, atol=10 * rtol * np.abs(value).max())
        slack = 1e-8 if dtype == "float64" else 1e-5  # of the series of large concentrations
        np.testing.assert_allclose(
            gradient(z, v, t), slope, 10 * rtol, atol=slack * np.abs(slope).max()
        )


@pytest.mark.parametrize("shift", [-60.0, -20.0, -5.0, 2.0, 6.0, 10.0, 14.0])
def test_large_and_small_concentrations_lose_no_digits_in_float32(shift):
    """Where gamma functions of e^14 differ by a number that their own last digits swallow."""
    value, slope = plain(Z + shift, V, 1.0)
    found = dirichlet_likelihood(jnp.float32(Z + shift), jnp.float32(V), 1.0)
    np.testing.assert_allclose(found, value, rtol=2e-5, atol=2e-4)
    steep = gradient(jnp.float32(Z + shift), jnp.float32(V), 1.0)
    np.testing.assert_allclose(steep, slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())


def test_nets_that_agree_lose_no_digits_at_concentrations_of_a_hundred_million():
    """Where the distance of the mean from the teachers is 1e-6 and is multiplied by the sum of all
    concentrations."""
    v = (V[:1] + 1e-3 * draw(K, B, C, seed=2)).astype(np.float32).astype(np.float64)
    z = (log_mean(v, 1.0) + 1e-3 * draw(B, C, seed=3) + 18).astype(np.float32).astype(np.float64)
    value, slope = plain(z, v, 1.0)
    found = dirichlet_likelihood(jnp.float32(z), jnp.float32(v), 1.0)
    np.testing.assert_allclose(found, value, rtol=1e-2)
    steep = gradient(jnp.float32(z), jnp.float32(v), 1.0)
    np.testing.assert_allclose(steep, slope, atol=1e-2 * np.abs(slope).max())


def test_a_thousand_classes_lose_no_digits():
    z, v = draw(4, 1000), draw(K, 4, 1000, seed=1)
    value, slope = plain(z, v, 1.0)
    np.testing.assert_allclose(
        dirichlet_likelihood(jnp.float32(z), jnp.float32(v), 1.0), value, rtol=1e-5
    )
    steep = gradient(jnp.float32(z), jnp.float32(v), 1.0)
    np.testing.assert_allclose(steep, slope, rtol=1e-3, atol=1e-5 * np.abs(slope).max())


def test_certain_teachers_have_a_finite_loss_by_their_smoothing():
    """Whose probabilities are 0 in float32; without smoothing the likelihood is infinite."""
    v = 200 * np.eye(C)[None, :B].repeat(K, axis=0)
    value, slope = plain(Z, v, 1.0)
    z, v = jnp.float32(Z), jnp.float32(v)
    np.testing.assert_allclose(dirichlet_likelihood(z, v, 1.0), value, rtol=1e-5)
    np.testing.assert_allclose(gradient(z, v, 1.0), slope, rtol=1e-3, atol=1e-3)
    assert not jnp.isfinite(dirichlet_likelihood(z, v, 1.0, smoothing=0.0)).any()


def test_weights_choose_the_teachers():
    weights = np.array([0.0, 0.25, 0.75])
    found = dirichlet_likelihood(jnp.float32(Z), jnp.float32(V), 2.0, E, jnp.float32(weights))
    np.testing.assert_allclose(found, plain(Z, V, 2.0, weights=weights)[0], rtol=1e-5)
    one = dirichlet_likelihood(jnp.float32(Z), jnp.float32(V), 2.0, E, jnp.float32([0, 1, 0]))
    np.testing.assert_allclose(one, plain(Z, V[1:2], 2.0)[0], rtol=1e-5)


def test_the_best_distribution_is_the_one_that_drew_the_predictions():
    """Of 20,000 draws: the gradient is 0 at their concentrations and at no other."""
    a = np.array([0.5, 1.0, 2.0, 8.0, 30.0])
    draws = np.random.default_rng(0).dirichlet(a, size=20_000)
    v = jnp.float32(np.log(draws))[:, None]
    at = lambda a: np.asarray(gradient(jnp.float32(np.log(a))[None], v, 1.0, smoothing=0.0))
    assert np.abs(at(a)).max() < 0.15 < 0.5 < np.abs(at(2 * a)).max()


def test_no_gradient_goes_into_the_teachers_and_bfloat16_is_computed_in_float32():
    low = lambda x: jnp.asarray(x, jnp.bfloat16)
    v = jnp.asarray(draw(K, K, C))
    assert (jax.grad(lambda v: dirichlet_likelihood(Z[:K], v, 2.0).sum())(v) == 0).all()
    assert (jax.grad(lambda v: per_teacher(draw(K, K, C), v, 2.0).sum())(v) == 0).all()
    assert dirichlet_likelihood(low(Z), low(V), 1.0).dtype == jnp.float32


def test_the_loss_of_heads_is_the_mean_of_the_divergences_from_their_own_teachers():
    heads = jnp.float32(draw(B, K, C, seed=2))
    v = jnp.float32(V)
    each = [kl_divergence(heads[:, k], v[k], 4.0) for k in range(K)]
    np.testing.assert_allclose(per_teacher(heads, v, 4.0), np.mean(each, axis=0), rtol=1e-5)
    weights = jnp.float32([0.5, 0.0, 0.5])
    np.testing.assert_allclose(
        per_teacher(heads, v, 4.0, weights), (each[0] + each[2]) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(per_teacher(jnp.moveaxis(v, 0, 1), v, 4.0), 0.0, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    with refuses("teacher_logits has shape (3, 5, 6)", "student_logits (5, 7)"):
        dirichlet_likelihood(Z, V[..., :6], 1.0)
    with refuses("the net has 2 heads and 3 teachers; it must have a head for each"):
        per_teacher(draw(B, 2, C), V, 1.0)


def test_the_rows_of_the_table_declare_what_they_read():
    for name in ("dirichlet", "per_teacher"):
        assert TERMS[name].needs == {"teacher"} and TERMS[name].label == name
    assert TERMS["per_teacher"].student == ("heads",)
    assert TERMS["dirichlet"].numbers["smoothing"][0] == E
    assert np.isclose(np.exp(log_softmax(Z, axis=-1)).sum(), B)
