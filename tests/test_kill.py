"""SIGKILL or SIGTERM at any time; a rerun ends with the same metrics, bit for bit."""

import pytest
from harness import lost, saved
from launch import ends, metrics, rows, send, start, wait_for

pytestmark = pytest.mark.slow

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
    directory = tmp_path_factory.mktemp("kill")
    (directory / "config.py").write_text(CONFIG)
    return directory


@pytest.fixture(scope="module")
def undisturbed(directory):
    assert ends(start(directory, "whole"))[0][0] == 0
    return metrics(directory / "whole")


def test_a_run_killed_in_every_stage_ends_as_if_nothing_had_been(directory, undisturbed):
    before = {}
    for name in ("teachers", "baseline", "distilled"):
        stage = directory / "killed" / name
        process = start(directory, "killed")
        wait_for(lambda s=stage: rows(s) >= 5, process)
        send(process, "SIGKILL")
        ends(process)
        assert not (stage / "DONE").exists() and lost(before, directory / "killed") == (0, 0)
        before = saved(directory / "killed")
    assert ends(start(directory, "killed"))[0][0] == 0
    assert lost(before, directory / "killed") == (0, 0)
    assert metrics(directory / "killed") == undisturbed


def test_the_harness_sees_what_is_lost(directory, undisturbed):
    """A chunk that was trained again, and a stage that was finished again."""
    before = saved(directory / "whole")
    assert lost(before, directory / "whole") == (0, 0)
    rows = before["teachers"][1]
    rows[20:] = [row.replace('"seconds": ', '"seconds": 1') for row in rows[20:]]
    before["baseline"] = (b"{}", before["baseline"][1])
    assert lost(before, directory / "whole") == (1, 40)


def test_sigterm_before_within_and_after_the_chunks_ends_cleanly(directory, undisturbed):
    workdir, told = directory / "stopped", "kdjax: asked to stop; the same command goes on"
    process = start(directory, "stopped")
    assert process.stdout.readline().startswith("workdir: ")
    send(process, "SIGTERM")
    code, _, errors = ends(process)[0]
    assert code == 143 and errors.startswith(told) and errors.count("\n") == 1
    assert not rows(workdir / "teachers")

    process = start(directory, "stopped")
    wait_for(lambda: rows(workdir / "teachers") >= 5, process)
    send(process, "SIGTERM")
    assert ends(process)[0][0] == 143
    steps = {int(path.name) for path in (workdir / "teachers" / "checkpoints").iterdir()}
    assert max(steps) == 4 * rows(workdir / "teachers") < 120

    process = start(directory, "stopped")
    wait_for((workdir / "distilled" / "DONE").exists, process)
    send(process, "SIGTERM")
    code, _, errors = ends(process)[0]
    assert code in (0, 143) and errors.startswith(told if code else "")
    assert ends(start(directory, "stopped"))[0][0] == 0
    assert metrics(workdir) == undisturbed
