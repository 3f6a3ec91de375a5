"""The frozen specs of an experiment: every field, its default and what it may be.

A spec is what fixes a compiled program: shapes, names, control flow. A field marked as an
hparam is a number that each member may have of its own; only those can be axes of `members`.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdjax import checks
from kdjax.checks import Rule
from kdjax.losses import LOSSES
from kdjax.optim import OPTIMIZERS, SCHEDULES

EVALUATED = ("validation", "test")  # splits that a report may be of
TEMPERATURE = checks.number(1e-3, 1e4)
WEIGHT = checks.number(0, 1e6)


def _field(default: Any, rule: Rule, hparam: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule, "hparam": hparam})


def _part(spec: type) -> Any:
    return dataclasses.field(default=spec(), metadata={"spec": spec})


@dataclass(frozen=True)
class ModelSpec:
    """A row of `models.MODELS` and the arguments of its module."""

    name: str = "mlp"
    arguments: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class OptimizerSpec:
    name: str = _field("adamw", checks.one_of(OPTIMIZERS))
    schedule: str = _field("cosine", checks.one_of(SCHEDULES))
    warmup_steps: int = _field(0, checks.whole(0))
    clip_norm: float = _field(0.0, checks.number(0))  # of the whole gradient; 0: no clipping
    max_squared_norm: float = _field(0.0, WEIGHT)  # of a unit's weights; 0: no limit
    learning_rate: float = _field(1e-3, checks.number(0, 1e3, above=True), hparam=True)
    weight_decay: float = _field(0.0, WEIGHT, hparam=True)
    momentum: float = _field(0.9, checks.fraction(), hparam=True)


@dataclass(frozen=True)
class SubsetSpec:
    """Which training examples a stage sees, and whose labels it may use (the transfer set).

    Numbers of examples are stratified over classes and nested: the 100 of `size=100` are among
    the 200 of `size=200`, and among those whose labels `labelled=100` shows.
    """

    classes: tuple[int, ...] = _field((), checks.set_of(checks.whole(0)))  # kept; (): all
    without: tuple[int, ...] = _field((), checks.set_of(checks.whole(0)))  # left out
    size: float = _field(1.0, checks.amount())
    labelled: float = _field(1.0, checks.amount())


@dataclass(frozen=True)
class AugmentSpec:
    """A keyed random view of every training example, new at every step."""

    shift: int = _field(0, checks.whole(0))  # translation by up to so many pixels, each axis
    flip: bool = _field(False, checks.truth())  # left to right, one example in two


@dataclass(frozen=True)
class DatasetSpec:
    name: str = _field("digits", checks.text())
    validation: int = _field(0, checks.whole(0))  # examples of the train split; 0: a tenth
    image_size: int = _field(0, checks.whole(0, 4096))  # of a folder's images; 0: as they are
    normalize: str = _field("unit", checks.one_of(("unit", "standard")))
    resident: bool = _field(True, checks.truth())  # on the device; False: read by Grain


@dataclass(frozen=True)
class ExecutionSpec:
    """How a stage runs. Changes speed, and results by no more than rounding."""

    devices: int = _field(0, checks.whole(0))  # 0: all
    member_shards: int = _field(0, checks.whole(0))  # 0: chosen
    data_shards: int = _field(0, checks.whole(0))  # 0: chosen
    plan: str = _field("auto", checks.one_of(("auto", "vmap", "map", "unroll")))


@dataclass(frozen=True)
class StageSpec:
    """A population, its data and its objective."""

    name: str
    model: ModelSpec
    members: tuple[tuple[str, tuple], ...]  # the axes of the grid, seed last and fastest
    optimizer: OptimizerSpec = _part(OptimizerSpec)
    subset: SubsetSpec = _part(SubsetSpec)
    augment: AugmentSpec = _part(AugmentSpec)
    loss: str = _field("cross_entropy", checks.one_of(LOSSES))
    steps: int = _field(1000, checks.whole(1))
    batch: int = _field(100, checks.whole(1))
    chunk: int = _field(100, checks.whole(1))  # most steps between two checkpoints
    order: str = _field("own", checks.one_of(("own", "shared")))  # of the batches
    teacher: str = _field("", checks.text())  # stages or stage directories, commas between
    teacher_logits: str = _field("live", checks.one_of(("live", "cached", "cached_float16")))
    mean: str = _field("arithmetic", checks.one_of(("arithmetic", "geometric")))
    mixing: str = _field("all", checks.one_of(("all", "one_to_one", "best")))
    init_from: str = _field("", checks.text())  # a stage or stage directory
    temperature: float = _field(1.0, TEMPERATURE, hparam=True)
    soft_weight: float = _field(1.0, WEIGHT, hparam=True)
    hard_weight: float = _field(0.0, WEIGHT, hparam=True)
    label_smoothing: float = _field(0.0, checks.fraction(), hparam=True)
    ensemble_size: int = _field(0, checks.whole(0), hparam=True)  # first teachers; 0: all


@dataclass(frozen=True)
class ExperimentSpec:
    stages: tuple[StageSpec, ...]
    dataset: DatasetSpec = _part(DatasetSpec)
    execution: ExecutionSpec = _part(ExecutionSpec)
    data_dir: str = _field("", checks.text())  # of TFDS; "": $TFDS_DATA_DIR, ~/tensorflow_datasets
    cache_dir: str = _field("", checks.text())  # of decoded sets; "": the user's; "none": nowhere
    evaluate: str = _field("test", checks.one_of(EVALUATED))  # the report's; "validation" to choose
    tensorboard: bool = _field(False, checks.truth())


def hparam_rules(spec: type) -> dict[str, Rule]:
    fields = dataclasses.fields(spec)
    return {f.name: f.metadata["rule"] for f in fields if f.metadata.get("hparam")}


HPARAMS = hparam_rules(OptimizerSpec) | hparam_rules(StageSpec) | {"seed": checks.whole(0)}


def grid(stage: StageSpec) -> list[dict[str, Any]]:
    """Every member's numbers by name, in the order of the axes, seeds fastest."""
    fixed = {n: getattr(stage, n) for n in hparam_rules(StageSpec)}
    fixed |= {n: getattr(stage.optimizer, n) for n in hparam_rules(OptimizerSpec)}
    names = [name for name, _ in stage.members]
    combinations = itertools.product(*(values for _, values in stage.members))
    return [fixed | dict(zip(names, values, strict=True)) for values in combinations]


def cell(stage: StageSpec, member: Mapping[str, Any]) -> dict[str, Any]:
    """Where a member stands in the grid, seeds aside: the values of the other axes."""
    return {name: member[name] for name, _ in stage.members if name != "seed"}


def cells(stage: StageSpec) -> list[tuple[dict[str, Any], list[int]]]:
    """Every cell of the grid, in order, and the places of its members."""
    found: list[tuple[dict[str, Any], list[int]]] = []
    for place, member in enumerate(grid(stage)):
        here = cell(stage, member)
        places = next((places for c, places in found if c == here), None)
        if places is None:
            places = []
            found.append((here, places))
        places.append(place)
    return found


def hard_term(stage: StageSpec) -> bool:
    """Whether any member's loss reads labels."""
    loss = LOSSES[stage.loss]
    if "hard_weight" in loss.hparams:
        return any(member["hard_weight"] for member in grid(stage))
    return loss.labels


def plain(spec: Any) -> Any:
    """A spec as JSON has it: dicts, lists, text, numbers."""
    return json.loads(json.dumps(dataclasses.asdict(spec)))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The keys in which two plain specs differ, as "key: old -> new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}")]
    return [] if old == new else [f"{path.lstrip('.')}: {old} -> {new}"]


def teachers_of(reference: str) -> tuple[str, ...]:
    """The names in a `teacher` field."""
    return tuple(name.strip() for name in reference.split(",") if name.strip())
