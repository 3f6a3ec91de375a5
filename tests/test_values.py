"""examples/your_own: what a user brings, through both doors."""

import dataclasses
import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import own_nets
import pytest

import kdjax
from examples.your_own import mine, notebook_door
from kdjax.losses import TERMS
from kdjax.nets import NETS
from kdjax.rules import InputError

ROOT = Path(__file__).parents[1]
STEPS = 12
STAGES = ("teachers", "skewed", "of_function", "hinted", "related")
LAYOUTS = [(2, 1), (1, 2), (2, 2)]
quiet = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def notebook(undrawn):
    """The stages of `kdjax.train` and `kdjax.distill`."""
    return notebook_door.main(STEPS, quiet=True)


@pytest.fixture(scope="module")
def command(notebook, tmp_path_factory):
    """The stages of `python -m kdjax.main`, in a process of its own."""
    workdir = tmp_path_factory.mktemp("command")
    config = f"examples/your_own/config.py:{STEPS}"
    flags = ["--config", config, "--workdir", str(workdir)]
    own = {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    subprocess.run(
        [sys.executable, "-m", "kdjax.main", *flags], cwd=ROOT, env=os.environ | own, check=True
    )
    return {name: kdjax.open_stage(workdir / name) for name in STAGES}


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", STAGES)
def test_both_doors_train_the_same_members_to_the_same_bits(notebook, command, name):
    one, other = notebook[name], command[name]
    assert one.members == other.members
    equal(one.variables, other.variables)
    assert one.metrics == other.metrics and not any(one.diverged)
    equal(one.predict(mine.images[1000:]), other.predict(mine.images[1000:]))


def test_each_value_is_under_ten_lines():
    text = inspect.getsource(mine)
    for name in ("LinenNet", "NnxNet", "EquinoxNet", "kernel_machine", "_skew"):
        assert len(list(filter(None, inspect.getsource(getattr(mine, name)).splitlines()))) < 10
    for name in ("digits", "flat", "skew_kl"):  # to the end of the paragraph
        assert len(text.partition(f"\n{name} = ")[2].partition("\n\n")[0].splitlines()) < 4


def test_nothing_of_it_is_known_to_kdjax():
    assert not {*TERMS} & {"skew_kl", "fitnet", "dist"}
    assert not {*NETS} & {"LinenNet", "NnxNet", "EquinoxNet"}
    words = ("fitnet", "hinted", "your_own")
    found = [p for p in (ROOT / "kdjax").rglob("*.py") if any(w in p.read_text() for w in words)]
    assert not found


def test_the_number_of_a_user_s_loss_is_an_axis_of_the_population(notebook):
    skews = [member["skew_kl.skew"] for member in notebook["skewed"].members]
    assert skews == [0.1, 0.1, 0.5, 0.5]
    first = jax.tree.leaves(notebook["skewed"].variables["params"])[0]
    assert not np.array_equal(first[0], first[2])  # one seed, two numbers
    with pytest.raises(InputError, match="reads"):
        kdjax.distill(
            kdjax.nnx(mine.NnxNet),
            mine.machine,
            mine.digits,
            objective={mine.dist: 1.0},
            members={"dist": {"skew": (0.1, 0.5)}},
        )


# FitNet and DIST on any layout of devices.


@functools.cache
def taught(member_shards, data_shards, correlate=mine.dist):
    """Four members taught by the features and by the relations of two teachers."""
    return kdjax.distill(
        kdjax.equinox(mine.EquinoxNet),
        teachers(),
        mine.digits,
        objective={mine.fitnet("mlp/layers/0", "Dense_0"): 1.0, correlate: 1.0},
        optimizer=dict(name="sgd", learning_rate=0.1),
        temperature=2.0,
        seeds=4,
        steps=STEPS,
        batch=20,
        execution=dict(member_shards=member_shards, data_shards=data_shards),
        quiet=True,
    )


@functools.cache
def teachers():
    net = kdjax.linen(mine.LinenNet())
    return kdjax.train(net, mine.digits, seeds=2, steps=STEPS, quiet=True)


def furthest(one, other):
    """The largest difference of any parameter."""
    apart = jax.tree.map(lambda x, y: abs(x - y).max(), one.variables, other.variables)
    return max(jax.tree.leaves(apart))


@quiet
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_fitnet_and_dist_do_not_depend_on_the_layout(layout):
    assert furthest(taught(*layout), taught(1, 1)) < 2e-6


@quiet
def test_without_gather_a_relation_is_of_a_part_of_the_batch():
    """What the test above would find."""
    alone = lambda c: mine.dist.function(dataclasses.replace(c, gather=lambda x: x))
    parts = kdjax.Term(alone, needs=mine.dist.needs, hparams=mine.dist.hparams, name="dist")
    assert furthest(taught(1, 2, parts), taught(1, 1)) > 1e-4


@quiet
def test_a_projection_trains_and_is_not_part_of_the_net():
    student = taught(1, 1)
    assert {*student.variables} == {"params"}
    shapes = {x.shape for x in jax.tree.leaves(student.variables)}
    assert shapes == {(4, 32, 64), (4, 32), (4, 10, 32), (4, 10)}


# One net, four adaptors.

TINY = {
    "linen": kdjax.linen(own_nets.LinenTiny()),
    "nnx": kdjax.nnx(own_nets.NNXTiny),
    "equinox": kdjax.equinox(own_nets.EquinoxTiny),
    "function": kdjax.function(own_nets.tiny, own_nets.tiny_params()),
}


@functools.cache
def trained(adaptor):
    few = mine.labels < own_nets.CLASSES
    inputs = mine.images.reshape(-1, 64)[few, 26 : 26 + own_nets.FEATURES]
    labels = mine.labels[few]
    data = kdjax.arrays(train=(inputs[:500], labels[:500]), test=(inputs[500:], labels[500:]))
    return kdjax.train(
        TINY[adaptor], data, seeds=2, steps=50, learning_rate=(0.01, 0.03), quiet=True
    )


@quiet
@pytest.mark.parametrize("adaptor", ["nnx", "equinox", "function"])
def test_one_net_trains_to_the_same_bits_by_any_adaptor(adaptor):
    equal(trained(adaptor).variables, trained("linen").variables)
    assert trained(adaptor).metrics == trained("linen").metrics
    assert max(trained("linen").metrics["test"]["accuracy"]) > 0.7  # it has learnt: chance is 0.2
