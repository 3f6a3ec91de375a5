"""From a config to frozen specs, with every check that needs no data.

A config is plain data: a name in it is a row of a table or `module:attribute`. The values
themselves may stand in place of names, as `kdjax.train` and `kdjax.distill` have them.
"""

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kdjax import rules
from kdjax.class_map import check_chosen
from kdjax.config.objective import LABELS, objective_of
from kdjax.config.plain import frozen, mapping, no_others
from kdjax.config.reads import check_reads
from kdjax.config.spec import (
    ExperimentSpec,
    ModelSpec,
    StageSpec,
    grid,
    read_hparams,
    weighs,
    weighs_labels,
)
from kdjax.config.teachers import teachers_of
from kdjax.data import RawSet
from kdjax.nets import checked_arguments
from kdjax.nets.net import Net
from kdjax.rules import InputError, check
from kdjax.teachers import Teacher
from kdjax.views import AugmentSpec

MOST_MEMBERS = 10_000
RESERVED = ("figures",)  # beside the stages in a workdir


def parse(config: Mapping[str, Any]) -> ExperimentSpec:
    """The frozen specs of a config.

    Raises:
      InputError: a field is unknown, out of range, read by nothing, or contradicts another;
        nothing has been computed or written by then.
    """
    config = mapping("config", config)
    arrays = {}
    given = config.get("dataset", {})
    dataset = {"name": given} if isinstance(given, RawSet) else mapping("config.dataset", given)
    if isinstance(dataset.get("name"), RawSet):
        arrays = {"arrays": dataset["name"]}
        config = config | {"dataset": dataset | {"name": dataset["name"].name}}
    no_others(
        "config", config, [f.name for f in dataclasses.fields(ExperimentSpec) if f.name != "arrays"]
    )
    named = mapping("config.stages", config.pop("stages", {}))
    if not named:
        raise InputError("config.stages is empty; it must name at least one stage")
    stages: list[StageSpec] = []
    teachers: dict[str, Any] = {}  # by the text that names them; files are read once
    for name, values in named.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)) or name in RESERVED:
            raise InputError(
                f"config.stages has {rules.shown(name)}; letters, digits, _ and - make a name, "
                f"other than {', '.join(RESERVED)}"
            )
        stages.append(_stage(f"config.stages.{name}", name, values, stages, teachers))
    return read(ExperimentSpec, "config", config, stages=tuple(stages), **arrays)


def _stage(
    path: str, name: str, values: Any, earlier: list[StageSpec], teachers: dict[str, Any]
) -> StageSpec:
    values = mapping(path, values)
    teacher = values.get("teacher", "")
    found = teachers.get(teacher) if isinstance(teacher, str) else None
    if found is None:
        found = teachers_of(teacher, f"{path}.teacher")
    if isinstance(teacher, str):
        teachers[teacher] = found
    objective = objective_of(f"{path}.objective", values.get("objective", LABELS))
    parts = {
        "model": _model(f"{path}.model", values.get("model", {})),
        "objective": objective,
        "members": _axes(f"{path}.members", values.get("members", {}), [p.name for p in objective]),
        "teacher": found,
    }
    rest = {k: v for k, v in values.items() if k not in parts}
    stage = read(StageSpec, path, rest, name=name, **parts)
    stage = dataclasses.replace(stage, members=_members(f"{path}.members", stage))
    if stage.taught and not stage.teacher:
        reading = next(p.name for p in objective if p.term.is_taught)
        raise InputError(f"{path}.teacher is empty; the term {reading!r} needs a teacher")
    _check_references(path, stage, earlier)
    check_chosen(stage.class_map, bool(stage.teacher), f"{path}.class_map")
    check_reads(stage, path)
    _check_members(path, stage)
    if stage.augment.mixes and stage.batch < 2:
        raise InputError(
            f"{path}.batch is {stage.batch}, but {path}.augment is {stage.augment}, which mixes "
            "two examples of a batch; it must be at least 2"
        )
    if stage.optimizer.warmup_steps > stage.steps:
        raise InputError(
            f"{path}.optimizer.warmup_steps is {stage.optimizer.warmup_steps}; it must be at "
            f"most steps, {stage.steps}"
        )
    return stage


def _check_references(path: str, stage: StageSpec, earlier: list[StageSpec]) -> None:
    """Teachers and `init_from` name earlier stages or directories, each once."""
    init = [stage.init_from] if stage.init_from else []
    names = [other.name for other in earlier]
    for field, references in (("teacher", stage.teacher), ("init_from", init)):
        if len(set(references)) < len(references):
            raise InputError(
                f"{path}.{field} is {rules.shown(references)}; it must name each stage once"
            )
        for reference in references:
            if not isinstance(reference, str) or reference in names:
                continue
            if not ("/" in reference or os.path.isdir(reference)):
                raise InputError(
                    f"{path}.{field} is {rules.shown(reference)}; it must be an earlier stage "
                    f"({', '.join(names) or 'there is none'}) or a stage directory"
                )
    scopes = {t.scope for t in stage.teacher if isinstance(t, Teacher)}
    stored, remedy = "", ""
    if "index" in scopes:
        stored = f"{path}.teacher is logits of the stored examples"
        remedy = "the teacher must be a stage or a function"
    elif stage.teacher_logits != "live":
        stored, remedy = f"{path}.teacher_logits is {stage.teacher_logits!r}", "it must be 'live'"
    if stage.taught and stored and stage.augment != AugmentSpec():
        raise InputError(
            f"{stored}, but {path}.augment with {stage.augment} changes the view that the student "
            f"sees; {remedy}, so that the teacher sees the same view"
        )
    if stage.taught and stored and any(part.term.teacher for part in stage.objective):
        raise InputError(f"{stored}, but a term reads features of the teachers; {remedy}")
    directed = [p.name for p in stage.objective if p.term.directions and p.term.is_taught]
    if stored and directed:
        raise InputError(
            f"{stored}, but the term {directed[0]!r} reads derivatives of the teachers; {remedy}"
        )
    inside = scopes & {"population", "member"}
    if inside and len(stage.teacher) > 1:
        raise InputError(
            f"{path}.teacher has {len(stage.teacher)} teachers, of which one is of the stage "
            "itself; it must be the only one"
        )
    if "population" in scopes and (stage.order != "shared" or len(grid(stage)) < 2):
        raise InputError(
            f"{path}.teacher is peers, with order {stage.order!r} and {len(grid(stage))} members; "
            "order must be 'shared', and there must be at least 2 members"
        )
    if inside and stage.teacher_logits != "live":
        raise InputError(
            f"{path}.teacher_logits is {stage.teacher_logits!r}; it must be 'live' for a teacher "
            "that trains with the stage"
        )


def _check_members(path: str, stage: StageSpec) -> None:
    """What the numbers of the members must be together."""
    if weighs_labels(stage) and not stage.subset.labelled:
        raise InputError(
            f"{path}.subset.labelled is {stage.subset.labelled!r}, but the objective has a term of "
            "labels; show some labels, or set its weight to 0"
        )
    terms = [part.name for part in stage.objective]
    if not all(any(weighs(member, name) for name in terms) for member in grid(stage)):
        weights = ", ".join(f"{name}.weight" for name in terms)
        raise InputError(
            f"{path}.objective has the weights {weights}, which are all 0 for a member; "
            "one must be above 0"
        )
    sizes = [member.get("ensemble_size", 0) for member in grid(stage)]
    if len(set(sizes)) > 1 and 0 in sizes:
        raise InputError(
            f"{path}.members.ensemble_size has 0 among others; it must be how many teachers, from 1"
        )
    if stage.mixing != "all" and any(sizes):
        raise InputError(
            f"{path}.ensemble_size is {max(sizes)}, but {path}.mixing is {stage.mixing!r}; it must "
            "be 'all' to learn from the first so many"
        )


def _model(path: str, value: Any) -> ModelSpec:
    """A net, its name, or its name and arguments."""
    if isinstance(value, Net):
        return ModelSpec(value.name, (), value)
    if not hasattr(value, "items"):
        raise InputError(
            f"{path} is {rules.shown(value)}; it must be a net, as kdjax.linen, nnx, equinox or "
            "function make it, or a dict with the name of one and its arguments"
        )
    values = mapping(path, value)
    name = values.pop("name", ModelSpec.name)
    return ModelSpec(name, frozen(tuple(checked_arguments(name, values, path).items())))


def _axes(path: str, values: Any, terms: Iterable[str]) -> tuple[tuple[str, tuple], ...]:
    """The axes of the grid as they are given, the numbers of a term as "term.number"."""
    axes: list[tuple[str, Any]] = []
    for name, axis in mapping(path, values).items():
        own = name in terms or (hasattr(axis, "items") and len(axis) > 0)
        inner = mapping(f"{path}.{name}", axis) if own else {"": axis}
        for number, given in inner.items():
            key = f"{name}.{number}" if own else str(name)
            if key == "seed" or not (isinstance(given, tuple | list) and not len(given)):
                axes.append((key, frozen(given)))
    return tuple(axes)


def _members(path: str, stage: StageSpec) -> tuple[tuple[str, tuple], ...]:
    """The axes, checked, in one order: as the numbers are read, seeds last."""
    given, known = dict(stage.members), read_hparams(stage)
    seeds = given.get("seed", 1)
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        seeds = tuple(range(check(rules.whole(1, MOST_MEMBERS), f"{path}.seed", seeds)))
    axes = []
    for name, (_, rule) in known.items():
        axis = seeds if name == "seed" else given.get(name, ())
        axis = check(rules.tuple_of(rule), f"{path}.{name}", axis)
        if len(set(axis)) < len(axis):
            raise InputError(f"{path}.{name} is {axis!r}; each value must stand there once")
        if len(axis) or name == "seed":
            axes.append((name, tuple(axis)))
    for name in given:
        if name not in known:
            raise InputError(
                f"{path}.{name} is {rules.shown(given[name])}, but nothing in the stage reads "
                f"{name!r}; it reads: {', '.join(known)}"
            )
    if not axes[-1][1]:
        raise InputError(f"{path}.seed is (); there must be at least one seed")
    count = math.prod(len(values) for _, values in axes)
    if count > MOST_MEMBERS:
        names = " x ".join(f"{len(values)} of {name}" for name, values in axes)
        raise InputError(f"{path} has {names}; there must be at most {MOST_MEMBERS:,} members")
    return tuple(axes)


def read(spec: type, path: str, values: Any, **given: Any) -> Any:
    """An instance of `spec` from plain data, each field checked by its rule."""
    values = mapping(path, values)
    fields = {f.name: f for f in dataclasses.fields(spec) if f.name not in given and f.metadata}
    no_others(path, values, [*fields, *given])
    found = dict(given)
    for name, value in values.items():
        about, here = fields[name].metadata, f"{path}.{name}"
        if "spec" in about:
            found[name] = read(about["spec"], here, value)
        else:
            found[name] = frozen(check(about["rule"], here, value))
    return spec(**found)
