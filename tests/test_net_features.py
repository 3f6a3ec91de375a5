"""Outputs of a net's layers, by path, without an edit to the net."""

import re

import equinox as eqx
import flax.linen as nn
import jax
import numpy as np
import own_nets
import pytest
from flax import nnx as flax_nnx
from net_values import BATCH, NOISY, TINY, X, apply, assert_equal, init, population, training
from own_nets import CLASSES, FEATURES, HIDDEN

from kdjax.nets import EVERY, equinox, linen, nnx
from kdjax.rules import InputError


@pytest.mark.parametrize("net", TINY.values(), ids=TINY)
def test_features_are_those_of_a_forward_pass_by_hand(net):
    variables = init(net)
    logits, by_hand = own_nets.tiny(variables["params"], X[0])
    outputs, _ = apply(net, variables, taps=("second", "first"))
    assert set(outputs.features) == {"first", "second"}
    assert_equal(dict(outputs.features), jax.jit(lambda: by_hand)())
    np.testing.assert_array_equal(outputs.logits, logits)
    assert apply(net, variables)[0].features == {}
    assert set(apply(net, variables, taps=(EVERY,))[0].features) == {"first", "second"}


@pytest.mark.parametrize(
    ("net", "path"),
    [
        (NOISY["linen"], "BatchNorm_0"),
        (NOISY["nnx"], "blocks/0"),
        (NOISY["equinox"], "layers/0"),
        (NOISY["equinox"], "norm"),  # which also returns its state
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_features_come_from_a_population_in_training_with_their_gradient(net, path):
    def loss(params, variables):
        outputs, _ = net.apply({**variables, "params": params}, X[0], training(), (path,))
        return (outputs.features[path] ** 2).mean(), outputs.features[path]

    one = lambda v: jax.grad(loss, has_aux=True)(v["params"], v)
    gradient, features = jax.jit(lambda: jax.vmap(one)(population(net)))()
    assert features.shape == (2, BATCH, HIDDEN) and (features != 0).any()
    leaves = jax.tree.leaves(gradient)
    assert sum(bool((leaf != 0).any()) for leaf in leaves) in (1, 2, 3, 4)


class Shared(nn.Module):
    """Calls one layer twice, another under scan, and one whose output is no array."""

    @nn.compact
    def __call__(self, x):
        twice = nn.Dense(FEATURES, name="twice")
        x = twice(twice(x))
        x, _ = Pair(name="pair")(x)
        return nn.Dense(CLASSES, name="head")(x)


class Pair(nn.Module):
    def __call__(self, x):
        return x, x


class SharedNNX(flax_nnx.Module):
    def __init__(self, rngs):
        self.twice = flax_nnx.Linear(FEATURES, FEATURES, rngs=rngs)
        self.head = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)
        self.idle = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.twice(self.twice(x)))


class SharedEquinox(eqx.Module):
    twice: eqx.nn.Linear
    head: eqx.nn.Linear
    inner: eqx.nn.Linear

    def __init__(self, key):
        self.twice = eqx.nn.Linear(FEATURES, FEATURES, key=key)
        self.head = eqx.nn.Linear(FEATURES, CLASSES, key=key)
        self.inner = eqx.nn.Linear(1, 1, key=key)

    def __call__(self, x):
        x = self.twice(self.twice(x))
        return self.head(jax.vmap(self.inner)(x.reshape(-1, 1)).reshape(-1))


@pytest.mark.parametrize(
    ("net", "path", "says"),
    [
        (TINY["linen"], "third", "LinenTiny calls no layer 'third'; .* of: first, second$"),
        (TINY["nnx"], "third", "NNXTiny calls no layer 'third'; .* of: first, second$"),
        (TINY["equinox"], "third", "EquinoxTiny calls no layer 'third'; .* of: first, second$"),
        (TINY["function"], "third", "tiny calls no layer 'third'; .* of: first, second$"),
        (linen(Shared()), "twice", "calls its layer 'twice' 2 times, and not once; .*pair, head"),
        (linen(Shared()), "pair", "the layer 'pair' of Shared puts out a tuple, no array"),
        (nnx(SharedNNX), "twice", "calls its layer 'twice' 2 times, and not once; .*: head$"),
        (nnx(SharedNNX), "idle", "calls no layer 'idle'; .*: head$"),
        (equinox(SharedEquinox), "twice", "calls its layer 'twice' 2 times, and not once"),
        (equinox(SharedEquinox), "inner", "'inner' within a transformation such as vmap or jit"),
    ],
)
def test_a_layer_that_cannot_be_tapped_is_named_with_those_that_can(net, path, says):
    with pytest.raises(InputError) as error:
        jax.eval_shape(lambda: apply(net, net.init(jax.random.key(0), X[0, :1]), taps=(path,)))
    assert re.search(says, str(error.value))
