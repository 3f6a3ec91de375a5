"""A stage that was stopped goes on bit for bit, whenever it was stopped and saved."""

import itertools
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from runs import config as uneven
from runs import values

import kdjax
from kdjax import experiment, loop
from kdjax.host import checkpoint
from kdjax.rules import Preempted

pytestmark = pytest.mark.usefixtures("undrawn")


def config(**fields):
    """Chunks of 8 steps, and a last one of 4."""
    made = uneven(**fields)
    for each in made.stages.values():
        each.steps = 20
    return made


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return kdjax.run(config(), tmp_path_factory.mktemp("whole"), quiet=True)


def steps_of(stage: Path) -> list[int]:
    """The checkpoints there are."""
    return sorted(int(path.name) for path in (stage / "checkpoints").iterdir())


def rows_of(stage: Path) -> list[int]:
    return [row["step"] for row in checkpoint.read_metrics(stage)]


def after(chunks: int):
    """Asks to stop when so many chunks are done; it is asked once before the first, too."""
    asked = itertools.count()
    return lambda: next(asked) >= chunks


@pytest.mark.slow
def test_a_run_that_is_stopped_after_every_chunk_saves_first_and_goes_on_bit_for_bit(
    report, tmp_path, monkeypatch
):
    starts, chunks = [], loop.chunks
    monkeypatch.setattr(loop, "chunks", lambda s, done: starts.append(done) or chunks(s, done))
    for name in ("teachers", "baseline", "distilled"):
        for step in (8, 16):
            with pytest.raises(Preempted, match="asked to stop; the same command goes on"):
                kdjax.run(config(), tmp_path, quiet=True, stop=after(1))
            assert steps_of(tmp_path / name)[-1] == rows_of(tmp_path / name)[-1] == step
        if name != "distilled":  # the last chunk ends the stage, and the next one is not begun
            with pytest.raises(Preempted):
                kdjax.run(config(), tmp_path, quiet=True, stop=after(1))
    assert values(kdjax.run(config(), tmp_path, quiet=True)) == values(report)
    assert starts == [0, 8, 16, 0, 0, 8, 16, 0, 0, 8, 16]
    for name in ("teachers", "baseline", "distilled"):
        assert rows_of(tmp_path / name) == [8, 16, 20] and steps_of(tmp_path / name)[-1] == 20


def test_nothing_is_computed_if_it_is_to_stop_before_it_starts(tmp_path):
    with pytest.raises(Preempted):
        kdjax.run(config(), tmp_path, quiet=True, stop=after(0))
    assert not rows_of(tmp_path / "teachers") and not steps_of(tmp_path / "teachers")


class Fails:
    """A display that cannot show the second chunk of the last stage."""

    def __init__(self, stage, total, done):
        self._stage = stage

    def update(self, row):
        if self._stage == "distilled" and row["step"] == 16:
            raise KeyboardInterrupt

    def close(self):
        pass


@pytest.mark.slow
def test_what_was_saved_is_not_trained_again(report, tmp_path, monkeypatch, saving):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(experiment, "Progress", Fails)
        kdjax.run(config(), tmp_path)
    stage = tmp_path / "distilled"
    assert steps_of(stage) == rows_of(stage) == [8, 16] and not (stage / "DONE").exists()
    assert values(kdjax.run(config(), tmp_path, quiet=True)) == values(report)
    assert rows_of(stage) == [8, 16, 20]


@pytest.mark.parametrize(
    ("tick", "saved"),
    [(0.1, [20]), (6.0, [8, 16, 20]), (4.0, [12, 20]), (11.0, [4, 8, 12, 16, 20])],
)
def test_a_chunk_is_saved_when_ten_seconds_have_passed_and_at_the_end(
    tmp_path, monkeypatch, tick, saved
):
    """By a clock that is `tick` seconds further whenever it is looked at."""
    steps, save = [], checkpoint.Checkpoints.save
    clock = map(float, itertools.count(0, tick))
    ticking = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter)
    monkeypatch.setattr(loop, "time", ticking)
    monkeypatch.setattr(checkpoint.Checkpoints, "save", lambda *a: steps.append(a[1]) or save(*a))
    made = config(students={})
    made.stages.teachers.chunk = 4
    kdjax.run(made, tmp_path, quiet=True)
    assert steps == saved and rows_of(tmp_path / "teachers") == [4, 8, 12, 16, 20]


@pytest.mark.slow
def test_eight_devices_agree_with_one_and_go_on_from_its_checkpoint(tmp_path):
    wide = dict(members=dict(seed=4), model=dict(name="mlp", hidden=(24,), dropout=0.2))
    one, eight = (uneven(teachers=wide, students={}, execution=dict(devices=n)) for n in (1, 8))
    expected = values(kdjax.run(one, tmp_path / "one", quiet=True))["teachers", "nll"]
    together = values(kdjax.run(eight, tmp_path / "eight", quiet=True))["teachers", "nll"]
    np.testing.assert_allclose(together, expected, rtol=1e-4)
    with pytest.raises(Preempted):
        kdjax.run(one, tmp_path / "both", quiet=True, stop=after(1))
    resumed = values(kdjax.run(eight, tmp_path / "both", quiet=True))["teachers", "nll"]
    np.testing.assert_allclose(resumed, expected, rtol=1e-4)
