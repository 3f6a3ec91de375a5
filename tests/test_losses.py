"""Losses: values, gradients and limits against a float64 NumPy reference with closed gradients."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra.numpy import arrays

from kdjax.losses import (
    cross_entropy,
    distillation,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)

B, C = 5, 7
LABELS = np.array([3, 0, -1, 6, 2], np.int32)
TEMPERATURES = (0.01, 0.5, 1.0, 4.0, 20.0, 1000.0)
E, SOFT, HARD = 0.1, 2.0, 0.3


def pair(scale=3.0):
    """Student and teacher logits, float64 but exact in float32."""
    logits = scale * np.random.default_rng(0).normal(size=(2, B, C))
    return logits.astype(np.float32).astype(np.float64)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def softmax(x):
    return np.exp(log_softmax(x))


# Plain references: the value, [B], and the gradient in the student's logits, [B, C].


def plain_cross_entropy(z, v, y, t, e=E):
    e = np.broadcast_to(e, B)[:, None]
    target = (1 - e) * (y[:, None] == np.arange(C)) + e / C
    value = -(target * log_softmax(z)).sum(axis=1)
    return value * (y >= 0), (softmax(z) - target) * (y >= 0)[:, None]


def plain_soft_cross_entropy(z, v, y, t):
    p, log_q = softmax(v / t), log_softmax(z / t)
    return -(t**2) * (p * log_q).sum(axis=1), t * (np.exp(log_q) - p)


def plain_kl_divergence(z, v, y, t):
    log_p, log_q = log_softmax(v / t), log_softmax(z / t)
    value = t**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return value, t * (np.exp(log_q) - np.exp(log_p))


def plain_logit_matching(z, v, y=None, t=None):
    gradient = (z - z.mean(axis=1, keepdims=True)) - (v - v.mean(axis=1, keepdims=True))
    return (gradient**2).sum(axis=1) / 2, gradient


def plain_distillation(z, v, y, t):
    soft = plain_kl_divergence(z, v, y, t)
    hard = plain_cross_entropy(z, v, y, t, e=0.0)
    return SOFT * soft[0] + HARD * hard[0], SOFT * soft[1] + HARD * hard[1]


CASES = {
    "cross_entropy": (lambda z, v, y, t: cross_entropy(z, y, E), plain_cross_entropy),
    "soft_cross_entropy": (
        lambda z, v, y, t: soft_cross_entropy(z, v, t),
        plain_soft_cross_entropy,
    ),
    "kl_divergence": (lambda z, v, y, t: kl_divergence(z, v, t), plain_kl_divergence),
    "logit_matching": (lambda z, v, y, t: logit_matching(z, v), plain_logit_matching),
    "distillation": (lambda z, v, y, t: distillation(z, v, y, t, SOFT, HARD), plain_distillation),
}
every_loss = pytest.mark.parametrize("name", CASES)
every_taught_loss = pytest.mark.parametrize("name", [n for n in CASES if n != "cross_entropy"])
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)


def value_and_gradient(loss, z, *rest):
    """Per example: the gradient of a sum over examples, which do not mix."""
    return compiled(loss)(*(jnp.asarray(x) for x in (z, *rest)))


@functools.cache
def compiled(loss):
    def both(z, *rest):
        value, backward = jax.vjp(lambda z: loss(z, *rest), z)
        return value, backward(jnp.ones_like(value))[0]

    return jax.jit(both)


def assert_close(actual, expected, rtol):
    """To `rtol` of an entry or of the largest one, which the others share rounding with."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol * np.abs(e).max())


@every_loss
@every_temperature
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_match_the_reference(name, t, dtype):
    loss, reference = CASES[name]
    z, v = pair()
    with jax.enable_x64(dtype == "float64"):
        actual = value_and_gradient(loss, z, v, LABELS, t)
    chex.assert_shape(actual, [(B,), (B, C)])
    chex.assert_type(actual, np.dtype(dtype))
    rtol = 1e-9 if dtype == "float64" else 3e-7 * max(t, 10)
    assert_close(actual, reference(z, v, LABELS, t), rtol)


@every_loss
def test_the_second_derivative_is_that_of_the_reference(name):
    loss, reference = CASES[name]
    z, v = pair()
    direction = np.random.default_rng(1).normal(size=z.shape)
    with jax.enable_x64(True):
        gradient = lambda z: compiled(loss)(z, v, LABELS, 2.0)[1]
        actual = jax.jit(lambda z: jax.jvp(gradient, (z,), (direction,))[1])(z)
    above, below = (reference(z + h * direction, v, LABELS, 2.0)[1] for h in (1e-5, -1e-5))
    assert_close([actual], [(above - below) / 2e-5], rtol=1e-7)


def test_compiled_or_not_a_loss_is_the_same():
    z, v = (jnp.asarray(x) for x in pair())
    loss, args = CASES["distillation"][0], (z, v, jnp.asarray(LABELS), 4.0)
    assert_close([loss(*args)], [value_and_gradient(loss, *args)[0]], rtol=1e-5)


@every_loss
@pytest.mark.parametrize("t", [0.01, 4.0])
def test_any_axes_before_the_classes_stay_and_examples_do_not_mix(name, t):
    z, v = pair()
    loss = CASES[name][0]
    batch = value_and_gradient(loss, z, v, LABELS, t)
    alone = [value_and_gradient(loss, z[i], v[i], LABELS[i], t) for i in range(B)]
    chex.assert_shape(alone[0], [(), (C,)])
    assert_close(batch, [np.stack(x) for x in zip(*alone, strict=True)], rtol=1e-6)
    batches = [np.stack([x, x[::-1]])[:, None] for x in (z, v, LABELS)]  # [2, 1, B, ...]
    actual = value_and_gradient(loss, *batches, t)
    chex.assert_shape(actual, [(2, 1, B), (2, 1, B, C)])
    assert_close(actual, [np.stack([x, x[::-1]])[:, None] for x in batch], rtol=1e-6)


@every_loss
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
def test_logits_of_ten_thousand_match_reference(name, t):
    loss, reference = CASES[name]
    z, v = 1e4 * np.sign(pair())
    z[:, 1], v[:, 2] = 0, 0
    actual = value_and_gradient(loss, z, v, LABELS, t)
    chex.assert_tree_all_finite(actual)
    assert_close(actual, reference(z, v, LABELS, t), rtol=3e-6)


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
    chex.assert_trees_all_equal(value, expected)
    eps = float(jnp.finfo(dtype).eps)
    assert_close([gradient.astype(jnp.float32)], [wide_gradient], rtol=eps)


@functools.cache
def gradient_into_teacher(loss):
    return jax.jit(jax.grad(lambda v, z, y, t: loss(z, v, y, t).sum()))


@every_taught_loss
@every_temperature
def test_no_gradient_reaches_the_teacher(name, t):
    z, v = (jnp.asarray(x) for x in pair())
    to_teacher = gradient_into_teacher(CASES[name][0])(v, z, jnp.asarray(LABELS), t)
    chex.assert_trees_all_equal(to_teacher, jnp.zeros((B, C)))


@every_temperature
@pytest.mark.parametrize("loss", [soft_cross_entropy, kl_divergence])
def test_without_t_squared_the_gradient_is_q_minus_p_over_t(loss, t):
    z, v = pair()
    with jax.enable_x64(True):
        gradient = np.asarray(value_and_gradient(loss, z, v, t)[1]) / t**2
    expected = (softmax(z / t) - softmax(v / t)) / t
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@every_temperature
def test_soft_cross_entropy_is_kl_plus_t_squared_entropy_of_targets(t):
    z, v = pair()
    with jax.enable_x64(True):
        soft, soft_gradient = value_and_gradient(soft_cross_entropy, z, v, t)
        kl, kl_gradient = value_and_gradient(kl_divergence, z, v, t)
    entropy = -(softmax(v / t) * log_softmax(v / t)).sum(axis=1)
    expected = np.asarray(kl) + t**2 * entropy, kl_gradient
    assert_close([soft, soft_gradient], expected, rtol=1e-10)


def test_kl_tends_to_logit_matching_over_c_with_error_falling_as_one_over_t():
    z, v = pair()
    t = 2.0 ** np.arange(7, 15)
    limit, limit_gradient = plain_logit_matching(z, v)
    with jax.enable_x64(True):
        kl, kl_gradient = jax.vmap(lambda t: value_and_gradient(kl_divergence, z, v, t))(t)
        _, soft_gradient = jax.vmap(lambda t: value_and_gradient(soft_cross_entropy, z, v, t))(t)
    errors = [
        np.abs(np.asarray(kl) - limit / C),
        np.linalg.norm(np.asarray(kl_gradient) - limit_gradient / C, axis=-1),
        np.linalg.norm(np.asarray(soft_gradient) - limit_gradient / C, axis=-1),
    ]
    for error in errors:
        chex.assert_shape(error, (len(t), B))
        slopes = np.polyfit(np.log(t), np.log(error), 1)[0]
        np.testing.assert_allclose(slopes, -1, atol=0.05)


@pytest.mark.parametrize("t", [1e3, 1e4])
def test_float32_kl_is_still_logit_matching_over_c_when_t_is_large(t):
    z, v = pair()
    value, gradient = value_and_gradient(kl_divergence, z, v, t)
    limit, limit_gradient = plain_logit_matching(z, v)
    assert_close([value, gradient], [limit / C, limit_gradient / C], rtol=5e-3)


def test_as_t_vanishes_the_gradient_over_t_is_between_the_two_argmaxes():
    z, v = pair()
    t = 1e-3
    student, teacher = (x.argmax(axis=1) for x in (z, v))
    assert (student != teacher).any()
    for loss in (kl_divergence, soft_cross_entropy):
        value, gradient = value_and_gradient(loss, z, v, t)
        assert_close(
            [value / t, gradient / t],
            [z.max(axis=1) - z[np.arange(B), teacher], np.eye(C)[student] - np.eye(C)[teacher]],
            rtol=1e-4,
        )


@pytest.mark.parametrize("loss", [soft_cross_entropy, kl_divergence])
def test_at_t_one_a_certain_teacher_is_a_hard_label(loss):
    z, _ = pair()
    labels = LABELS % C
    teacher = 1e4 * np.eye(C)[labels]
    soft = value_and_gradient(lambda z: loss(z, jnp.asarray(teacher), 1.0), z)
    assert_close(soft, value_and_gradient(lambda z: cross_entropy(z, jnp.asarray(labels)), z), 1e-6)


@pytest.mark.parametrize("e", [None, 0.0, 0.1, 0.9, np.linspace(0, 0.8, B)], ids=str)
def test_label_smoothing_mixes_the_label_with_the_uniform_distribution(e):
    z, v = pair()
    given, e = ([], 0.0) if e is None else ([e], e)
    actual = value_and_gradient(cross_entropy, z, LABELS, *given)
    assert_close(actual, plain_cross_entropy(z, v, LABELS, 1.0, e), rtol=1e-6)


@pytest.mark.parametrize("e", [0.0, 0.1])
@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_an_example_without_label_costs_exactly_zero(e, scale):
    z, _ = pair(scale)
    value, gradient = value_and_gradient(cross_entropy, z, np.full(B, -1), e)
    chex.assert_trees_all_equal((value, gradient), (jnp.zeros(B), jnp.zeros((B, C))))


def test_distillation_without_label_is_the_soft_term_alone():
    args = *pair(), np.full(B, -1, np.int32), 4.0
    actual = value_and_gradient(CASES["distillation"][0], *args)
    soft = value_and_gradient(CASES["kl_divergence"][0], *args)
    assert_close(actual, [SOFT * x for x in soft], rtol=1e-6)


def any_logits(*shape):
    element = strategies.floats(-1e4, 1e4, width=32, allow_subnormal=False)
    return arrays(np.float32, shape, elements=element)


any_temperature = strategies.floats(-3, 4).map(lambda exponent: 10.0**exponent)
explore = hypothesis.settings(deadline=None, max_examples=50, derandomize=True)


@explore
@hypothesis.given(any_logits(2, 8, C), strategies.floats(-6, 0), any_temperature)
def test_kl_is_finite_and_never_negative_near_or_far_from_the_teacher(logits, exponent, t):
    z, noise = logits
    for v in (noise, z + np.float32(10**exponent) * noise):
        value, gradient = value_and_gradient(kl_divergence, z, v, t)
        chex.assert_tree_all_finite((value, gradient))
        assert (value >= 0).all()


@explore
@hypothesis.given(any_logits(8, C), any_temperature)
def test_kl_and_gradient_are_exactly_zero_where_student_equals_teacher(z, t):
    chex.assert_trees_all_equal(
        value_and_gradient(kl_divergence, z, z, t), (jnp.zeros(8), jnp.zeros((8, C)))
    )


@explore
@hypothesis.given(strategies.floats(-1e3, 1e3), strategies.floats(-1e3, 1e3), any_temperature)
def test_kl_and_logit_matching_ignore_a_shift_of_either_argument(a, b, t):
    z, v = pair()
    with jax.enable_x64(True):
        for name in ("kl_divergence", "logit_matching"):
            loss = functools.partial(value_and_gradient, CASES[name][0])
            assert_close(loss(z + a, v + b, LABELS, t), loss(z, v, LABELS, t), rtol=1e-8)
