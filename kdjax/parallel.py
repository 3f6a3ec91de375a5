"""Devices: the only pmap, its axis and collectives, and the layout of arrays over it.

Outside this module arrays are [M, ...]; inside, [D, M/Dm, ...] with D = Dm member shards x Dd
data shards, device d holding member shard d // Dd and data shard d % Dd. Where Dm does not divide
M, the last member is there more than once, and the copies are dropped on the way out.

Of P processes each has D/P of the devices, and of the arrays inside [D/P, ...], one after the
other; the arrays outside are whole in all of them.
"""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import rules
from kdjax.member import Shards
from kdjax.nets.net import PyTree
from kdjax.rules import InputError

AXIS = "devices"


@dataclass(frozen=True)
class ExecutionSpec:
    """How a stage runs. Changes speed, and results by no more than rounding."""

    #: How many devices are used; 0 is all.
    devices: int = rules.field(0, rules.whole(0))
    #: Over how many devices the members are divided; 0 leaves the choice to kdjax.
    member_shards: int = rules.field(0, rules.whole(0))
    #: Over how many devices each batch is divided; 0 leaves the choice to kdjax.
    data_shards: int = rules.field(0, rules.whole(0))
    #: How members share a device: all in one operation (vmap), one after another (map), or one
    #: after another in an unrolled program (unroll); "auto" goes by backend and net.
    plan: str = rules.field("auto", rules.one_of(("auto", "vmap", "map", "unroll")))


@dataclass(frozen=True)
class Layout:
    """Dm member shards and Dd data shards; `copies` of the last member fill the last shards.

    The devices are those of all P processes, or, if `processes` is 1, of this one alone.
    """

    member_shards: int = 1
    data_shards: int = 1
    copies: int = 0
    processes: int = 1

    @property
    def devices(self) -> int:
        return self.member_shards * self.data_shards

    @property
    def own(self) -> int:
        """The number of devices of this process."""
        return self.devices // self.processes


def layout(
    execution: ExecutionSpec, members: int, batch: int, path: str, splits: bool = True
) -> Layout:
    """The layout asked for, over all processes; left open, `spread`.

    Args:
      splits: whether a batch may be split over devices.

    Raises:
      InputError: what is asked for does not divide, with the numbers.
    """
    processes = jax.process_count()
    available = jax.local_device_count() * processes
    if processes > 1:
        _check_equal(Counter(device.process_index for device in jax.devices()))
    if execution.devices > available:
        raise InputError(
            f"config.execution.devices is {execution.devices}; it must be at most the {available} "
            "there are"
        )
    if execution.data_shards > 1 and not splits:
        raise InputError(
            f"config.execution.data_shards is {execution.data_shards}; it must be 1 for {path}, "
            "whose net has statistics or random numbers of a batch that depend on how it is split"
        )
    parts = batch if splits else 1  # what the data shards must divide
    if not (execution.devices or execution.member_shards or execution.data_shards):
        return spread(members, parts, available, processes)
    return _asked(execution, members, parts, available, processes, path)


def spread(members: int, batch: int, devices: int, processes: int) -> Layout:
    """Members over devices so that no device has more than need be; the batch takes as many of the
    other devices as divide it. 10 members and batch 100 on 8 devices are 5 x 1: two members each.

    Spreading members is worth an idle place: on two CPU cores, large nets whose batches are split
    run at six tenths of the speed of nets that have a core each (benchmarks, `grid`).
    """
    most = -(-members // devices)  # of a device
    least = -(-members // most)  # devices that hold them all
    layouts = [
        Layout(m, d, m * most - members, processes)
        for d in range(1, devices // least + 1)
        for m in range(least, devices // d + 1)
        if batch % d == 0 and m * d % processes == 0
    ]
    return max(layouts, key=lambda layout: (layout.data_shards, -layout.copies))


def _asked(
    execution: ExecutionSpec, members: int, batch: int, available: int, processes: int, path: str
) -> Layout:
    """What is asked for, and where it leaves a choice the most member shards."""
    devices, shards = execution.devices or available, {}
    for name, asked, total, what in (
        ("member_shards", execution.member_shards, members, "members"),
        ("data_shards", execution.data_shards, batch, "examples of a batch"),
    ):
        if asked and total % asked:
            raise InputError(
                f"config.execution.{name} is {asked}; it must divide the {total} {what} of {path}"
            )
        shards[name] = [asked] if asked else [n for n in range(1, devices + 1) if total % n == 0]
    layouts = itertools.product(shards["member_shards"], shards["data_shards"])
    fitting = [(m, d) for m, d in layouts if m * d <= devices and m * d % processes == 0]
    if execution.devices:
        fitting = [(m, d) for m, d in fitting if m * d == devices]
    if not fitting:
        given = dataclasses.asdict(execution).items()
        words = [f"{k} {v}" for k, v in given if v and k != "plan"]
        alike = f", and a multiple of the {processes} processes" if processes > 1 else ""
        raise InputError(
            f"config.execution asks for {', '.join(words)}, but member_shards x data_shards must "
            f"be {'the' if execution.devices else 'at most the'} {devices} devices{alike}, where "
            f"member_shards divides the {members} members and data_shards the batch of {batch} of "
            f"{path}"
        )
    return Layout(*max(fitting), processes=processes)


def _check_equal(counts: Counter) -> None:
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{counts[process]} in process {process}" for process in sorted(counts))
        raise InputError(f"there are {numbers} devices; every process must have as many")


def pmap(function: Callable, layout: Layout, donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device of the layout; each argument has a leading device axis."""
    return jax.pmap(function, axis_name=AXIS, devices=_devices(layout), donate_argnums=donate)


def _devices(layout: Layout) -> list[jax.Device]:
    """All devices of the layout, process after process."""
    if layout.processes == 1:
        return jax.local_devices()[: layout.devices]
    processes = range(layout.processes)
    return [d for p in processes for d in jax.local_devices(process_index=p)[: layout.own]]


def shards(layout: Layout) -> Shards:
    """What a step may know of the other devices of this layout."""
    ids = np.arange(layout.devices).reshape(layout.member_shards, layout.data_shards)
    found = Shards()
    if layout.data_shards > 1:
        found = dataclasses.replace(
            found,
            mean=lambda tree: jax.lax.pmean(tree, AXIS, axis_index_groups=ids.tolist()),
            number=lambda: jax.lax.axis_index(AXIS) % layout.data_shards,
            gather=functools.partial(_gather, ids),
        )
    if layout.member_shards > 1:
        found = dataclasses.replace(
            found,
            share=functools.partial(_share, ids),
            members=lambda tree: jax.tree.map(lambda x: _all_members(ids, layout, x), tree),
        )
    return found


def _gather(ids: np.ndarray, x: jax.Array) -> jax.Array:
    """[B/Dd, ...] of each data shard -> [B, ...]."""
    return jax.lax.all_gather(x, AXIS, axis_index_groups=ids.tolist(), tiled=True)


def _all_members(ids: np.ndarray, layout: Layout, x: jax.Array) -> jax.Array:
    """[M/Dm, ...] of each member shard -> [M, ...]."""
    every = jax.lax.all_gather(x, AXIS, axis_index_groups=ids.T.tolist(), tiled=True)
    return every[: len(every) - layout.copies]


def _share(ids: np.ndarray, function: Callable, xs: PyTree) -> PyTree:
    """`function(xs)` [S, ...]; the member shards, the rows of `ids`, each work out a part of S,
    unless S is less than they are."""
    steps = len(jax.tree.leaves(xs)[0])
    if steps < len(ids):
        return function(xs)
    part = -(-steps // len(ids))
    first = jax.lax.axis_index(AXIS) // ids.shape[1] * part
    rows = jnp.minimum(first + jnp.arange(part), steps - 1)  # the last may be short
    ys = function(jax.tree.map(lambda x: x[rows], xs))
    every = jax.lax.all_gather(ys, AXIS, axis_index_groups=ids.T.tolist(), tiled=True)
    return jax.tree.map(lambda y: y[:steps], every)


def place_members(tree: PyTree, layout: Layout) -> PyTree:
    """Host arrays [M, ...] to device arrays [D, M/Dm, ...], repeated for every data shard."""

    def split(x: np.ndarray) -> np.ndarray:
        x = _filled(np.asarray(x), layout)
        x = x.reshape(layout.member_shards, -1, *x.shape[1:])
        return _own(np.repeat(x, layout.data_shards, axis=0), layout)

    return _place(jax.tree.map(split, tree), layout)


def fetch_members(tree: PyTree, layout: Layout) -> PyTree:
    """[D, M/Dm, ...] to private host arrays [M, ...]; data shards agree, the first is taken."""

    def join(x: jax.Array) -> np.ndarray:
        found = np.concatenate(_fetch(x, layout, of_members=True)[:, 0])
        return found[: len(found) - layout.copies]

    return jax.tree.map(join, tree)


def fetch_sums(tree: PyTree, layout: Layout) -> PyTree:
    """Sums [D, M/Dm, ...] over part of a batch each to float64 host sums [M, ...]."""

    def total(x: jax.Array) -> np.ndarray:
        found = np.concatenate(_fetch(x, layout).astype(np.float64).sum(axis=1))
        return found[: len(found) - layout.copies]

    return jax.tree.map(total, tree)


def place_batch(x: np.ndarray, layout: Layout, axis: int, by_member: bool = False) -> jax.Array:
    """An array with the batch at `axis` to [D, ...], each device with its part of the batch.

    With `by_member` the array's axis 0 is M, and is split over the member shards as well.
    """
    x = _filled(x, layout) if by_member else x
    parts = np.stack(np.split(x, layout.data_shards, axis=axis))  # [Dd, ...]
    if not by_member:
        return _place(_own(np.concatenate([parts] * layout.member_shards), layout), layout)
    parts = parts.reshape(layout.data_shards, layout.member_shards, -1, *parts.shape[2:])
    split = np.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
    return _place(_own(split, layout), layout)


def replicate(tree: PyTree, layout: Layout) -> PyTree:
    """A host tree to device arrays [D, ...], the same on every device."""
    repeat = lambda x: np.broadcast_to(np.asarray(x), (layout.own, *np.shape(x)))
    return _place(jax.tree.map(repeat, tree), layout)


def _filled(x: np.ndarray, layout: Layout) -> np.ndarray:
    """[M, ...] with the copies of the last member."""
    return np.concatenate([x, *[x[-1:]] * layout.copies]) if layout.copies else x


def _own(x: np.ndarray, layout: Layout) -> np.ndarray:
    """Of [D, ...] the part of this process."""
    first = jax.process_index() * layout.own if layout.processes > 1 else 0
    return x[first : first + layout.own]


def _place(tree: PyTree, layout: Layout) -> PyTree:
    """Host arrays [D/P, ...] to device arrays [D, ...], without a compiled program."""
    sharding = _sharding(layout)
    if layout.processes == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


@functools.cache
def _sharding(layout: Layout) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.array(_devices(layout)), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


@functools.cache
def _gathered(layout: Layout, groups: tuple[tuple[int, ...], ...]) -> Callable:
    return pmap(lambda x: jax.lax.all_gather(x, AXIS, axis_index_groups=groups), layout)


def _fetch(x: jax.Array, layout: Layout, of_members: bool = False) -> np.ndarray:
    """[D, ...] of all processes as a private array [Dm, Dd, ...] on the host of each; with
    `of_members` one data shard is enough, and [Dm, 1, ...] may come.

    Across processes each device gathers the whole, one leaf of the members' state at a time.
    """
    if layout.processes > 1:
        ids = np.arange(layout.devices).reshape(layout.member_shards, layout.data_shards)
        groups = ids.T if of_members else ids.reshape(1, -1)
        every = _gathered(layout, tuple(map(tuple, groups.tolist())))(x)
        found = np.array(every.addressable_shards[0].data)[0]
    else:
        # A copy: what the device gives may be a view of a buffer that a later step overwrites.
        found = np.array(jax.device_get(x))
    return found.reshape(layout.member_shards, -1, *found.shape[1:])
