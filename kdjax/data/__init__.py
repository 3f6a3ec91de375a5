"""Data sets and their splits, wherever they come from."""

from kdjax.data.classes import difference, listed, numbers
from kdjax.data.dataset import DIGITS, Dataset, DatasetSpec, Preprocessing, fetch, load
from kdjax.data.in_memory import arrays, shaped
from kdjax.data.sizes import suitable_size
from kdjax.data.sources import SPLITS, RawSet, Split, numbered, one_line
from kdjax.data.subset import SubsetSpec, left_out, order, stratified, subset

__all__ = [
    "DIGITS",
    "SPLITS",
    "Dataset",
    "DatasetSpec",
    "Preprocessing",
    "RawSet",
    "Split",
    "SubsetSpec",
    "arrays",
    "difference",
    "fetch",
    "left_out",
    "listed",
    "load",
    "numbered",
    "numbers",
    "one_line",
    "order",
    "shaped",
    "stratified",
    "subset",
    "suitable_size",
]
