"""A few steps of a population on scikit-learn's digits, on any layout and plan."""

import numpy as np
from sklearn.datasets import load_digits

from kdjax import member, nets, optim, parallel, population
from kdjax.config import experiment, parse, stage
from kdjax.config.spec import StageSpec, grid
from kdjax.data import Preprocessing, order
from kdjax.member import Hparams, Recipe, State
from kdjax.mixing import peers_matrix
from kdjax.parallel import Layout
from kdjax.population import Data, Examples, Plan, Teach

UNIT = Preprocessing(mean=(0.0,), scale=(1 / 16,))
VMAP = Plan("vmap", scan=True)
ONE = Layout()
N = 200


def a_stage(**fields) -> StageSpec:
    """The last stage of an experiment whose first, if it needs one, is its teacher."""
    fields = {"batch": 20, "steps": 6, "model": {"name": "mlp", "hidden": (16,)}} | fields
    stages = {"student": stage(**fields)}
    if fields.get("teacher"):
        stages = {"teachers": stage(members=dict(seed=3))} | stages
    return parse(experiment(stages=stages)).stages[-1]


def arrays() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return digits.images[:N, ..., None].astype(np.uint8), digits.target[:N].astype(np.int32)


def teacher_logits() -> np.ndarray:
    """[N, 3, 10]: three linear readings of the images, as rough as the student needs."""
    images, _ = arrays()
    weights = np.random.default_rng(0).normal(size=(3, 64, 10))
    return np.einsum("nd,kdc->nkc", images.reshape(N, -1) / 16, weights).astype(np.float32)


def recipe_of(spec: StageSpec, **fields) -> Recipe:
    """What the members of a stage have in common, of ten classes."""
    net = spec.model.net
    return Recipe(
        net=net or nets.build({"name": spec.model.name, **dict(spec.model.arguments)}, 10),
        objective={part.name: part.term for part in spec.objective},
        optimizer=lambda h: optim.build(spec.optimizer, spec.steps, h),
        mean=spec.mean,
        examples=N,
        **fields,
    )


def hparams_of(spec: StageSpec, teachers: int = 1, members: list | None = None) -> Hparams:
    """The numbers of all members [M], each of whom learns from all teachers alike."""
    members = members or grid(spec)
    return population.hparams(members, np.full((len(members), teachers), 1 / teachers))


def train(
    spec: StageSpec,
    layout: Layout = ONE,
    plan: Plan = VMAP,
    logits: np.ndarray | None = None,
    members: list | None = None,
    teach: Teach | None = None,
    taught: member.Outputs | None = None,
    peers: bool = False,
    average: float | None = None,
) -> tuple[State, np.ndarray]:
    """The host state [M, ...] and losses [M, S] after the stage's steps, in one chunk.

    Args:
      logits: of three teachers, cached; or `teach`, which has three as well.
      taught: of `teach`, one example's outputs [3, 1, ...], for projections of features.
      peers, average: whether the members, or their own averages, teach.
    """
    members = members or grid(spec)
    recipe = recipe_of(spec, average=average)
    hparams = hparams_of(spec, 1 if logits is None and teach is None else 3, members)
    if peers:
        hparams["mixing"] = peers_matrix(len(members))
    hparams = parallel.place_members(hparams, layout)
    example = np.zeros((1, 8, 8, 1), np.float32)
    one = lambda h: member.init(recipe, h, example, taught)
    state = parallel.pmap(population.over_members(one, plan.members, (0,)), layout)(hparams)
    images, labels = arrays()
    data = parallel.replicate(Data(images, labels, logits), layout)
    shards = parallel.shards(layout)
    chunk = population.train_chunk(
        recipe, plan, shards, UNIT, spec.augment, spec.order, teach, peers=peers
    )
    chunk = parallel.pmap(chunk, layout, donate=(0,))
    losses = []
    for examples in examples_of(spec, layout, plan, members):
        state, loss = chunk(state, hparams, data, (), examples)
        losses.append(parallel.fetch_members(loss, layout))
    return parallel.fetch_members(state, layout), np.concatenate(losses, axis=1)


def examples_of(
    spec: StageSpec, layout: Layout, plan: Plan, members: list | None = None
) -> list[Examples]:
    """What the stage's steps train on, in one call, or in a call for each step."""
    steps, members = np.arange(spec.steps, dtype=np.int32), members or grid(spec)
    calls = [steps] if plan.scan else [steps[s : s + 1] for s in steps]
    return [_call(spec, layout, members, part) for part in calls]


def _call(spec: StageSpec, layout: Layout, members: list, steps: np.ndarray) -> Examples:
    where = N, spec.batch, int(steps[0]), len(steps)
    if spec.order == "shared":
        index = parallel.place_batch(order(0, *where), layout, axis=1)
        return Examples(index, index, *parallel.replicate((steps, np.zeros_like(steps)), layout))
    index = np.stack([order(m["seed"], *where) for m in members])
    index = parallel.place_batch(index, layout, axis=2, by_member=True)
    seeds = np.array([m["seed"] for m in members], np.int32)
    own = np.tile(steps, (len(members), 1)), np.tile(seeds[:, None], (1, len(steps)))
    return Examples(index, index, *parallel.place_members(own, layout))
