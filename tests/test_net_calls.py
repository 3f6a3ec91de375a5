"""How a net of the user's is called, and what is refused when one is made."""

import inspect
import sys

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from flax import nnx as flax_nnx
from net_values import TINY, X, apply, assert_equal, init, training
from own_nets import CLASSES, FEATURES, HIDDEN

from kdjax.nets import Training, equinox, function, linen, nnx
from kdjax.nets.modules import MLP
from kdjax.rules import InputError


def told(argument, annotation, kind="linen"):
    """A net whose call has an argument of that name, and a list of the values it is called with."""
    values = []

    def call(self, x, **given):
        values.append(given[argument])
        return x[..., :CLASSES]

    named = lambda name, kind, annotation=None: inspect.Parameter(name, kind, annotation=annotation)
    parameters = [named(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", "x")]
    parameters.append(named(argument, inspect.Parameter.KEYWORD_ONLY, annotation))
    call.__signature__ = inspect.Signature(parameters)
    if kind == "linen":
        return linen(type("Told", (nn.Module,), {"__call__": call})()), values
    base = {"nnx": flax_nnx.Module, "equinox": eqx.Module}[kind]
    made = type("Told", (base,), {"__call__": call})
    return {"nnx": nnx, "equinox": equinox}[kind](lambda _: made()), values


@pytest.mark.parametrize("kind", ["linen", "nnx", "equinox"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train", True),
        ("training", True),
        ("is_training", True),
        ("is_train", True),
        ("deterministic", False),
        ("inference", False),
        ("use_running_average", False),
    ],
)
def test_a_call_is_told_whether_it_trains_by_its_own_argument(kind, name, value):
    net, values = told(name, bool, kind)
    variables = init(net)
    values.clear()
    apply(net, variables, training=training())
    apply(net, variables)
    assert values == [value, not value]


@pytest.mark.parametrize("annotation", [Training | None, "Training | None", Training])
def test_a_call_may_take_the_whole_training(annotation):
    net, values = told("now", annotation)
    variables = init(net)
    values.clear()
    given = training()
    net.apply(variables, X[0], given, ())
    net.apply(variables, X[0], None, ())
    assert values == [given, None]


def test_a_function_is_told_too_and_its_parameters_may_come_from_a_key():
    apply_ = lambda params, x, train: x @ params["w"] + (1.0 if train else 0.0)
    make = lambda key, x: {"w": jax.random.normal(key, (x.shape[1], CLASSES))}
    net = function(apply_, make, "made")
    assert net.variables is None and net.name == "made"
    first, second = init(net), init(net, seed=1)
    assert (first["params"]["w"] != second["params"]["w"]).any()
    difference = apply(net, first, training=training())[0].logits - apply(net, first)[0].logits
    np.testing.assert_allclose(difference, 1.0, rtol=1e-4)


def test_the_parameters_of_a_function_may_be_any_pytree_and_are_the_net_s_own():
    start = [np.ones((FEATURES, HIDDEN), np.float32), (0.5, None, {3: np.arange(CLASSES)})]

    def call(params, x):
        kernel, (scale, nothing, more) = params
        assert nothing is None and more[3].dtype == jnp.int32
        return (x @ kernel)[:, more[3]] * scale

    net = function(call, start)
    variables = init(net)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"0": (FEATURES, HIDDEN), "1": {"0": ()}},
        "constants": {"1": {"2": {"3": (CLASSES,)}}},
    }
    assert_equal(variables, net.variables)
    outputs, others = apply(net, variables, training=training())
    np.testing.assert_allclose(outputs.logits[:, 0], 0.5 * X[0].sum(1), rtol=1e-4, atol=1e-5)
    assert_equal(others, {"constants": variables["constants"]})
    one = function(lambda w, x: x * w, np.float32(2))
    np.testing.assert_allclose(apply(one, init(one))[0].logits, 2 * X[0])


class Sampling(nn.Module):
    """Draws from a stream of its own name, and from dropout's, in training."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(CLASSES)(x)
        if not train:
            return x
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        return x + noise + jax.random.normal(self.make_rng("dropout"), x.shape)


class CallRngs(flax_nnx.Module):
    def __init__(self, *, rngs):
        self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)

    def __call__(self, x, rngs):
        return self.dense(x) + jax.random.normal(rngs.noise(), (CLASSES,)).reshape(1, -1)


class CallKey(eqx.Module):
    dense: eqx.nn.Linear

    def __init__(self, key):
        self.dense = eqx.nn.Linear(FEATURES, CLASSES, key=key)

    def __call__(self, x, key):
        noise, _ = jax.random.split(key)  # as many do, in evaluation too
        return self.dense(x) + jax.random.normal(noise, (CLASSES,))


NAMED = {"linen": linen(Sampling()), "nnx": nnx(CallRngs), "equinox": equinox(CallKey)}


@pytest.mark.parametrize("net", NAMED.values(), ids=NAMED)
def test_a_net_may_ask_for_random_numbers_by_any_name(net):
    variables = init(net)
    logits = lambda now: np.asarray(apply(net, variables, training=now)[0].logits)
    np.testing.assert_array_equal(logits(training(1)), logits(training(1)))
    assert abs(logits(training(1)) - logits(training(2))).max() > 0.1
    np.testing.assert_array_equal(logits(None), logits(None))
    assert set(variables) == {"params"}


def test_an_nnx_net_keeps_nothing_random_and_has_one_key_for_each_stream():
    class Two(flax_nnx.Module):
        def __init__(self, rngs):
            self.scale = flax_nnx.Param(jnp.ones(()))
            self.first, self.second = (flax_nnx.Dropout(0.5, rngs=rngs) for _ in range(2))

        def __call__(self, x):
            return (self.first(x) - self.second(x)) * self.scale

    net = nnx(Two)
    assert set(init(net)) == {"params"}
    assert (apply(net, init(net), training=training())[0].logits != 0).any()


class Asking(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        return nn.Dense(CLASSES)(x * mask)


class Mute(nn.Module):
    pass


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: linen(own_nets.LinenTiny), "linen takes a Linen module.*such as TinyNet"),
        (lambda: linen(Mute()), "linen takes a Linen module that can be called"),
        (lambda: linen(Asking()), "the call of Asking needs the argument 'mask'.*only: train"),
        (lambda: nnx(3), "nnx takes a constructor, such as .*; it is 3"),
        (lambda: nnx(own_nets.NNXTiny(flax_nnx.Rngs(0))), "nnx takes a constructor"),
        (lambda: nnx(lambda rngs: 3), "the constructor given to nnx makes 3; it must be an NNX"),
        (lambda: nnx(lambda rngs: own_nets.LinenTiny()), "makes LinenTiny.*must be an NNX"),
        (lambda: equinox(3), "equinox takes a constructor, such as .*; it is 3"),
        (lambda: equinox(lambda key: 3), "the constructor given to equinox makes 3; it must be"),
        (lambda: function(3, {}), "function takes .*; it is 3"),
        (lambda: function(lambda p, x, y: x, {}), "<lambda> needs the argument 'y'"),
        (
            lambda: function(lambda p, x: x, {"a": ["text"]}),
            r"the parameters of <lambda> have 'text' at \['a'\]\[0\]; they must be arrays",
        ),
    ],
)
def test_what_is_no_net_is_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p, x: (x, x, x), "call returns a tuple; it must return logits"),
        (lambda p, x: (x, [x]), "call returns .* beside its logits; it must be a dict"),
    ],
)
def test_a_call_that_returns_no_logits_is_one_sentence(call, says):
    net = function(call, {}, "call")
    with pytest.raises(InputError, match=says):
        net.apply({"params": {}}, X[0], None, ())


def test_equinox_need_not_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(InputError, match="needs the package equinox; pip install equinox"):
        equinox(own_nets.EquinoxTiny)


def test_specs_tell_nets_apart_as_plain_data():
    spec = linen(MLP(3, (4, 5), dropout=0.5)).spec
    assert spec == {
        "name": "kdjax.nets.modules:MLP",
        "arguments": {
            "hidden": [4, 5],
            "dropout_input": 0.0,
            "dropout": 0.5,
            "dtype": "float32",
        },
    }
    dense, relu = linen(nn.Sequential([nn.Dense(3), nn.relu])).spec["arguments"]["layers"]
    assert dense["name"] == "flax.linen.linear:Dense" and dense["arguments"]["features"] == 3
    assert relu.endswith(":relu")
    assert TINY["nnx"].spec == {"name": "own_nets:NNXTiny", "arguments": {}}
    assert TINY["function"].spec == {"name": "own_nets:tiny", "arguments": {}}
