"""Two processes with four devices each: one program, and one end whatever happens to either."""

import contextlib
import json
import math
import re
import signal

import jax
import numpy as np
import pytest
from launch import apart, ends, free_port, metrics, rows, send, start, start_two, wait_for

import kdjax
from kdjax.host import ownership, processes
from kdjax.rules import InputError

CONFIG = """
from runs import KD, STUDENT, config
from kdjax.config import stage
def get_config():
    short = STUDENT | dict(steps=8, chunk=4)
    students = dict(
        cached=stage(**short, objective=KD, teacher_logits="cached"),
        live=stage(**short, objective=dict(kl_divergence=1.0), order="shared"),
    )
    return config(dict(chunk=4), students, execution=dict())
"""
LOST = "kdjax: this process failed, or lost another; the same command goes on"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes")
    (directory / "config.py").write_text(CONFIG)
    return directory


@pytest.fixture(scope="module")
def undisturbed(directory):
    (code, out, errors), second = ends(*start_two(directory, "two"))
    assert (code, errors) == (0, "") and second == (0, "", "")
    assert len(re.findall(r"^teachers +3 ", out, re.M)) == 1 and "Gloo" not in out
    report = (directory / "two" / "report.md").read_text()
    assert re.search(r"2 x 4 for [\w, ]*cached, live", report)
    return metrics(directory / "two")


@pytest.mark.slow
def test_two_processes_do_what_one_with_all_devices_does(directory, undisturbed):
    assert ends(start(directory, "one", JAX_NUM_CPU_DEVICES="8"))[0][0] == 0
    assert max(apart(metrics(directory / "one"), undisturbed).values()) < 1e-3
    for name in ("teachers", "cached", "live"):
        one, two = (kdjax.open_stage(directory / run / name).variables for run in ("one", "two"))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, two)
    environment = json.loads((directory / "two" / "report.json").read_text())["environment"]
    assert environment["devices"] == 8 and environment["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_one_that_is_to_stop_stops_the_other(
    directory, undisturbed
):
    workdir = directory / "disturbed"
    first, second = start_two(directory, "disturbed")
    wait_for(lambda: rows(workdir / "teachers") >= 2, first, second)
    send(second, "SIGKILL")
    (code, _, errors), _ = ends(first, second)
    assert code == 1 and errors.splitlines()[-1].startswith(LOST)

    first, second = start_two(directory, "disturbed")
    wait_for(lambda: rows(workdir / "cached") >= 1, first, second)
    send(second, "SIGTERM")
    ended = ends(first, second)
    assert [code for code, *_ in ended] == [143, 143]
    (line,) = "".join(errors for *_, errors in ended).splitlines()
    assert line.startswith("kdjax: asked to stop; the same command goes on")
    steps = {int(path.name) for path in (workdir / "cached" / "checkpoints").iterdir()}
    assert max(steps) == 4 * rows(workdir / "cached")

    assert [code for code, *_ in ends(*start_two(directory, "disturbed"))] == [0, 0]
    assert metrics(workdir) == undisturbed


@pytest.mark.slow
def test_process_0_killed_ends_the_other_and_one_alone_goes_on(directory, undisturbed):
    first, second = start_two(directory, "headless")
    wait_for(lambda: rows(directory / "headless" / "teachers") >= 2, first, second)
    send(first, "SIGKILL")
    assert ends(first, second)[1][0] != 0
    assert ends(start(directory, "headless", JAX_NUM_CPU_DEVICES="2"))[0][0] == 0
    assert max(apart(metrics(directory / "headless"), undisturbed).values()) < 1e-3


@pytest.mark.parametrize("case", ["workdir", "data", "devices", "config", "lock"])
@pytest.mark.slow
def test_what_one_process_refuses_ends_both_with_one_sentence(tmp_path, case):
    (tmp_path / "config.py").write_text(CONFIG)
    if case == "workdir":
        two = start_two(tmp_path, "run", f"--workdir={tmp_path / 'elsewhere'}", slurm=True)
        words = "--workdir of process 1 is not that of process 0; it must be on a file system"
    elif case == "data":
        two = start_two(tmp_path, "run", "--config.dataset.name=nothing.npz")
        words = "config.dataset.name is 'nothing.npz'"
    elif case == "devices":
        two = start_two(tmp_path, "run", devices=(4, 2))
        words = "there are 4 in process 0, 2 in process 1 devices; every process must have as many"
    elif case == "config":
        two = start_two(tmp_path, "run", "--config.stages.cached.temperature=9.0")
        words = "process 1 has another config, data set, workdir or version of a package than"
    if case == "lock":
        (tmp_path / "run").mkdir()
        with ownership.lock(tmp_path / "run"):
            ended = ends(*start_two(tmp_path, "run"))
        words = "is in use by another run"
    else:
        ended = ends(*two)
    assert [code for code, *_ in ended] == [2, 2]
    (line,) = "".join(errors for *_, errors in ended).splitlines()
    assert line.startswith("kdjax: ") and words in line
    assert not [path for path in tmp_path.glob("run/*") if path.name != ".lock"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((True, "h:1", 2, 0), "--distributed finds out what .* say; give it alone, or those three"),
        ((False, "h:1", None, 0), "--num_processes is missing; .* go together"),
        ((False, None, None, 1), "--coordinator_address and --num_processes are missing"),
        ((False, "h", 2, 0), "--coordinator_address is 'h'; it must be HOST:PORT"),
        ((False, "h:x", 2, 0), "--coordinator_address is 'h:x'; it must be HOST:PORT"),
        ((False, "h:1", 0, 0), "--num_processes is 0; it must be at least 1"),
        ((False, "h:1", 2, 2), "--process_id is 2; it must be from 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(flags, words):
    with pytest.raises(InputError, match=words):
        processes.check_flags(*flags)


def test_a_taken_port_and_no_cluster_are_refused_before_anything_starts(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    import socket

    with socket.socket() as taken:
        taken.bind(("", free_port()))
        taken.listen()
        address = f"--coordinator_address=127.0.0.1:{taken.getsockname()[1]}"
        one = start(tmp_path, "run", address, "--num_processes=2", "--process_id=0")
        code, _, errors = ends(one)[0]
    assert code == 2 and "which process 0 cannot open" in errors and errors.count("\n") == 1
    code, _, errors = ends(start(tmp_path, "run", "--distributed"))[0]
    assert code == 2 and "--distributed: found no TPU slice, Slurm" in errors
    assert not (tmp_path / "run").exists()


def test_an_interrupt_that_something_swallowed_is_raised_again():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
    try:
        again = processes.sigint()
        again()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            again()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
        processes.sigint()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_how_far_reports_are_apart():
    row = lambda stage, *values: (stage, {}, {"errors": {"values": list(values)}})
    one = [row("a", 2.0, None), row("b", 1.0), row("c", 0.0), row("d", 1.0)]
    two = [row("a", 1.0, None), row("b", None), row("c", 0.0), row("e", 1.0)]
    found = {stage: far for (stage, _), far in apart(one, two).items()}
    assert found == {"a": 0.5, "b": math.inf, "c": 0.0, "d": math.inf, "e": math.inf}
