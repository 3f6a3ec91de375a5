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
from kdjax.augment import view
from kdjax.data import Preprocessing
from kdjax.keys import stream
from kdjax.member import Batch, Hparams, Recipe, Shards, State

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


def over_members(function: Callable, how: str, in_axes: tuple[int | None, ...]) -> Callable:
    """`function` of one member, for all: arguments with axis 0 have a leading M, others none."""
    if how == "vmap":
        return jax.vmap(function, in_axes)

    def lifted(*arguments: Any) -> Any:
        mapped = [a for a, axis in zip(arguments, in_axes, strict=True) if axis == 0]

        def one(own: list) -> Any:
            own = iter(own)
            return function(
                *(next(own) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True))
            )

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
    own = 0 if stage.order == "own" else None

    def look(data: Data, examples: Examples) -> Batch:
        key = stream(examples.seed, "view", examples.step)
        inputs = view(data.inputs[examples.row], examples.index, key, stage.augment, preprocessing)
        return Batch(inputs, data.labels[examples.index])

    def chunk(
        state: State, hparams: Hparams, data: Data, teachers: Any, examples: Examples
    ) -> tuple[State, jax.Array]:
        def teach_step(carry: tuple, examples: Examples) -> tuple[tuple, jax.Array]:
            return carry, teach(teachers, look(data, examples).inputs)

        def learn_step(
            state: State, hparams: Hparams, examples: Examples, taught: Any
        ) -> tuple[State, jax.Array]:
            if data.logits is not None:
                taught = jnp.moveaxis(data.logits[examples.index], 0, 1)
            batch = look(data, examples)
            return member.train_step(recipe, shards, state, hparams, batch, taught)

        # Teachers stand outside the members' axis, or they would run M times.
        taught = None
        if teach is not None:
            every_step = over_steps(teach_step, plan.scan)
            run = lambda e: every_step((), e)[1]
            how = "unroll" if plan.members == "unroll" else "map"
            taught = (
                shards.share(run, examples)
                if own is None
                else over_members(run, how, (0,))(examples)
            )

        if plan.members == "vmap":
            every_member = over_members(learn_step, "vmap", (0, 0, own, own))
            steps_first = (examples, taught)
            if own == 0:
                steps_first = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps_first)
            state, loss = over_steps(lambda s, x: every_member(s, hparams, *x), plan.scan)(
                state, steps_first
            )
            return state, jnp.swapaxes(loss, 0, 1)

        def learn(state: State, hparams: Hparams, examples: Examples, taught: Any) -> Any:
            step = lambda s, x: learn_step(s, hparams, *x)
            return over_steps(step, plan.scan)(state, (examples, taught))

        return over_members(learn, plan.members, (0, 0, own, own))(state, hparams, examples, taught)

    return chunk


def hparams(members: list[dict[str, Any]], mixing: np.ndarray) -> Hparams:
    """The grid as arrays [M]; `mixing` [M, K], each row with sum 1."""
    whole = ("seed", "ensemble_size")
    values = {
        name: np.array([m[name] for m in members], np.int32 if name in whole else np.float32)
        for name in members[0]
    }
    return Hparams(mixing=mixing.astype(np.float32), **values)
