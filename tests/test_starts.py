"""Stages that start from a stage, and what a run leaves behind."""

import gc

import jax
import numpy as np
import pytest
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import evaluation, loop, teachers
from kdjax.data import Preprocessing
from kdjax.rules import Diverged

FEW = dict(steps=2, batch=20, chunk=1, quiet=True)
MLP = dict(name="mlp", hidden=(8,))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("source")
    return kdjax.train(MLP, mine.digits, seeds=2, workdir=workdir, **FEW)


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_stage_and_its_directory_are_the_same_start(source):
    start = lambda init: kdjax.train(MLP, mine.digits, seeds=2, init_from=init, **FEW)
    one, other = start(source), start(str(source.path))
    equal(one.variables, other.variables)
    assert one.spec["init_from"] == "net"
    alone = kdjax.train(MLP, mine.digits, seeds=2, **FEW)
    kernel = lambda stage: stage.variables["params"]["Dense_0"]["kernel"]
    assert np.abs(kernel(one) - kernel(alone)).max() > 1e-4


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (3, "init_from is 3; it must be a Stage, or the name of an earlier stage or a stage dir"),
        (None, "init_from is None; it must be a Stage, or"),
        ("nobody", "init_from is 'nobody'; it must be an earlier stage"),
    ],
)
def test_what_is_no_start_is_refused(init, words):
    with refuses(words):
        kdjax.train(MLP, mine.digits, init_from=init, **FEW)


def test_a_stage_of_other_members_or_variables_is_no_start(source):
    with refuses("init_from is <net: 2 x mlp", "with 2 members; it must have 1, or as many as the"):
        kdjax.train(MLP, mine.digits, seeds=3, init_from=source, **FEW)
    with refuses("init_from is <net: 2 x mlp", "whose net mlp has other variables than this"):
        kdjax.train(dict(name="mlp", hidden=(9,)), mine.digits, init_from=source, seeds=2, **FEW)


def test_a_members_average_starts_where_the_member_does(source, monkeypatch):
    begun, begin = [], loop._begin

    def noted(*given):
        setup, state, row = begin(*given)
        begun.append(jax.tree.map(np.array, (state.params, state.average["params"])))
        return setup, state, row

    monkeypatch.setattr(loop, "_begin", noted)
    fields = dict(objective=dict(kl_divergence=1.0), init_from=source, seeds=2) | FEW
    stage = kdjax.distill(MLP, teachers.ema(0.9), mine.digits, **fields)
    ((params, average),) = begun
    equal(params, average)
    assert not any(stage.diverged)


def test_without_a_workdir_no_directory_is_named():
    hot = dict(name="sgd", learning_rate=1e3, weight_decay=1e6)
    with pytest.raises(Diverged, match=r"\); try a smaller learning_rate, warmup") as caught:
        kdjax.train(MLP, mine.digits, optimizer=hot, **FEW | dict(steps=40, chunk=40))
    assert "delete" not in str(caught.value) and "kdjax-" not in str(caught.value)


def test_a_run_leaves_no_split_on_the_devices(source):
    gc.collect()
    there = {id(x) for x in jax.live_arrays()}
    kdjax.train(MLP, mine.digits, **FEW)
    gc.collect()
    left = [x.shape for x in jax.live_arrays() if id(x) not in there and x.ndim > 2]
    assert not [shape for shape in left if shape[-3:] == (8, 8, 1)]


def test_teachers_are_traced_once():
    traces = []

    def linear(params, x):
        traces.append(len(x))
        return x.reshape(len(x), -1) @ params

    net = kdjax.function(linear, np.ones((64, 10), np.float32))
    images = mine.images[:20, ..., None]
    asked = lambda mean: teachers.Asked(
        "test", np.arange(20), images, Preprocessing((mean,), (1.0,))
    )
    teacher = teachers.of_net(net)
    one, again, other = (teacher.predict(asked(mean)) for mean in (0.0, 0.0, 0.5))
    assert len(traces) == 2  # one for each way to preprocess
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(one - other, 32.0, rtol=1e-5)


def test_ensembles_of_equal_shapes_are_measured_by_one_program():
    logits = np.random.default_rng(0).normal(size=(2, 30, 7)).astype(np.float32)
    evaluation.ensemble_metrics(logits, np.arange(30) % 7)
    compiled = evaluation._ensemble_sums._cache_size()
    evaluation.ensemble_metrics(logits, np.arange(30) % 5)
    assert evaluation._ensemble_sums._cache_size() == compiled
