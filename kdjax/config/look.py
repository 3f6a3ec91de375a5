"""What a config may know of a data set before it chooses its stages."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kdjax.config.parse import read
from kdjax.data import DatasetSpec, RawSet, load, suitable_size


class Facts(NamedTuple):
    """What stages are chosen by.

    Attributes:
      image_size: what `config.dataset.image_size` must be for the rest to hold.
      input_shape: of one example.
      examples: labelled ones of the train split, validation left out.
      classes: how many.
      own_validation: whether the set has a validation split, so that none is drawn.
    """

    image_size: int
    input_shape: tuple[int, ...]
    examples: int
    classes: int
    own_validation: bool = False


def look(dataset: Mapping[str, Any], data_dir: str = "", cache_dir: str = "") -> Facts:
    """The facts of a data set, which is decoded if it is not in the cache.

    Args:
      dataset: fields of `config.dataset`. Without an `image_size`, large images and those of
        several sizes are scaled as `data.suitable_size` says.
      data_dir, cache_dir: as of an experiment.

    Raises:
      InputError: there is no such set, or it cannot be read.
    """
    fields, value = dict(dataset), None
    if isinstance(fields.get("name"), RawSet):
        value = fields.pop("name")
    spec: DatasetSpec = read(DatasetSpec, "config.dataset", fields)
    size = spec.image_size if value is not None else suitable_size(spec, data_dir)
    spec = read(DatasetSpec, "config.dataset", fields | {"image_size": size})
    found = load(spec, data_dir, cache_dir, value)
    examples = int((found.splits["train"].labels >= 0).sum())
    return Facts(size, found.input_shape, examples, found.classes, found.own_validation)
