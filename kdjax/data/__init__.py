"""Data sets and their splits, wherever they come from."""

from kdjax.data.dataset import (
    Dataset,
    DatasetSpec,
    Preprocessing,
    SubsetSpec,
    fetch,
    load,
    order,
    stratified,
    subset,
)

__all__ = [
    "Dataset",
    "DatasetSpec",
    "Preprocessing",
    "SubsetSpec",
    "fetch",
    "load",
    "order",
    "stratified",
    "subset",
]
