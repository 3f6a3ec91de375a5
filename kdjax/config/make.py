"""Configs with every field that they have, so that each can be overridden by its name."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax import nets, rules
from kdjax.config.objective import LABELS, objective_of
from kdjax.config.plain import mapping, no_others
from kdjax.config.spec import ExperimentSpec, ModelSpec, StageSpec, hparam_rules
from kdjax.optim import OptimizerSpec
from kdjax.rules import check

PLAIN = ("model", "objective", "members", "teacher", "name")  # fields of a stage made by hand


def experiment(stages: Mapping[str, Any], **fields: Any) -> ConfigDict:
    """An experiment's config with every field it has.

    Args:
      stages: name to stage, in the order they run; each made by `stage`, or a plain dict.
      **fields: of `ExperimentSpec`, such as `dataset`; those not given take their defaults.
    """
    config = ConfigDict(_filled(ExperimentSpec, "config", fields))
    config.stages = ConfigDict(sort_keys=False)
    for name, values in mapping("config.stages", stages).items():
        values = mapping(f"config.stages.{name}", values)
        config.stages[str(name)] = values if isinstance(values, ConfigDict) else stage(**values)
    return config


def stage(**fields: Any) -> ConfigDict:
    """A stage's config with every field it has; those not given take their defaults.

    Args:
      **fields: of `StageSpec`. `objective` has terms by name, each with its weight or with a dict
        of its numbers. `members` holds the axes of the grid: `seed`, a count or a tuple, and any
        other number that the stage reads, a tuple of values; those of a term are in a dict of
        its name. An empty tuple is no axis.
    """
    own = {name: fields.pop(name, {}) for name in ("model", "members")}
    objective, teacher = fields.pop("objective", LABELS), fields.pop("teacher", "")
    config = _filled(StageSpec, "stage", fields)
    model, members = (mapping(name, values) for name, values in own.items())
    name = model.get("name", ModelSpec.name)
    values = nets.checked_arguments(name, {k: v for k, v in model.items() if k != "name"}, "model")
    config["model"] = {"name": name} | values
    parts = objective_of("objective", objective)
    config["objective"] = {
        part.name: ({"term": part.source} if part.source not in ("", part.name) else {})
        | {k: list(v) if isinstance(v, tuple) else v for k, v in part.options}
        | dict(part.numbers)
        for part in parts
    }
    known = [*hparam_rules(OptimizerSpec), *hparam_rules(StageSpec)]
    axes: dict[str, Any] = {k: () for k in known} | {"seed": 1}
    axes |= {
        part.name: {k: () for k in {**part.term.numbers, **dict(part.numbers)}} for part in parts
    }
    no_others("members", members, axes)
    for key, given in members.items():
        if isinstance(axes[key], dict):
            no_others(f"members.{key}", given, axes[key])
            given = axes[key] | mapping(f"members.{key}", given)
        axes[key] = given
    config["members"] = axes
    config["teacher"] = teacher
    return ConfigDict(config)


def generations(count: int, teacher: str = "", **fields: Any) -> dict[str, ConfigDict]:
    """Born-again nets (arXiv 1805.04770): stages "generation0", "generation1" and so on of one net,
    each taught by the one before. Every member of a generation has a seed of its own, so that none
    starts as its teacher did.

        experiment(dict(generations(3, model=dict(name="mlp"), members=dict(seed=5))))

    Args:
      count: of the generations.
      teacher: of the first; without, it learns from labels alone.
      **fields: of every stage, as of `stage`, with `members.seed`, a count. The objective, of those
        that have a teacher, is that of the labels and the soft targets if none is given.
    """
    check(rules.whole(1), "count", count)
    members = mapping("members", fields.pop("members", {}))
    seeds = check(rules.whole(1), "members.seed", members.get("seed", 1))
    objective = fields.pop("objective", dict(kl_divergence=1.0, cross_entropy=1.0))
    found = {}
    for number in range(count):
        own = range(number * seeds, (number + 1) * seeds)
        taught = dict(teacher=teacher, objective=objective) if teacher else {}
        name = f"generation{number}"
        found[name] = stage(**fields, **taught, members=members | dict(seed=tuple(own)))
        teacher = name
    return found


def complete(config: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """A config that may lack fields, with their defaults."""
    return experiment(**(config.to_dict() if isinstance(config, ConfigDict) else config))


def _filled(spec: type, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `spec` as a dict: `values`, and defaults for the rest."""
    values = mapping(path, values)
    fields = [f for f in dataclasses.fields(spec) if "rule" in f.metadata or "spec" in f.metadata]
    no_others(path, values, [*(f.name for f in fields), *(PLAIN if spec is StageSpec else ())])
    filled = {}
    for f in fields:
        if "spec" in f.metadata:
            filled[f.name] = _filled(f.metadata["spec"], f.name, values.get(f.name, {}))
        else:
            filled[f.name] = values.get(f.name, f.default)
    return filled
