"""A working directory: one run at a time, of one experiment."""

import contextlib
import datetime
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kdjax.host import files, processes
from kdjax.rules import InputError

EXPERIMENT, LOCK = "experiment.json", ".lock"


def check_writable(workdir: Path) -> None:
    """Creates `workdir` if need be; an InputError if it cannot be created or written."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=workdir).close()
    except OSError as error:
        raise InputError(f"{workdir} cannot be written ({error}); use another --workdir") from error


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Creates `workdir` and keeps other runs out of it; a killed process leaves no lock behind.

    Raises:
      InputError: it cannot be written, another run is at work there, or it is not the same
        directory in all processes.
    """
    with _locked(workdir) if processes.is_primary() else contextlib.nullcontext():
        processes.check_shared(workdir)
        yield


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    check_writable(workdir)
    with (workdir / LOCK).open("a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = " ".join(file.read(200).split())
            raise InputError(
                f"{workdir} is in use by another run{f' ({owner})' * bool(owner)}; wait for it, "
                "or use another --workdir"
            ) from error
        now = datetime.datetime.now().astimezone()
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M %Z}")
        file.flush()
        yield


def check_claim(workdir: Path, claim: dict) -> None:
    """Whether `workdir` is free, or holds this experiment, perhaps with fewer stages.

    Raises:
      InputError: it holds another data set, or a stage that this experiment does not have.
    """
    if (workdir / EXPERIMENT).exists():
        advice = "delete that file, if the stages are this experiment's"
        old = files.load_json(workdir / EXPERIMENT, advice, dataset=dict, stages=list)
        new = files.strict(claim)
        changes = files.differences(old["dataset"], new["dataset"], "dataset")
        changes += [f"it has the stage {s}" for s in old["stages"] if s not in new["stages"]]
        if changes:
            raise InputError(
                f"{workdir} holds another experiment ({'; '.join(changes)}); use another --workdir"
            )


def write_claim(workdir: Path, claim: dict) -> None:
    """Notes which experiment `workdir` holds."""
    processes.primary_only(files.write)(workdir / EXPERIMENT, files.to_json(claim, indent=2))
    processes.wait_for(workdir / EXPERIMENT)
