"""The trap of each loss of logits, as those fell into it who wrote it before."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_terms import CASES, plain_top_k_kl
from test_losses import LABELS, B, C, assert_close, log_softmax, pair, softmax, value_and_gradient

from kdjax import losses
from kdjax.rules import InputError


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
    assert (value <= -4 * np.log(0.1) * (1 + 1e-6)).all() and plain[0].max() > 1e4


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
    assert 1 - softmax(z)[0, 1] == 0  # whose logarithm is no number


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
        scaled = 5 * scaled
    assert_close([other, scaled], [value, gradient], rtol=1e-5)
    np.testing.assert_allclose((np.asarray(gradient) * z).sum(axis=1), np.zeros(B), atol=1e-6)


def test_constant_logits_have_a_deviation_of_0_and_a_finite_gradient():
    z, v = np.full((B, C), 3.0), pair()[1]
    value, gradient = value_and_gradient(CASES["standardized"][0], z, v, LABELS, 2.0)
    chex.assert_tree_all_finite((value, gradient))
    chex.assert_trees_all_equal(losses.standardize(jnp.asarray(z)), jnp.zeros((B, C)))


def test_what_needs_no_targets_is_not_standardised():
    for term in (losses.TERMS["cross_entropy"], losses.TERMS["virtual_teacher"]):
        with pytest.raises(InputError, match="which needs no targets, or derivatives"):
            losses.standardized(term)
    with pytest.raises(InputError, match="term is 'kl_divergence'; it must be a Term"):
        losses.standardized("kl_divergence")


# DIST, which is of a whole batch.


def plain_dist(z, v, t, beta, gamma):
    s, p = softmax(z / t), softmax(v / t)
    correlation = lambda x, y: np.array(
        [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    )
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
