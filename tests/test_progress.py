"""What a user sees while a stage trains: nothing that is not a terminal, TensorBoard if asked."""

import os
import time

import pytest
from runs import config

import kdjax
from kdjax import prepare
from kdjax.host import progress
from kdjax.rules import InputError


def test_tensorboard_gets_a_scalar_per_member_and_chunk(tmp_path):
    kdjax.run(config(students={}, tensorboard=True), tmp_path, quiet=True)
    (file,) = (tmp_path / "teachers" / "tensorboard").iterdir()
    content = file.read_bytes()
    assert content.count(b"loss/2") == 2  # chunks
    assert b"validation_accuracy/0" in content


def test_tensorboard_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="tensorboardX is not installed"):
        kdjax.run(config(tensorboard=True), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_means_of_the_healthy_members_are_shown(capsys, monkeypatch, terminal):
    row = {"step": 8, "bad": [False, True, False], "loss": [1.0, None, 2.0]}
    row["validation"] = {"accuracy": [0.5, None, 0.7]}
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(progress, "QUIET", 0)
    bar = progress.Progress("teachers", total=20, done=4)
    bar.update(row)
    bar.close()
    shown = capsys.readouterr().err
    assert ("8/20" if terminal else "8 of 20 steps") in shown and "teachers: " in shown
    assert "loss=1.5" in shown and "validation accuracy=60.00%" in shown
    assert ("\r" in shown) == terminal
    assert terminal or len(shown.splitlines()) == len(set(shown.splitlines()))


def test_a_short_stage_without_a_terminal_says_nothing(capsys):
    bar = progress.Progress("teachers", total=20, done=0)
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_is_told_that_a_stage_compiles(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = progress.Progress("teachers", total=20, done=0)
    first = capsys.readouterr().err
    bar.update({"step": 8, "bad": [True], "loss": [None], "validation": {"accuracy": [None]}})
    bar.close()
    assert "compiling, then the first steps" in first
    assert "compiling" not in capsys.readouterr().err.rpartition("\r")[2]


@pytest.mark.parametrize("terminal", [True, False])
def test_time_goes_by_before_the_first_steps_are_done(capsys, monkeypatch, terminal):
    """However long they take, a line or the bar's clock shows that something happens."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(progress, "QUIET", 0.2)
    monkeypatch.setattr(progress, "CLOCK", 0.2)
    bar, shown, end = progress.Progress("teachers", total=20, done=0), "", time.time() + 20
    clock = "00:01<?" if terminal else "teachers: 0 of 20 steps in 00:01, ? left, compiling, then"
    while clock not in shown and time.time() < end:
        time.sleep(0.1)
        shown += capsys.readouterr().err
    bar.close()
    assert clock in shown


def test_the_time_that_is_left_is_not_that_of_compiling(monkeypatch):
    bar = progress.Progress("teachers", total=20, done=4)
    row = {"bad": [False], "loss": [1.0], "validation": {"accuracy": [0.5]}}
    bar._bar.start_t -= 1000  # to compile
    bar.update(row | {"step": 6})
    assert not bar._bar.format_dict["rate"] and bar._bar.format_dict["n"] == 6
    bar.close()


def test_what_nobody_reads_is_lost_and_ends_nothing():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        progress.write("heard", stream)
        assert os.read(reader, 100) == b"heard\n"
        os.close(reader)
        for _ in range(3):
            progress.write("lost", stream)
    progress.write("after the end", stream)
    progress.write("to none", None)
