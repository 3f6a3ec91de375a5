"""Populations and ensembles on whole splits, and what they cost to serve."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from kdjax import member, metrics, parallel
from kdjax.data import Dataset
from kdjax.losses import ensemble_logits
from kdjax.member import Batch, Hparams, Recipe, State
from kdjax.nets import cost
from kdjax.nets.net import Net, Variables
from kdjax.parallel import Layout
from kdjax.population import over_members
from kdjax.rules import InputError
from kdjax.teachers import Asked, Teacher
from kdjax.views import preprocess

BATCH = 1000  # examples
EVALUATED = ("validation", "test")
Sums = list[dict[str, jax.Array]]  # of each batch, on the devices
Placed = tuple[Batch, jax.Array | None]  # a batch on the devices, and the teachers' logits of it


@dataclass(frozen=True, eq=False)
class EvaluatedSplit:
    """Raw inputs [N, ...], labels [N], and the logits of teachers [K, N, C] or None."""

    inputs: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The evaluated splits, as certain teachers see them, and how those do as one classifier.

    Attributes:
      ensemble: metrics of each split and costs of the teachers' mean; None without teachers that
        can be asked before the stage.
    """

    teacher: Teacher | None
    splits: dict[str, EvaluatedSplit]
    ensemble: dict[str, Any] | None


def evaluated(dataset: Dataset, teacher: Teacher | None) -> Evaluated:
    """Validation and test split, with the logits, the metrics and the cost of the teachers.

    Raises:
      InputError: a teacher's logits are NaN.
    """
    splits = {}
    for name in EVALUATED:
        inputs, labels = dataset.arrays(name)
        logits = None
        if teacher is not None:
            asked = Asked(name, np.arange(len(labels)), inputs, dataset.preprocessing)
            logits = checked_logits(teacher, asked)
        splits[name] = EvaluatedSplit(inputs, labels, logits)
    found = {
        name: ensemble_metrics(split.teacher_logits, split.labels)
        for name, split in splits.items()
        if split.teacher_logits is not None
    }
    ensemble = None
    if teacher is not None and found:
        ensemble = ensemble_cost(teacher, example(dataset)) | {"metrics": found}
    return Evaluated(teacher, splits, ensemble)


def checked_logits(teacher: Teacher, asked: Asked) -> np.ndarray | None:
    """What the teachers say of examples, [K, n, C] float32, or None where it is not known; -inf is
    a class that is masked.

    Raises:
      InputError: logits of an example are NaN or infinite.
    """
    logits = teacher.predict(asked)
    if logits is None:
        return None
    logits = np.asarray(logits, np.float32)
    wrong = np.flatnonzero(~np.isfinite(logits.max(axis=2)).all(axis=0))
    if len(wrong):
        raise InputError(
            f"the teacher {teacher.name!r} gives logits that are NaN or infinite for {len(wrong)} "
            f"of {len(asked.positions)} examples of the {asked.split} split, such as "
            f"{asked.positions[wrong[0]]}; they must be finite, or -inf for a masked class"
        )
    return logits


def example(dataset: Dataset) -> np.ndarray:
    """One example [1, ...] as a net sees it, for its shape."""
    return np.zeros((1, *dataset.input_shape), np.float32)


def program(recipe: Recipe, how: str, dataset: Dataset, layout: Layout) -> Callable:
    """The compiled evaluation of one batch of raw inputs by all members: sums [D, M/Dm, ...]."""

    def evaluate(
        state: State, hparams: Hparams, batch: Batch, teacher_logits: jax.Array | None
    ) -> dict[str, jax.Array]:
        batch = Batch(preprocess(batch.inputs, dataset.preprocessing), batch.labels)
        one = lambda s, h: member.eval_step(recipe, s, h, batch, teacher_logits)
        sums = over_members(one, how, (0, 0))(state, hparams)
        return sums | {"bad": state.bad.astype(np.float32)}

    return parallel.pmap(evaluate, layout)


def batches(split: EvaluatedSplit, layout: Layout) -> Iterator[Placed]:
    """The split on the devices, batch by batch; the last one is padded, and nothing is dropped."""
    size = BATCH + -BATCH % layout.data_shards  # one for all splits, to compile once
    count = len(split.labels)
    for start in range(0, count, size):
        places = np.arange(start, start + size)
        rows = places % count
        labels = np.where(places < count, split.labels[rows], -1)
        batch = Batch(
            parallel.place_batch(split.inputs[rows], layout, axis=0),
            parallel.place_batch(labels, layout, axis=0),
        )
        known = split.teacher_logits
        logits = None if known is None else known[:, rows]
        yield batch, None if logits is None else parallel.place_batch(logits, layout, axis=1)


def on_devices() -> Callable[[EvaluatedSplit, Layout], Iterable[Placed]]:
    """As `batches`, of splits that stay on the devices as long as what is returned is in use."""
    return functools.lru_cache(maxsize=4)(lambda split, layout: tuple(batches(split, layout)))


def finish(sums: Sums, layout: Layout) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which members are bad [M], and each metric [M], from the sums of all batches."""
    parts = [parallel.fetch_sums(each, layout) for each in sums]
    totals = jax.tree.map(lambda *x: np.sum(x, axis=0), *parts)
    return totals.pop("bad") > 0, metrics.finish(totals)


@jax.jit
def _ensemble_sums(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    return metrics.sums(ensemble_logits(logits, 1.0), labels, None)


def ensemble_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of K nets as one classifier: the arithmetic mean of their distributions.

    Args:
      logits: [K, N, C].
      labels: [N].
    """
    size, totals = min(BATCH, len(labels)), []
    for start in range(0, len(labels), size):  # all at once may be more than a device holds
        places = np.arange(start, start + size)
        rows = places % len(labels)
        here = np.where(places < len(labels), labels[rows], -1)
        totals.append(jax.device_get(_ensemble_sums(logits[:, rows], here)))
    summed = jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64), axis=0), *totals)
    return {name: float(value) for name, value in metrics.finish(summed).items()}


def serving_cost(net: Net, variables: Variables, example: np.ndarray) -> dict[str, float]:
    """What one member costs, on one example [1, ...]; `variables` [M, ...] on the host."""
    first = jax.tree.map(lambda x: x[0], variables)
    forward = lambda v, x: member.predict(net, v, x)
    return {
        "parameters": cost.parameters(first["params"]),
        "flops_per_example": cost.flops(forward, first, example),
        "latency_ms": cost.latency_ms(forward, first, example),
    }


def ensemble_cost(teacher: Teacher, example: np.ndarray) -> dict[str, float]:
    """What all teachers and their mean cost, on one example [1, ...]; NaN where it is not known,
    as of logits from a file."""
    if teacher.costs is None:
        return dict.fromkeys(("parameters", "flops_per_example", "latency_ms"), np.nan)
    serve = lambda v, x: ensemble_logits(teacher.apply(v, x, ()).logits, 1.0)
    latency = cost.latency_ms(serve, teacher.variables, example)
    return teacher.costs(example) | {"latency_ms": latency}
