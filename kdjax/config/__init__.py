"""Configs: from plain data to the frozen specs of an experiment."""

from kdjax.config.look import Facts, look
from kdjax.config.make import complete, experiment, generations, stage
from kdjax.config.parse import parse

__all__ = ["Facts", "complete", "experiment", "generations", "look", "parse", "stage"]
