"""Data sets and their splits, wherever they come from."""

from kdjax.data.dataset import Dataset, DatasetSpec, Preprocessing, fetch, load
from kdjax.data.in_memory import arrays, shaped
from kdjax.data.sources import RawSet
from kdjax.data.subset import SubsetSpec, order, stratified

__all__ = [
    "Dataset",
    "DatasetSpec",
    "Preprocessing",
    "RawSet",
    "SubsetSpec",
    "arrays",
    "fetch",
    "load",
    "order",
    "shaped",
    "stratified",
]
