"""Nets: one value for what Linen, NNX, Equinox and plain functions bring, and our own modules."""

from kdjax.nets.from_equinox import equinox
from kdjax.nets.from_function import function
from kdjax.nets.from_linen import linen
from kdjax.nets.from_nnx import nnx
from kdjax.nets.net import EVERY, Net, Outputs, Training

__all__ = ["EVERY", "Net", "Outputs", "Training", "equinox", "function", "linen", "nnx"]
