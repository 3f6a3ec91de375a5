"""Whether a batch may be split is read off a net's program, and is so."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from own_nets import CLASSES, FEATURES

from kdjax.nets import Net, Training, equinox, function, linen, nnx
from kdjax.nets.check import checked
from kdjax.nets.modules import CNN, MLP, ResNet


def facts(net, shape=(FEATURES,)):
    return checked(net, shape, CLASSES, "net")


def dense(x):
    return nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return dense(x)


class PlainDropout(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        return dense(nn.Dropout(0.5, deterministic=deterministic)(x))


class PlainBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return dense(nn.BatchNorm(use_running_average=not train)(x))


class AskedBatchNorm(nn.Module):
    """Asks for `Training`, and does not use it."""

    @nn.compact
    def __call__(self, x, training: Training | None):
        return dense(nn.BatchNorm(use_running_average=training is None)(x))


class OnBatch(nn.Module):
    """Normalises by the batch in training, without a running average."""

    @nn.compact
    def __call__(self, x, train):
        return dense(x - x.mean(0, keepdims=True) if train else x)


class Centred(nn.Module):
    """Centres the batch by a loop over its examples."""

    @nn.compact
    def __call__(self, x, train):
        total, _ = jax.lax.scan(lambda total, row: (total + row, None), x[0] * 0, x)
        return dense(x - total.reshape(1, -1) / x.shape[0] if train else x)


class Gathered(nn.Module):
    """Centres each example, one after another, by all of them."""

    @nn.compact
    def __call__(self, x, train):
        centred = lambda row: jnp.tanh(x - row.reshape(1, -1))[0]
        return dense(jax.lax.map(centred, x) if train else x)


class Neighbours(nn.Module):
    """Compares each example with all others in training."""

    @nn.compact
    def __call__(self, x, train):
        return dense(nn.softmax(x @ x.T) @ x if train else x)


class Noise(nn.Module):
    """Noise on the weights is the same for every part; noise on the activations is not."""

    on: str

    @nn.compact
    def __call__(self, x, train):
        noise = lambda shape: jax.random.normal(self.make_rng("noise"), shape)
        if train and self.on == "activations":
            x = x + noise(x.shape)
        if train and self.on == "keys":
            keys = jax.random.split(self.make_rng("noise"), x.shape[0])
            x = x + jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(keys)
        if train and self.on == "weights":
            x = x * noise((1, FEATURES))
        return dense(x)


class Counting(nn.Module):
    """Counts its steps, which is the same for every part."""

    @nn.compact
    def __call__(self, x, train):
        count = self.variable("counts", "steps", lambda: jnp.zeros((), jnp.int32))
        if train:
            count.value = count.value + 1
        return dense(x)


class Branches(nn.Module):
    """Each example by itself, through a cond, a remat and a map."""

    @nn.compact
    def __call__(self, x, train):
        x = jax.lax.cond(x.shape[0] > 1, lambda x: x * 2, lambda x: x, x)
        x = jax.checkpoint(jnp.sin)(x)
        return dense(jax.lax.map(jnp.cos, x))


class KeyedEquinox(eqx.Module):
    dense: eqx.nn.Linear

    def __init__(self, key):
        self.dense = eqx.nn.Linear(FEATURES, CLASSES, key=key)

    def __call__(self, x, key, inference):
        return self.dense(eqx.nn.Dropout(0.5)(x, key=key, inference=inference))


class BatchEquinox(eqx.Module):
    dense: eqx.nn.Linear

    def __init__(self, key):
        self.dense = eqx.nn.Linear(FEATURES, CLASSES, key=key)

    def __call__(self, x, train):
        return self.dense(x - jax.lax.pmean(x, "batch") if train else x)


SPLITS = [
    (linen(MLP(CLASSES, (8,), dropout=0.5, dropout_input=0.2)), True),
    (linen(ResNet(CLASSES, blocks=1, stem=4, channels=(4, 8))), True),
    (linen(Plain()), True),
    (linen(PlainDropout()), False),
    (linen(PlainBatchNorm()), False),
    (linen(CNN(CLASSES, (4, 8), 8, norm="batch")), True),
    (linen(AskedBatchNorm()), False),
    (linen(OnBatch()), False),
    (linen(Centred()), False),
    (linen(Gathered()), False),
    (linen(Neighbours()), False),
    (linen(Noise("activations")), False),
    (linen(Noise("keys")), False),
    (linen(Noise("weights")), True),
    (linen(Counting()), True),
    (linen(Branches()), True),
    (nnx(own_nets.NNXTiny), True),
    (nnx(own_nets.NNXNoisy), False),
    (equinox(own_nets.EquinoxTiny), True),
    (equinox(own_nets.EquinoxNoisy), False),
    (equinox(KeyedEquinox), True),
    (equinox(BatchEquinox), False),
    (function(own_nets.tiny, own_nets.tiny_params()), True),
]
NAMES = [f"{net.name}-{n}" for n, (net, _) in enumerate(SPLITS)]


def shape_of(net):
    return (8, 8, 3) if net.name in ("ResNet", "CNN") else (FEATURES,)


@pytest.mark.parametrize(("net", "expected"), SPLITS, ids=NAMES)
def test_splits_is_read_off_the_program(net, expected):
    assert facts(net, shape_of(net)).splits is expected


@pytest.mark.parametrize(("net", "expected"), SPLITS, ids=NAMES)
@pytest.mark.slow
def test_a_split_batch_gives_the_results_of_the_whole_where_it_splits_and_only_there(net, expected):
    x = np.random.default_rng(0).normal(size=(6, *shape_of(net))).astype(np.float32)
    variables = jax.jit(net.init)(jax.random.key(0), x[:1])

    def train(x, places, mean):
        outputs, others = net.apply(variables, x, Training(places, jax.random.key(1), mean), ())
        return outputs.logits, others

    def part(x, places):
        mean = lambda tree: jax.lax.pmean(tree, "parts")
        logits, others = train(x, places, mean)
        return logits, mean(jax.tree.map(lambda x: x.astype(jnp.float32), others))

    @jax.jit
    def both(x):
        halves = lambda x: x.reshape(2, 3, *x.shape[1:])
        whole = train(x, jnp.arange(6), lambda tree: tree)
        logits, others = jax.vmap(part, axis_name="parts")(halves(x), halves(jnp.arange(6)))
        return whole, (logits.reshape(6, -1), jax.tree.map(lambda x: x[0], others))

    whole, parts = both(x)
    pairs = zip(*map(jax.tree.leaves, (whole, parts)), strict=True)
    same = all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)
    assert same is expected


def test_a_net_may_say_itself_whether_it_splits():
    net = linen(PlainDropout())
    assert not facts(net).splits
    assert facts(Net(net.init, net.apply, net.name, net.spec, splits=True)).splits
