"""Decoded sets on disk: written once, and from then on mapped into memory.

    <cache_dir>/<set>-<digest>-<digest of its state>/
        {set.json, sha256, <split>_inputs.npy, <split>_labels.npy}

An entry is of one state of a set, so that what a process has mapped is never replaced. Inputs are
not read when it is opened: their size, shape and type are checked, and the digests of all else. A
set that cannot be cached is read as without a cache.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.sources import ArraySource, RawSet, all_of
from kdjax.host import files
from kdjax.rules import InputError

FORMAT = 6  # of an entry, and of the rules by which sets are read
UNUSED = 7 * 24 * 3600  # seconds after which an entry of another state of a set may be deleted
LIMIT = 2**34  # bytes: ImageNet at 64 x 64 is cached, at 224 x 224 it is not
NOWHERE = "none"
DAMAGE = (OSError, ValueError, EOFError)  # what NumPy and the disk raise where an entry is damaged
BATCH = 1000  # examples in memory at once
log = logging.getLogger(__name__)


def cached(
    name: str,
    place: str,
    state: Callable[[], Any],
    read: Callable[[], RawSet],
    cache_dir: str,
) -> RawSet:
    """What `read` gives, from the cache if it is there, else written there for the next time.

    Args:
      name, place: the set and where it comes from.
      state: all else that determines what `read` gives, as plain JSON; an OSError where it cannot
        be known.
      cache_dir: "": `data` in kdjax's part of the user's cache, if there is one; "none": no cache.
    """
    own = files.user_cache()
    directory = files.expand(cache_dir) if cache_dir else own and own / "data"
    if cache_dir == NOWHERE or directory is None:
        return read()
    label = f"{re.sub(r'[^A-Za-z0-9.]', '_', name)[-40:]}-{_digest([name, place])}"
    before = _known(state)
    entry = directory / f"{label}-{before}"
    with contextlib.suppress(*DAMAGE):
        return _open(entry)
    raw = read()
    if before is None or before != _known(state):  # it changed while it was read: the next time
        return raw
    try:
        size = _bytes(raw)
        if size > LIMIT:
            return raw
        with _locked(directory):
            with contextlib.suppress(*DAMAGE):
                return _open(entry)  # another process has written it since
            _delete_unused(directory.glob(f"{label}-*"))
            free = shutil.disk_usage(directory).free
            if size > free / 2:
                raise OSError(f"{free / 1e9:.1f} GB are free, less than twice its size")
            _write(entry, raw)
            return _open(entry)
    except BlockingIOError:  # another process is writing
        return raw
    except InputError:  # an example that cannot be decoded
        raise
    except (OSError, ValueError) as error:
        log.warning(
            f"{name} is decoded at every start; it cannot be cached in {directory}: {error}"
        )
        return raw


def stamps(paths: Iterable[Path], root: Path) -> list[tuple[Any, ...]]:
    """What tells whether files are as they were, and that folders are there. Links are followed: of
    a copy that takes a file's place, size and time may be the same, and its number is not.

    Raises:
      OSError: one cannot be reached.
    """
    known: list[tuple[Any, ...]] = []
    for path in paths:
        name = os.path.relpath(path, root)
        if path.is_symlink() and not path.exists():  # to nothing
            known.append((name, os.readlink(path)))
            continue
        found = path.stat()
        file = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        known.append((name,) if stat.S_ISDIR(found.st_mode) else (name, *file))
    return known


def _known(state: Callable[[], Any]) -> str | None:
    try:
        return _digest([FORMAT, state()])
    except OSError:
        return None


def _delete_unused(entries: Iterable[Path]) -> None:
    """Deletes entries that nobody has opened for long; on NFS a mapped one would be missed."""
    for entry in entries:
        with contextlib.suppress(OSError):
            if time.time() - (entry / "set.json").stat().st_mtime > UNUSED:
                shutil.rmtree(entry)


def _open(entry: Path) -> RawSet:
    """An entry; one of DAMAGE if it is absent or damaged."""
    content = (entry / "set.json").read_bytes()
    if _sha256(content) != (entry / "sha256").read_text():
        raise ValueError(f"{entry} is damaged")
    known = json.loads(content)
    with contextlib.suppress(OSError):
        os.utime(entry / "set.json")  # when it was last used
    splits = {}
    for name, stored in known["splits"].items():
        inputs, labels, found = _stored(entry, name)
        if found != stored:
            raise ValueError(f"{entry} is damaged")
        splits[name] = all_of(ArraySource(inputs, labels))
    names, notes = tuple(known["class_names"]), tuple(known["notes"])
    return RawSet(splits, names, known["version"], notes=notes)


def _stored(entry: Path, split: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Inputs (mapped) and labels of a split on the disk, and what tells them from damaged ones."""
    path, labels = entry / f"{split}_inputs.npy", (entry / f"{split}_labels.npy").read_bytes()
    inputs = np.load(path, mmap_mode="r", allow_pickle=False)
    known = {
        "bytes": path.stat().st_size,
        "shape": list(inputs.shape),
        "dtype": inputs.dtype.str,
        "labels": _sha256(labels),
    }
    return inputs, np.load(io.BytesIO(labels), allow_pickle=False), known


def _write(entry: Path, raw: RawSet) -> None:
    """Puts an entry in its place, complete or not at all. It is not mapped while it is written,
    for a full disk would then end the process."""
    new = entry.with_name(f".{entry.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    new.mkdir()
    try:
        for name, split in raw.splits.items():
            with _synced(new / f"{name}_labels.npy") as file:
                np.save(file, split.labels)
            with _synced(new / f"{name}_inputs.npy") as file:
                for start in range(0, len(split), BATCH):
                    part = split.source.fetch(split.index[start : start + BATCH])
                    part = np.ascontiguousarray(part)
                    if not start:
                        header = np.lib.format.header_data_from_array_1_0(part)
                        header["shape"] = (len(split), *part.shape[1:])
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(part.data)
        known = {
            "class_names": raw.class_names,
            "version": raw.version,
            "notes": raw.notes,
            "splits": {name: _stored(new, name)[-1] for name in raw.splits},
        }
        content = json.dumps(known).encode()
        files.write(new / "set.json", content)
        files.write(new / "sha256", _sha256(content))
        shutil.rmtree(entry, ignore_errors=True)  # it is damaged
        new.rename(entry)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Creates the directory, and is the only one to write there; else a BlockingIOError."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[Any]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _bytes(raw: RawSet) -> int:
    """The size of all inputs."""
    return sum(len(s) * s.source.fetch(s.index[:1]).nbytes for s in raw.splits.values())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(content: Any) -> str:
    return _sha256(json.dumps(content).encode())[:16]
