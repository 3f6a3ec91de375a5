"""Members and steps: one member's step, lifted over M members and repeated over S steps.

Which of the two loops is outside, and how members are lifted, is a `Plan`. It changes speed,
and results by no more than rounding.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from kdjax import member
from kdjax.data.dataset import Preprocessing
from kdjax.keys import stream
from kdjax.member import Batch, Hparams, Recipe, Shards, State
from kdjax.nets.derivatives import along
from kdjax.nets.net import Array, Outputs, PyTree
from kdjax.views import AugmentSpec, mixed, view

SMALL_BYTES = 2**18  # of one member's state; larger ones are faster one after another


@dataclass(frozen=True)
class Plan:
    """`members`: "vmap" inside the steps, "map" outside them, or "unroll" in Python.

    `scan`: a chunk is one call, its steps a scan; else every call is one step.
    """

    members: str
    scan: bool


PLANS = {
    "accelerator": Plan("vmap", scan=True),
    "cpu, dense, small": Plan("vmap", scan=True),
    "cpu, dense, large": Plan("map", scan=True),
    "cpu, convolutional": Plan("unroll", scan=False),
}


def choose_plan(asked: str, backend: str, kind: str, state_bytes: int) -> Plan:
    """The row of `PLANS` for a net of `kind`, one member of which has `state_bytes`."""
    if backend != "cpu":
        plan = PLANS["accelerator"]
    elif kind == "convolutional":
        plan = PLANS["cpu, convolutional"]
    else:
        size = "small" if state_bytes <= SMALL_BYTES else "large"
        plan = PLANS[f"cpu, dense, {size}"]
    return plan if asked == "auto" else Plan(asked, plan.scan)


@flax.struct.dataclass
class Data:
    """A stage's training examples on a device.

    `inputs` [R, ...] raw; `labels` [N]; `logits` [N, K, C] of the teachers, or None. R is N, or
    the rows of one chunk where the inputs are read as they are needed.
    """

    inputs: Array
    labels: Array
    logits: Array | None


@flax.struct.dataclass
class Examples:
    """What each step trains on: the number of each example, its row in `Data.inputs`, the step,
    and the seed of its view; and the number and the row of the one that each is mixed with, or
    None. [S, B] and [S]; with own order a leading M."""

    index: jax.Array
    row: jax.Array
    step: jax.Array
    seed: jax.Array
    other: jax.Array | None = None
    other_row: jax.Array | None = None


Teach = Callable[[PyTree, jax.Array], Outputs]  # (variables, inputs [B, ...]) -> [K, B, ...]
Taught = tuple[
    Examples, Outputs | None
]  # the examples of a step, and what the teachers say of them


def over_members(function: Callable, how: str, in_axes: tuple[int | None, ...]) -> Callable:
    """`function` of one member, for all: arguments with axis 0 have a leading M, others none."""
    if how == "vmap":
        return jax.vmap(function, in_axes)

    def lifted(*arguments: Any) -> Any:
        mapped = [a for a, axis in zip(arguments, in_axes, strict=True) if axis == 0]

        def one(own: list) -> Any:
            left = iter(own)
            given = [
                next(left) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True)
            ]
            if how == "unroll":  # else XLA fuses what members share, and may abort (JAX 0.10)
                given = jax.lax.optimization_barrier(given)
            return function(*given)

        if how == "map":
            return jax.lax.map(one, mapped)
        members = len(jax.tree.leaves(mapped)[0])
        results = [one(jax.tree.map(lambda x, i=i: x[i], mapped)) for i in range(members)]
        return jax.tree.map(lambda *x: jnp.stack(x), *results)

    return lifted


def over_steps(function: Callable, scan: bool) -> Callable:
    """`function(carry, x) -> (carry, y)` for every step of xs [S, ...]."""
    if scan:
        return lambda carry, xs: jax.lax.scan(function, carry, xs)

    def single(carry: Any, xs: Any) -> Any:
        carry, y = function(carry, jax.tree.map(lambda x: x[0], xs))
        return carry, jax.tree.map(lambda x: x[None], y)

    return single


def train_chunk(
    recipe: Recipe,
    plan: Plan,
    shards: Shards,
    preprocessing: Preprocessing,
    augment: AugmentSpec,
    order: str,
    teach: Teach | None,
    peers: bool = False,
) -> Callable:
    """The compiled unit: teach, then train, for S steps of all members of a device.

    Args:
      order: of the batches, "own" for each member or "shared" by all.
      teach: (teacher variables, inputs [B, ...]) -> outputs [K, B, ...] of live teachers; None if
        there are none or their logits are cached in `Data.logits`.
      peers: whether the members teach each other, in shared order (arXiv 1706.00384).

    Returns:
      (state [M, ...], hparams [M], data, teacher variables, examples) -> (state, loss [M, S]).
    """
    own = order == "own"

    def chunk(
        state: State, hparams: Hparams, data: Data, teachers: PyTree, examples: Examples
    ) -> tuple[State, jax.Array]:
        def batch_of(examples: Examples) -> Batch:
            key = stream(examples.seed, "view", examples.step)

            def seen(row: jax.Array, index: jax.Array) -> jax.Array:
                return view(jnp.asarray(data.inputs)[row], index, key, augment, preprocessing)

            index = examples.index
            inputs, labels = seen(examples.row, index), data.labels[index]
            mixture: dict[str, jax.Array] = {}
            if examples.other is not None and examples.other_row is not None:
                others = seen(examples.other_row, examples.other)
                key_of_mix = stream(examples.seed, "mix", examples.step)
                inputs, share = mixed(inputs, others, index, key_of_mix, augment)
                mixture = dict(others=data.labels[examples.other], share=share)
            directions = _directions(recipe, examples, inputs)
            return Batch(inputs, labels, index=index, directions=directions, **mixture)

        def teach_batch(teach: Teach, examples: Examples) -> Outputs:
            batch = batch_of(examples)
            apply = lambda inputs: (teach(teachers, inputs), ())
            return along(apply, batch.inputs, recipe.teacher_directions(batch))[0]

        def train_batch(state: State, hparams: Hparams, taught: Taught) -> tuple[State, jax.Array]:
            examples, teacher = taught
            if data.logits is not None:
                teacher = Outputs(jnp.moveaxis(data.logits[examples.index], 0, 1), {})
            return member.train_step(recipe, shards, state, hparams, batch_of(examples), teacher)

        def teach_each_other(
            state: State, hparams: Hparams, examples: Examples
        ) -> tuple[Hparams, Outputs]:
            batch = batch_of(examples)
            outputs = lambda s: member.teach(recipe, s.variables, batch)
            every = shards.members(over_members(outputs, plan.members, (0,))(state))
            some = lambda x: ~(x < jnp.inf).all(axis=(1, 2))  # NaN or inf; -inf is a masked class
            broken = shards.mean(some(every.logits).astype(jnp.float32)) > 0
            return _without_bad(hparams, shards.members(state.bad) | broken, every)

        outputs = None
        if teach is not None:
            ask = functools.partial(teach_batch, teach)
            outputs = _teach(ask, plan, shards, own, examples)
        if peers:
            loops = functools.partial(_members_inside_steps, together=teach_each_other)
        else:
            loops = _members_inside_steps if plan.members == "vmap" else _steps_inside_members
        return loops(train_batch, plan, own, state, hparams, (examples, outputs))

    return chunk


def _directions(recipe: Recipe, examples: Examples, inputs: jax.Array) -> dict[str, jax.Array]:
    """{term: [B, R, ...]}, which depend on the seed of the view, the step and the example alone."""
    found = {}
    for name, term in recipe.objective.items():
        if term.directions is not None:
            key = stream(examples.seed, f"directions {name}", examples.step)
            keys = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(examples.index)
            found[name] = jax.vmap(term.directions)(keys, inputs)
    return found


def _without_bad(hparams: Hparams, bad: jax.Array, outputs: Outputs) -> tuple[Hparams, Outputs]:
    """Peers without those that are bad [M]: the others take their part of the mixing [m, M]. A
    member without a healthy peer learns from itself, which costs nothing."""
    kept = lambda x: jnp.where(bad.reshape(-1, *(1,) * (x.ndim - 1)), 0.0, x)
    mixing = hparams["mixing"]
    healthy = jnp.where(bad[None], 0.0, mixing)
    total = healthy.sum(axis=1, keepdims=True)
    itself = (mixing == 0).astype(mixing.dtype)  # of `peers_matrix`
    left = jnp.where(total > 0, healthy / jnp.where(total > 0, total, 1.0), itself)
    mixing = jnp.where(bad.any(), left, mixing)
    return hparams | {"mixing": mixing}, jax.tree.map(kept, outputs)


def _teach(
    teach_batch: Callable[[Examples], Outputs],
    plan: Plan,
    shards: Shards,
    own: bool,
    examples: Examples,
) -> Outputs:
    """The teachers' outputs of all steps, [S, K, B, ...], or [M, S, K, B, ...] in own order, made
    outside the members' axis, where the teachers would run M times."""
    single = lambda nothing, examples: (nothing, teach_batch(examples))
    every_step = lambda examples: over_steps(single, plan.scan)((), examples)[1]
    if not own:
        return shards.share(every_step, examples)
    return over_members(every_step, "unroll" if plan.members == "unroll" else "map", (0,))(examples)


def _members_inside_steps(
    train_batch: Callable,
    plan: Plan,
    own: bool,
    state: State,
    hparams: Hparams,
    taught: Taught,
    together: Callable[[State, Hparams, Examples], tuple[Hparams, Outputs]] | None = None,
) -> tuple[State, jax.Array]:
    """Each step trains all members; `taught` [S, ...], or [M, S, ...] in own order. `together`:
    (state [M, ...], numbers, examples) -> the numbers, with the weights of the peers, and the
    outputs of all members, which then teach."""
    if own:
        taught = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), taught)
    all_members = over_members(train_batch, plan.members, (0, 0, 0 if own else None))

    def step(state: State, taught: Taught) -> tuple[State, jax.Array]:
        numbers = hparams
        if together is not None:
            numbers, outputs = together(state, hparams, taught[0])
            taught = taught[0], outputs
        return all_members(state, numbers, taught)

    state, loss = over_steps(step, plan.scan)(state, taught)
    return state, jnp.swapaxes(loss, 0, 1)


def _steps_inside_members(
    train_batch: Callable,
    plan: Plan,
    own: bool,
    state: State,
    hparams: Hparams,
    taught: Taught,
) -> tuple[State, jax.Array]:
    """Each member takes all its steps; `taught` [S, ...], or [M, S, ...] in own order."""

    def all_steps(state: State, hparams: Hparams, taught: Taught) -> tuple[State, jax.Array]:
        return over_steps(lambda s, t: train_batch(s, hparams, t), plan.scan)(state, taught)

    return over_members(all_steps, plan.members, (0, 0, 0 if own else None))(state, hparams, taught)


def hparams(members: list[dict[str, float]], mixing: np.ndarray) -> Hparams:
    """The numbers of the members as arrays [M]; `mixing` [M, K], each row with sum 1."""
    values: dict[str, Any] = {
        name: np.array([m[name] for m in members], member.WHOLE.get(name, np.float32))
        for name in members[0]
    }
    return {"mixing": mixing.astype(np.float32), **values}
