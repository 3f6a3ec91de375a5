"""What is known of a net, and refused, before any compute."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from flax import nnx as flax_nnx
from own_nets import CLASSES, FEATURES

from kdjax.nets import Net, Outputs, Training, equinox, function, linen, nnx
from kdjax.nets.check import checked, paths
from kdjax.nets.modules import CNN, MLP, ResNet
from kdjax.rules import InputError

IMAGE, KERNEL = (8, 8, 1), np.ones((FEATURES, CLASSES), np.float32)


def facts(net, shape=(FEATURES,), classes=CLASSES, **how):
    return checked(net, shape, classes, "config.stages.a.model", **how)


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
    return (8, 8, 3) if "ResNet" in net.name else (FEATURES,)


@pytest.mark.parametrize(("net", "expected"), SPLITS, ids=NAMES)
def test_splits_is_read_off_the_program(net, expected):
    assert facts(net, shape_of(net)).splits is expected


@pytest.mark.parametrize(("net", "expected"), SPLITS, ids=NAMES)
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


class Hidden(nn.Module):
    """A convolution behind a remat, in training alone."""

    @nn.compact
    def __call__(self, x, train):
        if train:
            x = nn.remat(nn.Conv)(1, (3, 3))(x)
        elif self.is_initializing():
            nn.Conv(1, (3, 3), name="CheckpointConv_0")(x)
        return dense(x)


@pytest.mark.parametrize(
    ("net", "shape", "kind"),
    [
        (linen(MLP(CLASSES)), IMAGE, "dense"),
        (linen(CNN(CLASSES)), IMAGE, "convolutional"),
        (linen(ResNet(CLASSES)), IMAGE, "convolutional"),
        (linen(Hidden()), IMAGE, "convolutional"),
        (equinox(own_nets.EquinoxTiny), (FEATURES,), "dense"),
    ],
    ids=lambda value: value.name if isinstance(value, Net) else "",
)
def test_a_net_with_a_convolution_in_its_programs_is_convolutional(net, shape, kind):
    assert facts(net, shape).kind == kind


def test_facts_give_the_shapes_of_one_member_and_of_one_example():
    found = facts(linen(own_nets.LinenNoisy()), taps=("Dense_0",))
    assert found.variables["params"]["Dense_0"]["kernel"].shape == (FEATURES, own_nets.HIDDEN)
    assert found.outputs.logits.shape == (1, CLASSES)
    assert found.outputs.features["Dense_0"].shape == (1, own_nets.HIDDEN)


def test_a_net_that_only_teaches_needs_no_parameters():
    net = function(lambda params, x: x[:, :CLASSES], {}, "teacher")
    assert facts(net, trained=False).kind == "dense"
    with pytest.raises(InputError, match="model is teacher, which has no parameters"):
        facts(net)


def test_paths_are_in_the_order_of_the_calls_with_the_shape_of_one_example():
    net = linen(ResNet(CLASSES, blocks=1, channels=(4, 8)))
    found = paths(net, IMAGE)
    assert list(found)[:3] == ["Conv_0", "BatchNorm_0", "block0/Conv_0"]
    assert found["block0"] == (8, 8, 4) and found["block1"] == (4, 4, 8)
    assert paths(nnx(own_nets.NNXTiny), (FEATURES,)) == {"first": (16,), "second": (CLASSES,)}


def bare(init=None, call=None):
    """A net written by hand, with one thing changed."""
    variables = {"params": {"w": jnp.ones((FEATURES, CLASSES))}, "more": {"n": jnp.ones(3)}}
    result = lambda v, x, *_: (Outputs(x @ v["params"]["w"], {}), {"more": v["more"]})
    return Net(init or (lambda key, x: variables), call or result, "bare", {})


class NoFlag(nn.Module):
    @nn.compact
    def __call__(self, x):
        return dense(nn.Dropout(0.5)(x))


class Grown(nn.Module):
    """Makes a parameter in training alone."""

    @nn.compact
    def __call__(self, x, train):
        return dense(nn.Dense(4)(x) if train else x)


class Counter(flax_nnx.Module):
    """Changes the type of its count."""

    def __init__(self, rngs):
        self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)
        self.count = flax_nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x, train):
        if train:
            self.count.set_value(self.count[...] + 0.5)
        return self.dense(x)


class Sown(flax_nnx.Module):
    def __init__(self, rngs):
        self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)

    def __call__(self, x, train):
        if train:
            self.late = flax_nnx.BatchStat(jnp.zeros(3))
        return self.dense(x)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (equinox(lambda key: own_nets.Affine(3, CLASSES, key)), r"Affine, .*\(12,\): dot_general"),
        (linen(CNN(CLASSES)), r"which does not take examples of the shape \(12,\): it needs ex"),
        (linen(NoFlag()), "does not take examples of .*deterministic"),
        (linen(Grown()), r"Grown, which does not train on examples of the shape \(12,\): "),
        (
            linen(own_nets.LinenNoisy(6), "wide"),
            r"whose logits have the shape \[B, 6\]; it must be \[B, 5\], for the data set has 5 cl",
        ),
        (function(lambda w, x: x @ w, KERNEL[:, 0], "flat"), r"logits have the shape \[B\]; "),
        (function(lambda w, x: (x @ w).T, KERNEL, "turned"), r"the shape \[5, B\]; it must be"),
        (
            function(lambda w, x: jnp.argsort(x @ w), KERNEL, "whole"),
            "logits are int32; they must be floating",
        ),
        (function(lambda w, x: (x @ w, {"m": w}), KERNEL, "f"), r"layer 'm' puts out \[12, 5\];"),
        (
            function(lambda w, x: (x - x.mean(0, keepdims=True)) @ w, KERNEL, "centred"),
            "centred, whose outputs for an example depend in evaluation on the other examples",
        ),
        (bare(init=lambda key, x: [x]), "bare, whose variables are .*; they must be a dict"),
        (bare(init=lambda key, x: {"params": {0: x}}), "they must be a dict with 'params'"),
        (bare(init=lambda key, x: {"other": {}}), "they must be a dict with 'params'"),
        (bare(init=lambda key, x: {"params": {"w": jnp.ones((0, 3))}}), "params/w has the shape"),
        (
            bare(init=lambda key, x: {"params": {"w": jnp.arange(3)}}),
            "parameter w is int32; it must be floating",
        ),
        (bare(init=lambda key, x: {"params": {"k": key}}), r"params/k is key<fry>; it must be num"),
        (
            bare(call=lambda v, x, *_: (Outputs(x @ v["params"]["w"], {}), {})),
            r"variable more/n is float32\[3\] at the start and not there after a step of training",
        ),
        (nnx(Counter), r"state/count is int32\[\] at the start and float32\[\] after a step"),
        (nnx(Sown), "does not train on .*there are 1 variables, but there were 0"),
        (linen(Plain()), "Plain calls no layer 'Dense_7'; features can be taken of: Dense_0"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_its_field(net, says):
    taps = tuple(path for path in ("Dense_7", "m") if repr(path) in says)
    with pytest.raises(InputError, match=f"^config.stages.a.model is .*{says}"):
        facts(net, taps=taps)


def test_a_layer_s_own_error_is_named_with_its_kind():
    def call(params, x):
        return {}[1]

    with pytest.raises(InputError, match=r"does not take examples of .*: KeyError: 1$"):
        facts(function(call, {"w": KERNEL}))


@pytest.mark.parametrize("shape", [(3, 32, 32), (7, 64, 1)])
def test_images_that_are_too_small_are_said_to_be(shape):
    says = f"3 halvings leave nothing of {shape[0]} x {shape[1]} pixels"
    with pytest.raises(InputError, match=says):
        facts(linen(CNN(CLASSES)), shape)


def test_arguments_stand_in_the_sentence_and_not_too_many():
    with pytest.raises(InputError, match=r"model is CNN\(channels=\[4\], dense=8, .*: it needs"):
        facts(linen(CNN(CLASSES, (4,), 8)))
    with pytest.raises(InputError, match=r"is CNN\(.*\.\.\., which does not"):
        facts(linen(CNN(CLASSES, tuple(range(1, 60)))))
