"""The rows that a population gets: over the machine, over other codes, and the headlines."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks import machine
from benchmarks.populations import label
from benchmarks.timing import Row, Timing, best, row
from benchmarks.variants import Variant
from benchmarks.work import Work

UNIT = "us per member-step"
MATMUL, ROOFLINE = "dense_epoch_vs_matmul", "dense_epoch_vs_roofline"


def of_machine(timings: dict[str, Timing]) -> list[Row]:
    """Its own rates, each over the faster of its kind."""
    rows = []
    for names, unit in ((machine.PRODUCTS, "GFLOP/s"), (machine.PASSES, "GB/s")):
        fastest = best(timings[name] for name in names)
        rows += [row(n, timings[n], fastest, 1e-9 / timings[n].median, unit) for n in names]
    return rows


def over_machine(work: Work, timings: dict[str, Timing], members: int) -> list[Row]:
    """The arithmetic that a population executes over that of the matrix product, and what the
    usual count makes of it; the least that it could take over what it takes, operations and bytes
    one after the other and at once."""
    own, name = timings[label(members)], f"{work.name} M={members}"
    product, rate = machine.product(timings), 1e-9 / own.median
    flops, moved = work.least_flops, work.moved
    apart = machine.without_overlap(timings, flops, moved)
    at_once = machine.with_overlap(timings, flops, moved)
    sizes = f"({1e-9 * flops:.3g} GFLOP, {1e-6 * moved:.3g} MB)"
    return [
        row(f"{MATMUL} {name}", own, product, flops * rate, "GFLOP/s", scale=flops),
        row(
            f"{name} over matmul by the usual count",
            own,
            product,
            work.flops * rate,
            "GFLOP/s",
            scale=work.flops,
        ),
        row(f"{ROOFLINE} {name} without overlap {sizes}", own, apart, *microseconds(own)),
        row(f"{name} over its roofline with overlap {sizes}", own, at_once, *microseconds(own)),
    ]


def over_fewer(
    work: Work, timings: dict[str, Timing], members: int, some: Iterable[int]
) -> list[Row]:
    """What a member's step takes among fewer members over what it takes here."""
    own, name = timings[label(members)], f"{work.name} M={members}"
    return [row(f"{name} over M={m}", own, timings[label(m)], *microseconds(own)) for m in some]


def over_peers(work: Work, timings: dict[str, Timing], members: int) -> list[Row]:
    """A population over every other code there is, member for member."""
    own, name = timings[label(members)], f"{work.name} M={members}"
    peers = [n for n in timings if n.startswith(("torch", "JAX"))]
    return [row(f"{name} over {n}", own, timings[n], *microseconds(own)) for n in peers]


def over_best(
    headline: str, some: Sequence[Variant], work: Work, timings: dict[str, Timing], members: int
) -> list[Row]:
    """A population over the best of these variants; nothing without PyTorch."""
    peers = [timings[v.name] for v in some if v.name in timings]
    own, name = timings[label(members)], f"{headline} {work.name} M={members}"
    return [row(name, own, best(peers), *microseconds(own))] if peers else []


def least(headline: str, rows: Iterable[Row], suffix: str = "") -> list[Row]:
    """The headline: of the rows that bear its name, the one with the least ratio, if any, and of
    which nets it is."""
    found = [r for r in rows if r.name.startswith(f"{headline} ")]
    if not found:
        return []
    worst = min(found, key=lambda r: r.ratio)
    return [replace(worst, name=headline + suffix, of=worst.name.removeprefix(f"{headline} "))]


def microseconds(timing: Timing) -> tuple[float, str]:
    return 1e6 * timing.median, UNIT
