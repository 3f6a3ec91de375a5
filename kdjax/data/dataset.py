"""Data sets and their splits, wherever they come from.

NumPy only. Axes: n or N examples of a split, b of a part of it.
"""

from dataclasses import dataclass, replace

import numpy as np

from kdjax import rules
from kdjax.data import cache, sources
from kdjax.data.npz import from_npz
from kdjax.data.sources import FIELD, RawSet, Split, numbered, printable
from kdjax.data.subset import TEST_KEY, VALIDATION_KEY, stratified
from kdjax.data.tfds import from_tfds
from kdjax.host.versions import installed
from kdjax.rules import InputError

DIGITS_TEST, DIGITS_VALIDATION = 797, 200
DIGITS = "scikit-learn"  # the package that has the digits, and the version that they have here
BATCH = 1000  # examples in memory at once where all of the train split is read for its statistics


@dataclass(frozen=True)
class DatasetSpec:
    #: "digits", an .npz file, a folder (its name ends in /), module:attribute, or a set of TFDS.
    name: str = rules.field("digits", rules.text())
    #: How many examples of the train split are for validation; 0 is a tenth.
    validation: int = rules.field(0, rules.whole(0))
    #: The height and width that images are scaled to; 0 leaves them as they are.
    image_size: int = rules.field(0, rules.whole(0, 4096))
    #: "unit" divides integers by their largest value and leaves floats as they are; "standard"
    #: gives every channel or column mean 0 and variance 1 over the train split.
    normalize: str = rules.field("unit", rules.one_of(("unit", "standard")))
    #: Whether the inputs stay on the device; Grain reads them otherwise, while it computes.
    resident: bool = rules.field(True, rules.truth())


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

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """All raw inputs [N, ...] of a split, and their labels [N]."""
        found = self.splits[split]
        return fetch(found, np.arange(len(found))), found.labels


def fetch(split: Split, positions: np.ndarray) -> np.ndarray:
    """[b] positions in a split -> [b, ...] raw inputs."""
    return split.source.fetch(split.index[positions])


def load(
    spec: DatasetSpec, data_dir: str = "", cache_dir: str = "", value: RawSet | None = None
) -> Dataset:
    """Opens a data set: "digits", an .npz file, a folder of images (its name ends in "/"), a value
    of `arrays` ("module:attribute", or `value`), or a set of TensorFlow Datasets in `data_dir`.

    The validation split, where the set has none of its own, is a part of the train split, and the
    test split, where a folder has none, a fifth of all; both the same in all experiments.

    Args:
      cache_dir: where decoded sets are kept, as of `cache.cached`; data are the same without.
      value: the data set, where it is in memory; its name takes the place of `spec.name`.

    Raises:
      InputError: there is no such set, or it is not what it must be.
    """
    if value is not None:
        spec = replace(spec, name=value.name)
    folder, digits = spec.name.endswith("/"), value is None and spec.name == "digits"
    if spec.image_size and (value is not None or not folder):
        raise InputError(
            f"config.dataset.image_size is {spec.image_size}; it must be 0 for {spec.name!r}, "
            "which is no folder of images"
        )
    raw = _read(spec, data_dir, cache_dir) if value is None else value
    splits = dict(raw.splits)
    if "all" in splits:
        splits = _tested(splits["all"], DIGITS_TEST if digits else len(splits["all"]) // 5)
    splits |= _validation(spec, splits, DIGITS_VALIDATION if digits else 0)
    for split, examples in splits.items():
        if not len(examples):
            raise InputError(
                f"config.dataset.name is {spec.name!r}, too few examples for a {split} split; it "
                "must have one or more"
            )
    example = fetch(splits["train"], np.arange(1))
    unit = 1.0 if example.dtype.kind == "f" else 1.0 / np.iinfo(example.dtype).max
    preprocessing = Preprocessing((0.0,), (1 / 16 if digits else unit,))
    if spec.normalize == "standard":
        preprocessing = _standard(splits["train"])
    return Dataset(
        name=spec.name,
        version=raw.version,
        class_names=tuple(map(printable, raw.class_names)),
        input_shape=example.shape[1:],
        input_dtype=example.dtype.name,
        splits=splits,
        preprocessing=preprocessing,
    )


def _read(spec: DatasetSpec, data_dir: str, cache_dir: str) -> RawSet:
    if spec.name == "digits":
        return _digits(cache_dir)
    if spec.name.endswith("/"):
        from kdjax.data.folder import from_folder  # here, for only folders need Pillow

        return from_folder(spec.name, spec.image_size, cache_dir)
    if spec.name.endswith(".npz"):
        return from_npz(spec.name)
    if rules.is_reference(spec.name):
        return _from_module(spec.name)
    return from_tfds(spec.name, data_dir, cache_dir)


def _digits(cache_dir: str) -> RawSet:
    read = lambda: RawSet({"all": sources.all_of(sources.digits())}, numbered(10), DIGITS)
    state = lambda: installed([DIGITS])
    return cache.cached("digits", DIGITS, state, read, cache_dir)


def _from_module(name: str) -> RawSet:
    """The value of `arrays` that "module:attribute" names, or a function that returns it."""
    found = rules.resolve(name, FIELD)
    if callable(found):
        try:
            found = found()
        except Exception as error:  # whatever a function of the user's raises
            raise InputError(f"{FIELD} is {name!r}, which raised {rules.told(error)}") from error
    if not isinstance(found, RawSet):
        raise InputError(
            f"{FIELD} is {name!r}, which is {rules.shown(found)}; it must be a value of "
            "kdjax.arrays, or a function without arguments that returns one"
        )
    return found


def _tested(every: Split, size: int) -> dict[str, Split]:
    """All examples less those for the test, and those."""
    test = stratified(every.labels, size, TEST_KEY)
    return {"train": _part(every, _others(every, test)), "test": _part(every, test)}


def _validation(spec: DatasetSpec, splits: dict[str, Split], default: int) -> dict[str, Split]:
    """The train split less its validation part, and that part.

    Args:
      default: examples of the part, where `spec` names no number; 0: a tenth.
    """
    train, size, path = splits["train"], spec.validation, "config.dataset.validation"
    if "validation" in splits:
        if size:
            raise InputError(
                f"{path} is {size}, but {spec.name!r} has a validation split of its own; it must "
                "be 0"
            )
        return {}
    size = size or default or max(1, len(train) // 10)
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
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(train), BATCH):
        part = fetch(train, np.arange(start, min(start + BATCH, len(train))))
        part = part.reshape(-1, part.shape[-1]).astype(np.float64)
        apart, total = part.mean(axis=0) - mean, count + len(part)
        squares = squares + ((part - part.mean(axis=0)) ** 2).sum(axis=0)
        squares = squares + apart**2 * count * len(part) / total
        mean, count = mean + apart * len(part) / total, total
    deviation = np.sqrt(squares / count)
    varies = deviation > 1e-6 * np.abs(mean)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 1.0)
    return Preprocessing(tuple(mean.tolist()), tuple(scale.tolist()))
