"""Nets: one value for what Linen, NNX, Equinox and plain functions bring, and our own modules."""

from kdjax.nets.check import Facts, checked, identified, paths
from kdjax.nets.from_equinox import equinox
from kdjax.nets.from_function import function
from kdjax.nets.from_linen import linen
from kdjax.nets.from_nnx import nnx
from kdjax.nets.hydra import hydra
from kdjax.nets.net import EVERY, Net, Outputs, Training
from kdjax.nets.table import NETS, build, checked_arguments, defaults

__all__ = [
    "EVERY",
    "NETS",
    "Facts",
    "Net",
    "Outputs",
    "Training",
    "build",
    "checked",
    "checked_arguments",
    "defaults",
    "equinox",
    "function",
    "hydra",
    "identified",
    "linen",
    "nnx",
    "paths",
]
