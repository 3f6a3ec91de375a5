"""What is known of a net, and refused, before any compute."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from flax import nnx as flax_nnx
from own_nets import CLASSES, FEATURES

from kdjax.nets import Net, Outputs, equinox, function, linen, nnx
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
    assert found["pooled"] == (8,)  # the mean over pixels, which the last layer reads
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
