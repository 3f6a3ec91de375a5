"""Decoded sets on disk: the same data, and no harm from damage, kills, full disks or each other."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kdjax.data import DatasetSpec, cache, fetch, load, sources
from kdjax.data.cache import cached


class Reader:
    """Scikit-learn's digits, in two splits; counts how often they are read."""

    def __init__(self):
        self.source, self.times = sources.digits(), 0

    def __call__(self):
        self.times += 1
        every = np.arange(1797)
        splits = {
            name: sources.Split(self.source, part, self.source.labels()[part])
            for name, part in (("train", every[::-1][:1500]), ("test", every[:297]))
        }
        return sources.RawSet(splits, sources.numbered(10), "of a test")


@pytest.fixture
def read():
    return Reader()


def opened(read, directory, state="as it was"):
    return cached("digits", "here", lambda: state, read, str(directory))


def same(raw, other):
    """Whether two sets are, bit for bit."""
    for (name, split), (other_name, its) in zip(
        raw.splits.items(), other.splits.items(), strict=True
    ):
        assert name == other_name and split.labels.dtype == its.labels.dtype
        np.testing.assert_array_equal(split.labels, its.labels)
        every = np.arange(len(split))
        inputs, others = fetch(split, every), fetch(its, every)
        assert type(inputs) is np.ndarray and inputs.dtype == others.dtype
        np.testing.assert_array_equal(inputs, others)
    return (raw.class_names, raw.version) == (other.class_names, other.version)


def entry(directory):
    (path,) = Path(directory).glob("digits-*")
    return path


def test_a_set_is_read_once_and_then_mapped(read, tmp_path):
    first, second = opened(read, tmp_path), opened(read, tmp_path)
    assert read.times == 1
    assert same(first, read()) and same(second, read())
    assert isinstance(second.splits["train"].source.inputs, np.memmap)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", entry(tmp_path).name]


def test_a_set_that_changed_is_read_anew(read, tmp_path):
    for times, state in ((1, "old"), (1, "old"), (2, "new"), (2, "new")):
        assert same(opened(read, tmp_path, state), Reader()()) and read.times == times


def test_a_set_that_changes_while_it_is_read_is_not_kept(read, tmp_path):
    states = iter(["old", "new"])
    assert same(cached("digits", "here", lambda: next(states), read, str(tmp_path)), Reader()())
    assert not list(tmp_path.iterdir())


def test_an_old_state_is_deleted_when_it_was_not_used_for_a_week(read, tmp_path):
    opened(read, tmp_path, "old")
    opened(read, tmp_path, "new")
    assert len(list(tmp_path.glob("digits-*"))) == 2
    for path in tmp_path.glob("digits-*"):
        os.utime(path / "set.json", times=(time.time() - cache.UNUSED - 60,) * 2)
    opened(read, tmp_path, "new")  # is used now
    opened(read, tmp_path, "newest")
    assert len(list(tmp_path.glob("digits-*"))) == 2
    opened(read, tmp_path, "new")
    assert read.times == 3


def pickled(path):
    """Pickled inputs, in a file of the same size."""
    file, size = path / "train_inputs.npy", (path / "train_inputs.npy").stat().st_size
    np.save(file, np.array([{}] * 1500, object), allow_pickle=True)
    os.truncate(file, size)


def changed(name, old, new):
    """A damage: other bytes of the same number in a file."""

    def damage(path):
        content = (path / name).read_bytes()
        assert content.count(old) == 1 and len(old) == len(new)
        (path / name).write_bytes(content.replace(old, new))

    return damage


def flipped(path):
    content = bytearray((path / "test_labels.npy").read_bytes())
    content[-7] ^= 1
    (path / "test_labels.npy").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        pickled,
        changed("train_inputs.npy", b"(1500, 8, 8, 1)", b"(1500, 8, 4, 1)"),
        changed("train_inputs.npy", b"'|u1'", b"'|i1'"),
        changed("set.json", b"of a test", b"of a nest"),
        lambda path: os.truncate(path / "train_inputs.npy", 50_000),
        lambda path: os.truncate(path / "train_inputs.npy", 0),
        lambda path: os.truncate(path / "train_inputs.npy", 100_000),
        lambda path: os.truncate(path / "test_labels.npy", 0),
        lambda path: (path / "test_inputs.npy").unlink(),
        lambda path: (path / "set.json").write_text("{}"),
        lambda path: (path / "sha256").write_text("none"),
        lambda path: (path / "sha256").unlink(),
    ],
)
def test_a_damaged_entry_is_written_anew(read, tmp_path, damage):
    opened(read, tmp_path)
    damage(entry(tmp_path))
    for _ in range(2):
        assert same(opened(read, tmp_path), Reader()())
    assert read.times == 2


def test_inputs_are_mapped_and_not_read_when_an_entry_is_opened(read, tmp_path):
    """So that the start takes no longer where a set is larger: a bit of them is not checked."""
    opened(read, tmp_path)
    file = entry(tmp_path) / "train_inputs.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    again = opened(read, tmp_path).splits["train"]
    assert read.times == 1 and isinstance(again.source.inputs, np.memmap)
    last = np.arange(1499, 1500)
    assert fetch(again, last)[0, 7, 7, 0] == fetch(read().splits["train"], last)[0, 7, 7, 0] ^ 1


def test_whoever_has_an_entry_mapped_keeps_it(read, tmp_path):
    mapped = opened(read, tmp_path)
    opened(read, tmp_path, "new")
    assert same(mapped, read())


def test_a_writer_that_is_killed_leaves_nothing_in_the_way(read, tmp_path):
    code = f"""
import os, signal, test_cache
class Killer(test_cache.Reader):
    def fetch(self, indices):
        if len(indices) == 500:  # the second part of the train split
            os.kill(os.getpid(), signal.SIGKILL)
        return self.digits.fetch(indices)
    def __call__(self):
        raw = super().__call__()
        self.digits = self.source
        for split in raw.splits.values():
            object.__setattr__(split, "source", self)
        return raw
test_cache.opened(Killer(), {str(tmp_path)!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == [".digits-", ".lock"]
    assert same(opened(read, tmp_path), Reader()()) and read.times == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", entry(tmp_path).name]


def test_of_two_that_write_at_once_one_keeps_the_set_and_both_have_it(tmp_path, read, caplog):
    meet, found = threading.Barrier(4), []

    def at_once():
        meet.wait()
        found.append(opened(Reader(), tmp_path))

    threads = [threading.Thread(target=at_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(same(raw, read()) for raw in found)
    assert same(opened(lambda: pytest.fail("it was not cached"), tmp_path), read())
    assert not caplog.records


def test_a_set_that_another_process_is_writing_is_read_without(tmp_path, read):
    code = f"""
import sys
from pathlib import Path
from kdjax.data.cache import _locked
with _locked(Path({str(tmp_path)!r})):
    print("locked", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, env=environment(), **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        assert same(opened(read, tmp_path), Reader()())
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        other.stdin.close()
    opened(read, tmp_path)
    assert read.times == 2 and entry(tmp_path)


def environment():
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    return os.environ | {"PYTHONPATH": path}


def full_disk(monkeypatch, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(cache, "_write", limited(cache._write, (50_000, hard), (soft, hard)))
    return tmp_path, "File too large"


def limited(write, low, high):
    def within(*arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, low)
        try:
            write(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, high)

    return within


def too_little_space(monkeypatch, tmp_path):
    usage = cache.shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    return tmp_path, r"0\.0 GB are free, less than twice its size"


def no_directory(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file" / "cache", "Not a directory"


@pytest.mark.parametrize("trouble", [full_disk, too_little_space, no_directory])
def test_a_set_that_cannot_be_kept_is_read_all_the_same(
    read, tmp_path, monkeypatch, caplog, trouble
):
    directory, reason = trouble(monkeypatch, tmp_path)
    assert same(opened(read, directory), Reader()())
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("digits is decoded at every start; it cannot be cached in /")
    assert re.search(reason, message)
    assert not [path for path in tmp_path.iterdir() if "digits" in path.name]


def test_a_set_above_the_limit_is_not_kept(read, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache, "LIMIT", 1797 * 64 - 1)
    assert same(opened(read, tmp_path), Reader()())
    assert not list(tmp_path.iterdir()) and not caplog.records
    monkeypatch.setattr(cache, "LIMIT", 1797 * 64)
    opened(read, tmp_path)
    assert entry(tmp_path)


def test_the_cache_is_the_users_can_be_moved_and_turned_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load(DatasetSpec(), "", "none")
    assert not list(tmp_path.iterdir())
    load(DatasetSpec(), "", str(tmp_path / "moved"))
    assert [path.name for path in tmp_path.iterdir()] == ["moved"] and entry(tmp_path / "moved")
    load(DatasetSpec(), "")
    assert entry(tmp_path / "xdg" / "kdjax" / "data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load(DatasetSpec(), "")
    assert entry(tmp_path / "home" / ".cache" / "kdjax" / "data")
    monkeypatch.setattr(sources, "digits", lambda: pytest.fail("they are there"))
    load(DatasetSpec(), "")
