"""Schedules, the rising momentum and the limit on a unit's weights, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim
from kdjax.optim import OPTIMIZERS, SCHEDULES, OptimizerSpec

STEPS = 300


def hparams(**values):
    return {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9} | values


def parameters(scale=1.0):
    random = np.random.default_rng(0)
    return {
        "kernel": jnp.float32(scale * random.normal(size=(7, 5))),
        "convolution": jnp.float32(scale * random.normal(size=(3, 3, 2, 4))),
        "bias": jnp.float32(scale * random.normal(size=(5,))),
    }


def squared_lengths(x):
    return np.sum(np.float64(x) ** 2, axis=tuple(range(x.ndim - 1)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", lambda t: 1.0),
        ("linear", lambda t: 1 - t),
        ("cosine", lambda t: (1 + np.cos(np.pi * t)) / 2),
        ("exponential", lambda t: 0.998 ** (3000 * t)),
        ("halving", lambda t: 0.5 ** np.floor(10 * t)),
    ],
)
def test_schedules_are_functions_of_the_share_of_the_steps(name, expected):
    schedule = SCHEDULES[name](STEPS)
    steps = np.arange(0, STEPS, 7)
    found = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(found, [expected(step / STEPS) for step in steps], rtol=1e-5)


def test_warmup_rises_to_the_whole_rate_and_then_the_schedule_starts():
    rule = optim.build(OptimizerSpec(name="sgd", warmup_steps=4), 20, hparams(momentum=0.0))
    params, state, sizes = {"w": jnp.zeros(())}, None, []
    state = rule.init(params)
    for _ in range(20):
        updates, state = rule.update({"w": jnp.ones(())}, state, params)
        sizes.append(-float(updates["w"]) / 0.1)
    cosine = [(1 + np.cos(np.pi * t / 16)) / 2 for t in range(16)]
    np.testing.assert_allclose(sizes, [0.2, 0.4, 0.6, 0.8, *cosine], rtol=1e-5)


class TestMaxNorm:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_no_unit_is_longer_after_any_step(self, name):
        spec = OptimizerSpec(name=name, schedule="constant", max_squared_norm=2.0)
        rule = optim.build(spec, STEPS, hparams(learning_rate=1.0))
        params = parameters(scale=3.0)
        state = rule.init(params)
        for step in range(5):
            gradient = jax.tree.map(lambda x, s=step: jnp.sin(s + x), params)
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            for kernel in ("kernel", "convolution"):
                assert squared_lengths(params[kernel]).max() <= 2 * (1 + 1e-5)
        assert squared_lengths(params["bias"][:, None]).max() > 2

    def test_shrinks_only_what_is_too_long_and_keeps_its_direction(self):
        params = parameters()
        limit = float(np.median(squared_lengths(params["kernel"])))
        updates = jax.tree.map(lambda x: 0.5 * x, params)
        rule = optim.max_norm(limit)
        found, _ = rule.update(updates, rule.init(params), params)
        new = np.float64(params["kernel"] + found["kernel"])
        wanted = 1.5 * np.float64(params["kernel"])
        lengths = squared_lengths(wanted)
        factor = np.minimum(1, np.sqrt(limit / lengths))
        assert (factor < 1).any() and (factor == 1).any()
        np.testing.assert_allclose(new, wanted * factor, rtol=1e-5)
        np.testing.assert_array_equal(found["bias"], updates["bias"])


class TestRisingMomentum:
    def test_is_the_recurrence_of_the_dropout_paper(self):
        rule = optim.rising_momentum(0.99, STEPS)
        params = {"w": jnp.zeros(3)}
        state, velocity = rule.init(params), np.zeros(3)
        for step in range(80):
            gradient = np.cos(step + np.arange(3.0))
            updates, state = rule.update({"w": jnp.float32(gradient)}, state)
            p = 0.5 + (0.99 - 0.5) * min(step / (STEPS // 6), 1)
            velocity = p * velocity + (1 - p) * gradient
            np.testing.assert_allclose(updates["w"], velocity, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_the_named_weights_decay_and_have_a_limit(name):
    """As in a stage, where a term's own parameters stand beside those of the net."""
    spec = OptimizerSpec(name=name, max_squared_norm=0.1)
    trained = parameters(), {"projection": 3 * jnp.ones((2, 7, 5)), "bias": jnp.ones((2, 5))}
    weights = lambda trained: (
        optim.matrices(trained[0]),
        jax.tree.map(lambda _: False, trained[1]),
    )
    rule = optim.build(spec, STEPS, hparams(weight_decay=0.5), weights)
    nothing = jax.tree.map(jnp.zeros_like, trained)
    updates, _ = rule.update(nothing, rule.init(trained), trained)
    (net, own), (_, before) = optax.apply_updates(trained, updates), trained
    assert squared_lengths(net["kernel"]).max() <= 0.1 * (1 + 1e-5)
    np.testing.assert_array_equal(own["projection"], before["projection"])
    np.testing.assert_array_equal(own["bias"], before["bias"])
