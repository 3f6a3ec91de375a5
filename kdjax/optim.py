"""Learning-rate schedules and optimizers, built inside the member's step from its own numbers.

A schedule is a multiplier of the member's learning rate, so one program trains members with
different rates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax

SCHEDULES = {
    "constant": lambda steps: optax.constant_schedule(1.0),
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
}


@dataclass(frozen=True)
class Optimizer:
    """An entry of `OPTIMIZERS`: `direction(hparams)` and the per-member numbers it reads."""

    direction: Callable[[Any], optax.GradientTransformation]
    hparams: tuple[str, ...]


OPTIMIZERS = {
    "sgd": Optimizer(
        lambda h: optax.chain(_decay(h.weight_decay), optax.trace(h.momentum, nesterov=False)),
        hparams=("learning_rate", "weight_decay", "momentum"),
    ),
    "nesterov": Optimizer(
        lambda h: optax.chain(_decay(h.weight_decay), optax.trace(h.momentum, nesterov=True)),
        hparams=("learning_rate", "weight_decay", "momentum"),
    ),
    "adamw": Optimizer(
        lambda h: optax.chain(optax.scale_by_adam(), _decay(h.weight_decay)),
        hparams=("learning_rate", "weight_decay"),
    ),
}


def build(spec: Any, steps: int, hparams: Any) -> optax.GradientTransformation:
    """The optimizer of one member.

    Args:
      spec: the stage's `OptimizerSpec`.
      steps: the stage's number of steps, over which the schedule runs.
      hparams: one member's numbers, possibly traced.
    """
    clip = optax.clip_by_global_norm(spec.clip_norm) if spec.clip_norm else optax.identity()
    decay = SCHEDULES[spec.schedule](max(steps - spec.warmup_steps, 1))
    warmup = optax.linear_schedule(1 / (spec.warmup_steps + 1), 1.0, spec.warmup_steps)
    multiplier = optax.join_schedules([warmup, decay], [spec.warmup_steps])
    return optax.chain(
        clip,
        OPTIMIZERS[spec.name].direction(hparams),
        optax.scale_by_schedule(lambda step: -hparams.learning_rate * multiplier(step)),
    )


def _decay(weight_decay: jax.Array | float) -> optax.GradientTransformation:
    """Weight decay of matrices and kernels; biases are left alone."""
    return optax.add_decayed_weights(
        weight_decay, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    )
