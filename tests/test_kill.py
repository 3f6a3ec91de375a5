"""SIGKILL inside any stage, and a full disk; a rerun ends with the same metrics, bit for bit."""

import resource
import signal

import pytest
from harness import ended, lines, lost, metrics, saved, start, wait_until

CONFIG = """
from runs import config
def get_config():
    made = config()
    for stage in made.stages.values():
        stage.update(steps=120, chunk=4)
    return made
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("kill")
    (path / "config.py").write_text(CONFIG)
    return path


def run(directory, name):
    return start(directory / name, directory / "config.py")


@pytest.fixture(scope="module")
def undisturbed(directory):
    assert ended(run(directory, "whole"), signal.SIGKILL, "")
    return metrics(directory / "whole")


def has_rows(workdir, stage, process):
    """Waits until the stage has five chunks, and is not finished."""
    assert wait_until(lambda: len(lines(workdir / stage)) >= 5, process)
    assert not (workdir / stage / "DONE").exists()


def test_a_run_killed_in_every_stage_ends_as_if_nothing_had_been(directory, undisturbed):
    workdir, before = directory / "killed", {}
    for stage in ("teachers", "baseline", "distilled"):
        process = run(directory, "killed")
        has_rows(workdir, stage, process)
        process.send_signal(signal.SIGKILL)
        assert not ended(process, signal.SIGKILL, "chunk")
        assert lost(before, workdir) == (0, 0)
        before = saved(workdir)
        assert not (workdir / stage / "DONE").exists() and before[stage][1]
    assert ended(run(directory, "killed"), signal.SIGKILL, "")
    assert lost(before, workdir) == (0, 0)
    assert metrics(workdir) == undisturbed


def test_what_is_lost_is_counted(directory, undisturbed):
    """The harness sees a chunk that was trained again, and a stage that was finished again."""
    before = saved(directory / "whole")
    again = {name: (done, list(rows)) for name, (done, rows) in before.items()}
    again["teachers"][1][20:] = [
        row.replace('"seconds": ', '"seconds": 1') for row in again["teachers"][1][20:]
    ]
    again["baseline"] = (b"{}", before["baseline"][1])
    assert lost(before, directory / "whole") == (0, 0)
    assert lost(again, directory / "whole") == (1, 40)


def test_a_full_disk_is_one_sentence_and_takes_nothing_away(directory, undisturbed):
    workdir, room = directory / "full", 6_000  # bytes of a file: metrics fit, arrays do not
    process = run(directory, workdir.name)
    has_rows(workdir, "baseline", process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
    before = saved(workdir)
    _, errors = process.communicate()
    assert process.returncode == 4
    (line,) = errors.splitlines()
    assert line.startswith("kdjax: [Errno 27] File too large") and str(workdir / "baseline") in line
    assert line.endswith("what was saved stays, and the same command goes on from there")
    assert ended(run(directory, workdir.name), signal.SIGKILL, "")
    assert lost(before, workdir) == (0, 0) and metrics(workdir) == undisturbed
