"""Nets from Linen, NNX, Equinox and pure functions, trained as populations are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_values import BATCH, NOISY, TINY, X, apply, assert_equal, init, population, training
from own_nets import CLASSES, FEATURES, HIDDEN

from kdjax.keys import stream
from kdjax.nets import Training, equinox, linen
from kdjax.nets.modules import MLP

EACH = pytest.mark.parametrize("net", NOISY.values(), ids=NOISY)


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


FIRST = {"linen": "Dense_0", "nnx": "blocks/0", "equinox": "layers/0"}  # before normalisation
MEAN = {  # where each library keeps the running mean
    "linen": lambda others: others["batch_stats"]["BatchNorm_0"]["mean"],
    "nnx": lambda others: others["state"]["norm"]["mean"],
    "equinox": lambda others: others["state"]["1"]["0"],
}


@pytest.mark.parametrize("name", NOISY)
def test_batch_statistics_move_in_training_and_rest_in_evaluation(name):
    net, variables = NOISY[name], init(NOISY[name])
    others = {k: v for k, v in variables.items() if k != "params"}
    outputs, after = apply(net, variables, taps=(FIRST[name],))
    assert_equal(after, others)
    _, after = apply(net, variables, training=training())
    mean = 0.1 * outputs.features[FIRST[name]].mean(0)
    np.testing.assert_allclose(MEAN[name](after), mean, atol=1e-5)
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
