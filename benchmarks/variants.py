"""The ways to train in PyTorch that are compared. Plain Python: PyTorch's process has no JAX."""

import os
from dataclasses import dataclass

from benchmarks.work import Work

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Variant:
    """`workers` of a DataLoader; None: all data in memory as float32, a batch one gather.
    `members` > 1: an ensemble by torch.func, which stacks the nets and vmaps the gradient."""

    name: str
    threads: int
    fused: bool = True  # the optimizer's kernel
    channels_last: bool = False
    workers: int | None = None
    members: int = 1


def in_memory(work: Work) -> list[Variant]:
    """One net at a time: threads, and what else a user would try."""
    threads = sorted({1, CORES})
    if work.channels:
        return [
            Variant(f"torch{' channels_last' * last}, threads={n}", n, channels_last=last)
            for last in (False, True)
            for n in threads
        ]
    return [
        Variant(f"torch{' fused' * fused}, threads={n}", n, fused=fused)
        for fused in (False, True)
        for n in threads
    ]


def loaders() -> list[Variant]:
    """One net at a time, its examples jittered one by one and collated by a DataLoader."""
    return [Variant(f"torch DataLoader, workers={n}", CORES, workers=n) for n in (0, CORES)]


def ensemble(members: int) -> Variant:
    """All nets at once."""
    return Variant(f"torch.func M={members}", CORES, members=members)
