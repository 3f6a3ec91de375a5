"""Data sets and their splits, wherever they come from.

NumPy only. Axes: n or N examples of a split, b of a part of it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kdjax import rules
from kdjax.data import cache, scan, sources
from kdjax.data.classes import alike, listed
from kdjax.data.npz import from_npz
from kdjax.data.sources import FIELD, RawSet, Split, numbered
from kdjax.data.subset import TEST_KEY, VALIDATION_KEY, stratified
from kdjax.data.tfds import from_tfds
from kdjax.host.versions import installed
from kdjax.rules import InputError

DIGITS_TEST, DIGITS_VALIDATION = 797, 200
DIGITS = "scikit-learn"  # the package that has the digits, and the version that they have here


@dataclass(frozen=True)
class DatasetSpec:
    #: "digits", an .npz file, a folder (its name ends in /), module:attribute, or a set of TFDS.
    name: str = rules.field("digits", rules.text())
    #: How many examples of the train split are for validation; 0 is a tenth.
    validation: int = rules.field(0, rules.whole(0))
    #: The height and width that the images of a folder or of TFDS are scaled to; 0 leaves them.
    image_size: int = rules.field(0, rules.whole(0, 4096))
    #: "unit" divides integers by their largest value and leaves floats as they are; "standard"
    #: gives every channel or column mean 0 and variance 1 over the train split.
    normalize: str = rules.field("unit", rules.one_of(("unit", "standard")))
    #: Whether the inputs stay on the device; Grain reads them otherwise, while it computes.
    resident: bool = rules.field(True, rules.truth())
    #: What becomes of training examples whose very inputs are also tested: they are counted, and
    #: kept or removed.
    duplicates: str = rules.field("keep", rules.one_of(("keep", "remove")))
    #: The splits of a TFDS set that are trained on, joined by +; "" is train.
    train_splits: str = rules.field("", rules.text())
    #: Those that are tested, joined by +; "" is test, else validation, else a part of train.
    test_splits: str = rules.field("", rules.text())


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
    notes: tuple[str, ...] = ()  # what the user must know of how it was read
    input_range: tuple[float, float] | None = None  # least and largest value that inputs have
    own_validation: bool = False  # whether the set has a validation split, so that none is drawn
    columns: tuple[str, ...] = ()  # the names of a table's columns, where they have some

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """All raw inputs [N, ...] of a split, and their labels [N], -1 of unlabelled examples."""
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
    test split, where there is none, a fifth of all; both stratified, and the same in all
    experiments. Copies of an example in two splits are counted where the set has at most 2 GiB.

    Args:
      cache_dir: where decoded sets are kept, as of `cache.cached`; data are the same without.
      value: the data set, where it is in memory; its name takes the place of `spec.name`.

    Raises:
      InputError: there is no such set, or it is not what it must be.
    """
    if value is not None:
        spec = replace(spec, name=value.name)
    digits = value is None and spec.name == "digits"
    _check_fields(spec, value is not None)
    raw = _read(spec, data_dir, cache_dir) if value is None else value
    splits = dict(raw.splits)
    if "all" in splits:
        splits = _tested(splits["all"], DIGITS_TEST if digits else 0)
    splits |= _validation(spec, splits, DIGITS_VALIDATION if digits else 0)
    splits, notes = _without_copies(spec, splits)
    _check_trained(splits, raw.class_names, spec.name)
    notes += tuple(_doubtful(splits, raw.class_names, raw.splits))
    for split, examples in splits.items():
        if not len(examples):
            raise InputError(
                f"config.dataset.name is {spec.name!r}, too few examples for a {split} split; it "
                "must have one or more"
            )
    example = fetch(splits["train"], np.arange(1))
    (low, high), range_notes = ((0.0, 16.0), ()) if digits else _range(splits, example.dtype)
    notes += range_notes
    scale = 1.0 if example.dtype.kind == "f" else 1.0 / high
    preprocessing = Preprocessing((0.0,), (scale,))
    if spec.normalize == "standard":
        preprocessing = _standard(splits["train"])
    elif not digits:
        notes += _unscaled(splits, example.dtype, low, high)
    return Dataset(
        name=spec.name,
        version=raw.version,
        class_names=raw.class_names,
        input_shape=example.shape[1:],
        input_dtype=example.dtype.name,
        splits=splits,
        preprocessing=preprocessing,
        notes=(*raw.notes, *notes),
        input_range=(low, high),
        own_validation="validation" in raw.splits,
        columns=raw.columns,
    )


def _check_fields(spec: DatasetSpec, in_memory: bool) -> None:
    """Fields that only one kind of source reads are at their defaults for another."""
    has_files = has_image_files(spec.name) and not in_memory
    if spec.image_size and not has_files:
        raise InputError(
            f"config.dataset.image_size is {spec.image_size}; it must be 0 for {spec.name!r}, "
            "which is no folder of images and no set of TFDS"
        )
    tfds = has_files and not spec.name.endswith("/")
    for field in ("train_splits", "test_splits"):
        given = getattr(spec, field)
        if given and not tfds:
            raise InputError(
                f"config.dataset.{field} is {rules.shown(given)}; it must be empty for "
                f"{spec.name!r}, which is no set of TensorFlow Datasets"
            )


def _range(
    splits: dict[str, Split], dtype: np.dtype
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Of floats what there is, of integers what there may be: 0 and 1, or all that the type has;
    and what is said of splits whose ranges differ."""
    if dtype.kind == "f":
        each = {name: scan.range_of(split) for name, split in splits.items()}
        found = min(low for low, _ in each.values()), max(high for _, high in each.values())
        return found, scan.apart(each)
    each = {name: (0.0, float(scan.largest([split], 1))) for name, split in splits.items()}
    binary = max(high for _, high in each.values()) == 1
    return (0.0, 1.0 if binary else float(np.iinfo(dtype).max)), scan.apart(each)


def _unscaled(
    splits: dict[str, Split], dtype: np.dtype, low: float, high: float
) -> tuple[str, ...]:
    """What is said of inputs that are far larger or smaller to a net than they should be."""
    if dtype.kind == "f":
        says = (
            f"the inputs are floats from {low:g} to {high:g}, which are not scaled; "
            "config.dataset.normalize='standard' scales them by what they are"
        )
        return (says,) * (max(-low, high) > scan.LARGE)
    dark = int(high) // 4
    most = scan.largest(splits.values(), dark)
    if most > dark or high == 1:
        return ()
    return (
        f"the inputs reach {most} of {high:.0f}, by which they are divided; "
        "config.dataset.normalize='standard' scales them by what they are",
    )


def _without_copies(
    spec: DatasetSpec, splits: dict[str, Split]
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits, and what is said of examples that stand in a later one, too; those are left out
    where the spec says so."""
    remove = spec.duplicates == "remove"
    first = next((split for split in splits.values() if len(split)), None)
    size = 0 if first is None else first.source.fetch(first.index[:1]).nbytes
    if not remove and size * sum(map(len, splits.values())) > scan.LIMIT:
        return splits, ()
    digests = {name: scan.digests_of(split) for name, split in splits.items()}
    copied, doubtful = scan.copies(digests), scan.contradictions(digests, splits)
    counts = [f"{found.sum()} {name}" for name, found in copied.items() if found.any()]
    notes = (f"{doubtful} examples have the inputs of an example of another class",) * bool(
        doubtful
    )
    if not counts:
        return splits, notes
    says = f"the inputs of {' and '.join(counts)} examples stand in a later split, too"
    if not remove:
        return splits, (f"{says}; config.dataset.duplicates='remove' leaves them out", *notes)
    kept = {name: scan.without(splits[name], found) for name, found in copied.items()}
    return splits | kept, (f"{says}, and are left out", *notes)


def _doubtful(
    splits: dict[str, Split], class_names: tuple[str, ...], own: Collection[str]
) -> Iterator[str]:
    """What is said of classes that have no example in the train split, or in a split that the set
    has of its own, or that have the name of another."""
    for split in ("train", *(name for name in splits if name in own and name != "train")):
        there = set(splits[split].labels.tolist())
        lacking = [n for c, n in enumerate(class_names) if c not in there]
        if lacking:
            yield f"the {split} split has no example of {listed(lacking)}"
    yield from alike(class_names)


def _check_trained(splits: dict[str, Split], class_names: tuple[str, ...], name: str) -> None:
    """Whether every class that is tested, or chosen by, has a training example."""
    trained = np.unique(splits["train"].labels)
    for split in ("validation", "test"):
        lacking = np.setdiff1d(splits[split].labels, trained)
        if len(lacking):
            untrained = listed([class_names[c] for c in lacking])
            raise InputError(
                f"{sources.FIELD} is {name!r}, whose {split} split has examples of {untrained}, of "
                "which the train split has none; it must have some (a class needs three examples "
                "or more to be split; subset.without leaves classes out of a stage's training)"
            )


def has_image_files(name: str) -> bool:
    """Whether the data set's images are decoded from files, and can be scaled as they are: it is a
    folder, or a set of TFDS."""
    return not (name == "digits" or name.endswith(".npz") or rules.is_reference(name))


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
    splits = spec.train_splits, spec.test_splits
    return from_tfds(spec.name, data_dir, cache_dir, *splits, spec.image_size)


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
    """All examples less those for the test, and those; size 0: a fifth of the labelled."""
    test = _chosen(every, size or int((every.labels >= 0).sum()) // 5, TEST_KEY)
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
    labelled = int((train.labels >= 0).sum())
    size = size or default or max(1, labelled // 10)
    if size >= labelled:
        raise InputError(
            f"{path} is {size}; it must be less than the {labelled} labelled examples of the train "
            f"split of {spec.name!r}, which it is a part of"
        )
    chosen = _chosen(train, size, VALIDATION_KEY)
    left = train.labels[_others(train, chosen)]
    chosen = chosen[np.isin(train.labels[chosen], left)]  # the last of a class is trained on
    return {"train": _part(train, _others(train, chosen)), "validation": _part(train, chosen)}


def _chosen(split: Split, size: int, key: tuple[int, int]) -> np.ndarray:
    """The positions of so many labelled examples, stratified."""
    labelled = np.flatnonzero(split.labels >= 0)
    return labelled[stratified(split.labels[labelled], size, key)]


def _part(split: Split, positions: np.ndarray) -> Split:
    positions = np.sort(positions)
    return Split(split.source, split.index[positions], split.labels[positions])


def _others(split: Split, positions: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(len(split)), positions)


def _standard(train: Split) -> Preprocessing:
    """Mean 0 and variance 1 over the train split, in float64; a constant channel is not scaled."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for part in scan.parts(train):
        part = part.reshape(-1, part.shape[-1]).astype(np.float64)
        apart, total = part.mean(axis=0) - mean, count + len(part)
        squares = squares + ((part - part.mean(axis=0)) ** 2).sum(axis=0)
        squares = squares + apart**2 * count * len(part) / total
        mean, count = mean + apart * len(part) / total, total
    deviation = np.sqrt(squares / count)
    varies = deviation > 1e-6 * np.abs(mean)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 1.0)
    return Preprocessing(tuple(mean.tolist()), tuple(scale.tolist()))
