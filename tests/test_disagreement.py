"""How nets disagree: measures against definitions, sampling and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from stages import refuses

from kdjax.disagreement import MEASURES, auroc, of_dirichlet, of_nets

K, B, C = 4, 6, 5
LOGITS = 3 * np.random.default_rng(0).normal(size=(K, B, C))


def entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def test_the_measures_of_nets_are_their_definitions():
    p = softmax(LOGITS, axis=-1)
    found = of_nets(LOGITS)
    assert tuple(found) == MEASURES
    np.testing.assert_allclose(found["predictive_entropy"], entropy(p.mean(axis=0)))
    mutual = (p * np.log(p / p.mean(axis=0))).sum(axis=-1).mean(axis=0)  # KL from the mean
    np.testing.assert_allclose(found["mutual_information"], mutual)
    pairs = [(p[i] * np.log(p[i] / p[j])).sum(axis=-1) for i in range(K) for j in range(K)]
    np.testing.assert_allclose(found["expected_pairwise_kl"], np.mean(pairs, axis=0))


def test_nets_that_agree_and_nets_that_are_certain_of_other_classes_are_the_extremes():
    same = of_nets(np.repeat(LOGITS[:1], K, axis=0))
    np.testing.assert_allclose(same["mutual_information"], 0, atol=1e-12)
    np.testing.assert_allclose(same["expected_pairwise_kl"], 0, atol=1e-12)
    apart = of_nets(1e3 * np.eye(K, C)[:, None])
    np.testing.assert_allclose(apart["mutual_information"], np.log(K))
    np.testing.assert_allclose(apart["predictive_entropy"], np.log(K))


def test_a_masked_class_costs_nothing():
    masked = np.concatenate([LOGITS, np.full((K, B, 1), -np.inf)], axis=-1)
    for name in ("predictive_entropy", "mutual_information"):
        np.testing.assert_allclose(of_nets(masked)[name], of_nets(LOGITS)[name], rtol=1e-12)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_a_dirichlet_has_the_measures_of_many_nets_drawn_from_it(shift):
    log_a = LOGITS[0, 0] / 2 + shift
    drawn = np.random.default_rng(1).dirichlet(np.exp(log_a), size=200_000)
    nets = of_nets(np.log(np.maximum(drawn, 1e-300))[:, None])
    found = of_dirichlet(log_a)
    np.testing.assert_allclose(found["predictive_entropy"], nets["predictive_entropy"][0], 5e-3)
    np.testing.assert_allclose(found["mutual_information"], nets["mutual_information"][0], 2e-2)
    if shift > 0:  # else the tail is never drawn
        expected = nets["expected_pairwise_kl"][0]
        np.testing.assert_allclose(found["expected_pairwise_kl"], expected, rtol=2e-2)


def test_a_sharp_dirichlet_does_not_disagree_and_keeps_its_mean():
    found = of_dirichlet(LOGITS[0] + 20)
    np.testing.assert_allclose(found["predictive_entropy"], entropy(softmax(LOGITS[0], axis=-1)))
    assert (found["mutual_information"] > 0).all() and (found["mutual_information"] < 1e-7).all()


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
)
def test_the_area_is_that_of_scikit_learn_with_ties(inside, outside):
    labels = [0] * len(inside) + [1] * len(outside)
    expected = roc_auc_score(labels, inside + outside)
    np.testing.assert_allclose(auroc(inside, outside), expected, atol=1e-12)


def test_the_area_of_digits_is_that_of_scikit_learn():
    """How well the ink of an image tells zeros from ones; the numbers have ties."""
    images, labels = load_digits(return_X_y=True)
    ink = images.sum(axis=1)
    expected = roc_auc_score(labels[labels < 2], ink[labels < 2])
    np.testing.assert_allclose(auroc(ink[labels == 0], ink[labels == 1]), expected)


def test_what_is_no_number_is_refused():
    with refuses("logits has shape (3,)", "[K, ..., C]"):
        of_nets(np.zeros(3))
    with refuses("inside has 0 numbers"):
        auroc([], [1.0])
    with refuses("outside has 2 numbers", "none NaN"):
        auroc([1.0], [np.nan, 0.0])
    with refuses("log_concentrations is 1.0"):
        of_dirichlet(1.0)
