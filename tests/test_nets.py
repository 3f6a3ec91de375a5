"""Nets from Linen, NNX, Equinox and pure functions, trained as populations are."""

import functools
import inspect
import re
import sys

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest
from flax import nnx as flax_nnx
from own_nets import CLASSES, FEATURES, HIDDEN

from kdjax.keys import stream
from kdjax.nets import EVERY, Training, equinox, function, linen, nnx
from kdjax.nets.modules import MLP
from kdjax.rules import InputError

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
EACH = pytest.mark.parametrize("net", NOISY.values(), ids=NOISY)
X = np.random.default_rng(0).normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)


def training(key=1):
    return Training(jnp.arange(BATCH), jax.random.key(key))


@functools.cache
def init(net, seed=0):
    return jax.jit(net.init)(jax.random.key(seed), X[0, :1])


def apply(net, variables, inputs=X[0], training=None, taps=()):
    return jax.jit(lambda v, x: net.apply(v, x, training, taps))(variables, inputs)


def step(net, variables, inputs):
    """A step of gradient descent: the new variables, the logits and the gradient."""

    def loss(params):
        outputs, others = net.apply({**variables, "params": params}, inputs, training(), ())
        return -jax.nn.log_softmax(outputs.logits)[:, 0].mean(), (outputs.logits, others)

    gradient, (logits, others) = jax.grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, g: p - 0.5 * g, variables["params"], gradient)
    return {"params": params, **others}, (logits, gradient)


def steps_of(net):
    return lambda variables: jax.lax.scan(lambda v, x: step(net, v, x), variables, X)


def population(net):
    return jax.vmap(lambda seed: net.init(jax.random.key(seed), X[0, :1]))(jnp.arange(2))


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.fixture(scope="module")
def trained():
    """Of each tiny net: the start, the logits in evaluation, and three steps of two members."""

    def all_of(net):
        start = population(net)
        evaluate = lambda v: net.apply(v, X[0], None, ())[0].logits
        return start, jax.vmap(evaluate)(start), jax.vmap(steps_of(net))(start)

    return {name: jax.jit(lambda net=net: all_of(net))() for name, net in TINY.items()}


@pytest.mark.parametrize("name", ["nnx", "equinox", "function"])
def test_a_net_is_the_same_to_the_bit_whichever_library_it_is_written_in(trained, name):
    assert_equal(trained[name], trained["linen"])
    _, logits, (_, (steps, gradient)) = trained[name]
    assert logits.shape == (2, BATCH, CLASSES) and np.ptp(steps, axis=1).min() > 0
    assert min(float(abs(g).max()) for g in jax.tree.leaves(gradient)) > 1e-3


@EACH
def test_a_population_trains_as_its_members_do_one_by_one(net):
    start = jax.jit(lambda: population(net))()
    inside, (logits, _) = jax.jit(jax.vmap(steps_of(net)))(start)
    outside, (mapped, _) = jax.jit(lambda v: jax.lax.map(steps_of(net), v))(start)
    np.testing.assert_allclose(logits, mapped, rtol=1e-3, atol=1e-4)
    for a, b in zip(*map(jax.tree.leaves, (inside, outside)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert abs(logits[0] - logits[1]).max() > 0.1  # seeds differ


@EACH
def test_a_net_is_described_without_compute(net):
    abstract = jax.eval_shape(net.init, jax.eval_shape(jax.random.key, 0), X[0, :1])
    variables = init(net)
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    assert describe(abstract) == describe(variables)
    after = jax.eval_shape(lambda v: net.apply(v, X[0], training(), ())[1], abstract)
    assert describe(after) == describe({k: v for k, v in variables.items() if k != "params"})
    is_text = lambda path: all(isinstance(key.key, str) for key in path)
    assert all(is_text(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables))


def running_mean(net, others):
    leaves = jax.tree_util.tree_leaves_with_path(others)
    one = [leaf for path, leaf in leaves if "mean" in str(path) or path[1:][:1] != ()]
    return next(leaf for leaf in one if leaf.shape == (HIDDEN,))


@EACH
def test_batch_statistics_move_in_training_and_rest_in_evaluation(net):
    variables = init(net)
    others = {k: v for k, v in variables.items() if k != "params"}
    outputs, after = apply(net, variables)
    assert_equal(after, others)
    _, after = apply(net, variables, training=training())
    first = variables["params"]
    path = {
        "LinenNoisy": ("Dense_0",),
        "NNXNoisy": ("blocks", "0"),
        "EquinoxNoisy": ("layers", "0"),
    }
    for key in path[net.name]:
        first = first[key]
    hidden = X[0] @ first["kernel"] if "kernel" in first else X[0] @ first["weight"].T
    hidden = hidden + first["bias"].reshape(1, -1)
    np.testing.assert_allclose(running_mean(net, after), 0.1 * hidden.mean(0), atol=1e-5)
    moved = apply(net, {"params": variables["params"], **after})[0].logits
    assert abs(moved - outputs.logits).max() > 1e-3


@EACH
def test_dropout_follows_the_key_and_rests_in_evaluation(net):
    variables = init(net)
    logits = lambda **how: np.asarray(apply(net, variables, **how)[0].logits)
    np.testing.assert_array_equal(logits(training=training(1)), logits(training=training(1)))
    assert abs(logits(training=training(1)) - logits(training=training(2))).max() > 0.1
    assert abs(logits(training=training(1)) - logits()).max() > 0.1
    np.testing.assert_array_equal(logits(), logits())


def test_the_keys_of_equinox_are_those_of_the_places_in_the_whole_batch():
    layer = equinox(lambda key: OnlyDropout(key))
    variables, ones = init(layer), np.ones((BATCH, FEATURES), np.float32)
    whole = apply(layer, variables, ones, training())[0].logits
    half = Training(jnp.arange(BATCH // 2, BATCH), jax.random.key(1))
    part = apply(layer, variables, ones[BATCH // 2 :], half)[0].logits
    np.testing.assert_array_equal(whole[BATCH // 2 :], part)
    assert (whole[0] != whole[1]).any()


class OnlyDropout(eqx.Module):
    scale: jax.Array

    def __init__(self, key):
        self.scale = jnp.ones(())

    def __call__(self, x, *, key=None):
        return eqx.nn.Dropout(0.5)(x, key=key, inference=key is None) * self.scale


def test_our_own_layers_get_the_key_of_the_training_itself():
    net = MLP(CLASSES, (HIDDEN,), dropout=0.5)
    start, dropout = stream(3, "init"), stream(3, "dropout", 7)
    variables = jax.jit(net.init)(start, X[0, :1])
    assert_equal(jax.jit(linen(net).init)(start, X[0, :1]), variables)
    now = Training(jnp.arange(BATCH), dropout)
    theirs = jax.jit(lambda v: net.apply(v, X[0], now, rngs={"dropout": dropout}))(variables)
    ours = apply(linen(net), variables, training=now)[0].logits
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != apply(linen(net), variables)[0].logits).any()


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


# Layers' outputs, by path


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


# What is refused when a net is made


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
