"""Populations of dense nets, whole epochs: against the machine, PyTorch and plain JAX."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks import jax_peers, machine, peers, populations, variants
from benchmarks.populations import label
from benchmarks.session import Session
from benchmarks.timing import Row, Timing, best, measure, row
from benchmarks.variants import Variant
from benchmarks.work import DIGITS, IMAGES, OPTIMIZERS, Work

SMALL = Work(DIGITS, (32, 32), examples=800)  # whose 100 steps are 12.5 epochs
LARGE = (Work(IMAGES, (800, 800)), Work(IMAGES, (1200, 1200)))
TEN = 10  # members
MORE = 40  # of the small net
PLANS = ("vmap", "map")
PLAN_HIDDEN = (32, 64, 128, 256, 512)  # around the threshold of the table of plans
GRID = (1, 2, 5, 10, 20, 50)
GRID_BATCHES = ((100, 100), (256, 39))  # batch, and steps of an epoch
UNIT = "us per member-step"
MATMUL, ROOFLINE = "dense_epoch_vs_matmul", "dense_epoch_vs_roofline"
TORCH, LOADER = "dense_epoch_vs_torch_best", "dense_epoch_vs_torch_loader"
SMALL_TORCH = "small_population_vs_torch"


def dense(session: Session) -> list[Row]:
    """Ten large nets, their inputs jittered, against all there is to compare with. A headline is
    the least over nets and optimizers; that over the matrix product, with SGD."""
    rows = []
    for work in works(LARGE):
        loops, loaders = variants.in_memory(work), variants.loaders()
        with peers.cases(work, [*loops, *loaders, variants.ensemble(TEN)]) as torch:
            cases = [*machine.cases(), *(populations.of_work(work, m) for m in (TEN, 1)), *torch]
            timings = measure([*cases, *jax_peers.cases(work, TEN)], session.repeats)
        rows += of_machine(timings) if work == LARGE[0] else []
        rows += over_machine(work, timings, TEN) + over_peers(work, timings, TEN)
        rows += over_best(TORCH, loops, work, timings, TEN)
        rows += over_best(LOADER, loaders, work, timings, TEN)
    headlines = least(MATMUL, [r for r in rows if " sgd " in r.name])
    for name in (ROOFLINE, TORCH, LOADER):
        headlines += least(name, rows)
    return rows + headlines


def regularised(session: Session) -> list[Row]:
    """Ten large nets with jitter, dropout and limited norms."""
    rows = []
    for work in LARGE:
        work = replace(work, regularised=True)
        with peers.cases(work, variants.in_memory(work)) as torch:
            cases = [*machine.cases(), populations.of_work(work, TEN), *torch]
            timings = measure(cases, session.repeats)
        rows += over_machine(work, timings, TEN) + over_peers(work, timings, TEN)
    return rows


def small(session: Session) -> list[Row]:
    """Small nets, which PyTorch takes one at a time; the headline is the least over optimizers."""
    rows = []
    for work in works([SMALL]):
        loops = variants.in_memory(work)
        with peers.cases(work, [*loops, variants.ensemble(MORE)]) as torch:
            cases = [*machine.cases(), *(populations.of_work(work, m) for m in (MORE, TEN, 1))]
            timings = measure([*cases, *torch], session.repeats)
        rows += over_machine(work, timings, MORE) + over_peers(work, timings, MORE)
        rows += over_best(SMALL_TORCH, loops, work, timings, MORE)
    return rows + least(SMALL_TORCH, rows)


def plans(session: Session) -> list[Row]:
    """The plan that kdjax chooses over the other, for sizes around the table's threshold."""
    rows = []
    for hidden in PLAN_HIDDEN:
        work = replace(LARGE[0], hidden=(hidden, hidden), optimizer="adamw")
        timings = measure([populations.of_work(work, TEN, p) for p in PLANS], session.repeats)
        made = populations.of_stage(work, TEN)
        plan, mebibytes = made.plan.members, made.state_bytes / TEN / 2**20
        (other,) = (p for p in PLANS if p != plan)
        name = f"{work.name} M={TEN}, {mebibytes:.1f} MiB each: {plan} over {other}"
        own, base = (timings[label(TEN, p)] for p in (plan, other))
        rows.append(row(name, own, base, *microseconds(own)))
    return rows


def grid(session: Session) -> list[Row]:
    """Large nets against the machine: every number of members, batch and optimizer."""
    rows = []
    for work in works(LARGE):
        for batch, steps in GRID_BATCHES:
            work, costs = replace(work, batch=batch, steps=steps), []
            for members in GRID:
                cases = [*machine.cases(), populations.of_work(work, members)]
                timings = measure(cases, session.repeats)
                rows += over_machine(work, timings, members)
                costs.append([1e6 * s for s in timings[label(members)].seconds])
            session.curve(work.name, "members", GRID, costs, UNIT)
    return rows


def works(some: Iterable[Work]) -> list[Work]:
    """Each with every optimizer."""
    return [replace(work, optimizer=name) for work in some for name in OPTIMIZERS]


def of_machine(timings: dict[str, Timing]) -> list[Row]:
    """Its own rates, each over the faster of its kind."""
    rows = []
    for names, unit in ((machine.PRODUCTS, "GFLOP/s"), (machine.PASSES, "GB/s")):
        fastest = best(timings[name] for name in names)
        rows += [row(n, timings[n], fastest, 1e-9 / timings[n].median, unit) for n in names]
    return rows


def over_machine(work: Work, timings: dict[str, Timing], members: int) -> list[Row]:
    """The arithmetic of a population over that of the matrix product; the least that it could take
    over what it takes; and what a member takes among fewer over what it takes here."""
    own, name = timings[label(members)], f"{work.name} M={members}"
    rate, product = 1e-9 * work.flops / own.median, machine.product(timings)
    least, usual = (
        machine.floor(timings, flops, work.moved) for flops in (work.least_flops, work.flops)
    )
    counted = f"{1e-9 * work.least_flops:.3g} GFLOP, {1e-6 * work.moved:.3g} MB"
    rows = [
        row(f"{MATMUL} {name}", own, product, rate, "GFLOP/s", scale=work.flops),
        row(f"{ROOFLINE} {name} ({counted})", own, least, *microseconds(own)),
        row(f"{name} over its roofline by the usual count", own, usual, *microseconds(own)),
    ]
    for fewer in (1, TEN):
        base = timings.get(label(fewer))
        if base and fewer < members:
            rows.append(row(f"{name} over M={fewer}", own, base, *microseconds(own)))
    return rows


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


def least(headline: str, rows: Sequence[Row]) -> list[Row]:
    """The headline: of the rows that bear its name, the one with the least ratio, if any."""
    found = [r for r in rows if r.name.startswith(f"{headline} ")]
    return [replace(min(found, key=lambda r: r.ratio), name=headline)] if found else []


def microseconds(timing: Timing) -> tuple[float, str]:
    return 1e6 * timing.median, UNIT
