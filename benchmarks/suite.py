"""What is measured: a benchmark takes a session and returns rows. Add a function, and its name
to `BENCHMARKS`."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from benchmarks import machine, peers
from benchmarks.populations import DIGITS, IMAGES, OPTIMIZERS, Net, case, set_up
from benchmarks.timing import Row, Timing, best, measure, row

SMALL = Net(DIGITS, (32, 32))
LARGE = {"800": Net(IMAGES, (800, 800)), "1200": Net(IMAGES, (1200, 1200))}
TEN = 10
MORE = 40  # members of the small net, beside ten
PLANS = ("vmap", "map")
GRID = (1, 2, 5, 10, 20)
UNROLLED = 5  # the most members that are unrolled; more compile too long
PLAN_HIDDEN = (32, 64, 128, 256, 512)  # around the threshold of the table of plans


class Session:
    """What several benchmarks read, measured once."""

    def __init__(self, repeats: int):
        self.repeats = repeats
        self._measured: dict[Net, dict[str, Timing]] = {}

    def timings(self, net: Net) -> dict[str, Timing]:
        """The machine, kdjax (one member; ten, and for a small net more, in each plan) and
        PyTorch, all against each other, by name."""
        if net not in self._measured:
            numbers = (TEN, MORE) if net == SMALL else (TEN,)
            cases = machine.cases()
            for optimizer in OPTIMIZERS:
                cases.append(case(net, optimizer, 1, set_up(net, optimizer, 1).chosen))
                cases += [case(net, optimizer, m, plan) for m in numbers for plan in PLANS]
            cases += peers.cases(net)
            self._measured[net] = measure(cases, self.repeats)
        return self._measured[net]


def populations(session: Session) -> list[Row]:
    """Ten large nets, and one, against the machine's matrix product."""
    rows = []
    for short, net in LARGE.items():
        timings = session.timings(net)
        found = _over_machine(net, timings, _machine(timings) | _ours(timings))
        fastest = max((r for r in found if f" M={TEN} " in r.name), key=lambda r: r.ratio)
        rows += [*found, replace(fastest, name=f"dense_step_vs_matmul_{short}")]
    return rows


def small(session: Session) -> list[Row]:
    """Small nets against the machine, and against PyTorch, which takes one at a time."""
    timings = session.timings(SMALL)
    rows = _over_machine(SMALL, timings, timings)
    return rows + _over_torch(SMALL, timings, "small_population_vs_torch")


def torch(session: Session) -> list[Row]:
    """Ten large nets against PyTorch, which takes one at a time."""
    rows = []
    for short, net in LARGE.items():
        timings = session.timings(net)
        rows += _over_machine(net, timings, _theirs(timings))
        rows += _over_torch(net, timings, f"dense_step_vs_torch_best_{short}")
    return rows


def ten_for_ten(session: Session) -> list[Row]:
    """What a member's step costs alone over what it costs among ten, in the plans that kdjax
    chooses. The headline is the least."""
    rows = []
    for net in (SMALL, *LARGE.values()):
        timings = session.timings(net)
        for optimizer in OPTIMIZERS:
            alone, among = (
                timings[f"{optimizer} M={m} {set_up(net, optimizer, m).chosen}"] for m in (1, TEN)
            )
            name = f"{net.name} {optimizer} M={TEN} over M=1"
            rows.append(row(name, among, alone, *_microseconds(among)))
    least = min(rows, key=lambda r: r.ratio)
    return [*rows, replace(least, name="m10_vs_m1_per_member")]


def plans(session: Session) -> list[Row]:
    """The plan that kdjax chooses over the other, for sizes around the table's threshold."""
    rows = []
    for hidden in PLAN_HIDDEN:
        net = Net(IMAGES, (hidden, hidden))
        timings = measure([case(net, "adamw", TEN, plan) for plan in PLANS], session.repeats)
        made = set_up(net, "adamw", TEN)
        plan, mebibytes = made.chosen, made.state_bytes / 2**20
        (other,) = (p for p in PLANS if p != plan)
        name = f"{net.name} adamw M={TEN}, {mebibytes:.1f} MiB a device: {plan} over {other}"
        own, base = (timings[f"adamw M={TEN} {p}"] for p in (plan, other))
        rows.append(row(name, own, base, *_microseconds(own)))
    return rows


def grid(session: Session) -> list[Row]:
    """Large nets against the machine: every number of members in every plan. Not by default."""
    rows = []
    for net in LARGE.values():
        for optimizer in OPTIMIZERS:
            for members in GRID:
                plans = (*PLANS, "unroll") if members <= UNROLLED else PLANS
                cases = [case(net, optimizer, members, plan) for plan in plans]
                timings = measure(machine.cases() + cases, session.repeats)
                rows += _over_machine(net, timings, _ours(timings))
    return rows


BENCHMARKS: dict[str, Callable[[Session], list[Row]]] = {
    "small": small,
    "populations": populations,
    "torch": torch,
    "ten_for_ten": ten_for_ten,
    "plans": plans,
    "grid": grid,
}
DEFAULT = [name for name in BENCHMARKS if name != "grid"]  # which takes longer than all others


def _machine(timings: dict[str, Timing]) -> dict[str, Timing]:
    return {name: timing for name, timing in timings.items() if name in machine.NAMES}


def _theirs(timings: dict[str, Timing], optimizer: str = "") -> dict[str, Timing]:
    return {n: timing for n, timing in timings.items() if n.startswith(f"torch {optimizer}")}


def _ours(timings: dict[str, Timing], optimizers: Iterable[str] = OPTIMIZERS) -> dict[str, Timing]:
    return {name: timing for name, timing in timings.items() if name.split()[0] in optimizers}


def _over_machine(net: Net, timings: dict[str, Timing], some: dict[str, Timing]) -> list[Row]:
    """The arithmetic of some cases over that of the machine's matrix product."""
    product, rows = machine.fastest(timings), []
    for name, timing in some.items():
        flops, label = net.flops, f"{net.name} {name} over matmul"
        if name in machine.NAMES:
            flops, label = 1, f"{name}, among {net.name}"
        value = flops / timing.median / 1e9
        rows.append(row(label, timing, product, value, "GFLOP/s", scale=flops))
    return rows


def _over_torch(net: Net, timings: dict[str, Timing], headline: str) -> list[Row]:
    """kdjax's populations over PyTorch's best of the same optimizer. The headline is the best of
    all over the best of all. Nothing without PyTorch."""
    if not _theirs(timings):
        return []
    many = {name: timing for name, timing in _ours(timings).items() if " M=1 " not in name}
    rows = []
    for optimizer in OPTIMIZERS:
        peer = best(_theirs(timings, optimizer).values())
        for name, own in _ours(many, [optimizer]).items():
            label = f"{net.name} {name} over torch {optimizer}"
            rows.append(row(label, own, peer, *_microseconds(own)))
    own, peer = best(many.values()), best(_theirs(timings).values())
    return [*rows, row(headline, own, peer, *_microseconds(own))]


def _microseconds(timing: Timing) -> tuple[float, str]:
    return 1e6 * timing.median, "us per member-step"
