"""A workdir that was moved, cannot be written, has wrong times or an odd name loses nothing."""

import os
import resource
import shutil
import time

import numpy as np
import pytest
from harness import lost, saved
from launch import ends, start
from runs import STUDENT, values
from runs import config as uneven
from sklearn.datasets import load_digits
from stages import snapshot

import kdjax
from kdjax import experiment, main
from kdjax.config import experiment as make
from kdjax.config import stage
from kdjax.host import ownership
from kdjax.rules import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


def config():
    """Chunks of one length, so that no program is compiled for the last."""
    made = uneven()
    for each in made.stages.values():
        each.update(steps=12, chunk=4)
    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir and its report; no test may change it."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, kdjax.run(config(), workdir, quiet=True)


def test_finished_stages_are_finished_whatever_the_length_of_chunks(finished):
    workdir, report = finished
    shorter = config()
    for each in shorter.stages.values():
        each.chunk = 3
    assert values(kdjax.run(shorter, workdir, quiet=True)) == values(report)


def no_training(monkeypatch):
    monkeypatch.setattr(experiment, "train", lambda *_: pytest.fail("a finished stage was trained"))


class FillingUp:
    """A display that fills the disk, after two chunks of the last stage: metrics fit there, arrays
    do not."""

    def __init__(self, name, total, done):
        self._last = name == "distilled"

    def update(self, row):
        if self._last and row["step"] == 8:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, most))

    def close(self):
        pass


def test_after_a_full_disk_a_run_goes_on_wherever_it_was_moved_and_whatever_the_clock_says(
    finished, tmp_path, monkeypatch, saving
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
            patch.setattr(experiment, "Progress", FillingUp)
            kdjax.run(config(), tmp_path / "here")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line, code = main.verdict(caught.value)
    assert code == 4 and "\n" not in line and str(tmp_path / "here" / "distilled") in line
    assert line.startswith("kdjax: [Errno 27] File too large")
    assert line.endswith("what was saved stays, the same command goes on from there")

    before = saved(tmp_path / "here")
    assert before["baseline"][0] and before["distilled"][1] and not before["distilled"][0]
    there = (tmp_path / "here").rename(tmp_path / "there")
    for n, path in enumerate(sorted(there.rglob("*"))):
        year = (1971, 2100)[n % 2] - 1970
        os.utime(path, (year * 365 * 86400,) * 2)
    clock = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 10**9)
    assert values(kdjax.run(config(), there, quiet=True)) == values(finished[1])
    assert lost(before, there) == (0, 0)
    assert not (tmp_path / "here").exists()


def test_a_finished_run_that_was_moved_is_finished(finished, tmp_path, monkeypatch):
    no_training(monkeypatch)
    moved = shutil.copytree(finished[0], tmp_path / "moved")
    assert values(kdjax.run(config(), moved, quiet=True)) == values(finished[1])


def test_teachers_that_were_moved_are_the_same_teachers(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0] / "teachers", tmp_path / "old" / "teachers")

    def run(teachers):
        fields = STUDENT | dict(teacher=f"{teachers}", teacher_logits="cached")
        fields |= dict(members=dict(seed=(5, 6)))
        made = make(
            stages=dict(s=stage(**fields, objective=dict(kl_divergence=1.0))),
            execution=dict(devices=1),
        )
        return values(kdjax.run(made, tmp_path / "run", quiet=True))

    first = run(tmp_path / "old" / "teachers")
    (tmp_path / "old").rename(tmp_path / "new")
    before = snapshot(tmp_path / "run")
    with pytest.raises(
        InputError, match=r"^config\.stages\.s\.teacher is '.*old/.* does not exist"
    ):
        run(tmp_path / "old" / "teachers")
    other = shutil.copytree(finished[0] / "baseline", tmp_path / "other" / "teachers")
    with pytest.raises(InputError, match=r"s has other settings \(from.teachers: "):
        run(other)
    assert snapshot(tmp_path / "run") == before
    no_training(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run("new/teachers") == first


def test_a_workdir_that_is_read_only_stays_as_it_is_and_its_stages_open(
    finished, tmp_path, monkeypatch
):
    workdir, _ = finished
    before = snapshot(workdir)

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(ownership.tempfile, "TemporaryFile", read_only)
        with pytest.raises(InputError, match=r"cannot be written \(.*Read-only file system\)"):
            kdjax.run(config(), workdir, quiet=True)
    images, _ = load_digits(return_X_y=True)
    inputs = images[:5].reshape(5, 8, 8, 1).astype(np.uint8)
    assert kdjax.open_stage(workdir / "distilled").predict(inputs).shape == (2, 5, 10)
    assert snapshot(workdir) == before


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("experiment.json", "{}", r"experiment.json cannot be read \(it has no dataset and no st"),
        ("experiment.json", '{"dataset": {}, "stages": 3}', r"\(it has no stages\); delete that"),
        ("experiment.json", "[" * 100_000, r"experiment.json cannot be read \(maximum recursion"),
        ("teachers/DONE", "{}", r"teachers/DONE cannot be read \(it has no metrics and no diverge"),
        ("baseline/metrics.jsonl", "3\n4\n", r"metrics.jsonl cannot be read \(line 1: it has no s"),
    ],
)
def test_json_without_what_belongs_there_is_one_sentence(finished, tmp_path, file, content, says):
    workdir = shutil.copytree(finished[0], tmp_path / "copy")
    (workdir / file).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        kdjax.run(config(), workdir, quiet=True)
    assert "\n" not in str(caught.value)


CONFIG = """
from pathlib import Path
from runs import config
def get_config():
    name = str(Path(__file__).parent / "daten 雪.npz")
    return config(dict(steps=2, chunk=2), dataset=dict(name=name), students={})
"""


def test_names_with_spaces_and_foreign_letters_are_names(tmp_path):
    folder = tmp_path / "größe 雪 $x"
    folder.mkdir()
    (folder / "config.py").write_text(CONFIG, encoding="utf-8")
    images, labels = load_digits(return_X_y=True)
    arrays = {"train_inputs": images[:200].astype(np.float32), "train_labels": labels[:200]}
    arrays |= {name.replace("train", "test"): array for name, array in arrays.items()}
    np.savez(folder / "daten 雪.npz", **arrays)
    ((code, _, errors),) = ends(start(folder, "läuft 1", LC_ALL="C", PYTHONIOENCODING="ascii"))
    assert (code, errors) == (0, "")
    teachers = kdjax.open_stage(folder / "läuft 1" / "teachers")
    assert teachers.predict(images[:3].astype(np.float32)).shape == (3, 3, 10)
    report = (folder / "läuft 1" / "report.md").read_text(encoding="utf-8")
    assert "daten 雪.npz, test split" in report
