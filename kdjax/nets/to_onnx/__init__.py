"""Nets as ONNX files. It needs the package `onnx`."""

from kdjax.nets.to_onnx.graph import Unknown
from kdjax.nets.to_onnx.program import to_onnx

__all__ = ["Unknown", "to_onnx"]
