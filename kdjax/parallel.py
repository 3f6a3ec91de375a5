"""Devices: the only pmap, its axis and collectives, and the layout of arrays over it.

Outside this module arrays are [M, ...]; inside, [D, M/Dm, ...] with D = Dm member shards x Dd
data shards, device d holding member shard d // Dd and data shard d % Dd. Where Dm does not divide
M, the last member is there more than once, and the copies are dropped on the way out.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.checks import InputError
from kdjax.member import Shards
from kdjax.spec import ExecutionSpec

AXIS = "devices"


@dataclass(frozen=True)
class Layout:
    """Dm member shards and Dd data shards; `copies` of the last member fill the last shard."""

    member_shards: int = 1
    data_shards: int = 1
    copies: int = 0

    @property
    def devices(self) -> int:
        return self.member_shards * self.data_shards


def layout(execution: ExecutionSpec, members: int, batch: int, path: str) -> Layout:
    """The layout asked for. Left open, the members are spread so that no device has more than need
    be, and the batch takes as many of the other devices as divide it.

    Spreading members is worth an idle place: on two CPU cores, large nets whose batches are split
    run at six tenths of the speed of nets that have a core each (benchmarks, `grid`).

    Raises:
      InputError: what is asked for does not divide, with the numbers.
    """
    available = jax.local_device_count()
    devices = execution.devices or available
    if devices > available:
        raise InputError(
            f"config.execution.devices is {devices}; it must be at most the {available} there are"
        )
    if not (execution.devices or execution.member_shards or execution.data_shards):
        most = -(-members // devices)  # of a device
        spread = -(-members // most)
        rest = [n for n in range(1, devices // spread + 1) if batch % n == 0]
        return Layout(spread, max(rest), spread * most - members)
    shards = {}
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
    fitting = [(m, d) for m, d in layouts if m * d <= devices]
    if execution.devices:
        fitting = [(m, d) for m, d in fitting if m * d == devices]
    if not fitting:
        asked = [f"{k} {v}" for k, v in dataclasses.asdict(execution).items() if v and k != "plan"]
        raise InputError(
            f"config.execution asks for {', '.join(asked)}, but member_shards x data_shards must "
            f"be {'the' if execution.devices else 'at most the'} {devices} devices, where "
            f"member_shards divides the {members} members and data_shards the batch of {batch} of "
            f"{path}"
        )
    return Layout(*max(fitting))


def pmap(function: Callable, layout: Layout, donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device of the layout; each argument has a leading device axis."""
    return jax.pmap(
        function,
        axis_name=AXIS,
        devices=jax.local_devices()[: layout.devices],
        donate_argnums=donate,
    )


def forget_programs() -> None:
    """Frees all compiled programs: those of pmap stay when their functions are gone."""
    jax.clear_caches()


def shards(layout: Layout) -> Shards:
    """What a step may know of the other devices of this layout."""
    ids = np.arange(layout.devices).reshape(layout.member_shards, layout.data_shards)
    found = Shards()
    if layout.data_shards > 1:
        found = dataclasses.replace(
            found,
            mean=lambda tree: jax.lax.pmean(tree, AXIS, axis_index_groups=ids.tolist()),
            number=lambda: jax.lax.axis_index(AXIS) % layout.data_shards,
        )
    if layout.member_shards > 1:
        found = dataclasses.replace(found, share=functools.partial(_share, ids))
    return found


def _share(ids: np.ndarray, function: Callable, xs: Any) -> Any:
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


def split_members(tree: Any, layout: Layout) -> Any:
    """Host arrays [M, ...] to device arrays [D, M/Dm, ...], repeated for every data shard."""

    def split(x: Any) -> np.ndarray:
        x = _filled(np.asarray(x), layout)
        m = len(x) // layout.member_shards
        x = x.reshape(layout.member_shards, m, *x.shape[1:])
        return np.repeat(x, layout.data_shards, axis=0)

    return _placed(layout)(jax.tree.map(split, tree))


def join_members(tree: Any, layout: Layout) -> Any:
    """[D, M/Dm, ...] to private host arrays [M, ...]; data shards agree, the first is taken."""

    def join(x: Any) -> np.ndarray:
        x = np.concatenate(_by_shard(x, layout)[:, 0])
        return x[: len(x) - layout.copies]

    return jax.tree.map(join, tree)


def sum_shards(tree: Any, layout: Layout) -> Any:
    """Sums [D, M/Dm, ...] over part of a batch each to float64 host sums [M, ...]."""

    def total(x: Any) -> np.ndarray:
        x = np.concatenate(_by_shard(x, layout).astype(np.float64).sum(axis=1))
        return x[: len(x) - layout.copies]

    return jax.tree.map(total, tree)


def split_batch(x: np.ndarray, layout: Layout, axis: int, by_member: bool = False) -> np.ndarray:
    """An array with the batch at `axis` to [D, ...], each device with its part of the batch.

    With `by_member` the array's axis 0 is M, and is split over the member shards as well.
    """
    x = _filled(x, layout) if by_member else x
    parts = np.stack(np.split(x, layout.data_shards, axis=axis))  # [Dd, ...]
    if not by_member:
        return np.concatenate([parts] * layout.member_shards)
    parts = parts.reshape(layout.data_shards, layout.member_shards, -1, *parts.shape[2:])
    return np.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])


def replicate(tree: Any, layout: Layout) -> Any:
    """A host tree to device arrays [D, ...], the same on every device."""
    return _copied(layout)(np.arange(layout.devices), tree)


def _filled(x: np.ndarray, layout: Layout) -> np.ndarray:
    """[M, ...] with the copies of the last member."""
    return np.concatenate([x, *[x[-1:]] * layout.copies]) if layout.copies else x


@functools.cache
def _placed(layout: Layout) -> Callable:
    return pmap(lambda x: x, layout)


@functools.cache
def _copied(layout: Layout) -> Callable:
    return jax.pmap(
        lambda _, x: x, in_axes=(0, None), devices=jax.local_devices()[: layout.devices]
    )


def _by_shard(x: jax.Array, layout: Layout) -> np.ndarray:
    return np.array(x).reshape(layout.member_shards, layout.data_shards, *x.shape[1:])
