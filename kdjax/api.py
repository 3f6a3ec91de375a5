"""The Python door: a population trained in one call, from values instead of names.

`train` and `distill` make the same config that a file makes, with the values in it, and run it.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.config.plain import mapping
from kdjax.config.spec import ExperimentSpec, OptimizerSpec, StageSpec, hparam_rules
from kdjax.data import RawSet
from kdjax.experiment import run_stages
from kdjax.losses import TERMS, Term
from kdjax.nets import calls
from kdjax.nets.net import Net
from kdjax.rules import InputError, check, did_you_mean, shown, text
from kdjax.stage import Stage
from kdjax.teachers import Teacher, as_teacher

Objective = Mapping[str | Term, float | Mapping[str, Any]] | Term | str


def train(
    net: Net | Mapping[str, Any],
    data: RawSet | str,
    *,
    objective: Objective = "cross_entropy",
    seeds: int | tuple[int, ...] = 1,
    workdir: str | Path | None = None,
    name: str = "net",
    quiet: bool = False,
    **fields: Any,
) -> Stage:
    """Trains a population of one net.

    Args:
      net: as `linen`, `nnx`, `equinox` or `function` make it, or a dict with the name of one of
        kdjax's and its arguments, such as `dict(name="mlp", hidden=(32,))`.
      data: as `arrays` makes it, or the name of a data set, as a config has it.
      objective: terms, or their names, with their weights or their numbers. A number of a term may
        be a tuple of values, an axis of the population.
      seeds: how many members there are of each combination of numbers, or their seeds, as a tuple,
        a range or an array.
      workdir: where the stage's directory is kept; a rerun goes on from there. None keeps the
        stage in memory alone.
      name: of the stage.
      quiet: print nothing.
      **fields: of a stage (`steps`, `batch`, `optimizer`, `augment`, `subset`, ..., and
        `init_from`, a finished stage or its directory, whose variables are the start), of the
        experiment (`dataset`, `execution`, ...), and `learning_rate`, `weight_decay` and
        `momentum` of the optimizer. A number that a member may have of its own may be a tuple or
        an array of values.

    Returns:
      The finished stage, with its `report`.

    Raises:
      InputError: an argument cannot be used; nothing has been computed by then.
      Diverged: every member has.
    """
    return _run(net, data, (), objective, seeds, workdir, name, quiet, fields)


def distill(
    net: Net | Mapping[str, Any],
    teachers: Stage | Teacher | Net | str | Path | tuple[Any, ...],
    data: RawSet | str,
    *,
    objective: Objective = "kl_divergence",
    seeds: int | tuple[int, ...] = 1,
    workdir: str | Path | None = None,
    name: str = "student",
    quiet: bool = False,
    **fields: Any,
) -> Stage:
    """Trains a population of one net on what teachers say.

    Args:
      net, data, seeds, workdir, name, quiet: as of `train`.
      teachers: a stage, a teacher, the path of a stage's directory or of a file of logits, a pure
        function with its parameters, or a tuple of those. A student of its teacher's net needs
        other seeds, such as `seeds=(10, 11)`, for with the same it would start from the very same
        parameters.
      objective: as of `train`; by default soft targets alone (arXiv 1503.02531).
      **fields: as of `train`, such as `temperature` or `mixing`.

    Returns:
      The finished stage, with its `report`.

    Raises:
      InputError: an argument cannot be used; nothing has been computed by then.
      Diverged: every member has.
    """
    given = teachers if isinstance(teachers, tuple | list) else (teachers,)
    paths = (str(t) if isinstance(t, Path) else t for t in given)
    values = tuple(t if isinstance(t, str) else as_teacher(t, "teachers") for t in paths)
    return _run(net, data, values, objective, seeds, workdir, name, quiet, fields)


def _run(
    net: Net | Mapping[str, Any],
    data: RawSet | str,
    teachers: tuple[str | Teacher, ...],
    objective: Objective,
    seeds: int | tuple[int, ...],
    workdir: str | Path | None,
    name: str,
    quiet: bool,
    fields: dict[str, Any],
) -> Stage:
    check(text(), "name", name)
    if workdir is not None and not (isinstance(workdir, str | Path) and str(workdir)):
        raise InputError(
            f"workdir is {shown(workdir)}; it must be the path of a directory, or None"
        )
    config = _config(net, data, teachers, objective, seeds, name, fields)
    if workdir is not None:
        report, stages = run_stages(config, workdir, quiet)
        return dataclasses.replace(stages[name], report=report)
    with tempfile.TemporaryDirectory(prefix="kdjax-") as directory:
        report, stages = run_stages(config, directory, quiet, temporary=True)
        return dataclasses.replace(stages[name], report=report, path=None)


def _config(
    net: Net | Mapping[str, Any],
    data: RawSet | str,
    teachers: tuple[str | Teacher, ...],
    objective: Objective,
    seeds: int | tuple[int, ...],
    name: str,
    fields: dict[str, Any],
) -> dict[str, Any]:
    """The arguments in the places that a config has for them."""
    if not isinstance(data, RawSet | str):
        raise InputError(
            f"data is {shown(data)}; it must be kdjax.arrays(...), or the name of a data set"
        )
    if not (isinstance(objective, Term | str) or hasattr(objective, "items")):
        raise InputError(
            f"objective is {shown(objective)}; it must be a dict of terms, or one kdjax.Term"
        )
    own = {f.name for f in dataclasses.fields(StageSpec)} - {
        "model",
        "objective",
        "teacher",
        "name",
    }
    of_optimizer = hparam_rules(OptimizerSpec)
    stage: dict[str, Any] = {"model": net, "teacher": teachers}
    of_experiment = {f.name for f in dataclasses.fields(ExperimentSpec)} - {"stages", "arrays"}
    experiment: dict[str, Any] = {}
    members = mapping("members", fields.pop("members", {}))
    if "seed" in members:
        raise InputError(f"members has the seed {shown(members['seed'])}; seeds is the argument")
    several = _values(seeds)
    members["seed"] = seeds if several is None else several
    optimizer = mapping("optimizer", fields.pop("optimizer", {}))
    for field, value in fields.items():
        if field in of_optimizer and field in optimizer:
            raise InputError(
                f"{field} is {shown(value)}, but optimizer has it, too; it must be given once"
            )
        if field in of_optimizer:
            optimizer[field] = value
        elif field in own:
            stage[field] = value
        elif field in of_experiment:
            experiment[field] = value
        else:
            known = (*of_optimizer, *own, *of_experiment, "name", "seeds", "workdir", "quiet")
            raise InputError(
                f"there is no argument {field!r}{did_you_mean(field, known)}; it must be one of: "
                f"{', '.join(sorted(known))}"
            )
    dataset = mapping("dataset", experiment.get("dataset", {}))
    if "name" in dataset:
        raise InputError(f"dataset has the name {dataset['name']!r}; data is the data set's name")
    experiment["dataset"] = dataset | {"name": data}
    for holder, names in ((optimizer, of_optimizer), (stage, hparam_rules(StageSpec))):
        for field in [f for f in holder if f in names and _values(holder[f]) is not None]:
            if field in members:
                raise InputError(
                    f"{field} is {shown(holder[field])}, but members has it, too; it must be given "
                    "once"
                )
            members[field] = _values(holder.pop(field))
    stage["objective"], axes = _fixed(objective)
    for term, numbers in axes.items():
        members[term] = dict(members.get(term, {})) | numbers
    if optimizer:
        stage["optimizer"] = optimizer
    return experiment | {"stages": {name: stage | {"members": members}}}


def _fixed(objective: Objective) -> tuple[Any, dict[str, dict[str, tuple]]]:
    """The objective without its tuples of numbers, and those as axes of the terms."""
    if isinstance(objective, Term | str):
        return objective, {}
    fixed: dict[Any, Any] = {}
    axes: dict[str, dict[str, tuple]] = {}
    for term, given in objective.items():
        label = term.label if isinstance(term, Term) else str(term).rpartition(":")[2]
        numbers: dict[str, Any] = {"weight": given}
        if isinstance(given, Mapping):
            numbers = dict(given)
        row = None if isinstance(term, Term) else TERMS.get(term)
        values = {k: _values(v) for k, v in numbers.items() if not calls.takes(row, k)}
        swept = {k: v for k, v in values.items() if v and all(map(_is_number, v))}
        axes |= {label: swept} if swept else {}
        rest = {k: v for k, v in numbers.items() if k not in swept}
        fixed[term] = rest
    return fixed, axes


def _values(given: Any) -> tuple[Any, ...] | None:
    """The values of an axis, given as a tuple, list, range or array; None of one value."""
    if isinstance(given, tuple | list | range):
        return tuple(given)
    if getattr(given, "ndim", 0) == 1:
        return tuple(np.asarray(given).tolist())
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
