"""Sets prepared for TensorFlow Datasets (TFDS), read without TensorFlow."""

import contextlib
import difflib
import importlib.util
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import cache
from kdjax.data.classes import composed
from kdjax.data.layout import walk
from kdjax.data.sources import FIELD, RawSet, Split, all_of, joined, one_line
from kdjax.host import files
from kdjax.host.versions import installed
from kdjax.rules import InputError, shown

DECODERS = (  # other versions may give other pixels
    "tensorflow-datasets",
    "pillow",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
BATCH = 1000  # records in one read: few enough to hold encoded photographs, many enough to be fast
SCALED = 100  # the same where decoded images may be large


@dataclass(frozen=True, eq=False)
class TfdsSource:
    """A source of images and their class labels; where a size is given, all are scaled to it."""

    examples: Any  # N dicts of features, decoded as they are read
    encoded: Any  # the same, the image left as it is stored
    image: str  # the feature that is the input
    label: str
    shape: tuple[int, ...]  # of one image
    dtype: np.dtype
    size: int = 0  # of every image, to which it is cropped and scaled; 0: as it is

    def labels(self) -> np.ndarray:
        read = _read(self.encoded, list(range(len(self.encoded))))
        return np.array([record[self.label] for part in read for record in part], np.int32)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        inputs, at = np.empty((len(indices), *self.shape), self.dtype), 0
        batch = SCALED if self.size else BATCH
        for part in _read(self.examples, np.asarray(indices).tolist(), batch):
            inputs[at : at + len(part)] = [self._scaled(example[self.image]) for example in part]
            at += len(part)
        return inputs

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        if not self.size:
            return image
        from PIL import Image  # here, for only images that are scaled need Pillow

        from kdjax.data.images import scaled

        pixels = image[..., 0] if image.shape[-1] == 1 else image
        return scaled(Image.fromarray(pixels), (self.size, self.size))


def _read(records: Any, indices: list[int], batch: int = BATCH) -> Iterator[Sequence]:
    """The records asked for, `batch` at a time, which is far faster than one at a time."""
    return (records.__getitems__(indices[at : at + batch]) for at in range(0, len(indices), batch))


def from_tfds(
    name: str, data_dir: str, cache_dir: str, train: str = "", test: str = "", size: int = 0
) -> RawSet:
    """Train, test and perhaps validation of a set, its classes' names, its name and version.

    The test split is "test" if there is one with labels, else "validation", else a part of "train".
    Classes without any example are left out.

    Args:
      name: `set`, `set/config`, `set:version` or `set/config:version`.
      data_dir: where it is prepared; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      cache_dir: as of `cache.cached`; TFDS is not imported for a set that is there.
      train, test: the set's splits that are the train and the test split, joined by +.
      size: of every image, pixels; 0: as they are.
    """
    data_dir = _place(name, data_dir)
    state = lambda: _prepared(name, data_dir)
    read = lambda: _from_records(name, data_dir, train, test, size)
    place = f"{data_dir} train {train} test {test}" if train or test else data_dir
    return cache.cached(name, place + f" at {size}" * bool(size), state, read, cache_dir)


def image_size(name: str, data_dir: str) -> tuple[int, int] | None:
    """Height and width of a set's images; None where they differ."""
    builder = _builder(name, _place(name, data_dir))
    image, _ = pick_features(name, builder.info.features, builder.info.supervised_keys)
    height, width, _ = builder.info.features[image].shape
    return None if None in (height, width) else (height, width)


def _place(name: str, data_dir: str) -> str:
    """Where sets are prepared; an InputError if `name` can be none of them."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR", "") or "~/tensorflow_datasets"
    if "://" not in data_dir:
        data_dir = os.path.abspath(files.expand(data_dir))
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.*]+)?", name):
        raise _unknown(name, data_dir)
    return data_dir


def _prepared(name: str, data_dir: str) -> dict[str, Any]:
    """What determines the content of a set: its files in every version, and who decodes them.

    Raises:
      OSError: it has none, or none that can be listed.
    """
    root = os.path.join(data_dir, re.split(r"\W", name)[0])
    paths = sorted(path for path in walk(Path(root)) if not path.is_dir())
    if not paths:
        raise FileNotFoundError(f"{root} has no files")
    return {"files": cache.stamps(paths, Path(root)), "versions": installed(DECODERS)}


def _from_records(name: str, data_dir: str, train: str, test: str, size: int) -> RawSet:
    builder = _builder(name, data_dir)
    image, label = pick_features(name, builder.info.features, builder.info.supervised_keys)
    _check_once(name, train or "train", test or "test")
    if None in builder.info.features[image].shape and not size:
        raise InputError(
            f"{FIELD} is {name!r}, of images {builder.info.features[image].shape}; "
            "config.dataset.image_size must say to what size they are scaled"
        )
    kind = builder.info.features[image]
    if size and (kind.np_dtype != np.uint8 or kind.shape[-1] not in (1, 3)):
        raise InputError(
            f"config.dataset.image_size is {size}; it must be 0 for {name!r}, whose images are "
            f"{np.dtype(kind.np_dtype)} of {kind.shape[-1]} channels: only those of 8 bits and 1 "
            "or 3 channels are scaled"
        )
    if not builder.info.splits:
        builder = _prepare(name, data_dir, builder)
    open_split = lambda split: labelled_split(builder, split, image, label, size)
    splits = {"train": _named("train", train or "train", name, builder, open_split)}
    own = None if test else open_split("test")
    if test:
        splits["test"] = _named("test", test, name, builder, open_split)
    elif own is not None:
        splits["test"] = own
    named = {*train.split("+"), *test.split("+")}
    validation = None if "validation" in named else open_split("validation")
    if validation is not None:
        splits["validation" if "test" in splits else "test"] = validation
    if "test" not in splits:
        splits = {"all": splits["train"]}
    return _present(splits, builder.info.features[label].names, builder.info.full_name)


def _check_once(name: str, train: str, test: str) -> None:
    """Whether no split is named twice: its examples would be trained on and tested."""
    named = [*train.split("+"), *test.split("+")]
    twice = next((split for split in named if named.count(split) > 1), None)
    if twice:
        raise InputError(
            f"{FIELD} is {name!r}, whose train_splits are {train!r} and test_splits {test!r}; "
            f"{twice!r} must be named once"
        )


def _named(
    use: str, names: str, name: str, builder: Any, open_split: Callable[[str], Split | None]
) -> Split:
    """The splits with these names, with + between them, as one."""
    found = {split: open_split(split) for split in names.split("+")}
    lacking = [split for split, its in found.items() if its is None]
    if lacking:
        raise InputError(
            f"{FIELD} is {name!r}, of splits {', '.join(builder.info.splits)}; it must have a "
            f"split {' and '.join(lacking)} with labels (config.dataset.{use}_splits names others, "
            "with + between them)"
        )
    return joined([split for split in found.values() if split is not None])


def _present(splits: dict[str, Split], names: Sequence[str], version: str) -> RawSet:
    """The set with those of its classes that have examples."""
    present = np.unique(np.concatenate([split.labels for split in splits.values()]))
    if len(present) == len(names):
        return RawSet(splits, tuple(map(composed, names)), version)
    number = np.zeros(len(names), np.int32)
    number[present] = np.arange(len(present))
    splits = {s: Split(its.source, its.index, number[its.labels]) for s, its in splits.items()}
    note = f"{len(present):,} of {len(names):,} classes have examples; the others are left out"
    kept = tuple(composed(names[c]) for c in present)
    return RawSet(splits, kept, f"{version} of {len(present)} classes", notes=(note,))


def labelled_split(builder: Any, name: str, image: str, label: str, size: int = 0) -> Split | None:
    """A split of a prepared set, or None where it has none of that name or none with labels."""
    import tensorflow_datasets as tfds  # here and below, for it takes half a second

    if name not in builder.info.splits:
        return None
    encoded = builder.as_data_source(name, decoders={image: tfds.decode.SkipDecoding()})
    kind = builder.info.features[image]
    decoded = builder.as_data_source(name)
    try:
        shape = (size, size, kind.shape[-1]) if size else kind.shape
        split = all_of(TfdsSource(decoded, encoded, image, label, shape, kind.np_dtype, size))
    except RuntimeError as error:  # of ArrayRecord
        raise InputError(
            f"{FIELD} is {builder.name!r}, whose files in {builder.data_path} cannot be read: "
            f"{one_line(error)}"
        ) from error
    return split if len(split) and split.labels.min() >= 0 else None


def pick_features(name: str, features: Any, supervised: tuple | None) -> tuple[str, str]:
    """The names of the one image and the one class label of a TFDS set."""
    from tensorflow_datasets import features as kinds

    images = [k for k, v in features.items() if isinstance(v, kinds.Image)]
    labels = [k for k, v in features.items() if isinstance(v, kinds.ClassLabel)]
    if supervised and len(supervised) == 2 and supervised[0] in images and supervised[1] in labels:
        image, label = supervised
    elif len(images) == len(labels) == 1:
        (image,), (label,) = images, labels
    else:
        listed = ", ".join(f"{k} ({type(v).__name__})" for k, v in features.items())
        raise InputError(
            f"{FIELD} is {name!r}, of features {listed}; it must have one Image and one ClassLabel"
        )
    return image, label


def _builder(name: str, data_dir: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"{FIELD} is {name!r}, a set of TensorFlow Datasets, which is not installed; it must "
            "be: pip install 'kdjax[tfds]'"
        ) from error
    prepared = _directory(name, data_dir)
    if prepared:  # of which TFDS's own code, and with it TensorFlow, may be needed to make it
        return tfds.builder_from_directory(prepared)
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        if not builder.info.splits and ":" not in name:  # perhaps prepared at an older version
            older = f"{name}:*.*.*"
            builder = tfds.builder(older, data_dir=data_dir, file_format="array_record")
        return builder
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name, data_dir) from error
    except (ValueError, AssertionError, ImportError, OSError) as error:
        reason = re.sub(r'^Failed to construct dataset .*?}": ', "", one_line(error))
        if "File format is already set" in reason:
            reason = "it is prepared in another format than array_record; use another data_dir"
        elif reason.startswith("BuilderConfig"):
            configs = ", ".join(tfds.builder_cls(name.split("/")[0]).builder_configs)
            reason = f"its configurations are: {textwrap.shorten(configs, 300) or 'none'}"
        raise InputError(
            f"{FIELD} is {name!r}, which TFDS cannot open in {data_dir}: {reason}"
        ) from error


def _directory(name: str, data_dir: str) -> Path | None:
    """Where a set is prepared in the format that is read: the version asked for, or the newest."""
    place, _, version = name.partition(":")
    number = lambda path: tuple(map(int, path.name.split(".")))
    every: list[Path] = []
    with contextlib.suppress(OSError):  # such as a name that is too long
        found = Path(data_dir, place).glob(f"{version or '*'}/dataset_info.json")
        every = [p.parent for p in found if re.fullmatch(r"\d+\.\d+\.\d+", p.parent.name)]
    for path in sorted(every, key=number, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            known = json.loads((path / "dataset_info.json").read_text())
            if known.get("fileFormat") == "array_record":
                return path
    return None


def _prepare(name: str, data_dir: str, builder: Any) -> Any:
    """Downloads and prepares a set where TensorFlow is there to do it; else says how to."""
    tried = ""
    if importlib.util.find_spec("tensorflow"):
        try:
            builder.download_and_prepare()
            return _builder(name, data_dir)
        except Exception as error:  # of network, disk, checksum: all end in the same advice
            tried = f" (tried, but: {one_line(error)})"
    code = (
        f"import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{data_dir}', "
        "file_format='array_record').download_and_prepare()"
    )
    raise InputError(
        f"{FIELD} is {name!r}, which is not prepared in {data_dir}{tried}; prepare it with: "
        f"pip install 'kdjax[prepare]' && python -c \"{code}\""
    )


def _unknown(name: str, data_dir: str) -> InputError:
    import tensorflow_datasets as tfds

    found = [p for depth in ("*/*", "*/*/*") for p in Path(data_dir).glob(f"{depth}/features.json")]
    here = sorted({p.relative_to(data_dir).parts[0] for p in found})
    known = ["digits", *here, *tfds.list_builders(with_community_datasets=False)]
    close = difflib.get_close_matches(name, known, n=1)
    close = [f"{name}/"] if os.path.isdir(files.expand(name)) else close
    return InputError(
        f"{FIELD} is {shown(name)}; it must be digits, the path of an .npz file, that of a folder "
        "of images with a / at its end, module:attribute of a value of kdjax.arrays, a set "
        f"prepared in {data_dir} "
        f"({', '.join(here) or 'there is none'}), or any TFDS image classification set"
        + (f"; did you mean {close[0]}?" if close else "")
    )
