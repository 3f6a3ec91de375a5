"""The nets that a config names."""

from collections.abc import Mapping
from typing import Any

from kdjax.nets.from_linen import linen
from kdjax.nets.modules import MODELS
from kdjax.nets.net import Net

NETS = MODELS


def build(spec: Mapping[str, Any], classes: int, path: str) -> Net:
    arguments = {k: v for k, v in spec.items() if k != "name"}
    return linen(MODELS[spec["name"]].module(classes=classes, **arguments))
