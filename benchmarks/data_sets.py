"""The data of the benchmarks, real where it is at hand, each set read once and kept in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.work import CLASSES, DIGITS, IMAGES, PHOTOS, SHAPES
from kdjax import data
from kdjax.data import Dataset, DatasetSpec, Preprocessing, fetch
from kdjax.data.sources import ArraySource, Split, all_of, numbered
from kdjax.rules import InputError

SPECS = {
    IMAGES: DatasetSpec("mnist", validation=1_000),
    DIGITS: DatasetSpec("digits"),
    PHOTOS: DatasetSpec("cifar10", validation=1_000),
}
TRAINED = {IMAGES: 59_000, DIGITS: 800, PHOTOS: 5_000}  # training examples; photos decode slowly
EVALUATED = 1_000  # examples of each other split: a whole batch of kdjax's evaluation
RANDOM = "random images"
DATASETS: dict[str, Dataset] = {}  # read so far, whole


def dataset(name: str) -> Dataset:
    """MNIST, the digits or CIFAR-10, as much of it as is used; without the first or the last,
    random pixels of its shape, whose speed is the same."""
    read, sizes = _whole(name), {"train": TRAINED[name], "validation": EVALUATED, "test": EVALUATED}
    splits = {split: _first(read.splits[split], size) for split, size in sizes.items()}
    return replace(read, splits=splits)


def on_disk(name: str, directory: Path) -> tuple[str, int]:
    """What a config names to read the whole set, or a file of the random pixels; and the bytes of
    the inputs that it then reads."""
    read = _whole(name)
    sources = {id(split.source): split.source for split in read.splits.values()}  # often shared
    held = sum(source.inputs.nbytes for source in sources.values())
    if not read.name.startswith(RANDOM):
        return SPECS[name].name, held
    path, arrays = directory / f"{name}.npz", {}
    for split in ("train", "validation", "test"):
        arrays[f"{split}_inputs"] = fetch(read.splits[split], np.arange(len(read.splits[split])))
        arrays[f"{split}_labels"] = read.splits[split].labels
    if not path.exists():
        np.savez(path, **arrays)
    return str(path), held


def _whole(name: str) -> Dataset:
    if name not in DATASETS:
        try:
            DATASETS[name] = data.load(SPECS[name], "")
        except InputError:
            DATASETS[name] = _random(name)
    return DATASETS[name]


def _random(name: str) -> Dataset:
    random, shape = np.random.default_rng(0), SHAPES[name]
    splits = {}
    for split in ("train", "validation", "test"):
        size = TRAINED[name] if split == "train" else EVALUATED
        inputs = random.integers(0, 256, (size, *shape), np.uint8)
        splits[split] = all_of(ArraySource(inputs, random.integers(0, CLASSES, size)))
    title = f"{RANDOM} of the shape of {SPECS[name].name}"
    scale = Preprocessing((0.0,), (1 / 255,))
    return Dataset(title, "", numbered(CLASSES), shape, "uint8", splits, scale)


def _first(split: Split, most: int) -> Split:
    rows = np.arange(min(most, len(split)))
    return all_of(ArraySource(fetch(split, rows), split.labels[rows]))
