"""A population is its members: lifted, permuted, diverged, in any plan."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import (
    ONE,
    UNIT,
    VMAP,
    a_stage,
    arrays,
    examples_of,
    hparams_of,
    recipe_of,
    teacher_logits,
    train,
)

from kdjax import member, population
from kdjax.config.spec import grid
from kdjax.data import order
from kdjax.member import Batch, Shards
from kdjax.nets.net import Outputs
from kdjax.population import PLANS, Data, Plan, choose_plan

SOFT = dict(kl_divergence=1.0)
KD = dict(kl_divergence=1.0, cross_entropy=0.5)
CLOSE = dict(rtol=2e-5, atol=2e-6)


def pick(tree, m):
    return jax.tree.map(lambda x: x[m], tree)


@pytest.mark.parametrize("order_of_batches", ["own", "shared"])
@pytest.mark.slow
def test_a_population_equals_its_members_one_by_one(order_of_batches):
    spec = a_stage(
        objective=KD,
        teacher="teachers",
        order=order_of_batches,
        members=dict(seed=2, temperature=(1.0, 4.0)),
    )
    logits = teacher_logits()
    together, losses = train(spec, logits=logits)
    for m, own in enumerate(grid(spec)):
        alone, loss = train(spec, logits=logits, members=[own])
        chex.assert_trees_all_close(pick(together, m), pick(alone, 0), **CLOSE)
        np.testing.assert_allclose(losses[m], loss[0], rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        dict(weight_decay=0.1, clip_norm=0.5),
        dict(name="rising_momentum", schedule="exponential", max_squared_norm=0.5),
    ],
)
def test_a_chunk_equals_the_members_step_in_a_python_loop(optimizer):
    spec = a_stage(members=dict(seed=1), optimizer=optimizer)
    recipe, hparams = recipe_of(spec), pick(hparams_of(spec), 0)
    images, labels = arrays()
    state = member.init(recipe, hparams, jnp.zeros((1, 8, 8, 1)))
    step = jax.jit(
        lambda state, batch: member.train_step(recipe, Shards(), state, hparams, batch, None)
    )
    for index in order(0, len(labels), spec.batch, 0, spec.steps):
        batch = Batch(jnp.asarray(images[index] / 16, jnp.float32), jnp.asarray(labels[index]))
        state, _ = step(state, batch)
    chex.assert_trees_all_close(pick(train(spec)[0], 0), jax.device_get(state), **CLOSE)


@pytest.mark.parametrize("plan", [Plan("map", True), Plan("unroll", True), Plan("unroll", False)])
@pytest.mark.parametrize("order_of_batches", ["own", "shared"])
def test_every_plan_gives_the_same_result(plan, order_of_batches):
    spec = a_stage(objective=SOFT, teacher="teachers", order=order_of_batches, members=dict(seed=3))
    expected = train(spec, logits=teacher_logits())
    chex.assert_trees_all_close(train(spec, plan=plan, logits=teacher_logits()), expected, **CLOSE)


@pytest.mark.parametrize("order_of_batches", ["own", "shared"])
def test_live_teachers_give_the_results_of_their_cached_logits(order_of_batches):
    spec = a_stage(objective=SOFT, teacher="teachers", order=order_of_batches, members=dict(seed=3))
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 64, 10)), jnp.float32)
    teach = lambda _, x: Outputs(jnp.einsum("bd,kdc->kbc", x.reshape(len(x), -1), weights), {})
    expected = train(spec, logits=teacher_logits())
    for plan in (VMAP, Plan("map", True), Plan("unroll", False)):
        chex.assert_trees_all_close(train(spec, plan=plan, teach=teach), expected, **CLOSE)


def test_permuted_members_give_permuted_results():
    spec = a_stage(members=dict(seed=3, learning_rate=(1e-3, 1e-2)))
    members, permutation = grid(spec), [4, 0, 5, 2, 1, 3]
    straight, _ = train(spec)
    permuted, _ = train(spec, members=[members[m] for m in permutation])
    chex.assert_trees_all_close(
        permuted, jax.tree.map(lambda x: x[np.array(permutation)], straight), **CLOSE
    )


def test_a_diverged_member_stops_is_marked_and_leaves_the_others_as_they_were():
    fields = dict(teacher="teachers", steps=12, optimizer=dict(name="sgd"))
    fields |= dict(objective=dict(logit_matching=1.0))
    spec = a_stage(**fields, members=dict(seed=1, learning_rate=(1e-3, 1e3, 1e-2)))
    state, losses = train(spec, logits=teacher_logits())
    np.testing.assert_array_equal(state.bad, [False, True, False])
    chex.assert_tree_all_finite(state.params)
    assert not np.isfinite(losses[1]).all() and np.isfinite(losses[[0, 2]]).all()
    healthy = a_stage(**fields, members=dict(seed=1, learning_rate=(1e-3, 2e-3, 1e-2)))
    others = np.array([0, 2])
    chex.assert_trees_all_equal(
        jax.tree.map(lambda x: x[others], state.params),
        jax.tree.map(lambda x: x[others], train(healthy, logits=teacher_logits())[0].params),
    )


def test_members_of_equal_seed_start_alike_and_dropout_differs_between_seeds():
    spec = a_stage(
        model=dict(name="mlp", hidden=(16,), dropout=0.5),
        order="shared",
        steps=1,
        members=dict(seed=2, learning_rate=(1e-3, 1e-2)),
    )
    _, losses = train(spec)
    np.testing.assert_array_equal(losses[:2], losses[2:])
    plain = a_stage(order="shared", steps=1, members=dict(seed=2))
    assert (train(plain)[1] != losses[:2]).all()


def test_a_run_repeats_bit_for_bit():
    spec = a_stage(model=dict(name="mlp", hidden=(16,), dropout=0.5), members=dict(seed=3))
    chex.assert_trees_all_equal(train(spec), train(spec))


def test_the_plan_follows_the_table_and_can_be_asked_for():
    assert choose_plan("auto", "gpu", "convolutional", 2**40) == PLANS["accelerator"]
    assert choose_plan("auto", "cpu", "dense", 2**10) == Plan("vmap", scan=True)
    assert choose_plan("auto", "cpu", "dense", 2**30) == Plan("map", scan=True)
    assert choose_plan("auto", "cpu", "convolutional", 2**10) == Plan("unroll", scan=False)
    assert choose_plan("vmap", "cpu", "dense", 2**30) == Plan("vmap", scan=True)


def test_a_convolutional_population_on_the_cpu_has_no_loop_in_its_program():
    spec = a_stage(model=dict(name="cnn", channels=(4, 8), dense=8), members=dict(seed=2))
    recipe, hparams, plan = recipe_of(spec), hparams_of(spec), PLANS["cpu, convolutional"]
    init = lambda h: member.init(recipe, h, jnp.zeros((1, 8, 8, 1)))
    state = population.over_members(init, plan.members, (0,))(hparams)
    chunk = population.train_chunk(recipe, plan, Shards(), UNIT, spec.augment, spec.order, None)
    examples = jax.tree.map(lambda x: x[0], examples_of(spec, ONE, plan)[0])
    text = str(jax.make_jaxpr(chunk)(state, hparams, Data(*arrays(), None), (), examples))
    assert "conv_general_dilated" in text
    assert "scan" not in text and "while" not in text
    vmapped, _ = train(spec)
    unrolled, _ = train(spec, plan=plan)
    chex.assert_trees_all_close(vmapped, unrolled, rtol=1e-4, atol=1e-5)


def test_the_numbers_of_members_are_those_that_the_stage_reads():
    spec = a_stage(objective=KD, teacher="teachers", members=dict(seed=2, temperature=(1.0, 3.0)))
    numbers = hparams_of(spec, teachers=3)
    assert set(numbers) == {
        *("learning_rate", "weight_decay", "temperature", "ensemble_size", "seed", "mixing"),
        *("kl_divergence.weight", "cross_entropy.weight", "cross_entropy.label_smoothing"),
    }
    assert numbers["seed"].dtype == numbers["ensemble_size"].dtype == np.int32
    np.testing.assert_array_equal(numbers["temperature"], np.float32([1, 1, 3, 3]))
    assert numbers["mixing"].shape == (4, 3)
