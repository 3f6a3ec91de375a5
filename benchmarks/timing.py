"""The protocol: warmed up, interleaved, repeated; ratios are of neighbours in time.

The cases of one comparison take turns (A, B, then B, A, then A, B, ...), so that a shared
machine's drift hits all of them, and a ratio is the median of the ratios of the repeats, not a
ratio of medians.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

REPEATS = 5
LEAST = 0.5  # seconds that a repeat lasts, at least


@dataclass(frozen=True)
class Case:
    """Code to time: a call of `run` does `units` of work and returns when they are done. What the
    first call compiles or uploads, later ones need not do again."""

    name: str
    run: Callable[[], object]
    units: float


@dataclass(frozen=True)
class Timing:
    """`seconds` of one unit in each repeat; `compile_seconds` that the first call, which is none
    of them, took beyond their median: to compile, and whatever else is done once."""

    seconds: tuple[float, ...]
    compile_seconds: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """A finding. `ratio`, the median over n repeats, is so that more is better; `spread` is its
    least and its greatest. `value`, a median unless the benchmark says otherwise, is in `unit`.
    `of` says which nets a headline is of, and is empty for other rows. `load` is the machine's
    average over the minute before the row, its own threads among it."""

    name: str
    of: str
    ratio: float
    value: float
    unit: str
    n: int
    spread: tuple[float, float]
    compile_seconds: float
    load: float


def measure(
    cases: Sequence[Case],
    repeats: int,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times the cases against each other; by their names, which must differ. Tells of each case
    after its first call, and of each round.

    Args:
      warm: call each once before; without, what the first call does once is part of its time.
    """
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice among {names}")
    first, seconds = dict.fromkeys(names, 0.0), {name: [] for name in names}
    for case in cases if warm else ():
        first[case.name] = _seconds(case.run, clock)
        tell(f"{case.name}: first call {first[case.name]:.1f} s")
    for i in range(repeats):
        began = clock()
        for case in cases if i % 2 == 0 else reversed(cases):
            seconds[case.name].append(_repeat(case, clock))
        tell(f"round {i + 1} of {repeats}: {clock() - began:.1f} s")
    later = {case.name: case.units * statistics.median(seconds[case.name]) for case in cases}
    return {n: Timing(tuple(seconds[n]), max(0.0, first[n] - later[n])) for n in names}


def best(timings: Iterable[Timing]) -> Timing:
    """The one with the least median."""
    return min(timings, key=lambda timing: timing.median)


def total(*parts: tuple[float, Timing]) -> Timing:
    """So many units of each, one after another, as one unit."""
    return _together(sum, parts)


def longest(*parts: tuple[float, Timing]) -> Timing:
    """So many units of each, all at once, as one unit."""
    return _together(max, parts)


def row(
    name: str,
    timing: Timing,
    base: Timing,
    value: float,
    unit: str,
    scale: float = 1.0,
    of: str = "",
) -> Row:
    """How many times as fast as `base` one is.

    Args:
      scale: the units of `base` that one unit of `timing` is worth.
    """
    pairs = zip(timing.seconds, base.seconds, strict=True)
    ratios = [scale * other / own for own, other in pairs]
    return row_of(name, ratios, value, unit, timing.compile_seconds, of)


def row_of(
    name: str,
    ratios: Sequence[float],
    value: float,
    unit: str,
    compile_seconds: float = 0.0,
    of: str = "",
) -> Row:
    """The finding of these repeats."""
    return Row(
        name=name,
        of=of,
        ratio=statistics.median(ratios),
        value=value,
        unit=unit,
        n=len(ratios),
        spread=(min(ratios), max(ratios)),
        compile_seconds=compile_seconds,
        load=os.getloadavg()[0],
    )


def tell(line: str) -> None:
    """Progress; apart from the tables, which are on stdout."""
    print(f"  {line}", file=sys.stderr, flush=True)


def _together(
    combine: Callable[[Iterable[float]], float], parts: Sequence[tuple[float, Timing]]
) -> Timing:
    """So many units of each part, combined repeat by repeat."""
    scaled = [[units * s for s in timing.seconds] for units, timing in parts]
    return Timing(tuple(combine(each) for each in zip(*scaled, strict=True)))


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
