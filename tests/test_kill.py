"""SIGKILL inside any stage; a rerun ends with the same metrics, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = """
from runs import config
def get_config():
    made = config()
    for stage in made.stages.values():
        stage.update(steps=120, chunk=4)
    return made
"""


def command(tmp_path, name):
    return [
        *(sys.executable, "-m", "kdjax.main", "--config", tmp_path / "config.py"),
        *("--workdir", tmp_path / name),
    ]


def metrics(tmp_path, name):
    rows = json.loads((tmp_path / name / "report.json").read_text())["rows"]
    return [(row["stage"], row["cell"], row["metrics"]) for row in rows]


@pytest.fixture(scope="module")
def tmp_path(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def environment(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path, environment):
    subprocess.run(command(tmp_path, "whole"), env=environment, check=True, capture_output=True)
    return metrics(tmp_path, "whole")


def test_a_run_killed_in_every_stage_ends_as_if_nothing_had_been(
    tmp_path, environment, undisturbed
):
    for name in ("teachers", "baseline", "distilled"):
        rows = tmp_path / "killed" / name / "metrics.jsonl"
        process = subprocess.Popen(
            command(tmp_path, "killed"), env=environment, stdout=subprocess.DEVNULL
        )
        while not rows.exists() or rows.read_text().count("\n") < 5:
            assert process.poll() is None, f"ended before {name} had five chunks"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (rows.parent / "DONE").exists()
    subprocess.run(command(tmp_path, "killed"), env=environment, check=True, capture_output=True)
    assert metrics(tmp_path, "killed") == undisturbed
