"""A net that prints by jax.debug trains, and what is exported of it is silent."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays

import kdjax
from kdjax.nets import function, linen
from kdjax.nets.export import export, load

CLASSES, X = 10, np.random.default_rng(0).normal(size=(7, 64)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(64, CLASSES)).astype(np.float32)


def say(x):
    jax.debug.print("seen {}", x.mean())
    jax.debug.callback(lambda x: None, x)
    return x


@jax.custom_jvp
def shown(x):
    return say(x) * 2.0


shown.defjvp(lambda x, dx: (shown(*x), 2.0 * dx[0]))

PRINTING = {
    "plain": lambda w, x: say(x) @ w,
    "ordered": lambda w, x: jax.debug.print("seen", ordered=True) or x @ w,
    "jit": lambda w, x: jax.jit(say)(x) @ w,
    "scan": lambda w, x: jax.lax.scan(lambda c, _: (say(c), None), x, None, length=2)[0] @ w,
    "while": lambda w, x: jax.lax.fori_loop(0, 2, lambda _, c: say(c), x) @ w,
    "cond": lambda w, x: jax.lax.cond(w[0, 0] > 9, say, lambda x: x, x) @ w,
    "remat": lambda w, x: jax.checkpoint(say)(x) @ w,
    "vmap": lambda w, x: jax.vmap(say)(x) @ w,
    "derivative": lambda w, x: shown(x) @ w,
    "size": lambda w, x: say(x).reshape(len(x), -1) @ w,
    "number": lambda w, x: say(x) @ w * float(len(x) > 0),
}


@pytest.mark.parametrize("name", PRINTING)
def test_a_file_holds_all_but_the_prints(name, capfd):
    net = function(PRINTING[name], WEIGHTS, name)
    loaded = load(export(net, net.variables, (64,)), net.variables, (64,), CLASSES)
    logits = jax.block_until_ready(loaded.call(net.variables, X))
    jax.effects_barrier()
    assert capfd.readouterr().out == ""
    expected = net.apply(net.variables, X, None, ())[0].logits
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


class Talking(nn.Module):
    @nn.compact
    def __call__(self, x):
        jax.debug.print("largest {}", jnp.abs(x).max())
        return nn.Dense(CLASSES)(x)


@pytest.mark.parametrize("plan", ["vmap", "map"])
def test_a_net_that_prints_trains_and_predicts(plan, undrawn, capfd):
    images, labels = arrays()
    x = images.reshape(len(images), -1).astype(np.float32)
    data = kdjax.arrays(train=(x[:100], labels[:100]), test=(x[100:], labels[100:]))
    how = dict(steps=2, batch=10, seeds=2, quiet=True, execution=dict(plan=plan, data_shards=1))
    trained = kdjax.train(linen(Talking()), data, **how)
    jax.effects_barrier()
    assert "largest 16" in capfd.readouterr().out
    assert trained.predict(x[:3]).shape == (2, 3, CLASSES)
