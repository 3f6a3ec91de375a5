"""The ways to train in PyTorch that are compared. Plain Python: PyTorch's process has no JAX."""

import os
from dataclasses import dataclass

from benchmarks.work import Work

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Variant:
    """`workers` of a DataLoader, of PIL `pictures` or of float32 arrays; None: all data in memory
    as float32, a batch one gather.
    `members` > 1: an ensemble by torch.func, which stacks the nets and vmaps the gradient.
    `processes` > 1: so many at once, each with `threads` and a net of its own."""

    name: str
    threads: int
    fused: bool = True  # the optimizer's kernel
    channels_last: bool = False
    workers: int | None = None
    pictures: bool = False
    members: int = 1
    processes: int = 1


def in_memory(work: Work) -> list[Variant]:
    """One net after another by one core, by all, and by each; and what else a user would try."""
    ways = {"threads=1 (one core)": (1, 1)}
    if CORES > 1:
        ways |= {f"threads={CORES}": (CORES, 1), "a process per core": (1, CORES)}
    field = "channels_last" if work.channels else "fused"
    return [
        Variant(f"torch{f' {field}' * on}, {way}", threads, processes=processes, **{field: on})
        for on in (False, True)
        for way, (threads, processes) in ways.items()
    ]


def loaders() -> list[Variant]:
    """One net at a time, its examples PIL images that a DataLoader collates, as a user of
    torchvision has them; and for comparison such as need no decoding."""
    pictures = [
        Variant(
            f"torch DataLoader, workers={workers}, threads={threads}",
            threads,
            workers=workers,
            pictures=True,
        )
        for workers in (0, CORES)
        for threads in sorted({1, CORES})
    ]
    return [*pictures, Variant("torch DataLoader of arrays, workers=0, threads=1", 1, workers=0)]


def ensemble(members: int) -> Variant:
    """All nets at once."""
    return Variant(f"torch.func M={members}", CORES, members=members)
