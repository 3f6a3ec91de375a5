"""A stage directory opens, predicts and teaches without the code that made it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fresh_process
import jax
import numpy as np
import pytest

import kdjax
from examples.your_own import mine
from kdjax.config import experiment, stage

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
QUICKLY = "jax_disable_most_optimizations"
MODULE = "gone_before_it_opens"
NETS = ["LinenNet", "NnxNet", "EquinoxNet"]
PLANTED = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"


@pytest.fixture(scope="module")
def directory(undrawn, tmp_path_factory):
    """A run whose data, nets, teacher and loss are of a module; then another module of the same
    name lies in its place, which leaves a file when it is imported."""
    directory = tmp_path_factory.mktemp("without_code")
    module = directory / f"{MODULE}.py"
    shutil.copy(mine.__file__, module)
    fields = dict(
        teacher=f"{MODULE}:machine",
        objective={"cross_entropy": 1.0, f"{MODULE}:skew_reverse_kl": 1.0},
        steps=6,
        members=dict(seed=2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.setattr(sys, "dont_write_bytecode", True)
        stages = {name: stage(model=dict(name=f"{MODULE}:{name}"), **fields) for name in NETS}
        config = experiment(dataset=dict(name=f"{MODULE}:digits"), stages=stages)
        kdjax.run(config, directory / "run", quiet=True)
    del sys.modules[MODULE]
    module.write_text(PLANTED)
    inputs = dict(train=mine.images[:200], labels=mine.labels[:200], test=mine.images[1000:])
    np.savez(directory / "inputs.npz", zeros=np.zeros(797, int), **inputs)
    return directory


@pytest.fixture(scope="module")
def fresh(directory):
    """Logits that a fresh process computes, with the planted module in its path."""
    files = ["run", "inputs.npz", "logits.npz"]
    run_there(directory, str(ROOT / "tests" / "fresh_process.py"), *files, MODULE, *NETS)
    return np.load(directory / "logits.npz")


def run_there(directory, *arguments):
    """Python in a process of its own, which compiles as this one does."""
    path = os.pathsep.join([str(directory), str(ROOT)])
    own = {"PYTHONPATH": path, "JAX_NUM_CPU_DEVICES": "8"}
    own[QUICKLY.upper()] = str(jax.config.read(QUICKLY))
    subprocess.run([sys.executable, *arguments], cwd=directory, env=os.environ | own, check=True)


@pytest.fixture(scope="module")
def here(directory):
    return fresh_process.of_stages(directory / "run", NETS, directory / "inputs.npz")


@pytest.mark.parametrize("name", [*NETS, "student"])
def test_a_fresh_process_computes_the_same_logits(here, fresh, name):
    assert fresh[name].shape == (2, 797, 10) and np.ptp(fresh[name], axis=1).min() > 0
    np.testing.assert_array_equal(fresh[name], here[name])


@pytest.mark.parametrize("name", NETS)
def test_they_are_those_of_the_net_s_own_code(directory, fresh, name):
    net = dict(
        LinenNet=kdjax.linen(mine.LinenNet()),
        NnxNet=kdjax.nnx(mine.NnxNet),
        EquinoxNet=kdjax.equinox(mine.EquinoxNet),
    )[name]
    variables = kdjax.open_stage(directory / "run" / name).part([1]).variables
    first = {kind: _first(tree) for kind, tree in variables.items()}
    outputs, _ = net.apply(first, mine.images[1000:, ..., None], None, ())
    np.testing.assert_allclose(fresh[name][1], outputs.logits, rtol=1e-5, atol=1e-5)


def _first(tree):
    return {k: _first(v) if isinstance(v, dict) else v[0] for k, v in tree.items()}


def test_nothing_that_a_directory_names_is_imported(directory, fresh):
    assert f"{MODULE}:LinenNet" in (directory / "run" / "LinenNet" / "config.json").read_text()
    left = directory / f"{MODULE}.imported"
    assert not left.exists()
    run_there(directory, "-c", f"import {MODULE}")  # what it would have left
    assert left.exists()
