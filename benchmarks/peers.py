"""PyTorch's side: one net at a time in a plain eager loop, its data in memory."""

import functools
import importlib.metadata
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.populations import BATCH, OPTIMIZERS, Net, dataset
from benchmarks.timing import Case
from kdjax.data import Dataset, fetch

STEPS = 50  # of a call
CORES = len(os.sched_getaffinity(0))
ABSENT = "PyTorch is not installed: rows that compare with it are left out; pip install torch"


def absent() -> bool:
    return sys.modules.get("torch", True) is None or importlib.util.find_spec("torch") is None


def version() -> str | None:
    return None if absent() else importlib.metadata.version("torch")


def cases(net: Net) -> list[Case]:
    """The net with every optimizer of kdjax's side, plain and fused, on one thread and on all
    cores; the unit is a step. Nothing without PyTorch.

    They run in a process of their own, as a user would run them, which rests while others take
    their turn: beside JAX in one process PyTorch loses a quarter of its speed.
    """
    if absent():
        return []
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=_serve, args=(there, net, CORES), daemon=True).start()

    def run(number: int) -> None:
        try:
            here.send(number)
            failure = here.recv()
        except (EOFError, OSError):
            failure = "its process has ended; it says why above"
        if failure:
            raise RuntimeError(f"PyTorch: {failure}")

    names = [f"{name}, threads={n}" for name, n in _variants(CORES)]
    return [Case(name, functools.partial(run, i), STEPS) for i, name in enumerate(names)]


def _variants(cores: int) -> list[tuple[str, int]]:
    """(optimizer, threads) of every case."""
    names = [f"torch {name}{fused}" for name in OPTIMIZERS for fused in ("", " fused")]
    return [(name, n) for name in names for n in sorted({1, cores})]


def _serve(connection: Connection, net: Net, cores: int) -> None:
    """Runs the case of each number that comes, and answers when it is done."""
    import torch

    inputs, labels = map(torch.from_numpy, _arrays(dataset(net.data)))
    sgd, adamw = OPTIMIZERS["sgd"], OPTIMIZERS["adamw"]
    sgd = dict(lr=sgd["learning_rate"], momentum=sgd["momentum"])
    adamw = dict(lr=adamw["learning_rate"], weight_decay=adamw["weight_decay"])
    optimizers = {
        "torch sgd": lambda p: torch.optim.SGD(p, **sgd),
        "torch sgd fused": lambda p: torch.optim.SGD(p, **sgd, fused=True),
        "torch adamw": lambda p: torch.optim.AdamW(p, **adamw),
        "torch adamw fused": lambda p: torch.optim.AdamW(p, **adamw, fused=True),
    }
    loops = [
        _loop(torch, net, optimizers[name], threads, inputs, labels)
        for name, threads in _variants(cores)
    ]
    while True:
        try:
            loops[connection.recv()]()
            connection.send(None)
        except EOFError:
            return
        except Exception as error:
            connection.send(repr(error))


def _loop(
    torch: Any, net: Net, make: Callable, threads: int, inputs: Any, labels: Any
) -> Callable[[], None]:
    layers = []
    for a, b in zip(net.widths[:-1], net.widths[1:], strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = make(model.parameters())

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(STEPS):
            index = torch.randint(len(inputs), (BATCH,))
            loss = torch.nn.functional.cross_entropy(model(inputs[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def _arrays(read: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All examples as a loop without a loader keeps them: float32 rows, preprocessed, and int64
    labels."""
    train, numbers = read.splits["train"], read.preprocessing
    inputs = fetch(train, np.arange(len(train))).astype(np.float32)
    inputs = (inputs - np.float32(numbers.mean)) * np.float32(numbers.scale)
    return inputs.reshape(len(train), -1), train.labels.astype(np.int64)
