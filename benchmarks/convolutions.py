"""Populations of convolutional nets, against one alone and against PyTorch, one at a time."""

from benchmarks import peers, populations, variants
from benchmarks.populations import label
from benchmarks.rows import least, microseconds, over_best, over_peers
from benchmarks.session import Session
from benchmarks.timing import Row, measure, row
from benchmarks.work import PHOTOS, Work

NET = Work(PHOTOS, (128,), channels=(32, 64, 128), steps=5, examples=500, validate=False)
TEN = 10  # members
TORCH = "conv_member_vs_torch"


def convolutional(session: Session) -> list[Row]:
    """Steps without validation, for on a CPU they take long. PyTorch in both memory formats."""
    loops = variants.in_memory(NET)
    with peers.cases(NET, loops) as torch:
        cases = [*(populations.of_work(NET, m) for m in (1, TEN)), *torch]
        timings = measure(cases, session.repeats)
    own, alone = timings[label(TEN)], timings[label(1)]
    return [
        *least(TORCH, over_best(TORCH, loops, NET, timings, TEN)),
        row("conv_m10_vs_m1", own, alone, *microseconds(own), of=NET.name),
        *over_peers(NET, timings, TEN),
    ]
