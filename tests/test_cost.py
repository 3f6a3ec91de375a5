"""What a net costs: programs of one form are measured once, others each."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.nets import cost


@pytest.fixture
def measured(monkeypatch):
    """The programs that were run, each of which takes another time."""
    found = []
    monkeypatch.setattr(cost, "_MEASURED", {})
    monkeypatch.setattr(cost, "_least_mean", lambda *run: found.append(run) or len(found) / 1e3)
    return found


def forward(weights, x):
    return jnp.tanh(x @ weights)


def test_nets_of_one_form_have_one_latency(measured):
    x, a, b = np.ones((1, 4), "f"), np.ones((4, 3), "f"), np.zeros((4, 3), "f")
    again = lambda weights, x: forward(weights, x)
    found = [cost.latency_ms(lambda w, x: forward(w, x), a, x), cost.latency_ms(again, b, x)]
    assert found == [1.0, 1.0] and len(measured) == 1


def test_other_shapes_and_other_programs_are_measured(measured):
    x, a = np.ones((1, 4), "f"), np.ones((4, 3), "f")
    wider, other = np.ones((4, 5), "f"), lambda weights, x: jnp.sin(x @ weights)
    found = [cost.latency_ms(*run) for run in ((forward, a, x), (forward, wider, x), (other, a, x))]
    assert found == [1.0, 2.0, 3.0]


def test_a_latency_is_of_the_program_that_runs():
    work = lambda w, x: jnp.linalg.matrix_power(w, 65536) @ x
    x, small, large = np.ones((4, 1), "f"), np.eye(4, dtype="f"), np.eye(200, dtype="f")
    found = cost.latency_ms(work, small, x), cost.latency_ms(work, large, np.ones((200, 1), "f"))
    assert 0 < found[0] < found[1]
