"""PyTorch's side: one net at a time in a plain eager loop, its data in memory."""

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.populations import BATCH, OPTIMIZERS, Net, dataset
from benchmarks.timing import Case
from kdjax.data import Dataset, fetch

STEPS = 10  # of a call
WAITING = "OMP_WAIT_POLICY"  # read when PyTorch is imported
CORES = len(os.sched_getaffinity(0))
ABSENT = "PyTorch is not installed: rows that compare with it are left out; pip install torch"


def absent() -> bool:
    return sys.modules.get("torch", True) is None or importlib.util.find_spec("torch") is None


def version() -> str | None:
    return None if absent() else importlib.metadata.version("torch")


def cases(net: Net) -> list[Case]:
    """The net with every optimizer of kdjax's side, plain and fused, on one thread and on all
    cores; the unit is a step. Nothing without PyTorch.

    Its threads sleep while they wait, unless the environment says otherwise: where others use the
    cores as well, threads that spin make a step ten to a hundred times longer.
    """
    if absent():
        return []
    os.environ.setdefault(WAITING, "PASSIVE")
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
    return [
        Case(f"{name}, threads={n}", _loop(torch, net, make, n, inputs, labels), STEPS)
        for name, make in optimizers.items()
        for n in sorted({1, CORES})
    ]


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
