"""A stage directory: what it holds, written so that a kill at any time does no harm.

    <stage>/config.json, metrics.jsonl, checkpoints/<step>/{variables, opt, hparams, meta},
        forward.stablehlo, DONE

All JSON is strict: NaN and infinity are written as null. Of several processes the first alone
writes, the others wait where they will read.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdjax.host import disk_errors, files, memory, ownership, processes
from kdjax.rules import InputError, shown

CONFIG, METRICS, CHECKPOINTS, DONE = "config.json", "metrics.jsonl", "checkpoints", "DONE"
FORWARD = "forward.stablehlo"
NO_STEP = -1
log = logging.getLogger(__name__)


def prepare(directory: Path, identity: dict) -> str:
    """What there is of a stage: "new", "unfinished" or "done". Writes nothing.

    `identity` is all that determines the stage's results, as plain JSON; the directory of
    another one, or of something else, is an InputError.
    """
    if not (directory / CONFIG).exists():
        if directory.exists() and not directory.is_dir():
            raise InputError(f"{directory} is a file; move it away, or use another --workdir")
        names = {path.name for path in directory.glob("*")} - {f".{CONFIG}.tmp"}
        if names:
            raise InputError(f"{directory} has {min(names)}, no {CONFIG}; use another --workdir")
        return "new"
    changes = files.differences(files.load_json(directory / CONFIG), files.strict(identity))
    if changes:
        raise InputError(
            f"{directory} has other settings ({'; '.join(changes)}); use another --workdir"
        )
    return "done" if (directory / DONE).exists() else "unfinished"


@processes.primary_only
def start(directory: Path, identity: dict) -> None:
    """Creates the stage directory and its config.json."""
    ownership.check_writable(directory)
    files.write(directory / CONFIG, files.to_json(identity, indent=2))


@processes.primary_only
def write_forward(directory: Path, program: bytes) -> None:
    """Keeps the net's evaluation, exported, so that the directory opens without its code."""
    files.write(directory / FORWARD, program)


def read_forward(directory: Path) -> bytes:
    """What `write_forward` kept.

    Raises:
      InputError: there is no such file.
    """
    try:
        return (directory / FORWARD).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{directory} has no {FORWARD}, by which a stage opens without its code; train it again"
        ) from error
    except OSError as error:
        raise files.unreadable(directory / FORWARD, error) from error


def finish(directory: Path, results: dict) -> None:
    """Marks the stage as done; last of all, when its `Checkpoints` are closed."""
    processes.primary_only(files.write)(directory / DONE, files.to_json(results, indent=2))
    processes.wait_for(directory / DONE)


def results(directory: Path) -> dict:
    """What `finish` wrote."""
    advice = "delete that file, and the stage goes on from its checkpoint"
    return files.load_json(directory / DONE, advice, metrics=dict, diverged=list)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a stage that runs, for a `with`, the end of which waits for the last save.

    Whatever writes raises OSError if the disk does; the steps before stay.
    """

    def __init__(self, directory: Path):
        self._path = directory / CHECKPOINTS

    def __enter__(self) -> "Checkpoints":
        processes.primary_only(self._path.mkdir)(parents=True, exist_ok=True)
        processes.wait_for(self._path)
        with contextlib.ExitStack() as opened:
            opened.enter_context(disk_errors.quiet())
            self._manager = _manager(self._path, write=processes.is_primary())
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        with self._opened:
            self.wait()
            self._manager.close()

    def wait(self) -> None:
        """Until the last save is on the disk."""
        with disk_errors.as_os_error(self._path):
            self._manager.wait_until_finished()

    @processes.primary_only
    def save(self, step: int, variables: Any, opt: Any, hparams: Any, meta: dict) -> None:
        """Waits for the save before, then starts to write a step, above all before it.

        `variables` and `hparams` are nested dicts, `opt` any pytree, `meta` plain JSON, which
        gets the "digests" of them. The arrays, [M, ...], know no device and are the
        caller's own: a view of a device's buffer dies with it.
        """
        trees = {"variables": variables, "opt": opt, "hparams": hparams}
        if not all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(trees)):
            raise TypeError("the leaves of a checkpoint must be np.ndarray")
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        digests = {name: digest(tree) for name, tree in trees.items()}
        items["meta"] = ocp.args.JsonSave(files.strict(meta) | {"digests": digests})
        with disk_errors.as_os_error(self._path):
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        if not saved:
            raise ValueError(f"step {step} is not above {self._manager.latest_step()}")

    def latest(self) -> int | None:
        """The newest step that can be read, with a warning for each that cannot; None: no step.

        That there are steps, but none can be read, is an InputError.
        """
        step = processes.broadcast_int(self._newest() if processes.is_primary() else NO_STEP)
        return None if step == NO_STEP else step

    def _newest(self) -> int:
        problem = None
        for step in sorted(self._manager.all_steps(), reverse=True):
            path = self._path / str(step)
            try:
                _read(self._manager, step, **_all(ocp.args.StandardRestore()))
                return step
            except Exception as error:
                problem = files.unreadable(path, error)
                log.warning(files.unreadable(path, error, "going back to the step before"))
        if problem:
            raise problem
        return NO_STEP

    def restore(self, step: int, opt: Any) -> tuple[Any, Any, Any, dict]:
        """The variables, opt, hparams and meta of `step`, which `latest` gave.

        `opt` is a pytree like the saved one, of np.ndarray or jax.ShapeDtypeStruct. Later steps
        are deleted: they are damaged, and the run will write them again.
        """
        try:
            read = _read(self._manager, step, **_all(ocp.args.StandardRestore(opt)))
            if jax.tree.map(np.shape, read["opt"]) != jax.tree.map(np.shape, opt):
                raise ValueError("arrays of the optimizer have other shapes than the model's")
        except Exception as error:
            raise files.unreadable(self._path / str(step), error) from error
        if processes.is_primary():
            for later in [s for s in self._manager.all_steps() if s > step]:
                self._manager.delete(later)
        return read["variables"], read["opt"], read["hparams"], read["meta"]


def open_variables(directory: Path) -> tuple[Any, dict]:
    """The variables and meta of a finished stage, whatever became of the rest of its checkpoint."""
    read = _open(directory, "variables")
    return read["variables"], read["meta"]


def open_hparams(directory: Path) -> dict:
    """The hparams of a finished stage."""
    return _open(directory, "hparams")["hparams"]


def _open(directory: Path, name: str) -> Any:
    needed = {".": "does not exist", CONFIG: f"has no {CONFIG}", DONE: "is not finished"}
    for item, problem in needed.items():
        if not (directory / item).exists():
            within = sorted(done.parent.name for done in directory.glob(f"*/{DONE}"))
            hint = f", such as {shown(', '.join(within))} within it" * bool(within)
            raise InputError(
                f"{directory} {problem}; it must be the directory of a finished stage{hint}"
            )
    try:
        with (
            disk_errors.quiet(),
            contextlib.closing(_manager(directory / CHECKPOINTS, write=False)) as manager,
        ):
            return _read(manager, manager.latest_step(), **{name: ocp.args.StandardRestore()})
    except Exception as error:
        raise files.unreadable(directory / CHECKPOINTS, error) from error


@processes.primary_only
def append_metrics(directory: Path, row: dict) -> None:
    """Adds `row` as one line to the stage's metrics; its key "step" says when it was."""
    with (directory / METRICS).open("a") as file:
        file.write(files.to_json(row) + "\n")


def read_metrics(directory: Path) -> list[dict]:
    """The rows as they were written, less a torn last line; []: there are none."""
    path, rows = directory / METRICS, []
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "step" not in row:
                raise ValueError("it has no step")
            rows.append(row)
        except ValueError as error:
            if number < len(lines):
                raise files.unreadable(
                    path, f"line {number}: {error}", "delete that line"
                ) from error
    return rows


@processes.primary_only
def truncate_metrics(directory: Path, step: int) -> None:
    """Drops the rows after `step`, which the run will write again, and a torn last line."""
    rows = [row for row in read_metrics(directory) if row["step"] <= step]
    files.write(directory / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def digest(tree: Any) -> str:
    """The SHA-256 of all arrays: paths, dtypes, shapes and bytes; of a pytree of dicts as of one of
    dataclasses and named tuples."""
    names = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    leaves = jax.tree.leaves_with_path(tree)
    arrays = {names(path): np.asarray(leaf) for path, leaf in leaves}
    total = hashlib.sha256()
    for path in sorted(arrays):
        total.update(f"{path} {arrays[path].dtype.name} {arrays[path].shape}\n".encode())
        total.update(np.ascontiguousarray(arrays[path]).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _manager(path: Path, write: bool) -> ocp.CheckpointManager:
    """With `write`, what a killed save left is cleared; without, nothing is written.

    Each process has a manager of its own, whose saves and reads wait for no other process: one
    that is killed does not keep process 0 from finishing its save.
    """
    newest = ocp.checkpoint_managers.LatestN(2)  # the second is there to fall back to
    process = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        create=False,
        cleanup_tmp_directories=write,
        preservation_policy=newest,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"{process}"
        ),
    )
    return ocp.CheckpointManager(path.absolute(), options=options)


def _all(opt: Any) -> dict[str, Any]:
    """How each item of arrays is read."""
    return {name: ocp.args.StandardRestore() for name in ("variables", "hparams")} | {"opt": opt}


def _read(manager: ocp.CheckpointManager, step: int, **trees: Any) -> Any:
    """These items of a step, and its meta; raises on any damage to them, also such as Orbax does
    not see."""
    items = trees | {"meta": ocp.args.JsonRestore()}
    arrays = [Path(manager.directory) / str(step) / name for name in trees]
    memory.check("its arrays are", (size for item in arrays for size in _declared(item)))
    with disk_errors.quiet():
        read = manager.restore(step, args=ocp.args.Composite(**items))
    for name in trees:
        if digest(read[name]) != read["meta"]["digests"][name]:
            raise ValueError(f"the {name} are not those that were saved")
    return read


def _declared(item: Path) -> Iterator[tuple[tuple[int, ...], int]]:
    """What an item says of its arrays: their shapes, and the bytes of an element."""
    for leaf in jax.tree.leaves(ocp.StandardCheckpointHandler().metadata(item)):
        chunk = leaf.storage.chunk_shape
        yield max(leaf.shape, chunk, key=math.prod), np.dtype(leaf.dtype).itemsize
