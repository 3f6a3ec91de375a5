"""Forward passes in files that need none of a net's code."""

import jax
import jax.numpy as jnp
import numpy as np
import own_nets
import pytest

from kdjax.nets import equinox, function, linen, nnx
from kdjax.nets.export import export, load
from kdjax.nets.modules import CNN, MLP, ResNet
from kdjax.rules import InputError

CLASSES, MEMBERS = 5, 3
NETS = {
    "mlp": (linen(MLP(CLASSES, (16,), dropout=0.5)), (8, 8, 1)),
    "cnn": (linen(CNN(CLASSES, (4, 8), 8)), (8, 8, 1)),
    "resnet": (linen(ResNet(CLASSES, blocks=1, channels=(4, 8), stem=4)), (8, 8, 1)),
    "nnx": (nnx(own_nets.NNXNoisy), (12,)),
    "equinox": (equinox(own_nets.EquinoxNoisy), (12,)),
    "function": (function(own_nets.tiny, own_nets.tiny_params()), (12,)),
}


def forward(net):
    return lambda variables, x: net.apply(variables, x, None, ())[0].logits


def examples(shape, count=7):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def one_by_one(call, variables, x):
    rows = [jax.tree.map(lambda leaf, m=m: leaf[m], variables) for m in range(MEMBERS)]
    return jnp.stack([call(row, x) for row in rows])


@pytest.mark.parametrize("name", NETS)
def test_a_file_gives_the_logits_of_the_net_to_the_bit_under_every_plan(name):
    net, shape = NETS[name]
    x = examples(shape)
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    variables = jax.jit(jax.vmap(lambda key: net.init(key, x[:1])))(keys)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), variables)
    loaded = load(export(net, one, shape), one, shape, CLASSES)
    assert loaded.kind == ("convolutional" if name in ("cnn", "resnet") else "dense")
    plans = {
        "unroll": lambda call: lambda v, x: one_by_one(call, v, x),
        "map": lambda call: lambda v, x: jax.lax.map(lambda row: call(row, x), v),
    }
    for lifted in plans.values():
        direct, exported = (jax.jit(lifted(call)) for call in (forward(net), loaded.call))
        np.testing.assert_array_equal(direct(variables, x), exported(variables, x))


def test_a_net_may_ask_how_many_examples_there_are():
    net = function(lambda w, x: x.reshape(len(x), -1) @ w, np.ones((64, CLASSES), np.float32))
    loaded = load(export(net, net.variables, (8, 8)), net.variables, (8, 8), CLASSES)
    x = examples((8, 8))
    logits = loaded.call(net.variables, x)
    np.testing.assert_allclose(logits, forward(net)(net.variables, x), rtol=1e-5, atol=1e-5)


def test_a_file_holds_no_paths_and_is_the_same_whenever_it_is_written():
    net, shape = NETS["mlp"]
    variables = net.init(jax.random.key(0), examples(shape)[:1])
    before = jax.config.jax_traceback_in_locations_limit
    data = export(net, variables, shape)
    assert b".py" not in data and b"/MLP" in data
    assert jax.config.jax_traceback_in_locations_limit == before
    assert export(net, net.init(jax.random.key(1), examples(shape)[:1]), shape) == data
    plain = jax.export.deserialize(bytearray(data))  # as anybody may open it
    assert plain.platforms == ("cpu", "cuda", "tpu")


def called_back(w, x):
    shape = jax.ShapeDtypeStruct((x.shape[0], CLASSES), np.float32)
    return jax.pure_callback(lambda x: np.zeros((len(x), CLASSES), np.float32), shape, x) + w


def inverse(w, x):
    return jnp.linalg.inv(jnp.eye(CLASSES)[None] * w + x[:, :1, None])[:, 0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (called_back, "called_back, which cannot be exported: .*python_callback"),
        (inverse, "inverse, which cannot be exported: it calls lapack_.* on the host"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(call, says):
    net = function(call, np.float32(1))
    with pytest.raises(InputError, match=f"^config.stages.a.model is {says}"):
        export(net, net.variables, (12,), "config.stages.a.model")


@pytest.fixture(scope="module")
def written():
    net, shape = NETS["function"]
    return net.variables, export(net, net.variables, shape)


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "other", "longer"])
def test_a_damaged_file_is_refused_before_xla_reads_it(written, damage):
    variables, data = written
    for place in range(0, len(data), 97):
        changed = {
            "cut": data[:place],
            "byte": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
            "empty": b"",
            "other": b"PK" + bytes(place),
            "longer": data + bytes(place + 1),
        }[damage]
        with pytest.raises(ValueError, match="it is damaged, or no exported net"):
            load(changed, variables, (12,), CLASSES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(shape=(13,)), r"its inputs \(b, 12\) are not \[B, ...\] of examples \(13,\)"),
        (dict(classes=6), "its logits are not those of 6 classes"),
        (dict(variables={"params": {}}), "its variables are not those of the net"),
    ],
)
def test_a_file_of_another_net_is_refused(written, change, says):
    variables, data = written
    given = dict(variables=variables, shape=(12,), classes=CLASSES) | change
    with pytest.raises(ValueError, match=says):
        load(data, given["variables"], given["shape"], given["classes"])


def test_variables_of_another_shape_or_type_are_refused(written):
    variables, data = written
    for change in (lambda x: x[:1], lambda x: x.astype(jnp.bfloat16)):
        with pytest.raises(ValueError, match="its variables are not those of the net"):
            load(data, jax.tree.map(change, variables), (12,), CLASSES)


def test_a_program_that_calls_the_host_is_refused_whoever_wrote_it(written, monkeypatch):
    from kdjax.nets import export as module

    variables, _ = written
    monkeypatch.setattr(module, "_check_calls", lambda exported: None)
    call = lambda p, x: jnp.linalg.qr(jnp.stack([x @ p["first"]["kernel"]] * 16, 1))[1][:, 0, :5]
    data = export(function(call, own_nets.tiny_params()), variables, (12,))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"it is no exported net \(it calls lapack_"):
        load(data, variables, (12,), CLASSES)
