"""PyTorch's side, in processes of its own, as a user would run it.

They rest while others take their turn: beside JAX in one process PyTorch loses a quarter
of its speed.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import numpy as np

from benchmarks.data_sets import dataset
from benchmarks.timing import Case
from benchmarks.variants import Variant
from benchmarks.work import Work
from kdjax.data import fetch

ROOT = Path(__file__).parents[1]
ENSEMBLE_STEPS = 10  # of a turn of an ensemble, which is slow, and is spared validation
ABSENT = "PyTorch is not installed: rows that compare with it are left out; pip install torch"
ELSEWHERE = "PyTorch's side is for CPUs: rows that compare with it are left out"


def missing() -> str | None:
    """Why there is nothing of PyTorch to compare with; None: there is."""
    if sys.modules.get("torch", True) is None or importlib.util.find_spec("torch") is None:
        return ABSENT
    return None if jax.default_backend() == "cpu" else ELSEWHERE


def version() -> str | None:
    return None if missing() == ABSENT else importlib.metadata.version("torch")


@contextlib.contextmanager
def cases(work: Work, variants: Sequence[Variant]) -> Iterator[list[Case]]:
    """A case of each variant, for as long as the `with` lasts; its unit is a net's step. None
    without PyTorch."""
    if missing():
        yield []
        return
    tasks = [(variant, _share(work, variant)) for variant in variants]
    with contextlib.ExitStack() as opened:
        most = max(variant.processes for variant in variants)
        connections = [opened.enter_context(_process()) for _ in range(most)]
        arrays = _arrays(work)
        for connection in connections:
            connection.send((tasks, arrays))
        yield [
            Case(
                v.name,
                functools.partial(_run, connections[: v.processes], i),
                v.processes * v.members * share.steps,
            )
            for i, (v, share) in enumerate(tasks)
        ]


@contextlib.contextmanager
def _process() -> Iterator[Connection]:
    here, there = socket.socketpair()
    fd = there.fileno()
    command = [sys.executable, "-m", "benchmarks.torch_loops", str(fd)]
    process = subprocess.Popen(command, pass_fds=[fd], cwd=ROOT)
    there.close()
    with process, Connection(here.detach()) as connection:  # whose end is that of the process
        yield connection


def _share(work: Work, variant: Variant) -> Work:
    return work if variant.members == 1 else work.shortened(min(ENSEMBLE_STEPS, work.steps))


def _run(connections: Sequence[Connection], number: int) -> None:
    """A turn of this task in each of these processes at once."""
    try:
        for connection in connections:
            connection.send(number)
        failures = [connection.recv() for connection in connections]
    except (EOFError, OSError):
        failures = ["its process has ended; it says why above"]
    for failure in filter(None, failures):
        raise RuntimeError(f"PyTorch: {failure}")


def _arrays(work: Work) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """float32 inputs, preprocessed, and int64 labels of the splits that the work needs."""
    read = dataset(work.data)
    mean, scale = (np.float32(x) for x in (read.preprocessing.mean, read.preprocessing.scale))
    arrays = {}
    for name, most in (("train", work.examples), ("validation", None)):
        split = read.splits[name]
        rows = np.arange(len(split))[:most]
        inputs = (fetch(split, rows).astype(np.float32) - mean) * scale
        arrays[name] = inputs, split.labels[rows].astype(np.int64)
    return arrays
