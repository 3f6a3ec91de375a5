"""Devices: the only pmap, its axis and collectives, and the layout of arrays over it.

Outside this module arrays are [M, ...]; inside, [D, M/Dm, ...] with D = Dm member shards x Dd
data shards, device d holding member shard d // Dd and data shard d % Dd.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from kdjax.checks import InputError
from kdjax.member import Shards
from kdjax.spec import ExecutionSpec

AXIS = "devices"


@dataclass(frozen=True)
class Layout:
    """Dm member shards and Dd data shards."""

    member_shards: int = 1
    data_shards: int = 1

    @property
    def devices(self) -> int:
        return self.member_shards * self.data_shards


def layout(execution: ExecutionSpec, members: int, batch: int, path: str) -> Layout:
    """The layout asked for; what is left open shares members first, then the batch.

    Raises:
      InputError: what is asked for does not divide, with the numbers.
    """
    available = jax.local_device_count()
    devices = execution.devices or available
    if devices > available:
        raise InputError(
            f"config.execution.devices is {devices}; it must be at most the {available} there are"
        )
    member_shards, data_shards = execution.member_shards, execution.data_shards
    if not member_shards:
        member_shards = math.gcd(members, devices // data_shards if data_shards else devices)
    if not data_shards:
        data_shards = math.gcd(batch, max(devices // member_shards, 1))
    for name, shards, what in (
        ("member_shards", member_shards, members),
        ("data_shards", data_shards, batch),
    ):
        if what % shards:
            kind = "members" if name == "member_shards" else "examples of a batch"
            raise InputError(
                f"config.execution.{name} is {shards}; it must divide the {what} {kind} of {path}"
            )
    if member_shards * data_shards > devices:
        raise InputError(
            f"config.execution asks for {member_shards} member shards x {data_shards} data shards"
            f" in {path}; their product must be at most the {devices} devices"
        )
    return Layout(member_shards, data_shards)


def pmap(function: Callable, layout: Layout, donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device of the layout; each argument has a leading device axis."""
    return jax.pmap(
        function,
        axis_name=AXIS,
        devices=jax.local_devices()[: layout.devices],
        donate_argnums=donate,
    )


def shards(layout: Layout) -> Shards:
    """What a member's step may know of the other data shards."""
    if layout.data_shards == 1:
        return Shards()
    ids = np.arange(layout.devices).reshape(layout.member_shards, layout.data_shards)
    return Shards(
        mean=lambda tree: jax.lax.pmean(tree, AXIS, axis_index_groups=ids.tolist()),
        number=lambda: jax.lax.axis_index(AXIS) % layout.data_shards,
    )


def split_members(tree: Any, layout: Layout) -> Any:
    """Host arrays [M, ...] to device arrays [D, M/Dm, ...], repeated for every data shard."""

    def split(x: Any) -> np.ndarray:
        x = np.asarray(x)
        m = len(x) // layout.member_shards
        x = x.reshape(layout.member_shards, m, *x.shape[1:])
        return np.repeat(x, layout.data_shards, axis=0)

    return _placed(layout)(jax.tree.map(split, tree))


def join_members(tree: Any, layout: Layout) -> Any:
    """[D, M/Dm, ...] to private host arrays [M, ...]; data shards agree, the first is taken."""
    return jax.tree.map(lambda x: np.concatenate(_by_shard(x, layout)[:, 0]), tree)


def sum_shards(tree: Any, layout: Layout) -> Any:
    """Sums [D, M/Dm, ...] over part of a batch each to float64 host sums [M, ...]."""
    return jax.tree.map(
        lambda x: np.concatenate(_by_shard(x, layout).astype(np.float64).sum(axis=1)), tree
    )


def split_batch(x: np.ndarray, layout: Layout, axis: int, by_member: bool = False) -> np.ndarray:
    """An array with the batch at `axis` to [D, ...], each device with its part of the batch.

    With `by_member` the array's axis 0 is M, and is split over the member shards as well.
    """
    parts = np.stack(np.split(x, layout.data_shards, axis=axis))  # [Dd, ...]
    if not by_member:
        return np.concatenate([parts] * layout.member_shards)
    parts = parts.reshape(layout.data_shards, layout.member_shards, -1, *parts.shape[2:])
    return np.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])


def replicate(tree: Any, layout: Layout) -> Any:
    """A host tree to device arrays [D, ...], the same on every device."""
    return _copied(layout)(np.arange(layout.devices), tree)


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
