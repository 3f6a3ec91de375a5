"""Metrics against NumPy in float64, on logits made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import metrics

RANDOM = np.random.default_rng(0)
SCALES = np.repeat([0.1, 1.0, 4.0, 40.0], 25)[:, None]  # from unsure to all but certain
LOGITS = np.concatenate([SCALES * RANDOM.normal(size=(100, 5)), np.zeros((3, 5)), 900 * np.eye(5)])
TEACHER = LOGITS[::-1] / 3 + RANDOM.normal(size=LOGITS.shape)
LABELS = RANDOM.integers(0, 5, len(LOGITS))


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def best_temperature(logits, labels):
    """The temperature of the least nll, of many from 1/8 to 16."""
    tried = np.geomspace(1 / 8, 16, 4001)
    rows = np.arange(len(labels))
    return tried[np.argmin([-log_softmax(logits / t)[rows, labels].mean() for t in tried])]


def expected(logits, labels, teacher):
    """Every metric by its definition, one bin of the calibration error after another."""
    log_p, log_q = log_softmax(logits), log_softmax(teacher)
    p, every = np.exp(log_p), np.arange(len(labels))
    right, confidence = log_p.argmax(axis=1) == labels, p.max(axis=1)
    gaps = 0.0
    for low in range(metrics.BINS):  # (low, low + 1] fifteenths
        inside = (confidence * 15 > low + 1e-9) & (confidence * 15 <= low + 1 + 1e-9)
        if inside.any():
            gaps += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return {
        "errors": (~right).sum(),
        "accuracy": right.mean(),
        "nll": -log_p[every, labels].mean(),
        "ece": gaps,
        "brier": ((p - np.eye(5)[labels]) ** 2).sum(axis=1).mean(),
        "calibration_temperature": best_temperature(logits, labels),  # 16, for labels at random
        "agreement": (log_p.argmax(axis=1) == log_q.argmax(axis=1)).mean(),
        "teacher_kl": (np.exp(log_q) * (log_q - log_p)).sum(axis=1).mean(),
    }


def test_every_metric_is_its_definition_and_padding_counts_nowhere():
    padded = [np.concatenate([values, values[:7]]) for values in (LOGITS, TEACHER)]
    labels = np.append(LABELS, np.full(7, -1))
    batches = [slice(0, 60), slice(60, None)]
    parts = [
        metrics.sums(jnp.float32(padded[0][b]), jnp.array(labels[b]), jnp.float32(padded[1][b]))
        for b in batches
    ]
    found = metrics.finish(jax.tree.map(lambda *sums: np.sum(sums, axis=0), *parts))
    reference = expected(LOGITS, LABELS, TEACHER)
    assert found.keys() == reference.keys()
    for name, value in reference.items():
        assert found[name] == pytest.approx(value, rel=2e-5), name


def test_a_leading_axis_of_members_stays():
    nets = np.stack([LOGITS, LOGITS[::-1]])
    sums = jax.vmap(metrics.sums, (0, None, None))(jnp.float32(nets), jnp.array(LABELS), None)
    found = metrics.finish(jax.tree.map(np.asarray, sums))
    assert "teacher_kl" not in found and "agreement" not in found
    for m, logits in enumerate(nets):
        reference = expected(logits, LABELS, logits)
        for name, values in found.items():
            assert values[m] == pytest.approx(reference[name], rel=2e-5), name


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 7.0])
def test_the_calibration_temperature_is_that_of_the_least_nll(factor):
    """Logits of which the labels are drawn, and then those times a factor."""
    random = np.random.default_rng(1)
    logits = 2 * random.normal(size=(400, 5))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    sums = metrics.sums(jnp.float32(factor * logits), jnp.array(labels), None)
    found = metrics.finish(jax.tree.map(np.asarray, sums))["calibration_temperature"]
    assert found == pytest.approx(best_temperature(factor * logits, labels), rel=0.01)
    assert found == pytest.approx(factor, rel=0.2)


def test_nets_that_are_always_right_have_the_least_temperature_that_is_tried():
    sums = metrics.sums(9.0 * jnp.eye(5), jnp.arange(5), None)
    found = metrics.finish(jax.tree.map(np.asarray, sums))["calibration_temperature"]
    assert found in metrics.TEMPERATURES[:9]  # below 1/2 the nll underflows


@pytest.mark.parametrize(
    ("probabilities", "bin"),
    [
        ([0.2] * 5, 2),  # 3/15, the upper edge of the third
        ([0.59, 0.41, 0, 0, 0], 8),
        ([0.61, 0.39, 0, 0, 0], 9),
        ([1, 0, 0, 0, 0], 14),
    ],
)
def test_a_bin_ends_with_its_upper_edge(probabilities, bin):
    logits = jnp.log(jnp.maximum(jnp.float32([probabilities] * 3), 1e-30))
    with jax.debug_nans(True):  # which a bin without examples does not disturb
        found = jax.jit(metrics.calibration)(logits, jnp.array([0, 0, 1]))
    empty = np.arange(metrics.BINS) != bin
    assert (found["accuracy"][empty] == 0).all() and (found["confidence"][empty] == 0).all()
    found = metrics.without_empty_bins(found)
    assert np.flatnonzero(found["count"]).tolist() == [bin]
    assert found["confidence"][bin] == pytest.approx(max(probabilities), rel=1e-6)
    assert found["accuracy"][bin] == pytest.approx(2 / 3, rel=1e-6)
    for name in ("confidence", "accuracy"):
        assert (np.isnan(found[name]) == empty).all()


def test_the_bins_of_calibration_are_those_of_its_error():
    nets = jnp.float32(np.stack([LOGITS, LOGITS[::-1]]))
    found = jax.vmap(metrics.calibration, (0, None))(nets, jnp.array(LABELS))
    found = metrics.without_empty_bins(found)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(
        ("count", "confidence", "accuracy"), (2, metrics.BINS)
    )
    assert (found["count"].sum(axis=1) == len(LABELS)).all()
    for m, logits in enumerate((LOGITS, LOGITS[::-1])):
        gaps = found["count"][m] * np.abs(found["confidence"][m] - found["accuracy"][m])
        ece = expected(logits, LABELS, logits)["ece"]
        assert np.nansum(gaps) / len(LABELS) == pytest.approx(ece, rel=2e-5)


def test_a_class_that_both_nets_lack_is_as_if_it_did_not_exist():
    lacking = [np.insert(x, 2, -np.inf, axis=1).astype(np.float32) for x in (LOGITS, TEACHER)]
    labels = np.where(LABELS >= 2, LABELS + 1, LABELS)
    with jax.debug_nans(True):
        totals = jax.jit(metrics.sums)(lacking[0], jnp.array(labels), lacking[1])
        bins = jax.jit(metrics.calibration)(lacking[0], jnp.array(labels))
    found = metrics.finish(jax.tree.map(np.asarray, totals))
    for name, value in expected(LOGITS, LABELS, TEACHER).items():
        assert found[name] == pytest.approx(value, rel=2e-5), name
    few = metrics.calibration(jnp.float32(LOGITS), jnp.array(LABELS))
    for name, values in few.items():
        np.testing.assert_allclose(bins[name], values, rtol=1e-5)


def test_padding_counts_nowhere_even_where_it_costs_infinity():
    lacking = np.insert(LOGITS, 5, -np.inf, axis=1).astype(np.float32)
    teacher = np.insert(TEACHER, 5, -np.inf, axis=1).astype(np.float32)
    teacher[:7] = 0  # gives mass to a class that the student lacks
    labels = np.where(np.arange(len(LABELS)) < 7, -1, LABELS)
    found = jax.jit(metrics.sums)(lacking, jnp.array(labels), teacher)
    found = metrics.finish(jax.tree.map(np.asarray, found))
    for name, value in expected(LOGITS[7:], LABELS[7:], TEACHER[7:]).items():
        assert found[name] == pytest.approx(value, rel=2e-5), name
