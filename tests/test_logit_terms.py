"""Losses of logits beside the classic ones: values and gradients against float64 NumPy references
whose derivatives are differences, and the trap of each."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_losses import (
    LABELS,
    B,
    C,
    any_logits,
    any_temperature,
    assert_close,
    explore,
    gradient_into_teacher,
    log_softmax,
    pair,
    plain_kl_divergence,
    softmax,
    value_and_gradient,
)

from kdjax import losses
from kdjax.losses.term import Context
from kdjax.nets.net import Outputs
from kdjax.rules import InputError

TEMPERATURES = (0.5, 1.0, 4.0, 1000.0)
BETA, SKEW, CORRECT, SEVERAL = 0.3, 0.1, 0.9, (1.0, 2.0, 5.0)
TARGET, OTHERS = 0.7, 3.0  # weights of the label's class and of all others


# Plain references: the value, [B], of float64.


def kl(log_p, log_q):
    """Of the last axis; a class without probability costs nothing."""
    p = np.exp(log_p)
    return np.where(p > 0, p * (log_p - log_q), 0.0).sum(axis=-1)


def log_total(log_p):
    top = log_p.max(axis=-1, keepdims=True)
    return np.log(np.exp(log_p - top).sum(axis=-1)) + top[..., 0]


def plain_reverse_kl(z, v, y, t):
    return t**2 * kl(log_softmax(z / t), log_softmax(v / t))


def plain_jensen_shannon(z, v, y, t):
    s, p = log_softmax(z / t), log_softmax(v / t)
    m = np.logaddexp(np.log(BETA) + p, np.log(1 - BETA) + s)
    return t**2 * (BETA * kl(p, m) + (1 - BETA) * kl(s, m))


def plain_skew_kl(z, v, y, t):
    s, p = log_softmax(z / t), log_softmax(v / t)
    return t**2 * kl(p, np.logaddexp(np.log(SKEW) + p, np.log(1 - SKEW) + s))


def plain_log_softmax_l2(z, v, y, t):
    return np.sqrt(((log_softmax(z) - log_softmax(v)) ** 2).sum(axis=1) + 1e-12)


def plain_hard_label(z, v, y, t):
    return -log_softmax(z)[np.arange(B), v.argmax(axis=1)]


def plain_virtual_teacher(z, v, y, t):
    teacher = np.where(np.arange(C) == y[:, None], CORRECT, (1 - CORRECT) / (C - 1))
    return t**2 * kl(log_softmax(np.log(teacher) / t), log_softmax(z / t)) * (y >= 0)


def split(x, y, t):
    """log of (p(y), 1 - p(y)), [B, 2], and of the distribution over the others, [B, C - 1]."""
    log_p = log_softmax(x / t)
    others = np.stack([np.delete(row, label) for row, label in zip(log_p, y, strict=True)])
    rest = log_total(others)
    return np.stack([log_p[np.arange(B), y], rest], axis=1), others - rest[:, None]


def plain_dkd(z, v, y, t):
    (label_s, others_s), (label_p, others_p) = split(z, y, t), split(v, y, t)
    return t**2 * (TARGET * kl(label_p, label_s) + OTHERS * kl(others_p, others_s)) * (y >= 0)


def plain_nkd(z, v, y, t):
    label = np.exp(split(v, y, 1.0)[0][:, 0]) * split(z, y, 1.0)[0][:, 0]
    others = (np.exp(split(v, y, t)[1]) * split(z, y, t)[1]).sum(axis=1)
    return -(label + OTHERS * t**2 * others) * (y >= 0)


def plain_ttm(z, v, y, t):
    power = (1 / t) * log_softmax(v)
    return kl(power - log_total(power)[:, None], log_softmax(z))


def plain_wttm(z, v, y, t):
    return np.exp(log_total((1 / t) * log_softmax(v))) * plain_ttm(z, v, y, t)


def plain_top_k_kl(z, v, y, t, k=3):
    order = np.argsort(-v, axis=1, kind="stable")

    def buckets(x):
        log_p = np.take_along_axis(log_softmax(x / t), order, axis=1)
        return np.concatenate([log_p[:, :k], log_total(log_p[:, k:])[:, None]], axis=1)

    return t**2 * kl(buckets(v), buckets(z))


def plain_multi_temperature(z, v, y, t):
    return np.mean([plain_kl_divergence(z, v, y, t)[0] for t in SEVERAL], axis=0)


def plain_standard(x):
    return (x - x.mean(axis=1, keepdims=True)) / (x.std(axis=1, ddof=1, keepdims=True) + 1e-7)


def plain_standardized(z, v, y, t):
    return plain_kl_divergence(plain_standard(z), plain_standard(v), y, t)[0]


def plain_standardized_dkd(z, v, y, t):
    return plain_dkd(plain_standard(z), plain_standard(v), y, t)


def standardized(name, **numbers):
    """(z, v, y, t) -> the term of standardised logits, as a function of logits alone."""
    term = losses.standardized(losses.TERMS[name])

    def loss(z, v, y, t):
        given = Context(Outputs(z, {}), None, lambda _: v, z, y, {"temperature": t, **numbers})
        return term.function(given)

    return loss


CASES = {
    "reverse_kl": (lambda z, v, y, t: losses.reverse_kl(z, v, t), plain_reverse_kl),
    "jensen_shannon": (
        lambda z, v, y, t: losses.jensen_shannon(z, v, t, BETA),
        plain_jensen_shannon,
    ),
    "skew_kl": (lambda z, v, y, t: losses.skew_kl(z, v, t, SKEW), plain_skew_kl),
    "log_softmax_l2": (lambda z, v, y, t: losses.log_softmax_l2(z, v), plain_log_softmax_l2),
    "hard_label": (lambda z, v, y, t: losses.hard_label(z, v), plain_hard_label),
    "virtual_teacher": (
        lambda z, v, y, t: losses.virtual_teacher(z, y, t, CORRECT),
        plain_virtual_teacher,
    ),
    "dkd": (lambda z, v, y, t: losses.dkd(z, v, y, t, TARGET, OTHERS), plain_dkd),
    "nkd": (lambda z, v, y, t: losses.nkd(z, v, y, t, OTHERS), plain_nkd),
    "ttm": (lambda z, v, y, t: losses.ttm(z, v, t), plain_ttm),
    "wttm": (lambda z, v, y, t: losses.wttm(z, v, t), plain_wttm),
    "top_k_kl": (lambda z, v, y, t: losses.top_k_kl(z, v, t, k=3), plain_top_k_kl),
    "multi_temperature": (
        lambda z, v, y, t: losses.multi_temperature(z, v, SEVERAL),
        plain_multi_temperature,
    ),
    "standardized": (standardized("kl_divergence"), plain_standardized),
    "standardized_dkd": (
        standardized("dkd", alpha=TARGET, beta=OTHERS),
        plain_standardized_dkd,
    ),
}
every_loss = pytest.mark.parametrize("name", CASES)
every_taught_loss = pytest.mark.parametrize("name", [n for n in CASES if n != "virtual_teacher"])


def differences(reference, z, v, y, t):
    """The gradient [B, C] of values [B], to the fourth order in the step."""
    h, gradient = 1e-3 * min(t, 1.0), np.empty((B, C))
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
    assert_close([value], [reference(z, v, LABELS, t)], rtol=5e-6)
    assert_close([gradient], [differences(reference, z, v, LABELS, t)], rtol=2e-4)


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


# The trap of each.


@pytest.mark.parametrize("t", [0.5, 4.0])
def test_jensen_shannon_is_the_forward_kl_at_0_and_the_reverse_kl_at_1(t):
    z, v = pair()
    ends = np.array([0.0, 1.0, 0.5], np.float32)  # of three members of one program
    loss = lambda z, v, beta: losses.jensen_shannon(z, v, t, beta)
    value, gradient = jax.vmap(lambda beta: value_and_gradient(loss, z, v, beta))(ends)
    assert_close((value[0], gradient[0]), value_and_gradient(losses.kl_divergence, z, v, t), 2e-6)
    assert_close((value[1], gradient[1]), value_and_gradient(losses.reverse_kl, z, v, t), 2e-6)
    swapped = losses.jensen_shannon(jnp.asarray(v), jnp.asarray(z), t, 0.5)
    assert_close([value[2]], [swapped], rtol=2e-6)


def test_skew_kl_is_the_kl_at_0_and_bounded_above_it():
    z, v = pair(1e4)
    plain = value_and_gradient(losses.kl_divergence, z, v, 2.0)
    assert_close(value_and_gradient(lambda *x: losses.skew_kl(*x, 0.0), z, v, 2.0), plain, 2e-6)
    value = losses.skew_kl(jnp.asarray(z), jnp.asarray(v), 2.0, 0.1)
    assert (value <= -4 * np.log(0.1) * (1 + 1e-6)).all() and (plain[0] > 1e3).all()


def test_reverse_kl_has_a_gradient_where_probabilities_underflow():
    z, v = np.array([[0.0, 200.0, -3e4]]), np.array([[150.0, -1e4, 0.0]])
    value, gradient = value_and_gradient(losses.reverse_kl, z, v, 1.0)
    np.testing.assert_allclose(value, [10150.0], rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert np.isnan(jax.grad(lambda z: through_probabilities(z, v))(jnp.asarray(z))).any()


def through_probabilities(z, v):
    """As those write it who have lost their gradients."""
    s, t = jax.nn.softmax(z), jax.nn.softmax(v)
    return jnp.sum(s * (jnp.log(s) - jnp.log(t)))


def test_log_softmax_l2_has_a_gradient_of_0_where_student_equals_teacher():
    z, _ = pair()
    value, gradient = value_and_gradient(losses.log_softmax_l2, z, z)
    np.testing.assert_allclose(value, 1e-6, rtol=1e-6)
    chex.assert_trees_all_equal(gradient, jnp.zeros((B, C)))


def test_of_tied_classes_the_teacher_names_the_first_and_never_a_masked_one():
    z = jnp.asarray(pair()[0])
    v = jnp.array([-jnp.inf, 2.0, 1.0, 2.0, 2.0, -jnp.inf, 0.0])
    loss = losses.hard_label(z, jnp.tile(v, (B, 1)))
    expected = losses.cross_entropy(z, jnp.full(B, 1))
    chex.assert_trees_all_equal(loss, expected)


def test_a_hard_label_knows_no_temperature():
    z, v = (jnp.asarray(x) for x in pair())
    chex.assert_trees_all_equal(losses.hard_label(z, v), losses.hard_label(z, 100 * v))
    assert "temperature" not in losses.TERMS["hard_label"].numbers


def test_the_virtual_teacher_is_the_softened_one_of_the_paper():
    """Figure 3 of arXiv 1909.11723: 0.150 and 0.095 of ten classes at T = 20, to three digits."""
    published = np.full(10, 0.095)
    published[5] = 0.150
    student = 20 * np.log(published)
    loss = losses.virtual_teacher(jnp.asarray(student), jnp.array(5), 20.0, 0.999)
    assert 0 <= loss / 20**2 < 1e-5
    far = losses.virtual_teacher(jnp.zeros(10), jnp.array(5), 20.0, 0.999)
    assert far / 20**2 > 5e-3


def test_the_virtual_teacher_takes_the_sum_over_classes():
    value = losses.virtual_teacher(jnp.zeros((1, 4)), jnp.array([2]), 1.0, 0.97)
    expected = 0.97 * np.log(4 * 0.97) + 0.03 * np.log(4 * 0.01)
    np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_dkd_of_the_teachers_own_weights_is_the_kl():
    z, v = pair()
    y = LABELS % C
    t = 4.0
    rest = 1 - softmax(v / t)[np.arange(B), y]
    loss = lambda z, v, y: losses.dkd(z, v, y, t, 1.0, rest)
    actual = value_and_gradient(loss, z, v, y)
    assert_close(actual, value_and_gradient(losses.kl_divergence, z, v, t), rtol=3e-6)


def test_dkd_and_nkd_of_certain_nets_are_finite():
    """The probability of all classes but one underflows: its logarithm must not be taken."""
    z, v = 1e4 * np.eye(C)[[1]], 1e4 * np.eye(C)[[2]] + np.arange(C) / 10
    for loss in (losses.dkd, losses.nkd):
        for y in range(C):
            value, gradient = value_and_gradient(loss, z, v, np.array([y]), 1.0)
            chex.assert_tree_all_finite((value, gradient))
    assert np.isneginf(np.log(1 - softmax(z)[0, 1])) and softmax(z)[0, 2] == 0


@pytest.mark.parametrize("loss", [losses.dkd, losses.nkd])
def test_one_class_beside_the_label_is_refused(loss):
    z = jnp.zeros((B, 2))
    with pytest.raises(
        InputError, match=r"there are 2 classes; .kd must have at least 3"
    ) as caught:
        loss(z, z, jnp.zeros(B, int), 1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dkd", "nkd", "virtual_teacher"])
def test_an_example_without_label_costs_exactly_zero(name):
    z, v = pair(1e4)
    value, gradient = value_and_gradient(CASES[name][0], z, v, np.full(B, -1), 4.0)
    chex.assert_trees_all_equal((value, gradient), (jnp.zeros(B), jnp.zeros((B, C))))


def test_ttm_has_no_factor_of_the_squared_temperature():
    z, v = pair()
    value = losses.ttm(jnp.asarray(z), jnp.asarray(v), 1e4)  # a uniform target
    assert_close([value], [-np.log(C) - log_softmax(z).mean(axis=1)], rtol=1e-3)
    both = [losses.ttm(jnp.asarray(z), jnp.asarray(v), 1.0)]
    assert_close(both, [losses.kl_divergence(jnp.asarray(z), jnp.asarray(v), 1.0)], rtol=1e-6)


def test_wttm_weighs_each_example_from_1_to_a_power_of_the_classes():
    z, _ = pair()
    v = np.stack([1e4 * np.eye(C)[0], np.zeros(C)])
    ratio = [f(jnp.asarray(z[:2]), jnp.asarray(v), 4.0) for f in (losses.wttm, losses.ttm)]
    np.testing.assert_allclose(ratio[0] / ratio[1], [1.0, C**0.75], rtol=1e-6)


@pytest.mark.parametrize("k", [C - 1, C, 10 * C])
def test_top_k_of_all_classes_is_the_kl(k):
    z, v = pair()
    actual = value_and_gradient(lambda z, v: losses.top_k_kl(z, v, 4.0, k), z, v)
    assert_close(actual, value_and_gradient(losses.kl_divergence, z, v, 4.0), rtol=1e-6)


@pytest.mark.parametrize("k", [1, C - 2])
def test_top_k_sees_the_mass_of_all_other_classes(k):
    z, v = pair()
    loss = lambda z, v: losses.top_k_kl(z, v, 2.0, k)
    value, gradient = value_and_gradient(loss, z, v)
    assert_close([value], [plain_top_k_kl(z, v, LABELS, 2.0, k)], rtol=3e-6)
    order = np.argsort(-v, axis=1)
    outside = z.copy()
    np.put_along_axis(outside, order[:, -1:], 20.0, axis=1)  # mass where the teacher has little
    assert (losses.top_k_kl(jnp.asarray(outside), jnp.asarray(v), 2.0, k) > value).all()
    assert (np.take_along_axis(np.asarray(gradient), order[:, -1:], axis=1) != 0).all()


def test_top_k_of_tied_classes_takes_so_many():
    z, v = pair()[0], np.zeros((B, C))
    value = losses.top_k_kl(jnp.asarray(z), jnp.asarray(v), 1.0, 2)
    assert_close([value], [plain_top_k_kl(z, v, LABELS, 1.0, 2)], rtol=3e-6)


@pytest.mark.parametrize("k", [0, -1, 2.5, None])
def test_a_k_that_is_no_count_is_refused(k):
    with pytest.raises(InputError, match=r"k is .*; it must be a whole number from 1"):
        losses.top_k_kl(jnp.zeros((B, C)), jnp.zeros((B, C)), 1.0, k)


def test_standardised_logits_have_mean_0_and_the_deviation_of_a_sample():
    z = losses.standardize(jnp.asarray(pair()[0]))
    np.testing.assert_allclose(z.mean(axis=1), np.zeros(B), atol=1e-6)
    np.testing.assert_allclose(np.std(z, axis=1, ddof=1), np.ones(B), rtol=1e-6)


def test_standardised_terms_ignore_shift_and_scale_of_each_net():
    z, v = pair()
    loss = CASES["standardized"][0]
    with jax.enable_x64(True):
        value, gradient = value_and_gradient(loss, z, v, LABELS, 2.0)
        other, scaled = value_and_gradient(loss, 5 * z - 3, 0.1 * v + 7, LABELS, 2.0)
    assert_close([other, 5 * scaled], [value, gradient], rtol=1e-5)
    np.testing.assert_allclose((gradient * z).sum(axis=1), np.zeros(B), atol=1e-6)


def test_constant_logits_have_a_deviation_of_0_and_a_finite_gradient():
    z, v = np.full((B, C), 3.0), pair()[1]
    value, gradient = value_and_gradient(CASES["standardized"][0], z, v, LABELS, 2.0)
    chex.assert_tree_all_finite((value, gradient))
    chex.assert_trees_all_equal(losses.standardize(jnp.asarray(z)), jnp.zeros((B, C)))


def test_what_needs_no_targets_is_not_standardised():
    for term in (losses.TERMS["cross_entropy"], losses.TERMS["virtual_teacher"]):
        with pytest.raises(InputError, match="which needs no targets; it must be one that does"):
            losses.standardized(term)
    with pytest.raises(InputError, match="term is 'kl_divergence'; it must be a Term"):
        losses.standardized("kl_divergence")


# DIST, which is of a whole batch.


def plain_dist(z, v, t, beta, gamma):
    s, p = softmax(z / t), softmax(v / t)
    correlation = lambda x, y: np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y)])  # noqa: B905
    rows, columns = correlation(s, p), correlation(s.T, p.T)
    return t**2 * (beta * (1 - rows.mean()) + gamma * (1 - columns.mean()))


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_dist_matches_the_correlations_of_numpy(t):
    z, v = pair(1.0)
    with jax.enable_x64(True):
        loss = lambda z, v: losses.dist(z, v, t, 2.0, 0.5)
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(z), jnp.asarray(v))
    assert value.shape == ()
    np.testing.assert_allclose(value, plain_dist(z, v, t, 2.0, 0.5), rtol=1e-5)
    h, expected = 1e-4, np.empty((B, C))
    for place in np.ndindex(B, C):
        step = np.zeros((B, C))
        step[place] = h
        ends = [plain_dist(z + n * step, v, t, 2.0, 0.5) for n in (1, -1)]
        expected[place] = (ends[0] - ends[1]) / (2 * h)
    assert_close([gradient], [expected], rtol=1e-4)
    single = losses.dist(jnp.asarray(z, jnp.float32), jnp.asarray(v, jnp.float32), t, 2.0, 0.5)
    np.testing.assert_allclose(single, value, rtol=1e-5)


def test_dist_of_a_constant_row_or_column_is_finite():
    z, v = pair(1.0)
    z[:, 2], z[1], v[:, 4] = -1e4, 0.0, -1e4  # no probability of a class, and a uniform example
    loss = lambda z: losses.dist(z, jnp.asarray(v), 1.0)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(z))
    chex.assert_tree_all_finite((value, gradient))
    alone = jax.grad(lambda z: losses.dist(z, jnp.asarray(v[:1]), 1.0))(jnp.asarray(z[:1]))
    chex.assert_tree_all_finite(alone)  # every column of one example is constant


def test_dist_has_leading_axes_and_is_zero_for_affine_probabilities():
    z, v = (jnp.asarray(x) for x in pair(1.0))
    found = losses.dist(jnp.stack([z, v]), jnp.stack([v, v]), 2.0)
    chex.assert_shape(found, (2,))
    np.testing.assert_allclose(found, [losses.dist(z, v, 2.0), 0.0], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"shape \(7,\); it must have at least two axes"):
        losses.dist(z[0], v[0], 1.0)


def test_dist_lets_no_gradient_into_the_teacher():
    z, v = (jnp.asarray(x) for x in pair())
    chex.assert_trees_all_equal(jax.grad(lambda v: losses.dist(z, v, 2.0))(v), jnp.zeros_like(v))
