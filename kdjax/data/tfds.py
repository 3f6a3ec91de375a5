"""Sets prepared for TensorFlow Datasets (TFDS), read without TensorFlow."""

import difflib
import importlib.util
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import cache
from kdjax.data.sources import FIELD, RawSet, Split, all_of, one_line
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

        from kdjax.data.folder import scaled

        pixels = image[..., 0] if image.shape[-1] == 1 else image
        return scaled(Image.fromarray(pixels), (self.size, self.size))


def _read(records: Any, indices: list[int], batch: int = BATCH) -> Iterator[Sequence]:
    """The records asked for, `batch` at a time, which is far faster than one at a time."""
    return (records.__getitems__(indices[at : at + batch]) for at in range(0, len(indices), batch))


def from_tfds(name: str, data_dir: str, cache_dir: str, size: int = 0) -> RawSet:
    """Train, test and perhaps validation of a set, its classes' names, its name and version.

    The test split is "test" if there is one with labels, else "validation".

    Args:
      name: `set`, `set/config`, `set:version` or `set/config:version`.
      data_dir: where it is prepared; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      cache_dir: as of `cache.cached`; TFDS is not imported for a set that is there.
      size: of every image, pixels; 0: as they are.
    """
    data_dir = _place(name, data_dir)
    state, read = lambda: _prepared(name, data_dir), lambda: _from_records(name, size, data_dir)
    place = f"{data_dir} at {size}" if size else data_dir
    return cache.cached(name, place, state, read, cache_dir)


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
    paths = [
        os.path.join(at, file) for at, _, here in os.walk(root, followlinks=True) for file in here
    ]
    if not paths:
        raise FileNotFoundError(f"{root} has no files")
    found = [(path, os.stat(path)) for path in sorted(paths)]
    return {
        "files": [(os.path.relpath(path, root), s.st_size, s.st_mtime_ns) for path, s in found],
        "versions": installed(DECODERS),
    }


def _from_records(name: str, size: int, data_dir: str) -> RawSet:
    builder = _builder(name, data_dir)
    image, label = pick_features(name, builder.info.features, builder.info.supervised_keys)
    if None in builder.info.features[image].shape and not size:
        raise InputError(
            f"{FIELD} is {name!r}, of images {builder.info.features[image].shape}; "
            "config.dataset.image_size must say to what size they are scaled"
        )
    if not builder.info.splits:
        builder = _prepare(name, data_dir, builder)
    splits: dict[str, Split] = {}
    for split, candidates in (("train", ["train"]), ("test", ["test", "validation"])):
        labelled = (labelled_split(builder, c, image, label, size) for c in candidates)
        found = next((split for split in labelled if split is not None), None)
        if found is None:
            raise InputError(
                f"{FIELD} is {name!r}, of splits {', '.join(builder.info.splits)}; it must have a "
                f"split {' or '.join(candidates)} with labels"
            )
        splits[split] = found
    own = labelled_split(builder, "validation", image, label, size)
    if own is not None and labelled_split(builder, "test", image, label) is not None:
        splits["validation"] = own
    return RawSet(splits, tuple(builder.info.features[label].names), builder.info.full_name)


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
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        if not builder.info.splits and ":" not in name:  # perhaps prepared at an older version
            older = f"{name}:*.*.*"
            builder = tfds.builder(older, data_dir=data_dir, file_format="array_record")
        return builder
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name, data_dir) from error
    except (ValueError, AssertionError, ImportError) as error:
        reason = re.sub(r'^Failed to construct dataset .*?}": ', "", one_line(error))
        if "File format is already set" in reason:
            reason = "it is prepared in another format than array_record; use another data_dir"
        elif reason.startswith("BuilderConfig"):
            configs = ", ".join(tfds.builder_cls(name.split("/")[0]).builder_configs)
            reason = f"its configurations are: {textwrap.shorten(configs, 300) or 'none'}"
        raise InputError(
            f"{FIELD} is {name!r}, which TFDS cannot open in {data_dir}: {reason}"
        ) from error


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
    close = [f"{name}/"] if os.path.isdir(name) else close
    return InputError(
        f"{FIELD} is {shown(name)}; it must be digits, the path of an .npz file, that of a folder "
        "of images with a / at its end, module:attribute of a value of kdjax.arrays, a set "
        f"prepared in {data_dir} "
        f"({', '.join(here) or 'there is none'}), or any TFDS image classification set"
        + (f"; did you mean {close[0]}?" if close else "")
    )
