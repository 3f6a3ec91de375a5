"""Configs: from plain data to the frozen specs of an experiment."""

from kdjax.config.parse import complete, experiment, parse, stage

__all__ = ["complete", "experiment", "parse", "stage"]
