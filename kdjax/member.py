"""One member: its state, its numbers, and one training or evaluation step.

Nothing here knows of other members or devices: `population.py` adds the members, `parallel.py`
the devices. Axes: B batch, K teachers, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from kdjax import metrics, optim
from kdjax.keys import stream
from kdjax.losses.logits import LOSSES
from kdjax.mixing import ensemble_logits
from kdjax.nets.layers import Training


@flax.struct.dataclass
class State:
    """What training changes. `bad`: the loss was not finite once; updates have stopped."""

    step: jax.Array
    params: Any
    model_state: Any  # the other variable collections, such as batch statistics
    opt_state: Any
    bad: jax.Array


@flax.struct.dataclass
class Hparams:
    """A member's own numbers; `mixing` [K] weighs its teachers and sums to 1."""

    seed: jax.Array
    learning_rate: jax.Array
    weight_decay: jax.Array
    momentum: jax.Array
    temperature: jax.Array
    soft_weight: jax.Array
    hard_weight: jax.Array
    label_smoothing: jax.Array
    ensemble_size: jax.Array
    mixing: jax.Array


@flax.struct.dataclass
class Batch:
    """`inputs` [B, ...] float32; `labels` [B], negative where there is none."""

    inputs: jax.Array
    labels: jax.Array


@dataclass(frozen=True)
class Recipe:
    """What every member of a stage has in common."""

    model: nn.Module
    stage: Any


@dataclass(frozen=True)
class Shards:
    """What a step may know of other devices: the `mean` over the parts of its batch, and the
    `number` of its own. For a chunk, `share(f, xs)` is f(xs) with its leading axis, of
    steps, divided among them."""

    mean: Callable[[Any], Any] = lambda tree: tree
    number: Callable[[], jax.Array | int] = lambda: 0
    share: Callable[[Callable, Any], Any] = lambda function, xs: function(xs)


def init(recipe: Recipe, hparams: Hparams, inputs: jax.Array) -> State:
    """The state before the first step; `inputs` [1, ...] gives the shape of an example."""
    variables = recipe.model.init(stream(hparams.seed, "init"), inputs)
    params = variables.pop("params")
    optimizer = optim.build(recipe.stage.optimizer, recipe.stage.steps, hparams)
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=dict(variables),
        opt_state=optimizer.init(params),
        bad=jnp.zeros((), bool),
    )


def train_step(
    recipe: Recipe,
    shards: Shards,
    state: State,
    hparams: Hparams,
    batch: Batch,
    teacher_logits: jax.Array | None,
) -> tuple[State, jax.Array]:
    """One update.

    Args:
      teacher_logits: [K, B, C] raw logits on this very view of the batch, or None.

    Returns:
      The new state and the mean loss of the batch. Once a loss is not finite, the member keeps
      the state it had and is marked bad.
    """
    dropout_key = stream(hparams.seed, "dropout", state.step)
    places = shards.number() * len(batch.labels) + jnp.arange(len(batch.labels))

    def objective(params: Any) -> tuple[jax.Array, Any]:
        logits, model_state = recipe.model.apply(
            {"params": params, **state.model_state},
            batch.inputs,
            Training(places, shards.mean),
            rngs={"dropout": dropout_key},
            mutable=list(state.model_state),
        )
        losses = LOSSES[recipe.stage.loss].function(logits, targets, batch.labels, hparams)
        return losses.mean(), model_state

    targets = None
    if teacher_logits is not None:
        targets = ensemble_logits(
            teacher_logits, hparams.temperature, recipe.stage.mean, hparams.mixing
        )
    (loss, model_state), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    loss, model_state, gradient = shards.mean((loss, model_state, gradient))
    optimizer = optim.build(recipe.stage.optimizer, recipe.stage.steps, hparams)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    bad = state.bad | ~jnp.isfinite(loss)
    kept = (state.params, state.model_state, state.opt_state)
    params, model_state, opt_state = jax.tree.map(
        lambda old, new: jnp.where(bad, old, new), kept, (params, dict(model_state), opt_state)
    )
    return State(state.step + 1, params, model_state, opt_state, bad), loss


def predict(model: nn.Module, variables: dict[str, Any], inputs: jax.Array) -> jax.Array:
    """Logits [B, C] of one net, in evaluation mode.

    Args:
      variables: `params` and the other collections, as one checkpoint item holds them.
    """
    collections = {"params": variables["params"], **variables["model_state"]}
    return model.apply(collections, inputs)


def eval_step(
    recipe: Recipe, state: State, hparams: Hparams, batch: Batch, teacher_logits: jax.Array | None
) -> dict[str, jax.Array]:
    """The metric sums of one batch; `teacher_logits` [K, B, C] raw, or None."""
    variables = {"params": state.params, "model_state": state.model_state}
    logits = predict(recipe.model, variables, batch.inputs)
    if teacher_logits is not None:
        teacher_logits = ensemble_logits(teacher_logits, 1.0, weights=hparams.mixing)
    return metrics.sums(logits, batch.labels, teacher_logits)
