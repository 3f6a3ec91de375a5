"""The command: overrides, refusals in one sentence with exit code 2, the default workdir."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stages import refuses

from kdjax import main
from kdjax.config import file
from kdjax.rules import InputError

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "ensemble_to_one.py")
GIVEN = ["--config", CONFIG]
TINY = "from runs import config\ndef get_config(): return config()\n"
PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


def kdjax_main(*arguments, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", "kdjax.main", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PATH} | env,
        capture_output=True,
        text=True,
    )


# The arguments.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--confg", CONFIG], "'--confg' is no flag (did you mean '--config'?)"),
        ([], "--config is missing; try --config configs/ensemble_to_one.py"),
        ([*GIVEN, "more"], "'more' is no flag; a flag starts with --"),
        ([*GIVEN, "--num_processes=two"], "argument --num_processes: invalid int value: 'two'"),
        ([*GIVEN, "--config.data_dir"], "--config.data_dir has no value; it must be --config.data"),
        ([*GIVEN, "--config.data_dir", "--distributed"], "--config.data_dir has no value; it must"),
        (["--config"], "argument --config: expected one argument"),
    ],
)
def test_a_wrong_flag_is_refused(arguments, words):
    with refuses(words):
        main.parse(arguments)


def test_overrides_are_taken_in_order_in_both_forms():
    text = ["--config.a.b=1=2", "--workdir=x", "--config.c", "(1, 2)", "--config", "own.py:word"]
    asked, overrides = main.parse(text)
    assert (asked.config, asked.workdir, asked.distributed) == ("own.py:word", "x", False)
    assert overrides == [("config.a.b", "1=2"), ("config.c", "(1, 2)")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps=1e3", 1000),
        ("steps=(3, 4)", (3, 4)),
        ("steps=0.5", 0.5),
        ("steps=many", "many"),
        ("steps=(1,", "(1,"),
        ("rate=3", 3.0),
        ("rate=nan", "nan"),
        ("on=false", False),
        ("on=False", False),
        ("name=3", "3"),
        ("name=mnist:3.0.1", "mnist:3.0.1"),
        ("name=", ""),
        ("hidden=1, 2", (1, 2)),
        ("hidden=3", 3),
        ("new={'a': 1}", {"a": 1}),
    ],
)
def test_an_override_is_the_python_value_that_the_file_could_have_said(text, value):
    """Text where there is text; a number of the kind that is there, if it is one."""
    config = {"steps": 1, "rate": 0.5, "on": True, "name": "", "hidden": (1,)}
    name, _, said = text.partition("=")
    file.override(config, f"config.{name}", said)
    assert config[name] == value and type(config[name]) is type(value)


def test_an_override_below_what_is_no_dict_of_fields_is_refused():
    config = {"stages": {"distilled": {"steps": 1}}, "data_dir": ""}
    file.override(config, "config.stages.distilled.steps", "2")
    assert config["stages"] == {"distilled": {"steps": 2}}
    for field, words in {
        "config.stages.distiled.steps": "config.stages has no dict of fields 'distiled' (did you "
        "mean 'distilled'?); it has distilled",
        "config.data_dir.x": "config has no dict of fields 'data_dir'; it has stages",
        "config.stages.distilled.a.b": "config.stages.distilled has no dict of fields 'a'; it ha",
    }.items():
        with refuses(f"--{field}: {words}"):
            file.override(config, field, "3")


# The config file.


def written(directory, content):
    (directory / "own.py").write_text(content)
    return f"{directory}/own.py"


def test_a_config_file_may_have_dataclasses_an_argument_and_return_any_dict(tmp_path):
    path = written(
        tmp_path,
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from ml_collections import ConfigDict\n"
        "@dataclass\n"
        "class Steps:\n"
        "    number: int = 3\n"
        "def get_config(word='none'):\n"
        "    b = ConfigDict({'steps': Steps().number, 'word': word})\n"
        "    return {'stages': {'b': b, 'a': ConfigDict()}}\n",
    )
    for name, word in ((path, "none"), (f"{path}:", ""), (f"{path}:some:word", "some:word")):
        config = file.read(name)
        assert config == {"stages": {"b": {"steps": 3, "word": word}, "a": {}}}
        assert list(config["stages"]) == ["b", "a"] and type(config["stages"]["b"]) is dict


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = 1\ndef get_config(:\n", "which raised SyntaxError: invalid syntax (own.py, line 2)"),
        ("\n\n{}['a']\n", "which raised KeyError: 'a' (own.py, line 3)"),
        (
            "import json\ndef get_config():\n    return json.loads('no')\n",
            "which raised JSONDecodeError: Expecting value: line 1 column 1 (char 0) (own.py, lin",
        ),
        ("def get_config(word): pass", "which raised TypeError: get_config() missing 1 required"),
        ("import sys\nsys.exit(3)", "which raised SystemExit: 3 (own.py, line 2)"),
        ("", "which has no get_config; it must be a function that returns the config"),
        ("def get_config(): return [1]", "whose get_config returned [1]; it must be a dict of fi"),
    ],
)
def test_what_is_wrong_with_a_config_file_is_said_with_its_line(tmp_path, content, words):
    path = written(tmp_path, content)
    with refuses(f"--config is '{path}', {words}"):
        file.read(path)


def test_what_a_config_file_refuses_is_said_in_its_own_words(tmp_path):
    content = "from kdjax.config import stage\ndef get_config(): return stage(stepz=3)\n"
    with pytest.raises(
        InputError, match=r"^stage has no field 'stepz' \(did you mean 'steps'\?\);"
    ):
        file.read(written(tmp_path, content))


def test_a_config_file_that_is_not_there_is_refused():
    with refuses("--config is 'nothing.py'; there is no such file"):
        file.read("nothing.py:smoke")


# The process.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*GIVEN, "--config.stages.distilled.temperatur=4"], "has no field 'temperatur' (did you "),
        (
            [*GIVEN, "--config.stages.distilled.temperature=-1"],
            "config.stages.distilled.temperature is -1.0; it must be a number of at least 0.001",
        ),
        (["--config", f"{CONFIG}:mnits"], "config.dataset.name is 'mnits'; it must be digits, "),
        (["--config", "nothing.py"], "--config is 'nothing.py'; there is no such file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, words):
    done = kdjax_main(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("kdjax: ") and words in line
    assert not (tmp_path / "runs").exists()


def test_a_platform_that_is_not_there_is_one_sentence(tmp_path):
    for platform in ("nonesuch", "cuda"):
        done = kdjax_main("--config", f"{CONFIG}:smoke", cwd=tmp_path, JAX_PLATFORMS=platform)
        assert done.returncode == 2 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert re.fullmatch(
            f"kdjax: JAX_PLATFORMS is '{platform}', which JAX cannot open \\(.*\\); it must name "
            "platforms of this machine, such as cpu, or be unset",
            line,
        )


def test_help_is_no_error(tmp_path):
    done = kdjax_main("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "--workdir" in done.stdout


@pytest.mark.slow
def test_a_run_needs_no_output_and_paths_may_begin_at_home(tmp_path):
    """As with >&- in a shell, which leaves the descriptor closed."""
    (tmp_path / "home").mkdir()
    tiny = written(tmp_path / "home", TINY)
    arguments = f"--config {tiny} --workdir=~/run --config.stages.teachers.steps=1e1"
    done = subprocess.run(
        f"exec {sys.executable} -m undrawn {arguments} >&-",
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATH, "HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home" / "run" / "report.json").exists()


@pytest.mark.slow
def test_a_run_goes_on_where_nobody_reads_its_output_any_more(tmp_path):
    """As with 2>&1 | head -1."""
    command = [sys.executable, "-m", "undrawn", "--config", written(tmp_path, TINY)]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.stdout.readline() == b"workdir: runs/own\n"
    run.stdout.close()
    assert run.wait() == 0
    assert (tmp_path / "runs" / "own" / "report.json").exists()


@pytest.mark.slow
def test_a_healthy_run_has_no_nan_of_its_own(tmp_path):
    done = kdjax_main("--config", written(tmp_path, TINY), cwd=tmp_path, JAX_DEBUG_NANS="1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("output", [None, io.StringIO()])
def test_any_stdout_will_do(monkeypatch, output):
    """A notebook's is no file, and cannot be told what to do with letters that it lacks."""
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(logging.getLogger("absl"), "level", logging.WARNING)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    main.quiet()
    print("heard", flush=True)
    if output is None:
        sys.stdout.close()
    else:
        assert output.getvalue() == "heard\n"


@pytest.mark.slow
def test_the_command_runs_overrides_and_reports_below_the_current_directory(tmp_path):
    done = kdjax_main(
        "--config",
        f"{CONFIG}:smoke",
        "--config.stages.distilled.temperature=3",
        "--config.stages.distilled.members.kl_divergence.weight=(1.0, 2.0)",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    workdir = tmp_path / "runs" / "ensemble_to_one-smoke"
    assert str(workdir.relative_to(tmp_path)) in done.stdout
    assert "distilled kl_divergence.weight=2" in (workdir / "report.md").read_text()
    config = (workdir / "distilled" / "config.json").read_text()
    assert '"temperature": 3.0' in config
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert {"training_curves", "errors_against_parameters", "soft_targets"} <= figures
    again = kdjax_main("--config", f"{CONFIG}:smoke", cwd=tmp_path)
    assert again.returncode == 2
    assert "temperature: 3.0 -> 2.0" in again.stderr


@pytest.mark.parametrize(
    ("asked", "workdir"),
    [
        ("configs/ensemble_to_one.py", "runs/ensemble_to_one"),
        ("configs/ensemble_to_one.py:mnist", "runs/ensemble_to_one-mnist"),
        ("configs/ensemble_to_one.py:photos/", "runs/ensemble_to_one-photos"),
        ("configs/ensemble_to_one.py:/my/photos/", "runs/ensemble_to_one-my_photos"),
    ],
)
def test_the_workdir_is_named_after_the_config_and_its_data(asked, workdir):
    assert str(main.default_workdir(asked)) == workdir
