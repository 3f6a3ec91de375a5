"""The command: overrides, refusals in one sentence with exit code 2, the default workdir."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "ensemble_to_one.py")


def kdjax_main(*arguments, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", "kdjax.main", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cwd)} | env,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--confg", CONFIG], "'confg'; did you mean: config"),
        ([], "--config is missing"),
        (["--config", "nothing.py"], "--config is 'nothing.py'; there is no such file"),
        (["--config", CONFIG, "more"], "'more' is no flag"),
        (
            ["--config", CONFIG, "--config.stages.distilled.temperatur=4"],
            """temperatur=4: 'temperatur'; did you mean "temperature" instead of "temperatur".$""",
        ),
        (["--config", CONFIG, "--config.stages.distilled.steps=many"], "steps=many"),
        (
            ["--config", CONFIG, "--config.stages.distilled.temperature=-1"],
            "config.stages.distilled.temperature is -1.0; it must be a number of at least 0.001",
        ),
        (["--config", f"{CONFIG}:mnits"], "config.dataset.name is 'mnits'; .*did you mean mnist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, words):
    done = kdjax_main(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("kdjax: ")
    import re

    assert re.search(words, line)
    assert not (tmp_path / "runs").exists()


def test_help_is_no_error(tmp_path):
    done = kdjax_main("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "--workdir" in done.stdout


def test_the_command_runs_overrides_and_reports_below_the_current_directory(tmp_path):
    done = kdjax_main(
        "--config",
        f"{CONFIG}:smoke",
        "--config.stages.distilled.temperature=3",
        "--config.stages.distilled.members.soft_weight=(1.0, 2.0)",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    workdir = tmp_path / "runs" / "ensemble_to_one-smoke"
    assert str(workdir.relative_to(tmp_path)) in done.stdout
    assert "distilled soft_weight=2" in done.stdout
    config = (workdir / "distilled" / "config.json").read_text()
    assert '"temperature": 3.0' in config
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert {"training_curves", "errors_against_parameters", "soft_targets"} <= figures
    again = kdjax_main("--config", f"{CONFIG}:smoke", cwd=tmp_path)
    assert again.returncode == 2
    assert "temperature: 3.0 -> 2.0" in again.stderr
