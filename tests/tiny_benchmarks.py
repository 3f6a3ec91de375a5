"""The benchmarks at tiny sizes."""

import contextlib
import importlib
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


def shrink(monkeypatch):
    """Makes nets of a few units, on a few random images; returns what a `Work` is then of."""
    monkeypatch.syspath_prepend(ROOT)
    dense, distillation, data_sets = load("dense"), load("distillation"), load("data_sets")
    few = dict(steps=2, batch=8, examples=16, hidden=(4,))
    small = lambda module, *names: {n: replace(getattr(module, n), **few) for n in names}
    large = (replace(dense.LARGE[0], **few), replace(dense.LARGE[1], **few | dict(hidden=(5,))))
    shrunk = {
        dense: dict(TEN=2, MORE=3, LARGE=large, PLAN_HIDDEN=(4,)) | small(dense, "SMALL"),
        load("machine"): dict(CPU=(32, 2**10)),
        load("variants"): dict(CORES=1),
        load("serving"): dict(STUDENTS=2, TEACHERS=2, MEMBERS=(2,))
        | small(load("serving"), "TEACHER", "STUDENT", "SMALL"),
        load("growth"): dict(TEACHERS=2) | small(load("growth"), "STUDENT", "TEACHER"),
        load("saving"): dict(TEN=2) | small(load("saving"), "NET"),
        load("convolutions"): dict(
            TEN=2, NET=replace(load("convolutions").NET, **few, channels=(2,))
        ),
        distillation: dict(STUDENTS=2, TEACHERS=2, TEMPERATURES=(1.0, 2.0, 3.0), SINGLE=2)
        | small(distillation, "TEACHER", "STUDENT", "SMALL_TEACHER", "SMALL_STUDENT"),
        data_sets: dict(TRAINED={name: 40 for name in data_sets.TRAINED}, EVALUATED=20),
    }
    for module, settings in shrunk.items():
        for name, value in settings.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(data_sets, "DATASETS", {})
    for name in ("images", "photos"):
        data_sets.DATASETS[name] = data_sets._random(name)
    return few


@contextlib.contextmanager
def named(work, variants):
    yield [load("timing").Case(v.name, None, v.members) for v in variants]


def session(tmp_path):
    return load("session").Session(1, tmp_path)


def check(rows, *names):
    """These rows are there, each name once, and all are numbers; only headlines say of what."""
    found = {row.name: row for row in rows}
    assert len(found) == len(rows) and set(names) <= set(found)
    for row in rows:
        assert row.n == 1 and 0 < row.ratio < float("inf") and 0 < row.value < float("inf")
        assert row.spread == (row.ratio, row.ratio)
        assert bool(row.of) == (row.name in names or row.name.partition(",")[0] in names)
    return found
