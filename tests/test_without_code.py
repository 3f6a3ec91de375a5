"""A stage opens, predicts and teaches when the code that made it is gone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kdjax
from kdjax.config import experiment, stage

pytestmark = pytest.mark.slow

NET = """
import flax.linen as nn

class Net(nn.Module):
    classes: int = 10
    width: int = 12

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.classes)(nn.relu(x))
"""
PLANTED = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()
"""
OPEN = """
import sys
import numpy as np
import kdjax
directory, inputs, out = sys.argv[1:]
kdjax.use_machine()
opened = kdjax.open_stage(directory)
np.save(out, opened.predict(np.load(inputs)))
assert "vanishing" not in sys.modules
"""
TRAIN = """
import sys
import kdjax
from kdjax.config import experiment, stage
workdir = sys.argv[1]
kdjax.use_machine()
net = dict(model=dict(name="vanishing:Net"), steps=4, chunk=2, members=dict(seed=2))
kdjax.run(experiment(stages=dict(teachers=stage(**net))), workdir, quiet=True)
"""


def python(code, *arguments, path):
    where = os.pathsep.join([*map(str, path), str(Path(kdjax.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": where, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a stage predicts while its code is there, and after."""
    folder = tmp_path_factory.mktemp("without_code")
    code, workdir, inputs = folder / "code", folder / "workdir", folder / "inputs.npy"
    code.mkdir()
    (code / "vanishing.py").write_text(NET)
    python(TRAIN, workdir, path=[code])
    images, _ = kdjax.examples(experiment(stages=dict(a=stage())), "test")
    np.save(inputs, images[:30])
    python(OPEN, workdir / "teachers", inputs, folder / "before.npy", path=[code])
    shutil.rmtree(code)
    python(OPEN, workdir / "teachers", inputs, folder / "after.npy", path=[])
    return folder


def test_a_fresh_process_gives_the_same_logits_bit_for_bit(found):
    before, after = np.load(found / "before.npy"), np.load(found / "after.npy")
    assert before.shape == (2, 30, 10) and np.isfinite(before).all()
    np.testing.assert_array_equal(before, after)


def test_a_planted_module_of_the_same_name_is_not_imported(found):
    planted = found / "planted"
    planted.mkdir()
    (planted / "vanishing.py").write_text(PLANTED)
    directory, inputs = found / "workdir" / "teachers", found / "inputs.npy"
    python(OPEN, directory, inputs, found / "planted.npy", path=[planted])
    assert not list(planted.glob("*.imported"))
    np.testing.assert_array_equal(np.load(found / "planted.npy"), np.load(found / "after.npy"))


def test_it_teaches_a_net_of_other_code(found, tmp_path):
    student = stage(
        model=dict(name="mlp", hidden=(8,)),
        teacher=str(found / "workdir" / "teachers"),
        objective=dict(kl_divergence=1.0),
        steps=4,
        chunk=2,
    )
    report = kdjax.run(experiment(stages=dict(student=student)), tmp_path, quiet=True)
    assert report.row("student").mean("teacher_kl") > 0
    assert "vanishing" not in sys.modules
