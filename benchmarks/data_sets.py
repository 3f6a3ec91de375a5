"""The data of the benchmarks, real where it is at hand, each set read once and kept in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.work import CLASSES, DIGITS, IMAGES, PHOTOS, SHAPES
from kdjax import data
from kdjax.checks import InputError
from kdjax.data import Dataset, Preprocessing, fetch
from kdjax.sources import ArraySource, Split, whole
from kdjax.spec import DatasetSpec

SPECS = {
    IMAGES: DatasetSpec("mnist", validation=1_000),
    DIGITS: DatasetSpec("digits"),
    PHOTOS: DatasetSpec("cifar10", validation=1_000),
}
KEPT = {IMAGES: 59_000, DIGITS: 800, PHOTOS: 5_000}  # training examples; photos decode slowly
EVALUATED = 1_000  # examples of each other split
RANDOM = "random images"
DATASETS: dict[str, Dataset] = {}  # read so far


def dataset(name: str) -> Dataset:
    """MNIST, the digits or CIFAR-10; without the first or the last, random pixels of its shape,
    whose speed is the same."""
    if name not in DATASETS:
        try:
            read = data.load(SPECS[name], "")
        except InputError:
            read = _random(name)
        sizes = {"train": KEPT[name], "validation": EVALUATED, "test": EVALUATED}
        splits = {split: _first(read.splits[split], size) for split, size in sizes.items()}
        DATASETS[name] = replace(read, splits=splits)
    return DATASETS[name]


def on_disk(name: str, directory: Path) -> str:
    """What a config names to read the same: the set, or a file of the random pixels."""
    read = dataset(name)
    if not read.name.startswith(RANDOM):
        return SPECS[name].name
    path, arrays = directory / f"{name}.npz", {}
    for split in ("train", "validation", "test"):
        arrays[f"{split}_inputs"] = fetch(read.splits[split], np.arange(len(read.splits[split])))
        arrays[f"{split}_labels"] = read.splits[split].labels
    np.savez(path, **arrays)
    return str(path)


def _random(name: str) -> Dataset:
    random, shape = np.random.default_rng(0), SHAPES[name]
    splits = {}
    for split in ("train", "validation", "test"):
        size = KEPT[name] if split == "train" else EVALUATED
        inputs = random.integers(0, 256, (size, *shape), np.uint8)
        splits[split] = whole(ArraySource(inputs, random.integers(0, CLASSES, size)))
    title = f"{RANDOM} of the shape of {SPECS[name].name}"
    return Dataset(title, "", CLASSES, shape, splits, Preprocessing((0.0,), (1 / 255,)))


def _first(split: Split, most: int) -> Split:
    rows = np.arange(min(most, len(split)))
    return whole(ArraySource(fetch(split, rows), split.labels[rows]))
