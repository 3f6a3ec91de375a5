"""Learning-rate schedules and optimizers, built inside the member's step from its own numbers.

A schedule is a multiplier of the member's learning rate, so one program trains members with
different rates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax import rules

Numbers = Mapping[str, Any]  # of one member, by name
PyTree = Any

SCHEDULES = {
    "constant": lambda steps: optax.constant_schedule(1.0),
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
    # arXiv 1207.0580: times 0.998 after each of 3000 epochs; here over the steps there are.
    "exponential": lambda steps: optax.exponential_decay(1.0, steps, 0.998**3000),
    "halving": lambda steps: optax.exponential_decay(1.0, steps / 10, 0.5, staircase=True),
}


@dataclass(frozen=True)
class Optimizer:
    """An entry of `OPTIMIZERS`: `direction(hparams, steps, decay)`, `decay` the transformation that
    adds the weight decay, and the per-member numbers it reads."""

    direction: Callable[[Numbers, int, optax.GradientTransformation], optax.GradientTransformation]
    hparams: tuple[str, ...]


OPTIMIZERS = {
    "sgd": Optimizer(
        lambda h, _, decay: optax.chain(decay, optax.trace(h["momentum"], nesterov=False)),
        hparams=("learning_rate", "weight_decay", "momentum"),
    ),
    "nesterov": Optimizer(
        lambda h, _, decay: optax.chain(decay, optax.trace(h["momentum"], nesterov=True)),
        hparams=("learning_rate", "weight_decay", "momentum"),
    ),
    "rising_momentum": Optimizer(
        lambda h, steps, decay: optax.chain(decay, rising_momentum(h["momentum"], steps)),
        hparams=("learning_rate", "weight_decay", "momentum"),
    ),
    "adamw": Optimizer(
        lambda h, _, decay: optax.chain(optax.scale_by_adam(), decay),
        hparams=("learning_rate", "weight_decay"),
    ),
}


@dataclass(frozen=True)
class OptimizerSpec:
    #: The rule of the update.
    name: str = rules.field("adamw", rules.one_of(OPTIMIZERS))
    #: How the learning rate changes over the steps.
    schedule: str = rules.field("cosine", rules.one_of(SCHEDULES))
    #: Over how many steps the learning rate rises to its value.
    warmup_steps: int = rules.field(0, rules.whole(0))
    #: The greatest norm of the whole gradient; 0 is no limit.
    clip_norm: float = rules.field(0.0, rules.number(0))
    #: The greatest squared norm of the weights that enter a unit; 0 is no limit.
    max_squared_norm: float = rules.field(0.0, rules.number(0, 1e6))
    #: The learning rate, at its highest.
    learning_rate: float = rules.field(1e-3, rules.number(0, 1e3, above=True), hparam=True)
    #: Decoupled for adamw, added to the gradient for the others; biases, and what is a
    #: term's own, have none.
    weight_decay: float = rules.field(0.0, rules.number(0, 1e6), hparam=True)
    #: The momentum of sgd, nesterov and rising_momentum.
    momentum: float = rules.field(0.9, rules.fraction(), hparam=True)


def matrices(params: PyTree) -> PyTree:
    """Which leaves are weights, with two axes or more, and not biases: a tree of truths."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def build(
    spec: OptimizerSpec,
    steps: int,
    hparams: Numbers,
    weights: Callable[[PyTree], PyTree] = matrices,
) -> optax.GradientTransformation:
    """The optimizer of one member.

    Args:
      spec: the stage's `OptimizerSpec`.
      steps: the stage's number of steps, over which the schedule runs.
      hparams: one member's numbers, possibly traced.
      weights: params -> a tree of truths, which leaves decay and have a limit on their norms.
    """
    clip = optax.clip_by_global_norm(spec.clip_norm) if spec.clip_norm else optax.identity()
    fall = SCHEDULES[spec.schedule](max(steps - spec.warmup_steps, 1))
    warmup = optax.linear_schedule(1 / (spec.warmup_steps + 1), 1.0, spec.warmup_steps)
    multiplier = optax.join_schedules([warmup, fall], [spec.warmup_steps])
    limit = spec.max_squared_norm
    return optax.chain(
        clip,
        OPTIMIZERS[spec.name].direction(
            hparams, steps, optax.add_decayed_weights(hparams["weight_decay"], mask=weights)
        ),
        optax.scale_by_schedule(lambda step: -hparams["learning_rate"] * multiplier(step)),
        max_norm(limit, weights) if limit else optax.identity(),
    )


def max_norm(
    limit: float, weights: Callable[[PyTree], PyTree] = matrices
) -> optax.GradientTransformation:
    """Shrinks what would become too long: the last transformation of a chain (arXiv 1207.0580).

    After the update, the squared length of each unit's incoming weights (a kernel's entries for
    one place of its last axis) is at most `limit`, up to rounding. The other leaves are left alone.
    """

    def project(is_weight: bool, update: jax.Array, old: jax.Array) -> jax.Array:
        if not is_weight:
            return update
        new = old + update
        squared = jnp.sum(new**2, axis=tuple(range(new.ndim - 1)), keepdims=True)
        return new * jax.lax.rsqrt(jnp.maximum(squared / limit, 1.0)) - old

    return optax.stateless(
        lambda updates, params: jax.tree.map(project, weights(params), updates, params)
    )


class RisingMomentumState(NamedTuple):
    step: jax.Array
    trace: optax.Updates


def rising_momentum(final: jax.Array | float, steps: int) -> optax.GradientTransformation:
    """Momentum p that rises from 0.5 to `final` over the first sixth of `steps`, then stays:
    `trace = p trace + (1 - p) gradient`. After arXiv 1207.0580 (to 0.99 in 500 of 3000 epochs),
    where the learning rate stands before the gradient; here it stands before the trace."""
    momentum = optax.linear_schedule(0.5, final, max(steps // 6, 1))

    def init(params: optax.Params) -> RisingMomentumState:
        return RisingMomentumState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: RisingMomentumState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, RisingMomentumState]:
        p = momentum(state.step)
        trace = jax.tree.map(lambda t, g: p * t + (1 - p) * g, state.trace, updates)
        return trace, RisingMomentumState(state.step + 1, trace)

    return optax.GradientTransformation(init, update)
