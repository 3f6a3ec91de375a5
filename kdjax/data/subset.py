"""Which examples a stage trains on, and in which order.

NumPy only. Axes: n examples of a split, m of a stage, B of a batch, S steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdjax import rules
from kdjax.data.classes import numbers
from kdjax.rules import InputError

# The keys of every choice that is the same in all experiments; other keys choose other examples.
PAPER = 1503_02531
TEST_KEY, VALIDATION_KEY, SUBSET_KEY = (PAPER, 0), (PAPER, 1), (PAPER, 2)
CLASSES = rules.set_of(
    rules.Rule(
        "the name of a class or its place from 0 on",
        lambda v: rules.whole(0).accepts(v) or rules.text().accepts(v),
    )
)


@dataclass(frozen=True)
class SubsetSpec:
    """Which training examples a stage sees, and whose labels it may use (the transfer set).

    Numbers of examples are stratified over classes and nested: of one seed, the 100 of `size=100`
    are among the 200 of `size=200`, and among those whose labels `labelled=100` shows. They are of
    the examples of these classes; those that the data set has without labels come besides, all of
    them or none, in a stage that has a teacher.
    """

    #: The classes whose examples are seen, by number or name; () is all.
    classes: tuple[int | str, ...] = rules.field((), CLASSES)
    #: The classes whose examples are left out, by number or name.
    without: tuple[int | str, ...] = rules.field((), CLASSES)
    #: How many examples are seen: a part, up to 1.0, or a number of them, above 1.
    size: float = rules.field(1.0, rules.amount())
    #: Of how many of those the labels are known; the others are for the teachers alone.
    labelled: float = rules.field(1.0, rules.amount())
    #: The seed of the draw of `size` and `labelled`.
    seed: int = rules.field(0, rules.whole(0))
    #: Whether examples that the data set has without labels are seen, too.
    unlabelled: bool = rules.field(True, rules.truth())


def subset(
    labels: np.ndarray,
    class_names: Sequence[str],
    spec: SubsetSpec,
    path: str,
    unlabelled: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Which examples of the train split a stage sees, and the labels it may use.

    Args:
      labels: [n], of the train split, -1 of examples that have none.
      class_names: [C].
      path: of the spec in the config, for messages.
      unlabelled: whether the stage can use examples that have no label.

    Returns:
      [m] positions, sorted, and [m] int32 labels, -1 where they are hidden.
    """
    pool = np.flatnonzero(~np.isin(labels, (-1, *left_out(spec, class_names, path))))
    if not len(pool):
        raise InputError(
            f"{path} has classes {spec.classes or 'all'} without {spec.without}, of which there is "
            f"no example among {len(labels)}; it must leave at least one"
        )
    size = _count(spec.size, len(pool), f"{path}.size")
    if not size:
        raise InputError(f"{path}.size is {spec.size}; there must be at least one example")
    labelled = _count(spec.labelled, size, f"{path}.labelled")
    key = (SUBSET_KEY[0] + spec.seed, SUBSET_KEY[1])
    chosen = pool[stratified(labels[pool], size, key)]
    visible = chosen if labelled == size else pool[stratified(labels[pool], labelled, key)]
    if unlabelled and spec.unlabelled:
        chosen = np.append(chosen, np.flatnonzero(labels < 0))
    chosen = np.sort(chosen)
    shown = np.where(np.isin(chosen, visible), labels[chosen], -1)
    return chosen, shown.astype(np.int32)


def left_out(spec: SubsetSpec, class_names: Sequence[str], path: str = "subset") -> tuple[int, ...]:
    """The classes whose examples a stage does not see, by their places, in order.

    Raises:
      InputError: the subset names a class that there is not.
    """
    every = range(len(class_names))
    kept = set(numbers(spec.classes, class_names, f"{path}.classes") or every)
    kept -= set(numbers(spec.without, class_names, f"{path}.without"))
    return tuple(sorted(set(every) - kept))


def _count(amount: int | float, available: int, path: str) -> int:
    count = round(amount * available) if amount <= 1 else int(amount)
    if count > available:
        raise InputError(f"{path} is {amount}; it must be at most {available}, all there are")
    if amount and not count:
        raise InputError(f"{path} is {amount} of {available} examples; it must be at least one")
    return count


def stratified(labels: np.ndarray, size: int, key: tuple[int, int]) -> np.ndarray:
    """Chooses `size` of n examples: of each class its share, rounded up or down.

    A smaller choice with the same key is among a larger one. (Shares by largest
    remainder are not nested: a class may get fewer places when there is one place more.) Each
    class's next example is due by when its share demands it; of those that its share already
    allows, the one due first is next.

    Returns:
      [size] positions.
    """
    n = len(labels)
    if size == n:
        return np.arange(n)
    random = np.random.Generator(np.random.Philox(key=key))
    shuffled = random.permutation(n)
    queues = [shuffled[labels[shuffled] == c] for c in random.permutation(np.unique(labels))]
    sizes = np.array([len(queue) for queue in queues], np.int64)
    taken = np.zeros_like(sizes)
    due = -(-n // sizes)
    chosen = np.empty(size, np.int64)
    for place in range(size):
        allowed = taken * n < sizes * (place + 1)
        c = np.where(allowed, due, n + 1).argmin()
        chosen[place] = queues[c][taken[c]]
        taken[c] += 1
        due[c] = -(-(taken[c] + 1) * n // sizes[c])
    return chosen


def order(seed: int, examples: int, batch: int, start: int, steps: int) -> np.ndarray:
    """Which examples each step from `start` on trains on: [S, B] int32, below `examples`.

    One shuffle of all examples after another, cut into batches: a function of seed and step.
    """
    first, last = start * batch, (start + steps) * batch
    epochs = range(first // examples, -(-last // examples))
    places = np.concatenate([_shuffled(seed, epoch, examples) for epoch in epochs])
    places = places[first - epochs.start * examples :][: last - first]
    return places.reshape(steps, batch).astype(np.int32)


def _shuffled(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(examples)
