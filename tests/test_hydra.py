"""One net with a head for each teacher: what it says, how a config names it, and a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import a_stage, teacher_logits, train
from runs import NET, config
from scipy.special import softmax
from stages import refuses

import kdjax
from benchmarks import disagreement
from kdjax import nets
from kdjax.config import stage
from kdjax.keys import stream
from kdjax.nets import EVERY, build

MODEL = dict(name="hydra", body="mlp", heads=3, hidden=(16,))
X = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)


def test_the_prediction_is_the_mean_of_the_heads_which_are_the_last_layer():
    net, body = build(MODEL, 10), build(dict(name="mlp", hidden=(16,)), 30)
    variables = net.init(stream(0, "init"), X[:1])
    outputs, _ = net.apply(variables, X, None, ("heads", "Dense_0"))
    heads = outputs.features["heads"]
    flat = body.apply(variables, X, None, ())[0].logits
    np.testing.assert_array_equal(heads, flat.reshape(5, 3, 10))
    mean = softmax(np.asarray(heads, np.float64), axis=-1).mean(axis=1)
    np.testing.assert_allclose(jax.nn.softmax(outputs.logits), mean, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(outputs.logits), mean, rtol=1e-5)
    assert outputs.features["Dense_0"].shape == (5, 16)
    assert {"heads", "Dense_0"} <= set(net.apply(variables, X, None, (EVERY,))[0].features)
    assert net.apply(variables, X, None, ())[0].features == {}


def test_heads_and_their_body_are_named_and_refused_in_one_sentence():
    assert dict(build(MODEL, 10).spec)["arguments"]["heads"] == 3
    for given, words in (
        (dict(name="hydra"), "model.heads is None"),
        (MODEL | dict(heads=0), "model.heads is 0"),
        (MODEL | dict(body="mpl"), "model.name is 'mpl'"),
        (MODEL | dict(width=3), "model"),
    ):
        with refuses(words):
            build(given, 10)
    own = nets.hydra(build(dict(name="mlp", hidden=(16,)), 31), 3)
    with refuses("the body has 31 outputs; they must be 3 times the classes"):
        own.apply(own.init(stream(0, "init"), X[:1]), X, None, ())


def test_heads_that_a_teacher_may_not_teach_are_refused(tmp_path):
    def made(**fields):
        fields = dict(NET, model=MODEL, objective=dict(per_teacher=1.0)) | fields
        return config(students=dict(heads=stage(teacher="teachers", **fields)))

    for fields, words in (
        (dict(ensemble_size=2), "ensemble_size is 2"),
        (dict(mixing="best"), "mixing is 'best'"),
    ):
        with refuses("heads.objective has per_teacher, but", words, "all teachers must"):
            kdjax.run(made(**fields), tmp_path, quiet=True)


def test_each_head_learns_from_its_own_teacher():
    """The first step costs the mean of the divergences, and steps make it less."""
    spec = a_stage(
        model=MODEL, objective=dict(per_teacher=1.0), teacher="teachers", temperature=2.0, batch=200
    )
    state, losses = train(spec, logits=teacher_logits())
    assert not state.bad.any() and losses[0, -1] < losses[0, 0]
    one = a_stage(model=MODEL | dict(heads=2), objective=dict(per_teacher=1.0), teacher="teachers")
    with refuses("the net has 2 heads and 3 teachers"):
        train(one, logits=teacher_logits())


@pytest.mark.long
@pytest.mark.mnist
def test_the_table_of_disagreement_has_a_row_for_each_kind_of_net(tmp_path, undrawn):
    config = disagreement.config_file.get_config("smoke")
    kdjax.run(config, tmp_path, quiet=True)
    images = kdjax.examples(config, "test")[0][:300]
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    model = config.stages.heads.model.to_dict()
    table = disagreement.table(tmp_path, model, {"mnist": images, "noise": noise})
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert [row[-1].strip(" |") for row in rows] == ["1", "1", "2", "2", "2", "2", "2", "2"]
    assert all(0 <= float(row[2].split()[0]) <= 1 for row in rows)
