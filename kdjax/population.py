"""Members and steps: one member's step, lifted over M members and repeated over S steps.

Which of the two loops is outside, and how members are lifted, is a `Plan`. It changes speed,
and results by no more than rounding.
"""

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
from kdjax.views import view

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

    inputs: jax.Array
    labels: jax.Array
    logits: jax.Array | None


@flax.struct.dataclass
class Examples:
    """What each step trains on: the number of each example, its row in `Data.inputs`, the step,
    and the seed of its view. [S, B] and [S]; with own order a leading M."""

    index: jax.Array
    row: jax.Array
    step: jax.Array
    seed: jax.Array


Given = tuple[Examples, jax.Array | None]  # to a step: its examples, and live teachers' logits


def over_members(function: Callable, how: str, in_axes: tuple[int | None, ...]) -> Callable:
    """`function` of one member, for all: arguments with axis 0 have a leading M, others none."""
    if how == "vmap":
        return jax.vmap(function, in_axes)

    def lifted(*arguments: Any) -> Any:
        mapped = [a for a, axis in zip(arguments, in_axes, strict=True) if axis == 0]

        def one(own: list) -> Any:
            own = iter(own)
            given = [
                next(own) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True)
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
    teach: Callable[[Any, jax.Array], jax.Array] | None,
) -> Callable:
    """The compiled unit: teach, then learn, for S steps of all members of a device.

    Args:
      teach: (teacher variables, inputs [B, ...]) -> raw logits [K, B, C] of live teachers; None
        if there are none or their logits are cached in `Data.logits`.

    Returns:
      (state [M, ...], hparams [M], data, teacher variables, examples) -> (state, loss [M, S]).
    """
    stage = recipe.stage
    own = stage.order == "own"

    def chunk(
        state: State, hparams: Hparams, data: Data, teachers: Any, examples: Examples
    ) -> tuple[State, jax.Array]:
        def look(examples: Examples) -> Batch:
            key = stream(examples.seed, "view", examples.step)
            raw, augment = data.inputs[examples.row], stage.augment
            inputs = view(raw, examples.index, key, augment, preprocessing)
            return Batch(inputs, data.labels[examples.index])

        def lesson(examples: Examples) -> jax.Array:
            return teach(teachers, look(examples).inputs)

        def learn(state: State, hparams: Hparams, given: Given) -> tuple[State, jax.Array]:
            examples, taught = given
            if data.logits is not None:
                taught = jnp.moveaxis(data.logits[examples.index], 0, 1)
            return member.train_step(recipe, shards, state, hparams, look(examples), taught)

        taught = None if teach is None else _taught(lesson, plan, shards, own, examples)
        loops = _members_inside_steps if plan.members == "vmap" else _steps_inside_members
        return loops(learn, plan, own, state, hparams, (examples, taught))

    return chunk


def _taught(
    lesson: Callable, plan: Plan, shards: Shards, own: bool, examples: Examples
) -> jax.Array:
    """The teachers' logits of all steps, [S, K, B, C], or [M, S, K, B, C] in own order, made
    outside the members' axis, where the teachers would run M times."""
    single = lambda nothing, examples: (nothing, lesson(examples))
    every_step = lambda examples: over_steps(single, plan.scan)((), examples)[1]
    if not own:
        return shards.share(every_step, examples)
    return over_members(every_step, "unroll" if plan.members == "unroll" else "map", (0,))(examples)


def _members_inside_steps(
    learn: Callable, plan: Plan, own: bool, state: State, hparams: Hparams, given: Given
) -> tuple[State, jax.Array]:
    """Each step trains all members; `given` [S, ...], or [M, S, ...] in own order."""
    if own:
        given = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), given)
    all_members = over_members(learn, plan.members, (0, 0, 0 if own else None))
    step = lambda state, given: all_members(state, hparams, given)
    state, loss = over_steps(step, plan.scan)(state, given)
    return state, jnp.swapaxes(loss, 0, 1)


def _steps_inside_members(
    learn: Callable, plan: Plan, own: bool, state: State, hparams: Hparams, given: Given
) -> tuple[State, jax.Array]:
    """Each member takes all its steps; `given` [S, ...], or [M, S, ...] in own order."""

    def all_steps(state: State, hparams: Hparams, given: Given) -> tuple[State, jax.Array]:
        return over_steps(lambda s, g: learn(s, hparams, g), plan.scan)(state, given)

    return over_members(all_steps, plan.members, (0, 0, 0 if own else None))(state, hparams, given)


def hparams(members: list[dict[str, Any]], mixing: np.ndarray) -> Hparams:
    """The grid as arrays [M]; `mixing` [M, K], each row with sum 1."""
    whole = ("seed", "ensemble_size")
    values = {
        name: np.array([m[name] for m in members], np.int32 if name in whole else np.float32)
        for name in members[0]
    }
    return Hparams(mixing=mixing.astype(np.float32), **values)
