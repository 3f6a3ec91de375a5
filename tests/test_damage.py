"""Damaged checkpoints and killed saves: the last good state is found, or nothing is guessed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stages import assert_restores, assert_same, make, refuses, steps_of

from kdjax.host import checkpoint
from kdjax.host.checkpoint import Checkpoints


def largest(directory: Path, *parts: str) -> Path:
    files = (
        path for path in directory.joinpath("checkpoints", *parts).rglob("*") if path.is_file()
    )
    return max(files, key=lambda path: path.stat().st_size)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit in the middle: Orbax alone reads on, with another number in an array."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "variables truncated": lambda d: truncate(largest(d, "30", "variables")),
    "variables flipped": lambda d: flip(largest(d, "30", "variables")),
    "optimizer flipped": lambda d: flip(largest(d, "30", "opt")),
    "number flipped": lambda d: flip(largest(d, "30", "hparams")),
    "optimizer truncated": lambda d: truncate(largest(d, "30", "opt")),
    "optimizer emptied": lambda d: [
        truncate(p) or p.write_bytes(b"")
        for p in (d / "checkpoints/30/opt").rglob("*")
        if p.is_file()
    ],
    "number lost": lambda d: shutil.rmtree(d / "checkpoints/30/hparams"),
    "index lost": lambda d: (d / "checkpoints/30/hparams/manifest.ocdbt").unlink(),
    "description lost": lambda d: (d / "checkpoints/30/opt/_METADATA").unlink(),
    "meta truncated": lambda d: truncate(d / "checkpoints/30/meta/metadata"),
    "item lost": lambda d: shutil.rmtree(d / "checkpoints/30/variables"),
    "all lost": lambda d: shutil.rmtree(d / "checkpoints/30") or (d / "checkpoints/30").mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_step_falls_back_to_the_one_before(stage, damage, caplog):
    DAMAGES[damage](stage)
    with Checkpoints(stage) as checkpoints:
        assert checkpoints.latest() == 20
        assert_restores(checkpoints, 20, make(20))
        checkpoints.save(30, **make(30))
    warnings = [r for r in caplog.records if r.name == "kdjax.host.checkpoint"]
    assert len(warnings) <= 1  # none where Orbax takes the directory for no step
    for record in warnings:
        assert "checkpoints/30 cannot be read" in record.getMessage()
        assert "\n" not in record.getMessage()
    with Checkpoints(stage) as checkpoints:
        assert checkpoints.latest() == 30
        assert_restores(checkpoints, 30, make(30))


NEEDED = ("variables", "meta", "item", "all")  # for predictions; a rest that is damaged is not read


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_stage_opens_where_its_variables_are_whole(stage, damage):
    DAMAGES[damage](stage)
    if not damage.startswith(NEEDED):
        assert_same(checkpoint.open_variables(stage)[0], make(30)["variables"])
    else:
        with refuses(f"{stage}/checkpoints", "cannot be read", "delete"):
            checkpoint.open_variables(stage)
    if damage.startswith(("number", "index")):
        with refuses(f"{stage}/checkpoints", "cannot be read", "delete"):
            checkpoint.open_hparams(stage)


def test_where_every_step_is_damaged_there_is_no_start_from_scratch(stage, caplog):
    for step in ("20", "30"):
        truncate(largest(stage, step, "variables"))
    with (
        Checkpoints(stage) as checkpoints,
        refuses(f"{stage}/checkpoints/20 cannot be read", "delete"),
    ):
        checkpoints.latest()
    assert steps_of(stage) == ["20", "30"]
    ours = [r.levelname for r in caplog.records if r.name == "kdjax.host.checkpoint"]
    assert ours == ["WARNING"] * 2


def test_what_a_killed_save_left_is_no_step_and_goes(stage):
    left = stage / "checkpoints" / "35.orbax-checkpoint-tmp"
    shutil.copytree(stage / "checkpoints" / "30", left)
    shutil.rmtree(left / "meta")
    (left / "commit_success.txt").unlink()
    assert_same(checkpoint.open_variables(stage)[0], make(30)["variables"])
    assert left.exists()
    with Checkpoints(stage) as checkpoints:
        assert checkpoints.latest() == 30
        checkpoints.save(40, **make(40))
    assert steps_of(stage) == ["30", "40"]


SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from kdjax.host.checkpoint import Checkpoints
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in itertools.count((checkpoints.latest() or 0) + 1):
        array = np.full((3, 400, 1000), step, np.float32)
        checkpoints.save(step, {"params": {"kernel": array}, "model_state": {}}, {"step": array},
                         {"seed": array}, {"step": step})
        print(step, flush=True)
"""


@pytest.mark.slow
def test_survives_being_killed(tmp_path):
    """Killed at moments spread over a save; step n is on its way when n is printed."""
    template = {"step": np.zeros((3, 400, 1000), np.float32)}
    for n, delay in enumerate([0.0, 0.01, 0.03, 0.06]):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        ) as process:
            printed = [int(process.stdout.readline()) for _ in range(3 if n else 1)]
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            printed += [int(line) for line in process.stdout if line.endswith("\n")]
        with Checkpoints(tmp_path) as checkpoints:
            step = checkpoints.latest()
            safe = printed[-1] - 1
            assert (step or 0) in (safe, safe + 1, safe + 2)
            if step is not None:
                variables, opt, hparams, meta = checkpoints.restore(step, template)
                for array in (variables["params"]["kernel"], opt["step"], hparams["seed"]):
                    np.testing.assert_array_equal(array, step)
                assert meta["step"] == step


# Metrics.
