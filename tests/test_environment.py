"""What a report says of the machine and the command that made it, and what is imported."""

import json
import os
import subprocess
import sys

import jax
import numpy as np

from kdjax.data import DatasetSpec, load
from kdjax.host import versions


def test_is_this_one():
    found = versions.environment()
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["devices"] == jax.device_count() and found["cpus"] == len(os.sched_getaffinity(0))
    json.dumps(found, allow_nan=False)


def test_the_command_has_no_path_of_this_machine(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = {
        "/opt/venv/bin/python": "python",
        "-m": "-m",
        "kdjax.main": "kdjax.main",
        f"{tmp_path}/here/configs/digits.py:smoke": "configs/digits.py:smoke",
        "--config=/home/me/kdjax/configs/digits.py": "--config=digits.py",
        "--stages.a.teacher=/data/run/teachers,../b": "--stages.a.teacher=teachers,b",
        "--workdir=~/runs/1/": "--workdir=1/",
        "--config=configs/digits.py:/my/photos/": "--config=configs/digits.py:photos/",
        "--config.stages.a.temperature=4": "--config.stages.a.temperature=4",
        "runs/digits": "runs/digits",
    }
    monkeypatch.setattr(sys, "orig_argv", list(arguments))
    command = versions.environment()["command"]
    assert command.split() == list(arguments.values())
    assert str(tmp_path) not in command


def test_starting_on_the_digits_imports_nothing_that_it_does_not_need():
    load(DatasetSpec(), "")
    code = """
import sys
import kdjax.main
from kdjax.data import load
from kdjax.data import DatasetSpec
load(DatasetSpec(), "")
heavy = {"sklearn", "scipy.stats", "pandas", "matplotlib", "tensorboardX", "tensorflow"}
print(*sorted((heavy | {"tensorflow_datasets", "grain", "cv2", "PIL"}) & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"
