"""Populations and ensembles on whole splits, and what they cost to serve."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from kdjax import member, metrics, parallel
from kdjax.data.dataset import Dataset
from kdjax.member import Batch, Hparams, Recipe, State
from kdjax.mixing import ensemble_logits
from kdjax.nets import cost
from kdjax.parallel import Layout
from kdjax.population import over_members
from kdjax.teachers import Teachers
from kdjax.views import preprocess

BATCH = 1000  # examples


@dataclass(frozen=True)
class Examined:
    """A split to evaluate: raw inputs [N, ...], labels [N], teachers' logits [K, N, C] or None."""

    inputs: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray | None


@dataclass(frozen=True)
class Exam:
    """The splits, as certain teachers see them, and how the teachers do as one classifier."""

    teachers: Teachers
    splits: dict[str, Examined]
    ensemble: dict[str, Any] | None  # None without teachers


def exam(dataset: Dataset, teachers: Teachers) -> Exam:
    """Validation and test split, with the logits, the metrics and the cost of the teachers."""
    splits = {}
    for name in ("validation", "test"):
        inputs, labels = dataset.arrays(name)
        logits = teachers.predict(inputs) if teachers.count else None
        splits[name] = Examined(inputs, labels, logits)
    ensemble = None
    if teachers.count:
        ensemble = ensemble_cost(teachers, example(dataset))
        ensemble["metrics"] = {
            name: ensemble_metrics(split.teacher_logits, split.labels)
            for name, split in splits.items()
        }
    return Exam(teachers, splits, ensemble)


def example(dataset: Dataset) -> jax.Array:
    """One preprocessed example [1, ...], for its shape."""
    return preprocess(np.zeros((1, *dataset.input_shape), np.float32), dataset.preprocessing)


def program(recipe: Recipe, how: str, dataset: Dataset, layout: Layout) -> Callable:
    """The compiled evaluation of one batch of raw inputs by all members: sums [D, M/Dm, ...]."""

    def evaluate(
        state: State, hparams: Hparams, batch: Batch, teacher_logits: jax.Array | None
    ) -> dict[str, jax.Array]:
        batch = batch.replace(inputs=preprocess(batch.inputs, dataset.preprocessing))
        one = lambda s, h: member.eval_step(recipe, s, h, batch, teacher_logits)
        return over_members(one, how, (0, 0))(state, hparams)

    return parallel.pmap(evaluate, layout)


def evaluate(
    program: Callable, state: State, hparams: Hparams, split: Examined, layout: Layout
) -> dict[str, np.ndarray]:
    """Each metric [M] over the whole split; the last batch is padded, and nothing dropped."""
    size = BATCH + -BATCH % layout.data_shards  # one for all splits, to compile once
    totals = []
    for start in range(0, len(split.labels), size):
        rows = np.arange(start, start + size) % len(split.labels)
        labels = np.where(
            np.arange(start, start + size) < len(split.labels), split.labels[rows], -1
        )
        batch = Batch(
            parallel.split_batch(split.inputs[rows], layout, axis=0),
            parallel.split_batch(labels, layout, axis=0),
        )
        logits = split.teacher_logits
        if logits is not None:
            logits = parallel.split_batch(logits[:, rows], layout, axis=1)
        totals.append(parallel.sum_shards(program(state, hparams, batch, logits), layout))
    return metrics.finish(jax.tree.map(lambda *sums: np.sum(sums, axis=0), *totals))


def ensemble_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of K nets as one classifier: the arithmetic mean of their distributions.

    Args:
      logits: [K, N, C].
      labels: [N].
    """
    mean = jax.jit(lambda v, y: metrics.sums(ensemble_logits(v, 1.0), y, None))
    totals = jax.tree.map(lambda x: np.asarray(x, np.float64), mean(logits, labels))
    return {name: float(value) for name, value in metrics.finish(totals).items()}


def serving_cost(model: nn.Module, variables: Any, example: jax.Array) -> dict[str, float]:
    """What one member costs, on one example [1, ...]; `variables` [M, ...] on the host."""
    first = jax.tree.map(lambda x: x[0], variables)
    forward = lambda v, x: member.predict(model, v, x)
    return {
        "parameters": cost.parameters(first["params"]),
        "flops_per_example": cost.flops(forward, first, example),
        "latency_ms": cost.latency_ms(forward, first, example),
    }


def ensemble_cost(teachers: Teachers, example: jax.Array) -> dict[str, float]:
    """What all teachers and their mean cost, on one example [1, ...]."""
    each = [serving_cost(s.model, s.variables, example) for s in teachers.stages]
    sizes = [len(s.members) for s in teachers.stages]
    serve = lambda v, x: ensemble_logits(teachers.teach(v, x), 1.0)
    return {
        "parameters": sum(n * c["parameters"] for n, c in zip(sizes, each, strict=True)),
        "flops_per_example": sum(
            n * c["flops_per_example"] for n, c in zip(sizes, each, strict=True)
        ),
        "latency_ms": cost.latency_ms(serve, teachers.variables, example),
    }
