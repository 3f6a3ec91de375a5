"""Losses of masked classes, whose logits are -inf, and of arrays that do not fit."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import (
    MEANS,
    cross_entropy,
    distillation,
    ensemble_logits,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.rules import InputError

B, C = 4, 6
LABELS = jnp.array([1, -1, 4, 3])
THERE = np.array([1, 3, 4])  # classes that are not masked; every label is one of them
TEMPERATURES = (1e-3, 1.0, 4.0, 1e4)
LOSSES = {
    "soft_cross_entropy": lambda z, v, y, t: soft_cross_entropy(z, v, t),
    "kl_divergence": lambda z, v, y, t: kl_divergence(z, v, t),
    "logit_matching": lambda z, v, y, t: logit_matching(z, v),
    "distillation": lambda z, v, y, t: distillation(z, v, y, t, 0.7, 0.3),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_temperature = pytest.mark.parametrize("t", TEMPERATURES)
every_mean = pytest.mark.parametrize("mean", MEANS)


def logits(*shape, scale=3.0):
    return scale * np.random.default_rng(3).normal(size=(*shape, C)).astype(np.float32)


def masked(x, there=THERE):
    return np.where(np.isin(np.arange(C), there), x, -np.inf).astype(np.float32)


def value_and_gradient(loss, z, *rest):
    """The loss [...] and its gradient [..., C], with every NaN of either refused."""
    with jax.debug_nans(True):
        return jax.device_get(compiled(loss)(*(jnp.asarray(x) for x in (z, *rest))))


@functools.cache
def compiled(loss):
    def both(z, *rest):
        value, backward = jax.vjp(lambda z: loss(z, *rest), z)
        return value, backward(jnp.ones_like(value))[0]

    return jax.jit(both)


def assert_like_absent(actual, absent):
    """As if the masked classes did not exist."""
    (value, gradient), (fewer_value, fewer_gradient) = actual, absent
    size = np.abs(fewer_gradient).max()
    np.testing.assert_allclose(value, fewer_value, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[..., THERE], fewer_gradient, rtol=2e-5, atol=2e-5 * size)
    assert (np.delete(gradient, THERE, axis=-1) == 0).all()


def test_cross_entropy_of_two_classes_and_a_masked_one():
    loss = cross_entropy(jnp.array([[0.0, -jnp.inf, 1.0]]), jnp.array([2]))
    np.testing.assert_allclose(loss, [np.log(1 + np.exp(-1))], rtol=1e-6)  # 0.3133


@pytest.mark.parametrize("e", [0.0, 0.1, 0.9])
def test_cross_entropy_is_that_of_the_classes_that_are_there(e):
    z = logits(B)
    few = jnp.array([0, -1, 2, 1])  # the same labels among those classes
    actual = value_and_gradient(cross_entropy, masked(z), LABELS, e)
    assert_like_absent(actual, value_and_gradient(cross_entropy, z[:, THERE], few, e))


@pytest.mark.parametrize("e", [0.0, 0.1])
def test_a_label_that_is_masked_costs_infinity_and_no_label_costs_zero(e):
    value, gradient = value_and_gradient(cross_entropy, masked(logits(2)), jnp.array([0, -1]), e)
    assert value.tolist() == [np.inf, 0] and np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()


@every_loss
@every_temperature
def test_a_class_that_is_masked_in_both_nets_costs_nothing(name, t):
    z, v = logits(2, B)
    few = jnp.array([0, -1, 2, 1])
    actual = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(masked(v)), LABELS, t)
    absent = value_and_gradient(LOSSES[name], z[:, THERE], jnp.asarray(v[:, THERE]), few, t)
    chex.assert_tree_all_finite((actual, absent))
    assert_like_absent(actual, absent)


@every_loss
@pytest.mark.parametrize("t", [1.0, 4.0, 1e4])
def test_a_class_that_the_student_alone_lacks_costs_infinity(name, t):
    z, v = logits(2, B)
    value, gradient = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(v), LABELS, t)
    assert (value == np.inf).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["soft_cross_entropy", "kl_divergence", "distillation"])
def test_a_class_that_the_student_lacks_costs_nothing_where_its_soft_target_is_zero(name):
    z, v = logits(2, B)
    far = np.where(np.isin(np.arange(C), THERE), v, -1e6).astype(np.float32)
    actual = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(far), LABELS, 2.0)
    expected = value_and_gradient(LOSSES[name], masked(z), jnp.asarray(masked(v)), LABELS, 2.0)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)


@every_loss
@every_temperature
def test_a_class_that_the_teacher_alone_lacks_has_a_soft_target_of_zero(name, t):
    z, v = logits(2, B)
    value, gradient = value_and_gradient(LOSSES[name], z, jnp.asarray(masked(v)), LABELS, t)
    assert np.isfinite(gradient).all()
    if name == "logit_matching":
        assert (value == np.inf).all()
    else:
        far = jnp.asarray(np.maximum(masked(v), -1e8))  # probability 0 in float32 at every T
        expected = value_and_gradient(LOSSES[name], z, far, LABELS, t)
        chex.assert_trees_all_close((value, gradient), expected, rtol=1e-4, atol=1e-6 * max(t, 1))


@pytest.mark.parametrize(("soft", "hard"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_weight_of_zero_leaves_out_a_term_that_is_infinite(soft, hard):
    z, v = logits(2, B)
    labels = jnp.array([0, 0, 1, 3])  # 0 is masked
    value = distillation(jnp.asarray(masked(z)), jnp.asarray(v), labels, 1.0, soft, hard)
    assert value.tolist() == pytest.approx(
        [np.inf] * B
        if soft
        else (hard * cross_entropy(masked(z), labels)).tolist()
        if hard
        else [0] * B
    )


MIXES = {mean: functools.partial(ensemble_logits, mean=mean) for mean in MEANS}
SOFTMAXES = {
    mean: lambda v, t, weights, mix=mix: jax.nn.softmax(mix(v, t, weights=weights) / t)[..., 1]
    for mean, mix in MIXES.items()
}
BY_POSITION = {
    mean: lambda v, t, weights, mix=mix: mix(v, t, weights=weights)[..., -len(THERE) :]
    for mean, mix in MIXES.items()
}


@every_mean
@every_temperature
@pytest.mark.parametrize("weights", [[0.5, 0.2, 0.3], [0.0, 1.0, 0.0]], ids=str)
def test_a_class_that_all_teachers_lack_is_masked_in_the_ensemble(mean, t, weights):
    v = logits(3, B)
    v = np.concatenate([np.full((3, B, 2), -np.inf, np.float32), v[..., :3]], axis=-1)
    found = np.asarray(MIXES[mean](jnp.asarray(v), t, weights=jnp.array(weights)))
    assert (found[:, :2] == -np.inf).all()
    actual, gradient = value_and_gradient(BY_POSITION[mean], v, t, np.float32(weights))
    absent, expected = value_and_gradient(BY_POSITION[mean], v[..., 2:], t, np.float32(weights))
    np.testing.assert_allclose(actual, absent, rtol=1e-6, atol=1e-6 * max(t, 1))
    np.testing.assert_allclose(gradient[..., 2:], expected, rtol=1e-5, atol=1e-6)
    assert (gradient[..., :2] == 0).all()
    _, gradient = value_and_gradient(SOFTMAXES[mean], v, t, np.float32(weights))
    assert np.isfinite(gradient).all()


def test_a_class_that_one_teacher_lacks_is_masked_in_the_geometric_mean_alone():
    v = jnp.asarray(np.stack([logits(B), masked(logits(B))]))
    there = np.isin(np.arange(C), THERE)
    arithmetic, geometric = (np.asarray(ensemble_logits(v, 2.0, mean)) for mean in MEANS)
    p = np.asarray(jax.nn.softmax(v / 2.0)).mean(axis=0)
    np.testing.assert_allclose(jax.nn.softmax(arithmetic / 2.0), p, rtol=1e-5)
    assert (np.isfinite(geometric) == there).all()
    for mean in MEANS:  # a teacher without weight masks nothing
        left_out = ensemble_logits(v, 2.0, mean, jnp.array([1.0, 0.0]))
        assert np.isfinite(left_out).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("student", "teacher"), [[(C,), (B, C)], [(B, C), (1, C)], [(B, C), (B, C - 1)]]
)
def test_student_and_teacher_of_different_shapes_are_refused(name, student, teacher):
    says = (
        f"teacher_logits has shape {teacher}; it must have the shape of student_logits, {student}"
    )
    with pytest.raises(InputError, match=re.escape(says)):
        LOSSES[name](jnp.zeros(student), jnp.zeros(teacher), jnp.zeros(student[:-1], int), 1.0)


labelled = pytest.mark.parametrize(
    "loss", [cross_entropy, lambda z, y: distillation(z, z, y, 1.0, 1.0, 1.0)]
)


@labelled
@pytest.mark.parametrize(
    ("shape", "labels"), [[(C,), (C,)], [(B, C), (B, 1)], [(B, C), (B - 1,)], [(B, C), ()]]
)
def test_labels_of_another_shape_are_refused(loss, shape, labels):
    says = f"labels has shape {labels}; it must have the shape of the logits without the classes, "
    with pytest.raises(InputError, match=re.escape(says + str(shape[:-1]))):
        loss(jnp.zeros(shape), jnp.zeros(labels, int))


@labelled
def test_labels_that_are_not_integers_are_refused(loss):
    with pytest.raises(InputError, match="labels is of float32; it must be of integers"):
        loss(jnp.zeros((B, C)), jnp.zeros(B))


def test_logits_without_an_axis_of_classes_are_refused():
    with pytest.raises(InputError, match=r"logits has shape \(\); it must have at least one axis"):
        cross_entropy(jnp.float32(1), jnp.array(0))
    with pytest.raises(InputError, match=r"student_logits has shape \(\); it must have at least "):
        kl_divergence(jnp.float32(1), jnp.float32(1), 1.0)
