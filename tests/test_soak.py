"""Long runs hold no more memory, arrays or files at their end than near their beginning."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import jax
import pytest
from runs import NET, config

import kdjax
from kdjax import experiment, main
from kdjax.config import experiment as make
from kdjax.config import stage

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MIB = 2**20
WIDE = NET | dict(model=dict(name="mlp", hidden=(2000,)), batch=8, chunk=1)
MEMBER = 3 * 4 * (65 * 2000 + 2001 * 10) / MIB  # its parameters and both moments of AdamW


def held() -> dict[str, float]:
    """MiB of this process that are in memory, MiB of JAX's arrays, and open files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / MIB,
        "arrays": sum(array.nbytes for array in jax.live_arrays()) / MIB,
        "files": len(os.listdir("/proc/self/fd")),
    }


def watch(monkeypatch, stage: str, steps: tuple[int, ...]) -> list[dict[str, float]]:
    """What is held at these steps of the stages whose names begin so; 0 is before the first."""
    seen = []

    class Watching:
        def __init__(self, name, total, done):
            self._here = name.startswith(stage)
            self.update({"step": 0})

        def update(self, row):
            if self._here and row["step"] in steps:
                seen.append(held())

        def close(self):
            pass

    monkeypatch.setattr(experiment, "Progress", Watching)
    return seen


def check(seen: list[dict[str, float]], state: float, times: int) -> None:
    """Between the two came less than a leak of so many states, arrays or files would leave."""
    first, last = seen
    grown = {name: last[name] - first[name] for name in first}
    print(f"a state of {state:.1f} MiB, {times} times; grown by {grown}")
    assert grown["memory"] < times * state / 3
    assert abs(grown["arrays"]) < state and grown["files"] < times / 2


def test_nothing_grows_over_two_hundred_chunks(tmp_path, monkeypatch):
    seen = watch(monkeypatch, "teachers", (50, 200))
    long = WIDE | dict(steps=200, members=dict(seed=1))
    kdjax.run(config(teachers=long, students={}), tmp_path)
    check(seen, MEMBER, 150)


@pytest.mark.long
def test_nothing_grows_over_fifteen_stages(tmp_path, monkeypatch):
    seen = watch(monkeypatch, "counted", (0,))
    fields = WIDE | dict(steps=1, members=dict(seed=12))
    names = ["counted" if n in (10, 25) else "s" for n in range(26)]
    stages = {f"{name}{n}": stage(**fields) for n, name in enumerate(names)}
    made = make(stages=stages, execution=dict(devices=1))
    experiment.run_stages(made, tmp_path, after_stage=main.forget_programs(5))
    check(seen, 12 * MEMBER, 15)
