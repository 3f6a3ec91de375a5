"""From a config of plain data to frozen specs, with every check that needs no data."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax import rules
from kdjax.config.spec import (
    HPARAMS,
    ExperimentSpec,
    ModelSpec,
    StageSpec,
    grid,
    hard_term,
    teachers_of,
)
from kdjax.losses.logits import LOSSES
from kdjax.nets.modules import MODELS
from kdjax.optim import OPTIMIZERS
from kdjax.rules import InputError, check, choose
from kdjax.views import AugmentSpec

MOST_MEMBERS, ONE_SEED = 10_000, 1
RESERVED = ("figures",)  # beside the stages in a workdir


def experiment(stages: Mapping[str, Any], **fields: Any) -> ConfigDict:
    """An experiment's config with every field it has, so that each can be overridden by name.

    Args:
      stages: name to stage, in the order they run; each made by `stage`, or a plain dict.
      **fields: of `ExperimentSpec`, such as `dataset`; those not given take their defaults.
    """
    config = ConfigDict(_filled(ExperimentSpec, "config", fields))
    config.stages = ConfigDict(sort_keys=False)
    for name, values in _mapping("config.stages", stages).items():
        values = _mapping(f"config.stages.{name}", values)
        config.stages[str(name)] = values if isinstance(values, ConfigDict) else stage(**values)
    return config


def stage(**fields: Any) -> ConfigDict:
    """A stage's config with every field it has; those not given take their defaults.

    `members` holds the axes of the grid: `seed`, a count or a tuple, and any other hparam, a
    tuple of values; an empty tuple is no axis.
    """
    model = _mapping("model", fields.pop("model", {}))
    members = _mapping("members", fields.pop("members", {}))
    config = _filled(StageSpec, "stage", fields)
    name = choose(MODELS, "model.name", model.get("name", ModelSpec.name))
    defaults = {k: getattr(MODELS[name].module, k) for k in MODELS[name].arguments}
    _no_others("model", model, ("name", *defaults))
    config["model"] = {"name": name} | defaults | model
    _no_others("members", members, HPARAMS)
    config["members"] = {k: () for k in HPARAMS} | {"seed": ONE_SEED} | members
    return ConfigDict(config)


def complete(config: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """A config that may lack fields, with their defaults."""
    return experiment(**(config.to_dict() if isinstance(config, ConfigDict) else config))


def parse(config: Mapping[str, Any]) -> ExperimentSpec:
    """The frozen specs of a config.

    Raises:
      InputError: a field is unknown, out of range, or contradicts another; nothing has been
        computed or written by then.
    """
    config = _mapping("config", config)
    _no_others("config", config, [f.name for f in dataclasses.fields(ExperimentSpec)])
    named = _mapping("config.stages", config.pop("stages", {}))
    if not named:
        raise InputError("config.stages is empty; it must name at least one stage")
    stages = []
    for name, values in named.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)) or name in RESERVED:
            raise InputError(
                f"config.stages has {rules.shown(name)}; letters, digits, _ and - make a name, "
                f"other than {', '.join(RESERVED)}"
            )
        stages.append(_stage(f"config.stages.{name}", name, values, stages))
    return _read(ExperimentSpec, "config", config, stages=tuple(stages))


def _stage(path: str, name: str, values: Any, earlier: list[StageSpec]) -> StageSpec:
    values = _mapping(path, values)
    parts = {"model": _model(f"{path}.model", values.get("model", {}))}
    parts["members"] = _members(f"{path}.members", values.get("members", {}))
    rest = {k: v for k, v in values.items() if k not in parts}
    stage = _read(StageSpec, path, rest, name=name, **parts)
    loss, optimizer = LOSSES[stage.loss], OPTIMIZERS[stage.optimizer.name]
    used = ("seed", *loss.hparams, *optimizer.hparams) + ("ensemble_size",) * loss.teacher
    for axis, _ in stage.members:
        if axis not in used:
            raise InputError(
                f"{path}.members has the axis {axis!r}, which neither loss {stage.loss!r} nor "
                f"optimizer {stage.optimizer.name!r} reads; they read: {', '.join(used)}"
            )
    if loss.teacher and not teachers_of(stage.teacher):
        raise InputError(f"{path}.teacher is empty; loss {stage.loss!r} needs a teacher")
    for field, most in (("teacher", None), ("init_from", 1)):
        references = teachers_of(getattr(stage, field))
        if len(set(references)) < len(references) or len(references) > (most or len(references)):
            raise InputError(
                f"{path}.{field} is {rules.shown(getattr(stage, field))}; it must name "
                f"{'one stage' if most else 'each stage once'}"
            )
        for reference in references:
            names = [other.name for other in earlier]
            if reference not in names and not ("/" in reference or os.path.isdir(reference)):
                raise InputError(
                    f"{path}.{field} is {rules.shown(reference)}; it must be an earlier stage "
                    f"({', '.join(names) or 'there is none'}) or a stage directory"
                )
    if loss.teacher and stage.teacher_logits != "live" and stage.augment != AugmentSpec():
        raise InputError(
            f"{path}.teacher_logits is {stage.teacher_logits!r}, but {path}.augment with shift "
            f"{stage.augment.shift} and flip {stage.augment.flip} changes the view that the "
            "student sees; it must be 'live', so that the teacher sees the same view"
        )
    if loss.labels and not stage.subset.labelled and hard_term(stage):
        raise InputError(
            f"{path}.subset.labelled is {stage.subset.labelled!r}, but loss {stage.loss!r} has a "
            "label term; show some labels, or set hard_weight to 0"
        )
    if stage.loss == "distillation" and not all(
        m["soft_weight"] or m["hard_weight"] for m in grid(stage)
    ):
        raise InputError(
            f"{path}.soft_weight and .hard_weight are both 0 for a member; it must learn something"
        )
    sizes = [member["ensemble_size"] for member in grid(stage)]
    if len(set(sizes)) > 1 and 0 in sizes:
        raise InputError(
            f"{path}.members.ensemble_size has 0 among others; it must be how many teachers, from 1"
        )
    if stage.mixing != "all" and any(sizes):
        raise InputError(
            f"{path}.ensemble_size is {max(sizes)}, but {path}.mixing is {stage.mixing!r}; it must "
            "be 'all' to learn from the first so many"
        )
    if stage.optimizer.warmup_steps > stage.steps:
        raise InputError(
            f"{path}.optimizer.warmup_steps is {stage.optimizer.warmup_steps}; it must be at "
            f"most steps, {stage.steps}"
        )
    for other in earlier:
        _not_its_own_teacher(path, stage, other)
    return stage


def _not_its_own_teacher(path: str, stage: StageSpec, teacher: StageSpec) -> None:
    if teacher.name not in teachers_of(stage.teacher) or stage.init_from:
        return
    seeds = {m["seed"] for m in grid(stage)} & {m["seed"] for m in grid(teacher)}
    if LOSSES[stage.loss].teacher and stage.model == teacher.model and seeds:
        raise InputError(
            f"{path}.members.seed has {min(seeds)}, as has its teacher {teacher.name!r} of the "
            "same model, so that they would start from the same parameters; use other seeds"
        )


def _model(path: str, values: Any) -> ModelSpec:
    values = _mapping(path, values)
    name = choose(MODELS, f"{path}.name", values.get("name", ModelSpec.name))
    rules = MODELS[name].arguments
    _no_others(path, values, ("name", *rules))
    arguments = {k: getattr(MODELS[name].module, k) for k in rules}
    arguments |= {k: v for k, v in values.items() if k != "name"}
    return ModelSpec(
        name,
        tuple((k, _frozen(check(rules[k], f"{path}.{k}", v))) for k, v in arguments.items()),
    )


def _members(path: str, values: Any) -> tuple[tuple[str, tuple], ...]:
    values = _mapping(path, values)
    _no_others(path, values, HPARAMS)
    axes = []
    for name, rule in HPARAMS.items():
        axis = values.get(name, ONE_SEED if name == "seed" else ())
        if name == "seed" and isinstance(axis, int):
            axis = tuple(range(check(rules.whole(1, MOST_MEMBERS), f"{path}.seed", axis)))
        axis = check(rules.tuple_of(rule), f"{path}.{name}", axis)
        if len(set(axis)) < len(axis):
            raise InputError(f"{path}.{name} is {axis!r}; each value must stand there once")
        if len(axis) or name == "seed":
            axes.append((name, tuple(axis)))
    if not axes[-1][1]:
        raise InputError(f"{path}.seed is (); there must be at least one seed")
    count = math.prod(len(values) for _, values in axes)
    if count > MOST_MEMBERS:
        names = " x ".join(f"{len(values)} of {name}" for name, values in axes)
        raise InputError(f"{path} has {names}; there must be at most {MOST_MEMBERS:,} members")
    return tuple(axes)


def _read(spec: type, path: str, values: Any, **given: Any) -> Any:
    """An instance of `spec` from plain data, each field checked by its rule."""
    values = _mapping(path, values)
    fields = {f.name: f for f in dataclasses.fields(spec) if f.name not in given}
    _no_others(path, values, fields)
    read = dict(given)
    for name, value in values.items():
        part, rule = fields[name].metadata.get("spec"), fields[name].metadata.get("rule")
        here = f"{path}.{name}"
        read[name] = _read(part, here, value) if part else _frozen(check(rule, here, value))
    return spec(**read)


def _filled(spec: type, path: str, values: Mapping) -> dict[str, Any]:
    """The fields of `spec` as a dict: `values`, and defaults for the rest."""
    values = _mapping(path, values)
    fields = [f for f in dataclasses.fields(spec) if "rule" in f.metadata or "spec" in f.metadata]
    _no_others(path, values, [f.name for f in fields])
    filled = {}
    for f in fields:
        if "spec" in f.metadata:
            filled[f.name] = _filled(f.metadata["spec"], f.name, values.get(f.name, {}))
        else:
            filled[f.name] = values.get(f.name, f.default)
    return filled


def _no_others(path: str, values: Mapping, allowed: Any) -> None:
    for name in values:
        if name not in allowed:
            raise InputError(
                f"{path} has no field {rules.shown(name)}{rules.did_you_mean(name, allowed)}; it "
                f"must be {rules.one_of(allowed).says}"
            )


def _mapping(path: str, value: Any) -> dict[str, Any]:
    """A dict or ConfigDict as a dict, whose inner ones stay as they are."""
    if not isinstance(value, Mapping | ConfigDict):
        raise InputError(f"{path} is {rules.shown(value)}; it must be a dict of fields")
    return dict(value.items())


def _frozen(value: Any) -> Any:
    """The value as plain, hashable Python."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(element) for element in value)
    return value.item() if hasattr(value, "item") else value
