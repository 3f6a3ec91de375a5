"""What the public methods of a stage take, and what they refuse in one sentence."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from digits import arrays
from stages import refuses

import kdjax
from kdjax.nets import linen

IMAGES, LABELS = arrays()
X = IMAGES.reshape(len(IMAGES), -1).astype(np.float32) / 16


class Half(nn.Module):
    width: int = 8
    act: object = nn.relu

    @nn.compact
    def __call__(self, x):
        x = self.act(nn.Dense(self.width, dtype=jnp.bfloat16)(x))
        return nn.Dense(10, dtype=jnp.bfloat16)(x)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, undrawn):
    data = kdjax.arrays(train=(X[:150], LABELS[:150]), test=(X[150:], LABELS[150:]))
    workdir = tmp_path_factory.mktemp("stage")
    how = dict(steps=4, seeds=3, quiet=True, workdir=workdir, batch=20)
    return kdjax.train(linen(Half()), data, **how).path


@pytest.fixture(scope="module")
def opened(directory):
    return kdjax.open_stage(directory)


def test_logits_are_float32_whatever_the_net_computes_in(opened):
    for inputs in (X[:3], np.resize(X, (1500, 64)), X[:0]):
        assert opened.predict(inputs).dtype == np.float32


def test_bfloat16_inputs_are_floats(opened):
    inputs = jnp.asarray(X[:3], jnp.bfloat16)
    expected = opened.predict(np.asarray(inputs, np.float32))
    np.testing.assert_array_equal(opened.predict(inputs), expected)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([[1.0], [1.0, 2.0]], "inputs are no array (setting an array element with a sequence"),
        (None, "inputs"),
        ("text", "inputs"),
        (X[:3].astype(complex), "inputs are complex128; they must be numbers"),
        ([["a"] * 64], "inputs are <U1; they must be numbers"),
    ],
)
def test_inputs_that_are_none_are_one_sentence(opened, inputs, says):
    with refuses(says):
        opened.predict(inputs)


@pytest.mark.parametrize("members", [[5], [-1], [], [0, 3], 3, None, "0", [1.0], [True], {"a": 0}])
def test_members_that_are_not_there_are_one_sentence(opened, members):
    with refuses("members of", "they must be one or more numbers from 0 to 2"):
        opened.part(members)


def test_one_member_may_be_named_by_its_number(opened):
    np.testing.assert_array_equal(
        opened.part(1).predict(X[:2]), opened.part(np.array([1])).predict(X[:2])
    )


@pytest.mark.parametrize("path", [3, None, 1.5, ["a"]])
def test_a_path_that_is_none_is_one_sentence(path):
    with refuses(f"path is {path!r}; it must be the path of a stage's directory"):
        kdjax.open_stage(path)


def test_the_net_that_was_trained_opens_with_its_stage(directory, opened):
    again = kdjax.open_stage(directory, net=linen(Half(), "another name"))
    np.testing.assert_array_equal(again.predict(X[:3]), opened.predict(X[:3]))
    assert again.net.name == "another name" and opened.net is None


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (Half(), "net is Half.*it must be a Net, as kdjax.linen"),
        ("mlp", "net is 'mlp'; it must be a Net"),
        (linen(Half(9)), "which has other variables than the net of"),
        (linen(nn.Dense(10)), "net is Dense.*which has other variables than the net of"),
        (linen(Half(act=nn.sigmoid)), "which gives other logits than the net of"),
        (linen(nn.Conv(10, (3, 3, 3))), "which does not take examples of the shape"),
    ],
)
def test_another_net_is_refused(directory, net, says):
    with pytest.raises(kdjax.rules.InputError, match=says):
        kdjax.open_stage(directory, net=net)


def test_a_net_that_is_written_otherwise_may_give_the_same_logits(directory):
    act = lambda x: jnp.maximum(x * 1.0, 0)
    assert kdjax.open_stage(directory, net=linen(Half(act=act))).net is not None
