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

from kdjax import rules
from kdjax.data.dataset import DatasetSpec
from kdjax.data.subset import SubsetSpec
from kdjax.losses.logits import LOSSES
from kdjax.optim import OptimizerSpec
from kdjax.parallel import ExecutionSpec
from kdjax.rules import Rule
from kdjax.views import AugmentSpec

EVALUATED = ("validation", "test")  # splits that a report may be of
TEMPERATURE = rules.number(1e-3, 1e4)
WEIGHT = rules.number(0, 1e6)


def _part(spec: type) -> Any:
    return dataclasses.field(default=spec(), metadata={"spec": spec})


@dataclass(frozen=True)
class ModelSpec:
    """A row of `models.MODELS` and the arguments of its module."""

    name: str = "mlp"
    arguments: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class StageSpec:
    """A population, its data and its objective."""

    name: str
    model: ModelSpec
    members: tuple[tuple[str, tuple], ...]  # the axes of the grid, seed last and fastest
    optimizer: OptimizerSpec = _part(OptimizerSpec)
    subset: SubsetSpec = _part(SubsetSpec)
    augment: AugmentSpec = _part(AugmentSpec)
    loss: str = rules.field("cross_entropy", rules.one_of(LOSSES))
    steps: int = rules.field(1000, rules.whole(1))
    batch: int = rules.field(100, rules.whole(1))
    chunk: int = rules.field(100, rules.whole(1))  # most steps between two checkpoints
    order: str = rules.field("own", rules.one_of(("own", "shared")))  # of the batches
    teacher: str = rules.field("", rules.text())  # stages or stage directories, commas between
    teacher_logits: str = rules.field("live", rules.one_of(("live", "cached", "cached_float16")))
    mean: str = rules.field("arithmetic", rules.one_of(("arithmetic", "geometric")))
    mixing: str = rules.field("all", rules.one_of(("all", "one_to_one", "best")))
    init_from: str = rules.field("", rules.text())  # a stage or stage directory
    temperature: float = rules.field(1.0, TEMPERATURE, hparam=True)
    soft_weight: float = rules.field(1.0, WEIGHT, hparam=True)
    hard_weight: float = rules.field(0.0, WEIGHT, hparam=True)
    label_smoothing: float = rules.field(0.0, rules.fraction(), hparam=True)
    ensemble_size: int = rules.field(0, rules.whole(0), hparam=True)  # first teachers; 0: all


@dataclass(frozen=True)
class ExperimentSpec:
    stages: tuple[StageSpec, ...]
    dataset: DatasetSpec = _part(DatasetSpec)
    execution: ExecutionSpec = _part(ExecutionSpec)
    data_dir: str = rules.field(
        "", rules.text()
    )  # of TFDS; "": $TFDS_DATA_DIR, ~/tensorflow_datasets
    cache_dir: str = rules.field(
        "", rules.text()
    )  # of decoded sets; "": the user's; "none": nowhere
    evaluate: str = rules.field(
        "test", rules.one_of(EVALUATED)
    )  # the report's; "validation" to choose
    tensorboard: bool = rules.field(False, rules.truth())


def hparam_rules(spec: type) -> dict[str, Rule]:
    fields = dataclasses.fields(spec)
    return {f.name: f.metadata["rule"] for f in fields if f.metadata.get("hparam")}


HPARAMS = hparam_rules(OptimizerSpec) | hparam_rules(StageSpec) | {"seed": rules.whole(0)}


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


def teachers_of(reference: str) -> tuple[str, ...]:
    """The names in a `teacher` field."""
    return tuple(name.strip() for name in reference.split(",") if name.strip())
