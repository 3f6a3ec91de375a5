"""Members over devices, the batch over devices, both: the same results."""

from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import ONE, a_stage, teacher_logits, train
from hypothesis import given
from hypothesis import strategies as st

from kdjax import parallel
from kdjax.nets.net import Outputs
from kdjax.parallel import ExecutionSpec, Layout
from kdjax.population import Plan
from kdjax.rules import InputError

VMAP, MAP = Plan("vmap", scan=True), Plan("map", scan=True)
PLANS = (VMAP, MAP, Plan("unroll", scan=False))


@pytest.fixture(scope="module")
def spec():
    return a_stage(
        objective=dict(kl_divergence=1.0, cross_entropy=0.5),
        teacher="teachers",
        augment=dict(shift=1, flip=True),
        batch=24,
        optimizer=dict(max_squared_norm=1.0),
        members=dict(seed=4, temperature=(1.0, 4.0)),
    )


@pytest.fixture(scope="module")
def on_one_device(spec):
    return train(spec, ONE, logits=teacher_logits())


@pytest.mark.parametrize(
    ("shards", "plan"),
    [((2, 2), VMAP), ((1, 4), MAP)]
    + [
        pytest.param(shards, plan, marks=pytest.mark.slow)
        for shards, plan in [((8, 1), plan) for plan in PLANS]
        + [((1, 8), plan) for plan in PLANS]
        + [((2, 4), MAP), ((4, 2), VMAP), ((4, 1), MAP), ((1, 4), VMAP)]
    ],
)
def test_every_layout_and_plan_agrees_with_one_device(spec, on_one_device, shards, plan):
    result = train(spec, Layout(*shards), plan, logits=teacher_logits())
    chex.assert_trees_all_close(result, on_one_device, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [Layout(2, 1, copies=1), Layout(3, 2, copies=1)])
@pytest.mark.parametrize("order", ["own", "shared"])
@pytest.mark.slow
def test_members_that_no_number_of_devices_divides_agree_with_one_device(layout, order):
    spec = a_stage(order=order, batch=24, members=dict(seed=5), augment=dict(shift=1))
    result = train(spec, layout)
    assert len(result[0].bad) == len(result[1]) == 5
    chex.assert_trees_all_close(result, train(spec, ONE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shards", [(8, 1), (1, 8), (2, 4)])
def test_layouts_agree_on_shared_batches(shards):
    spec = a_stage(order="shared", batch=24, members=dict(seed=8), augment=dict(shift=1))
    chex.assert_trees_all_close(
        train(spec, Layout(*shards)), train(spec, ONE), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("shards", "plan"),
    [((8, 1), VMAP), ((4, 1), MAP), ((2, 4), MAP), ((2, 2), PLANS[2])],
)
def test_member_shards_share_the_work_of_live_teachers(shards, plan):
    fields = dict(objective=dict(kl_divergence=1.0), teacher="teachers", order="shared")
    spec = a_stage(**fields, augment=dict(shift=1), batch=24, steps=9, members=dict(seed=8))
    weights = np.float32(np.random.default_rng(0).normal(size=(3, 64, 10)))
    teach = lambda _, x: Outputs(jnp.einsum("bd,kdc->kbc", x.reshape(len(x), -1), weights), {})
    one = train(spec, ONE, teach=teach)
    result = train(spec, Layout(*shards), plan, teach=teach)
    chex.assert_trees_all_close(result, one, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dropout_does_not_depend_on_how_the_batch_is_split():
    net = dict(name="mlp", hidden=(16,), dropout_input=0.1, dropout=0.5)
    spec = a_stage(model=net, batch=24, members=dict(seed=2))
    one = train(spec, ONE)
    assert not np.allclose(one[1], train(a_stage(batch=24, members=dict(seed=2)), ONE)[1])
    for shards in ((1, 4), (2, 2)):
        chex.assert_trees_all_close(train(spec, Layout(*shards)), one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plan", [VMAP, PLANS[2]])
@pytest.mark.slow
def test_batch_statistics_do_not_depend_on_how_the_batch_is_split(plan):
    net = dict(name="resnet", blocks=1, stem=4, channels=(4,))
    spec = a_stage(model=net, batch=24, steps=4, members=dict(seed=2))
    one = train(spec, ONE, PLANS[2])
    assert jax.tree.leaves(one[0].collections)
    split = train(spec, Layout(2, 2), plan)
    chex.assert_trees_all_close(split, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shards", [(4, 1), (2, 2)])
def test_a_diverged_member_stays_alone_on_its_devices(shards):
    fields = dict(objective=dict(logit_matching=1.0), teacher="teachers", steps=12, batch=24)
    rates = dict(seed=1, learning_rate=(1e-3, 1e3, 1e-2, 2e-2))
    spec = a_stage(**fields, optimizer=dict(name="sgd"), members=rates)
    state, _ = train(spec, Layout(*shards), logits=teacher_logits())
    np.testing.assert_array_equal(state.bad, [False, True, False, False])
    chex.assert_tree_all_finite(state.params)


@given(st.integers(1, 24), st.integers(1, 200), st.integers(1, 8))
def test_the_chosen_layout_divides_and_fits(members, batch, devices):
    with mock.patch.object(parallel.jax, "local_device_count", lambda: devices):
        layout = parallel.layout(ExecutionSpec(), members, batch, "here")
    places = members + layout.copies
    assert places % layout.member_shards == 0 and batch % layout.data_shards == 0
    assert layout.devices <= devices
    most = -(-members // devices)
    assert places // layout.member_shards == most and layout.copies < most


@given(st.integers(1, 24), st.integers(1, 200), st.integers(1, 4), st.integers(2, 5))
def test_every_process_has_as_many_devices_of_the_chosen_layout(members, batch, own, processes):
    several = dict(local_device_count=lambda: own, process_count=lambda: processes)
    with mock.patch.multiple(parallel.jax, **several):
        layout = parallel.layout(ExecutionSpec(), members, batch, "here")
        with pytest.raises(InputError, match=f"a multiple of the {processes} processes, where"):
            parallel.layout(ExecutionSpec(devices=1), members, batch, "here")
    places = members + layout.copies
    assert places % layout.member_shards == 0 and batch % layout.data_shards == 0
    assert layout.own * processes == layout.devices <= own * processes
    assert places // layout.member_shards == -(-members // (own * processes))


def test_members_come_before_the_batch():
    assert parallel.layout(ExecutionSpec(), 16, 100, "here") == Layout(8, 1)
    assert parallel.layout(ExecutionSpec(), 10, 100, "here") == Layout(5, 1)
    assert parallel.layout(ExecutionSpec(), 11, 100, "here") == Layout(6, 1, copies=1)
    assert parallel.layout(ExecutionSpec(), 3, 100, "here") == Layout(3, 2)
    assert parallel.layout(ExecutionSpec(devices=8), 10, 100, "here") == Layout(2, 4)
    assert parallel.layout(ExecutionSpec(), 2, 100, "here") == Layout(2, 4)
    assert parallel.layout(ExecutionSpec(), 1, 100, "here") == Layout(1, 5)
    assert parallel.layout(ExecutionSpec(data_shards=8), 8, 80, "here") == Layout(1, 8)


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (dict(devices=9), "devices is 9; it must be at most the 8"),
        (dict(member_shards=4), "member_shards is 4; it must divide the 10 members of here"),
        (dict(data_shards=8), "data_shards is 8; it must divide the 100 examples of a batch"),
        (dict(member_shards=5, data_shards=2), "asks for member_shards 5, data_shards 2, but"),
        (dict(devices=3), "asks for devices 3, but member_shards x data_shards must be the 3"),
    ],
)
def test_a_layout_that_does_not_divide_is_refused_with_the_numbers(execution, words):
    with pytest.raises(InputError, match=words):
        parallel.layout(ExecutionSpec(**execution), 10, 100, "here")


@pytest.mark.parametrize("shards", [(1, 1), (4, 1), (1, 4), (2, 2), (2, 4)])
def test_splitting_and_joining_are_inverse(shards):
    layout = Layout(*shards)
    tree = {"a": np.arange(24.0, dtype=np.float32).reshape(8, 3), "b": np.arange(8) > 3}
    split = parallel.place_members(tree, layout)
    assert split["a"].shape == (layout.devices, 8 // shards[0], 3)
    chex.assert_trees_all_equal(parallel.fetch_members(split, layout), tree)


def test_joined_arrays_are_private_copies():
    split = parallel.place_members(np.zeros((2, 3), np.float32), ONE)
    joined = parallel.fetch_members(split, ONE)
    add = parallel.pmap(lambda x: x + 1, ONE, donate=(0,))
    add(split).block_until_ready()
    np.testing.assert_array_equal(joined, 0)
    assert joined.flags.owndata or joined.base.flags.owndata


def test_every_device_gets_its_part_of_members_and_batch():
    layout = Layout(2, 2)
    index = np.arange(4 * 3 * 6).reshape(4, 3, 6)  # [M, S, B]
    split = parallel.place_batch(index, layout, axis=2, by_member=True)
    np.testing.assert_array_equal(split[1], index[:2, :, 3:])  # member shard 0, data shard 1
    np.testing.assert_array_equal(split[2], index[2:, :, :3])
    shared = parallel.place_batch(index[0], layout, axis=1)
    np.testing.assert_array_equal(shared[3], index[0, :, 3:])


def test_copies_of_the_last_member_fill_the_last_shard_and_are_dropped_again():
    layout = Layout(2, 2, copies=1)
    index = np.arange(3 * 2 * 4).reshape(3, 2, 4)  # [M, S, B]
    split = parallel.place_batch(index, layout, axis=2, by_member=True)
    np.testing.assert_array_equal(split[3], index[[2, 2], :, 2:])
    members = parallel.place_members(np.float32(index), layout)
    np.testing.assert_array_equal(parallel.fetch_members(members, layout), index)
    np.testing.assert_array_equal(parallel.fetch_sums(members, layout), 2 * index)
