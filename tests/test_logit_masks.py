"""Losses of logits where classes are masked, whose logits are -inf, in both nets or in one."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from plain_terms import CASES
from test_loss_masks import (
    LABELS,
    THERE,
    B,
    assert_like_absent,
    logits,
    masked,
    value_and_gradient,
)

from kdjax import losses

DIST = {"dist": lambda z, v, y, t: losses.dist(z, v, t, 2.0, 0.5)}
LOSSES = {name: loss for name, (loss, _) in CASES.items()} | DIST
BOUNDED = ("jensen_shannon", "skew_kl", "dist")  # whichever net lacks a class
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
@pytest.mark.parametrize("t", [0.5, 4.0])
def test_a_class_that_is_masked_in_both_nets_costs_nothing(name, t):
    z, v = logits(2, B)
    few = jnp.array([0, -1, 2, 1])  # the same labels among the classes that are there
    actual = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(masked(v)), LABELS, t)
    absent = value_and_gradient(LOSSES[name], z[:, THERE], jnp.asarray(v[:, THERE]), few, t)
    chex.assert_tree_all_finite((actual, absent))
    assert_like_absent(actual, absent)


@every_loss
def test_a_class_that_the_student_alone_lacks_has_a_finite_gradient(name):
    z, v = logits(2, B)
    value, gradient = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(v), LABELS, 2.0)
    assert np.isfinite(gradient).all()
    labelled = np.asarray(LABELS) >= 0
    if name in (*BOUNDED, "reverse_kl", "virtual_teacher"):
        assert np.isfinite(value).all()
    elif name in ("dkd", "nkd", "standardized_dkd"):
        assert (np.isinf(value) == labelled).all()
    elif name not in ("hard_label", "top_k_kl"):  # which cost by what the teacher names
        assert (value == np.inf).all()


@every_loss
def test_a_class_that_the_teacher_alone_lacks_costs_infinity_in_a_reverse_divergence(name):
    z, v = logits(2, B)
    value, gradient = value_and_gradient(LOSSES[name], z, jnp.asarray(masked(v)), LABELS, 2.0)
    assert np.isfinite(gradient).all()
    infinite = name in ("reverse_kl", "log_softmax_l2")
    assert (np.isinf(value) == infinite).all()


def test_a_masked_label_costs_as_a_class_without_probability():
    z, v = (jnp.asarray(masked(x)) for x in logits(2, B))
    labels = jnp.array([0, 0, 2, 5])  # masked in both
    for loss in (losses.dkd, losses.nkd):
        value, gradient = value_and_gradient(lambda *x, f=loss: f(*x, 2.0), z, v, labels)
        chex.assert_tree_all_finite((value, gradient))
