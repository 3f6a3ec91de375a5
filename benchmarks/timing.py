"""The protocol: warmed up, interleaved, repeated; ratios are of neighbours in time.

The cases of one comparison take turns (A, B, A, B, ...), so that a shared machine's drift hits
all of them, and a ratio is the median of the ratios of the repeats, not a ratio of medians.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

REPEATS = 7
LEAST = 0.3  # seconds that a repeat lasts, at least


@dataclass(frozen=True)
class Case:
    """Code to time: a call of `run` does `units` of work and returns when they are done; all that
    `compile` does, `run` need not do again."""

    name: str
    run: Callable[[], object]
    units: float
    compile: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Timing:
    """`seconds` of one unit in each repeat. To compile and to warm up is none of them."""

    seconds: tuple[float, ...]
    compile_seconds: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """A finding. `ratio`, the median over n repeats, is so that more is better; `spread` is its
    least and its greatest. `value`, a median, is in `unit`."""

    name: str
    ratio: float
    value: float
    unit: str
    n: int
    spread: tuple[float, float]
    compile_seconds: float


def measure(
    cases: Sequence[Case], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Times the cases against each other; by their names, which must differ."""
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice among {names}")
    compiling = {case.name: _seconds(case.compile, clock) for case in cases}
    for case in cases:
        case.run()
    seconds = {case.name: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            seconds[case.name].append(_repeat(case, clock))
    return {name: Timing(tuple(seconds[name]), compiling[name]) for name in names}


def best(timings: Iterable[Timing]) -> Timing:
    """The one with the least median."""
    return min(timings, key=lambda timing: timing.median)


def row(
    name: str, timing: Timing, base: Timing, value: float, unit: str, scale: float = 1.0
) -> Row:
    """How many times as fast as `base` one is.

    Args:
      scale: the units of `base` that one unit of `timing` is worth.
    """
    pairs = zip(timing.seconds, base.seconds, strict=True)
    ratios = [scale * other / own for own, other in pairs]
    return Row(
        name=name,
        ratio=statistics.median(ratios),
        value=value,
        unit=unit,
        n=len(ratios),
        spread=(min(ratios), max(ratios)),
        compile_seconds=timing.compile_seconds,
    )


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    run()
    return clock() - begin


def _repeat(case: Case, clock: Callable[[], float]) -> float:
    """Seconds per unit, over as many calls as `LEAST` takes."""
    calls, begin = 0, clock()
    while True:
        case.run()
        calls += 1
        passed = clock() - begin
        if passed >= LEAST:
            return passed / (calls * case.units)
