"""Populations of dense nets, whole epochs: against the machine, PyTorch and plain JAX.

Matrix product, population and PyTorch stand next to each other in a round, and the product is
timed again beside each population.
"""

from collections.abc import Iterable
from dataclasses import replace

from benchmarks import jax_peers, machine, peers, populations, variants
from benchmarks.populations import label
from benchmarks.rows import (
    MATMUL,
    ROOFLINE,
    UNIT,
    least,
    microseconds,
    of_machine,
    over_best,
    over_fewer,
    over_machine,
    over_peers,
)
from benchmarks.session import Session
from benchmarks.timing import Row, Timing, measure, row, tell
from benchmarks.variants import Variant
from benchmarks.work import DIGITS, IMAGES, OPTIMIZERS, Work

SMALL = Work(DIGITS, (32, 32), steps=100, examples=800)  # 100 steps are 12.5 epochs
LARGE = (Work(IMAGES, (800, 800)), Work(IMAGES, (1200, 1200)))
TEN = 10  # members
MORE = 40
FEW = 3  # most repeats of what is no headline
PLANS = ("vmap", "map")
PLAN_STEPS = 20
PLAN_HIDDEN = (32, 64, 128, 256, 512)  # around the threshold of the table of plans
GRID = (1, 2, 5, 10, 20, 50)
GRID_BATCHES = ((100, 50), (256, 19))  # batch, and steps of an epoch
BATCHES, WHOLE = (100, 250), 59_000  # on an accelerator; examples of a whole epoch
TORCH, LOADER = "dense_epoch_vs_torch_best", "dense_epoch_vs_torch_loader"
SMALL_TORCH = "small_population_vs_torch"


def dense(session: Session) -> list[Row]:
    """Ten large nets, their inputs jittered, with SGD and momentum."""
    return _epochs(session, LARGE, variants.loaders())


def regularised(session: Session) -> list[Row]:
    """The same with dropout and limited norms."""
    return _epochs(session, [replace(work, regularised=True) for work in LARGE])


def adamw(session: Session) -> list[Row]:
    """The same without them, with AdamW."""
    fewer = replace(session, repeats=session.few(FEW))
    return _epochs(fewer, [replace(work, optimizer="adamw") for work in LARGE])


def _epochs(session: Session, works: Iterable[Work], loaders: Iterable[Variant] = ()) -> list[Row]:
    """Headlines, each the least over the nets, then the rows of each net."""
    rows, loaders = [], list(loaders)
    for work in works:
        tell(work.name)
        loops = variants.in_memory(work)
        with peers.cases(work, [*loops, *loaders]) as torch:
            ten, one = (populations.of_work(work, members) for members in (TEN, 1))
            cases = [*machine.products(), ten, *torch, one, *machine.passes()]
            timings = measure(cases, session.repeats)
        rows += over_machine(work, timings, TEN) + over_fewer(work, timings, TEN, [1])
        rows += over_best(TORCH, loops, work, timings, TEN)
        rows += over_best(LOADER, [v for v in loaders if v.pictures], work, timings, TEN)
        rows += over_peers(work, timings, TEN)
    suffix = f", {work.optimizer}" * (work.optimizer != "sgd") + ", regularised" * work.regularised
    names = (MATMUL, ROOFLINE, TORCH, LOADER)
    return [headline for name in names for headline in least(name, rows, suffix)] + rows


def small(session: Session) -> list[Row]:
    """Small nets, which PyTorch takes one at a time; the headline is the least over optimizers."""
    rows = []
    for work in (replace(SMALL, optimizer=name) for name in OPTIMIZERS):
        tell(work.name)
        loops = variants.in_memory(work)
        with peers.cases(work, [*loops, variants.ensemble(MORE)]) as torch:
            more, ten, one = (populations.of_work(work, m) for m in (MORE, TEN, 1))
            cases = [*machine.products(), more, *torch, ten, one, *machine.passes()]
            timings = measure(cases, session.repeats)
        rows += over_machine(work, timings, MORE) + over_fewer(work, timings, MORE, [1, TEN])
        rows += over_best(SMALL_TORCH, loops, work, timings, MORE)
        rows += over_peers(work, timings, MORE)
    return least(SMALL_TORCH, rows) + rows


def others(session: Session) -> list[Row]:
    """Large nets over PyTorch's stacked ensemble and over plain JAX; and what the machine does."""
    rows = []
    for work in LARGE:
        tell(work.name)
        with peers.cases(work, [variants.ensemble(TEN)]) as torch:
            cases = [*machine.products(), populations.of_work(work, TEN), *torch]
            cases += [*jax_peers.cases(work, TEN), *machine.passes()]
            timings = measure(cases, session.few(FEW))
        rows += over_peers(work, timings, TEN)
    return rows + of_machine(timings)


def accelerator(session: Session) -> list[Row]:
    """A large net against the machine without any other code, in epochs that last on an
    accelerator: its optimizers at a batch of 100, and regularised (arXiv 1207.0580) at 250."""
    rows, (few, many) = [], BATCHES
    whole = {b: replace(LARGE[-1], batch=b, steps=WHOLE // b, examples=WHOLE) for b in BATCHES}
    works = [replace(whole[few], optimizer=name) for name in OPTIMIZERS]
    for work in [*works, replace(whole[many], regularised=True)]:
        tell(work.name)
        for members in (TEN, MORE):
            found, timings = _against_machine(work, members, session.few(FEW))
            rows += [replace(row, name=f"{row.name}, whole epochs") for row in found]
    return rows + of_machine(timings)


def plans(session: Session) -> list[Row]:
    """The plan that kdjax chooses over the other, for sizes around the table's threshold."""
    rows = []
    for hidden in PLAN_HIDDEN:
        work = replace(LARGE[0], hidden=(hidden, hidden), optimizer="adamw").shortened(PLAN_STEPS)
        tell(work.name)
        timings = measure([populations.of_work(work, TEN, p) for p in PLANS], session.few(FEW))
        made = populations.of_stage(work, TEN)
        plan, mebibytes = made.plan.members, populations.member_bytes(made) / 2**20
        (other,) = (p for p in PLANS if p != plan)
        name = f"{work.name} M={TEN}, {mebibytes:.1f} MiB each: {plan} over {other}"
        own, base = (timings[label(TEN, p)] for p in (plan, other))
        rows.append(row(name, own, base, *microseconds(own)))
    return rows


def grid(session: Session) -> list[Row]:
    """Large nets against the machine: every number of members, batch and optimizer."""
    rows = []
    for work in (replace(work, optimizer=name) for work in LARGE for name in OPTIMIZERS):
        for batch, steps in GRID_BATCHES:
            work, costs = replace(work, batch=batch, steps=steps), []
            tell(work.name)
            for members in GRID:
                found, timings = _against_machine(work, members, session.repeats)
                rows += found
                costs.append([1e6 * s for s in timings[label(members)].seconds])
            session.curve(work.name, "members", GRID, costs, UNIT)
    return rows


def _against_machine(work: Work, members: int, repeats: int) -> tuple[list[Row], dict[str, Timing]]:
    population = populations.of_work(work, members)
    timings = measure([*machine.products(), population, *machine.passes()], repeats)
    return over_machine(work, timings, members), timings
