"""What a report says of the machine and the command that made it, and what is imported."""

import json
import os
import shlex
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


def test_the_command_can_be_run_again_where_it_was_run(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = {
        "/opt/venv/bin/python": "python",
        "-m": "-m",
        "kdjax.main": "kdjax.main",
        f"{tmp_path}/here/configs/digits.py:smoke": "configs/digits.py:smoke",
        f"--config=configs/digits.py:{tmp_path}/here/photos/": "--config=configs/digits.py:photos/",
        "--config=configs/digits.py:../own/photos/": "--config=configs/digits.py:../own/photos/",
        "--config=/home/me/digits.py:/my/photos/": "--config=/home/me/digits.py:/my/photos/",
        "--config.stages.a.teacher=/data/run/teachers,../b": "--config.stages.a.teacher=/data/run/"
        "teachers,../b",
        "--workdir=~/runs/1/": "--workdir=~/runs/1/",
        "--workdir": "--workdir",
        f"{tmp_path}/here": ".",
        "--config.stages.a.hidden=(64, 64)": "--config.stages.a.hidden=(64, 64)",
        "--config.stages.a.name=it's": "--config.stages.a.name=it's",
        "runs/digits": "runs/digits",
    }
    monkeypatch.setattr(sys, "orig_argv", list(arguments))
    assert shlex.split(versions.environment()["command"]) == list(arguments.values())


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
