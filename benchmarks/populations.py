"""kdjax's side: populations of dense nets, trained chunk by chunk as `kdjax.train` does it."""

import itertools
from dataclasses import dataclass, replace

import jax
import numpy as np

from benchmarks.timing import Case
from kdjax import data, member, parallel, population
from kdjax.augment import preprocess
from kdjax.checks import InputError
from kdjax.config import experiment, parse, stage
from kdjax.data import Dataset
from kdjax.member import Hparams, Recipe
from kdjax.models import MODELS
from kdjax.parallel import Layout
from kdjax.population import Examples, Plan
from kdjax.sources import ArraySource, whole
from kdjax.spec import DatasetSpec, grid
from kdjax.stage import build_model

BATCH = 100
CHUNKS = 4  # of examples, taken in turn
OPTIMIZERS = {  # no schedule, and rates at which nothing diverges: both are free
    "sgd": dict(name="sgd", learning_rate=0.01, momentum=0.9, schedule="constant"),
    "adamw": dict(name="adamw", learning_rate=1e-3, weight_decay=1e-2, schedule="constant"),
}
IMAGES, DIGITS = "images", "digits"
RANDOM = "random uint8 images of MNIST's shape, whose speed is that of MNIST"
DATASETS: dict[str, Dataset] = {}  # read so far, by IMAGES or DIGITS


@dataclass(frozen=True)
class Net:
    """A dense net on `data`: MNIST's images or the digits of scikit-learn."""

    data: str
    hidden: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        return ({IMAGES: 784, DIGITS: 64}[self.data], *self.hidden, 10)

    @property
    def name(self) -> str:
        return "-".join(map(str, self.widths))

    @property
    def flops(self) -> int:
        """Of a member's step by the usual count: two for each weight and example forward, four
        backward. Two of the first layer's four, its inputs' gradient, nobody computes."""
        return 6 * BATCH * sum(a * b for a, b in itertools.pairwise(self.widths))

    @property
    def chunk(self) -> int:
        """Steps of a chunk: a stage's default, down to half of it where a step is long. (With 20,
        a map of members is a tenth slower, for each chunk copies the state once.)"""
        return max(50, min(100, 10**10 // self.flops))


def dataset(name: str) -> Dataset:
    """The images or the digits, in memory; each is read once."""
    if name not in DATASETS:
        DATASETS[name] = _images() if name == IMAGES else _read(DatasetSpec(DIGITS))
    return DATASETS[name]


def _images() -> Dataset:
    try:
        return _read(DatasetSpec("mnist"))
    except InputError:
        return _random()


def _random() -> Dataset:
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (54_000, 28, 28, 1), np.uint8)
    train = whole(ArraySource(inputs, random.integers(0, 10, len(inputs))))
    return Dataset(
        name=RANDOM,
        version="",
        classes=10,
        input_shape=inputs.shape[1:],
        splits={"train": train},
        preprocessing=data.Preprocessing((0.0,), (1 / 255,)),
    )


def _read(spec: DatasetSpec) -> Dataset:
    """The train split, in memory."""
    read = data.load(spec, "")
    train = read.splits["train"]
    train = whole(ArraySource(data.fetch(train, np.arange(len(train))), train.labels))
    return replace(read, splits={"train": train})


@dataclass(frozen=True)
class Setup:
    """A population as a stage would have it. `hparams` [M]; `state_bytes` of a device."""

    members: list[dict]
    recipe: Recipe
    layout: Layout
    hparams: Hparams
    example: jax.Array
    state_bytes: int

    @property
    def chosen(self) -> str:
        """How kdjax lifts the members, left to itself."""
        return self.plan("auto").members

    def plan(self, asked: str) -> Plan:
        kind = MODELS[self.recipe.stage.model.name].kind
        return population.choose_plan(asked, jax.default_backend(), kind, self.state_bytes)


def set_up(net: Net, optimizer: str, members: int) -> Setup:
    config = stage(
        model=dict(name="mlp", hidden=net.hidden),
        members=dict(seed=members),
        optimizer=OPTIMIZERS[optimizer],
        batch=BATCH,
        steps=CHUNKS * net.chunk,
        chunk=net.chunk,
    )
    spec, read = parse(experiment(stages=dict(timed=config))), dataset(net.data)
    (timed,), numbers = spec.stages, grid(spec.stages[0])
    recipe = Recipe(build_model(timed.model, read.classes), timed)
    hparams = population.hparams(numbers, np.ones((members, 1)))
    layout = parallel.layout(spec.execution, members, BATCH, "benchmarks")
    example = preprocess(np.zeros((1, *read.input_shape), np.float32), read.preprocessing)
    states = jax.eval_shape(jax.vmap(lambda h: member.init(recipe, h, example)), hparams)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(states))
    return Setup(numbers, recipe, layout, hparams, example, size // layout.member_shards)


def case(net: Net, optimizer: str, members: int, plan: str) -> Case:
    """Chunks of a population's training; the unit is a member's step."""
    name = f"{optimizer} M={members} {plan}"
    made, read = set_up(net, optimizer, members), dataset(net.data)
    recipe, layout, chosen = made.recipe, made.layout, made.plan(plan)
    hparams = parallel.split_members(made.hparams, layout)
    init = lambda h: member.init(recipe, h, made.example)
    state = parallel.pmap(population.over_members(init, chosen.members, (0,)), layout)(hparams)
    program = population.train_chunk(
        recipe, chosen, parallel.shards(layout), read.preprocessing, None
    )
    program = parallel.pmap(program, layout, donate=(0,))
    train = read.splits["train"]
    inputs = data.fetch(train, np.arange(len(train)))
    resident = parallel.replicate(population.Data(inputs, train.labels, None), layout)
    chunks = [examples(made, len(train), c * net.chunk, net.chunk) for c in range(CHUNKS)]
    turns = itertools.cycle(chunks)

    def run() -> None:
        nonlocal state
        state, loss = program(state, hparams, resident, (), next(turns))
        jax.block_until_ready(state)
        if not np.isfinite(loss).all():
            raise FloatingPointError(f"{net.name}, {name} has diverged; its time means nothing")

    compile = lambda: program.lower(state, hparams, resident, (), chunks[0]).compile()
    return Case(name, run, members * net.chunk, compile)


def examples(made: Setup, available: int, start: int, steps: int) -> Examples:
    """The steps from `start` on, each member's in its own order, on the devices."""
    seeds = [m["seed"] for m in made.members]
    index = np.stack([data.order(seed, available, BATCH, start, steps) for seed in seeds])
    index = parallel.split_batch(index, made.layout, axis=2, by_member=True)
    step = np.tile(np.arange(start, start + steps, dtype=np.int32), (len(seeds), 1))
    seed = np.tile(np.array(seeds, np.int32)[:, None], (1, steps))
    return Examples(index, index, *parallel.split_members((step, seed), made.layout))
