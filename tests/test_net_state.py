"""Nets that keep more than parameters and averages: counts, truths, the state of a layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays
from flax import nnx

import kdjax

pytestmark = pytest.mark.usefixtures("undrawn")
STEPS = 6
IMAGES, LABELS = arrays()
X = IMAGES.reshape(len(IMAGES), -1).astype(np.float32) / 16
DATA = kdjax.arrays(train=(X[:150], LABELS[:150]), test=(X[150:], LABELS[150:]))
HOW = dict(steps=STEPS, batch=16, chunk=3, quiet=True, learning_rate=0.01)


class Averaging(eqx.Module):
    """With a norm whose state has a truth that each call sets anew."""

    dense: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.dense = eqx.nn.Linear(64, 10, key=key)
        self.norm = eqx.nn.BatchNorm(10, "batch", mode="ema")

    def __call__(self, x, state):
        return self.norm(self.dense(x), state)


@pytest.mark.parametrize("plan", ["vmap", "map"])
def test_an_equinox_state_may_be_set_to_new_constants(plan):
    trained = kdjax.train(kdjax.equinox(Averaging), DATA, seeds=2, execution=dict(plan=plan), **HOW)
    first_time, numbers = jax.tree.leaves(trained.variables["state"])[:2]
    assert first_time.dtype == bool and not first_time.any()
    assert (numbers != 0).all() and np.isfinite(trained.predict(X[:3])).all()


class Counting(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(64, 10, rngs=rngs)
        self.count = nnx.Variable(jnp.zeros((), jnp.int32))
        self.fresh = nnx.Variable(jnp.array(True))

    def __call__(self, x, train):
        if train:
            self.count.set_value(self.count[...] + 1)
            self.fresh.set_value(jnp.array(False))
        return self.dense(x)


@pytest.mark.parametrize("data_shards", [1, 2])
@pytest.mark.parametrize("teacher", [None, kdjax.teachers.ema(0.5)], ids=["alone", "ema"])
@pytest.mark.slow
def test_counts_and_truths_are_not_averaged(data_shards, teacher):
    net, how = kdjax.nnx(Counting), HOW | dict(execution=dict(data_shards=data_shards))
    if teacher is None:
        trained = kdjax.train(net, DATA, **how)
    else:
        terms = dict(kl_divergence=1.0, cross_entropy=1.0)
        trained = kdjax.distill(net, teacher, DATA, objective=terms, **how)
    state = trained.variables["state"]
    np.testing.assert_array_equal(state["count"], np.array([STEPS], np.int32), strict=True)
    np.testing.assert_array_equal(state["fresh"], [False], strict=True)
