"""The frozen specs of an experiment: every field, its default and what it may be.

A spec is what fixes a compiled program: shapes, names, control flow. A field marked as an
hparam is a number that each member may have of its own; those and the numbers of the
objective's terms can be axes of `members`. The specs of data, optimizer, views and devices stand
beside the code that reads them.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from kdjax import rules
from kdjax.class_map import ClassMap
from kdjax.data import DatasetSpec, RawSet, SubsetSpec
from kdjax.losses import Term
from kdjax.losses.term import END, TEMPERATURE
from kdjax.nets.net import Net
from kdjax.optim import OPTIMIZERS, OptimizerSpec
from kdjax.parallel import ExecutionSpec
from kdjax.stage import Stage
from kdjax.teachers import Teacher
from kdjax.views import AugmentSpec

ANNEALINGS = {  # from 0 to 1, of the part of the steps that is done
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1 - jnp.cos(jnp.pi * done)),
}
EVALUATED = ("validation", "test")  # splits that a report may be of
SEED = rules.whole(0)
START = rules.Rule(
    "a Stage, or the name of an earlier stage or a stage directory, text on one line",
    lambda value: isinstance(value, Stage) or rules.text().accepts(value),
)

Numbers = dict[str, float]  # of one member, by name


def _part(spec: type) -> Any:
    return dataclasses.field(default=spec(), metadata={"spec": spec})


@dataclass(frozen=True)
class ModelSpec:
    """A row of `nets.NETS`, or `module:attribute`, and its arguments; or a net itself."""

    name: str = "mlp"
    arguments: tuple[tuple[str, Any], ...] = ()
    net: Net | None = None


@dataclass(frozen=True)
class TermSpec:
    """One term of an objective.

    Attributes:
      name: in the objective.
      source: the row of `losses.TERMS`, or `module:attribute`, that it comes from; "" for a Term
        that was given itself.
      options: what the row was called with, such as the paths of layers.
      numbers: the term's numbers that are set; a temperature that is not is the stage's.
    """

    name: str
    term: Term
    source: str
    options: tuple[tuple[str, Any], ...]
    numbers: tuple[tuple[str, float], ...]

    @property
    def weight(self) -> float:
        return dict(self.numbers)["weight"]


@dataclass(frozen=True)
class StageSpec:
    """A population, its data and its objective."""

    name: str
    model: ModelSpec
    objective: tuple[TermSpec, ...]
    members: tuple[tuple[str, tuple], ...]  # the axes of the grid, seed last and fastest
    teacher: tuple[str | Teacher, ...] = ()  # stages, stage directories, or teachers themselves
    class_map: ClassMap = _part(ClassMap)  # of classes that only a teacher, or the student, has
    optimizer: OptimizerSpec = _part(OptimizerSpec)
    subset: SubsetSpec = _part(SubsetSpec)
    augment: AugmentSpec = _part(AugmentSpec)
    #: How many updates a member makes.
    steps: int = rules.field(1000, rules.whole(1))
    #: How many examples each update sees.
    batch: int = rules.field(100, rules.whole(1))
    #: How many steps lie between two evaluations; a run can stop and save after each chunk.
    chunk: int = rules.field(100, rules.whole(1))
    #: The order of the batches: "own", one for each seed, or "shared", one for all members.
    order: str = rules.field("own", rules.one_of(("own", "shared")))
    #: "live" teachers see the student's own view; "cached" ones are asked once for each example.
    teacher_logits: str = rules.field("live", rules.one_of(("live", "cached", "cached_float16")))
    #: How the probabilities of several teachers are averaged.
    mean: str = rules.field("arithmetic", rules.one_of(("arithmetic", "geometric")))
    #: Which teachers a member has: all, one each in order, or the one with the best validation nll.
    mixing: str = rules.field("all", rules.one_of(("all", "one_to_one", "best")))
    #: The stage whose variables the members start from, member by member; "" for none.
    init_from: str | Stage = rules.field("", START)
    #: An earlier stage over a grid, the numbers of whose best cell by validation errors this takes.
    numbers_from: str = rules.field("", rules.text())
    #: How numbers of the objective with an end, such as weight_end, move to it over the steps.
    annealing: str = rules.field("linear", rules.one_of(ANNEALINGS))
    #: The temperature of every term that has none of its own.
    temperature: float = rules.field(1.0, TEMPERATURE, hparam=True)
    #: How many of the teachers, the first ones, teach a member; 0 is all.
    ensemble_size: int = rules.field(0, rules.whole(0), hparam=True)

    @property
    def taught(self) -> bool:
        """Whether the objective reads teachers; without, they are compared with."""
        return any(part.term.is_taught for part in self.objective)

    @property
    def inside(self) -> Teacher | None:
        """The teacher that trains with the stage: its members, or their averages."""
        values = (teacher for teacher in self.teacher if isinstance(teacher, Teacher))
        return next((t for t in values if t.scope in ("population", "member")), None)

    @property
    def anneals(self) -> bool:
        """Whether a number of the objective has an end to which it moves."""
        names = [n for part in self.objective for n in dict(part.numbers)]
        return any(name.endswith(END) for name in [*names, *dict(self.members)])

    @property
    def reads_temperature(self) -> bool:
        """Whether a term reads the temperature of the stage."""
        return any(
            "temperature" in part.term.hparams
            and "temperature" not in dict(part.numbers)
            and f"{part.name}.temperature" not in dict(self.members)
            for part in self.objective
        )


@dataclass(frozen=True)
class ExperimentSpec:
    stages: tuple[StageSpec, ...]
    dataset: DatasetSpec = _part(DatasetSpec)
    execution: ExecutionSpec = _part(ExecutionSpec)
    #: The directory of TFDS; "" is $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    data_dir: str = rules.field("", rules.text())
    #: Where decoded sets are kept; "" is the user's cache, "none" is nowhere.
    cache_dir: str = rules.field("", rules.text())
    #: The split that the report is of; numbers are chosen on "validation".
    evaluate: str = rules.field("test", rules.one_of(EVALUATED))
    #: Write the curves for TensorBoard, too.
    tensorboard: bool = rules.field(False, rules.truth())
    #: How the config was chosen: it is printed, and changes nothing.
    recipe: str = rules.field("", rules.text())
    arrays: RawSet | None = None  # the data themselves, in place of a name


def hparam_rules(spec: type) -> dict[str, rules.Rule]:
    fields = dataclasses.fields(spec)
    return {f.name: f.metadata["rule"] for f in fields if f.metadata.get("hparam")}


def read_hparams(stage: StageSpec) -> dict[str, tuple[float | int, rules.Rule]]:
    """Every number that the stage reads and a member may have of its own: its value and its rule.

    Whoever reads a number declares it: the optimizer, each term of the objective, and, where there
    are teachers to learn from, the choice among them.
    """
    found: dict[str, tuple[float | int, rules.Rule]] = {}
    optimizer, own = hparam_rules(OptimizerSpec), hparam_rules(StageSpec)
    for name in OPTIMIZERS[stage.optimizer.name].hparams:
        found[name] = getattr(stage.optimizer, name), optimizer[name]
    if stage.reads_temperature:
        found["temperature"] = stage.temperature, own["temperature"]
    if stage.taught and not stage.inside:
        found["ensemble_size"] = stage.ensemble_size, own["ensemble_size"]
    axes = dict(stage.members)
    for part in stage.objective:
        numbers = dict(part.numbers)
        for name, (_, rule) in {**part.term.numbers, **part.term.ends}.items():
            key = f"{part.name}.{name}"
            if name in numbers or key in axes:
                found[key] = numbers.get(name, 0.0), rule
    return found | {"seed": (0, SEED)}


def grid(stage: StageSpec) -> list[Numbers]:
    """The numbers that each member reads, by name, in the order of the axes, seeds fastest."""
    fixed = {name: value for name, (value, _) in read_hparams(stage).items()}
    names = [name for name, _ in stage.members]
    combinations = itertools.product(*(values for _, values in stage.members))
    return [fixed | dict(zip(names, values, strict=True)) for values in combinations]


def cell(stage: StageSpec, member: Numbers) -> Numbers:
    """Where a member stands in the grid, seeds aside: the values of the other axes."""
    return {name: member[name] for name, _ in stage.members if name != "seed"}


def cells(stage: StageSpec) -> list[tuple[Numbers, list[int]]]:
    """Every cell of the grid, in order, and the places of its members."""
    found: dict[tuple, tuple[Numbers, list[int]]] = {}
    for place, member in enumerate(grid(stage)):
        here = cell(stage, member)
        found.setdefault(tuple(here.items()), (here, []))[1].append(place)
    return list(found.values())


def weighs_labels(stage: StageSpec) -> bool:
    """Whether a term that reads labels has a weight above 0 for any member."""
    labelled = [part.name for part in stage.objective if "labels" in part.term.needs]
    return any(weighs(member, name) for name in labelled for member in grid(stage))


def weighs(member: Numbers, term: str) -> bool:
    """Whether the weight of a term is above 0 for a member, at any step."""
    return bool(member[f"{term}.weight"] or member.get(f"{term}.weight{END}"))


def plain(spec: Any) -> Any:
    """A spec as JSON has it: dicts, lists, text, numbers; a value that a user brought by what tells
    it from others."""
    return json.loads(json.dumps(_plain(spec)))


def _plain(value: Any) -> Any:
    if isinstance(value, Net):
        return value.spec
    if isinstance(value, Teacher):
        return value.identity
    if isinstance(value, Stage):
        return value.name
    if isinstance(value, RawSet):
        return value.version
    if isinstance(value, Term):
        return None  # `source` and `options` name it
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {k: v for k, v in fields.items() if v is not None}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
