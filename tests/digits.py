"""A few steps of a population on scikit-learn's digits, on any layout and plan."""

import jax
import numpy as np
from sklearn.datasets import load_digits

from kdjax import member, parallel, population
from kdjax.config import experiment, parse, stage
from kdjax.config.spec import StageSpec, grid
from kdjax.data import Preprocessing, order
from kdjax.member import Recipe, State
from kdjax.parallel import Layout
from kdjax.population import Data, Examples, Plan
from kdjax.stage import build_model

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


def train(
    spec: StageSpec,
    layout: Layout = ONE,
    plan: Plan = VMAP,
    logits: np.ndarray | None = None,
    members: list | None = None,
    teach=None,
) -> tuple[State, np.ndarray]:
    """The host state [M, ...] and losses [M, S] after the stage's steps, in one chunk."""
    members = members or grid(spec)
    recipe = Recipe(build_model(spec.model, 10), spec)
    teachers = 0 if logits is None and teach is None else 3
    mixing = np.full((len(members), teachers), 1 / max(teachers, 1))
    hparams = parallel.split_members(population.hparams(members, mixing), layout)
    example = np.zeros((1, 8, 8, 1), np.float32)
    state = parallel.pmap(
        population.over_members(lambda h: member.init(recipe, h, example), plan.members, (0,)),
        layout,
    )(hparams)
    images, labels = arrays()
    data = parallel.replicate(Data(images, labels, logits), layout)
    chunk = population.train_chunk(recipe, plan, parallel.shards(layout), UNIT, teach)
    chunk = parallel.pmap(chunk, layout, donate=(0,))
    steps = np.arange(spec.steps, dtype=np.int32)
    if spec.order == "shared":
        index = parallel.split_batch(order(0, N, spec.batch, 0, spec.steps), layout, axis=1)
        step = np.broadcast_to(steps, (layout.devices, spec.steps))
        examples = Examples(index, index, step, np.zeros_like(step))
    else:
        index = np.stack([order(m["seed"], N, spec.batch, 0, spec.steps) for m in members])
        index = parallel.split_batch(index, layout, axis=2, by_member=True)
        seeds = np.array([m["seed"] for m in members], np.int32)
        own = np.tile(steps, (len(members), 1)), np.tile(seeds[:, None], (1, spec.steps))
        examples = Examples(index, index, *parallel.split_members(own, layout))
    parts = [examples]
    if not plan.scan:
        axis = 1 if spec.order == "shared" else 2
        parts = [jax.tree.map(lambda x, s=s: np.take(x, [s], axis), examples) for s in steps]
    losses = []
    for part in parts:
        state, loss = chunk(state, hparams, data, (), part)
        losses.append(parallel.join_members(loss, layout))
    return parallel.join_members(state, layout), np.concatenate(losses, axis=1)
