"""Data sets and their splits, and which examples a stage trains on, in which order.

NumPy only. Axes: n examples of a split, b or B of a batch, C classes, S steps.
"""

from dataclasses import dataclass

import numpy as np

from kdjax import rules
from kdjax.data import cache, sources
from kdjax.data.cache import RawSet
from kdjax.data.sources import Split, numbered, printable
from kdjax.data.tfds import from_tfds
from kdjax.host.versions import installed
from kdjax.rules import InputError

# The keys of every choice that is the same in all experiments; other keys are other splits.
TEST_KEY, VALIDATION_KEY, SUBSET_KEY = (1503_02531, 0), (1503_02531, 1), (1503_02531, 2)
DIGITS_TEST, DIGITS_VALIDATION = 797, 200
DIGITS = "scikit-learn"  # the package that has the digits, and the version that they have here
READ = 1000  # examples in memory at once where the whole train split is read for its statistics


@dataclass(frozen=True)
class DatasetSpec:
    name: str = rules.field("digits", rules.text())
    validation: int = rules.field(0, rules.whole(0))  # examples of the train split; 0: a tenth
    image_size: int = rules.field(0, rules.whole(0, 4096))  # of a folder's images; 0: as they are
    normalize: str = rules.field("unit", rules.one_of(("unit", "standard")))
    resident: bool = rules.field(True, rules.truth())  # on the device; False: read by Grain


@dataclass(frozen=True)
class SubsetSpec:
    """Which training examples a stage sees, and whose labels it may use (the transfer set).

    Numbers of examples are stratified over classes and nested: the 100 of `size=100` are among
    the 200 of `size=200`, and among those whose labels `labelled=100` shows.
    """

    classes: tuple[int, ...] = rules.field((), rules.set_of(rules.whole(0)))  # kept; (): all
    without: tuple[int, ...] = rules.field((), rules.set_of(rules.whole(0)))  # left out
    size: float = rules.field(1.0, rules.amount())
    labelled: float = rules.field(1.0, rules.amount())


@dataclass(frozen=True)
class Preprocessing:
    """`(float32(inputs) - mean) * scale`; each of length 1, or one for each of the last axis."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True)
class Dataset:
    name: str
    version: str  # of the data, part of what determines results
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]  # of one example
    input_dtype: str
    splits: dict[str, Split]  # train, validation, test
    preprocessing: Preprocessing

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def whole(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """All raw inputs [N, ...] of a split, and their labels [N]."""
        found = self.splits[split]
        return fetch(found, np.arange(len(found))), found.labels


def fetch(split: Split, positions: np.ndarray) -> np.ndarray:
    """[b] positions in a split -> [b, ...] raw inputs."""
    return split.source.fetch(split.index[positions])


def load(spec: DatasetSpec, data_dir: str, cache_dir: str = "") -> Dataset:
    """Opens a data set: "digits", an .npz file, a folder of images (its name ends in "/"), or a
    set of TensorFlow Datasets in `data_dir`.

    The validation split, where the set has none of its own, is a part of the train split, and the
    test split, where a folder has none, a fifth of all; both the same in all experiments.

    Args:
      cache_dir: where decoded sets are kept, as of `cache.kept`; data are the same without.

    Raises:
      InputError: there is no such set, or it is not what it must be.
    """
    if spec.image_size and not spec.name.endswith("/"):
        raise InputError(
            f"config.dataset.image_size is {spec.image_size}; it must be 0 for {spec.name!r}, "
            "which is no folder of images"
        )
    if spec.name == "digits":
        splits, names, version = _digits(cache_dir)
    elif spec.name.endswith("/"):
        from kdjax.data.folder import from_folder  # here, for only folders need Pillow

        splits, names, version = from_folder(spec.name, spec.image_size, cache_dir)
        if "all" in splits:
            splits = _tested(splits["all"], len(splits["all"]) // 5)
    elif spec.name.endswith(".npz"):
        splits, names, version = sources.from_npz(spec.name)
    else:
        splits, names, version = from_tfds(spec.name, data_dir, cache_dir)
    splits |= _validation(spec, splits)
    for split, examples in splits.items():
        if not len(examples):
            raise InputError(
                f"config.dataset.name is {spec.name!r}, too few examples for a {split} split; it "
                "must have one or more"
            )
    example = fetch(splits["train"], np.arange(1))
    unit = 1.0 if example.dtype.kind == "f" else 1.0 / np.iinfo(example.dtype).max
    preprocessing = Preprocessing((0.0,), (1 / 16 if spec.name == "digits" else unit,))
    if spec.normalize == "standard":
        preprocessing = _standard(splits["train"])
    return Dataset(
        name=spec.name,
        version=version,
        class_names=tuple(map(printable, names)),
        input_shape=example.shape[1:],
        input_dtype=example.dtype.name,
        splits=splits,
        preprocessing=preprocessing,
    )


def _digits(cache_dir: str) -> RawSet:
    read = lambda: ({"all": sources.whole(sources.digits())}, numbered(10), DIGITS)
    state = lambda: installed([DIGITS])
    splits, names, version = cache.kept("digits", DIGITS, state, read, cache_dir)
    return _tested(splits["all"], DIGITS_TEST), names, version


def _tested(every: Split, size: int) -> dict[str, Split]:
    """All examples less those for the test, and those."""
    test = stratified(every.labels, size, TEST_KEY)
    return {"train": _part(every, _others(every, test)), "test": _part(every, test)}


def _validation(spec: DatasetSpec, splits: dict[str, Split]) -> dict[str, Split]:
    """The train split less its validation part, and that part."""
    train, size, path = splits["train"], spec.validation, "config.dataset.validation"
    if "validation" in splits:
        if size:
            raise InputError(
                f"{path} is {size}, but {spec.name!r} has a validation split of its own; it must "
                "be 0"
            )
        return {}
    size = size or (DIGITS_VALIDATION if spec.name == "digits" else max(1, len(train) // 10))
    if size >= len(train):
        raise InputError(
            f"{path} is {size}; it must be less than the {len(train)} examples of the train split "
            f"of {spec.name!r}, which it is a part of"
        )
    chosen = stratified(train.labels, size, VALIDATION_KEY)
    return {"train": _part(train, _others(train, chosen)), "validation": _part(train, chosen)}


def _part(split: Split, positions: np.ndarray) -> Split:
    positions = np.sort(positions)
    return Split(split.source, split.index[positions], split.labels[positions])


def _others(split: Split, positions: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(len(split)), positions)


def _standard(train: Split) -> Preprocessing:
    """Mean 0 and variance 1 over the train split, in float64; a constant channel is not scaled."""
    count, mean, squares = 0, 0.0, 0.0
    for start in range(0, len(train), READ):
        part = fetch(train, np.arange(start, min(start + READ, len(train))))
        part = part.reshape(-1, part.shape[-1]).astype(np.float64)
        apart, total = part.mean(axis=0) - mean, count + len(part)
        squares += ((part - part.mean(axis=0)) ** 2).sum(axis=0)
        squares += apart**2 * count * len(part) / total
        mean, count = mean + apart * len(part) / total, total
    deviation = np.sqrt(squares / count)
    varies = deviation > 1e-6 * np.abs(mean)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 1.0)
    return Preprocessing(tuple(mean.tolist()), tuple(scale.tolist()))


def subset(
    labels: np.ndarray, classes: int, spec: SubsetSpec, path: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which examples of the train split a stage sees, and the labels it may use.

    Args:
      labels: [n], of the train split.
      path: of the spec in the config, for messages.

    Returns:
      [m] positions, sorted, and [m] int32 labels, -1 where they are hidden.
    """
    for field, named in (("classes", spec.classes), ("without", spec.without)):
        if any(c >= classes for c in named):
            raise InputError(f"{path}.{field} is {named}; it must be of classes 0 to {classes - 1}")
    kept = np.isin(labels, spec.classes or range(classes)) & ~np.isin(labels, spec.without)
    pool = np.flatnonzero(kept)
    if not len(pool):
        raise InputError(
            f"{path} has classes {spec.classes or 'all'} without {spec.without}, of which there is "
            f"no example among {len(labels)}; it must leave at least one"
        )
    size = _count(spec.size, len(pool), f"{path}.size")
    if not size:
        raise InputError(f"{path}.size is {spec.size}; there must be at least one example")
    shown = _count(spec.labelled, size, f"{path}.labelled")
    seen = np.sort(pool[stratified(labels[pool], size, SUBSET_KEY)])
    if shown == size:
        return seen, labels[seen].astype(np.int32)
    visible = np.isin(seen, pool[stratified(labels[pool], shown, SUBSET_KEY)])
    return seen, np.where(visible, labels[seen], -1).astype(np.int32)


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
