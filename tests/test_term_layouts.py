"""Every term of logits trains on the digits, alike on every layout of devices."""

import jax
import numpy as np
import pytest
from digits import ONE, a_stage, teacher_logits, train
from logit_rows import OF_LOGITS

import kdjax
from examples.your_own import mine
from kdjax.config.spec import grid
from kdjax.parallel import Layout

pytestmark = pytest.mark.slow

NAMES = [name for name, row in OF_LOGITS.items() if row.needs <= {"labels", "targets"}]
STEPS = 20


@pytest.fixture(scope="module")
def trained():
    """(layout) -> the state and losses of two members for each row, who learn by that row alone."""
    spec = a_stage(
        objective=dict.fromkeys(NAMES, 1.0),
        teacher="teachers",
        temperature=2.0,
        steps=STEPS,
        optimizer=dict(learning_rate=0.01),
        members=dict(seed=2),
    )
    weigh = lambda name: {f"{n}.weight": float(n == name) for n in NAMES}
    members = [member | weigh(name) for name in NAMES for member in grid(spec)]
    return lambda layout: train(spec, layout, logits=teacher_logits(), members=members)


@pytest.fixture(scope="module")
def on_one_device(trained):
    return trained(ONE)


def test_every_row_learns(on_one_device):
    state, loss = on_one_device
    assert loss.shape == (2 * len(NAMES), STEPS) and not state.bad.any()
    fell = (loss[:, -4:].mean(axis=1) < loss[:, :4].mean(axis=1)).reshape(-1, 2).all(axis=1)
    assert [name for name, both in zip(NAMES, fell, strict=True) if not both] == []


def test_rows_teach_different_things(on_one_device):
    kernels = on_one_device[0].params["Dense_0"]["kernel"][::2].reshape(len(NAMES), -1)
    alike = np.abs(kernels[:, None] - kernels[None]).max(axis=2) < 1e-4
    pairs = {(NAMES[i], NAMES[j]) for i, j in np.argwhere(alike) if i < j}
    assert pairs == {("soft_cross_entropy", "kl_divergence")}  # whose gradients are equal


@pytest.mark.parametrize("layout", [Layout(2, 1), Layout(1, 2), Layout(2, 2)], ids=str)
def test_every_row_is_the_same_on_every_layout(layout, trained, on_one_device):
    state, loss = on_one_device
    other_state, other_loss = trained(layout)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-3, atol=1e-4)
    trees = (jax.tree.leaves(s.params) for s in (other_state, state))
    for x, y in zip(*trees, strict=True):  # AdamW divides a gradient near 0, and its rounding
        np.testing.assert_allclose(x, y, atol=2e-3)


def test_all_rows_are_one_objective_of_a_stage():
    options = dict(
        top_k_kl=dict(k=3, weight=1.0),
        multi_temperature=dict(temperatures=(1.0, 3.0), weight=1.0),
        standardized=dict(term="dkd", weight=9.0, temperature=2.0, beta=(2.0, 8.0)),
    )
    found = kdjax.distill(
        dict(name="mlp", hidden=(16,)),
        mine.machine,
        mine.digits,
        objective=dict.fromkeys(NAMES, 0.1) | options,
        temperature=2.0,
        learning_rate=0.01,
        steps=60,
        quiet=True,
    )
    assert [member["standardized.beta"] for member in found.members] == [2.0, 8.0]
    assert not any(found.diverged) and max(found.metrics["test"]["errors"]) < 400  # of 797
