"""The nets of `own_nets.py` as values, and how tests start and call them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import own_nets
from own_nets import FEATURES

from kdjax.nets import Training, equinox, function, linen, nnx

BATCH, STEPS = 20, 3
TINY = {
    "linen": linen(own_nets.LinenTiny()),
    "nnx": nnx(own_nets.NNXTiny),
    "equinox": equinox(own_nets.EquinoxTiny),
    "function": function(own_nets.tiny, own_nets.tiny_params()),
}
NOISY = {
    "linen": linen(own_nets.LinenNoisy()),
    "nnx": nnx(own_nets.NNXNoisy),
    "equinox": equinox(own_nets.EquinoxNoisy),
}
X = np.random.default_rng(0).normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)


def training(key=1):
    return Training(jnp.arange(BATCH), jax.random.key(key))


@functools.cache
def init(net, seed=0):
    return jax.jit(net.init)(jax.random.key(seed), X[0, :1])


def apply(net, variables, inputs=X[0], training=None, taps=()):
    return jax.jit(lambda v, x: net.apply(v, x, training, taps))(variables, inputs)


def population(net):
    return jax.vmap(lambda seed: net.init(jax.random.key(seed), X[0, :1]))(jnp.arange(2))


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)
