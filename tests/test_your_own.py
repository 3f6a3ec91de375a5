"""What users bring, as `examples/your_own` has it: through both doors, under every layout."""

import jax
import numpy as np
import pytest

import kdjax
from examples.your_own import config, mine, notebook_door

STEPS = 6
NAMES = ("teachers", "skewed", "of_function", "hinted", "related")
LAYOUTS = [(2, 1), (1, 2), (2, 2)]  # member shards, data shards
FITNET = {mine.fitnet("layers/0", "Dense_0"): 1.0}
RELATION = {mine.class_relation: dict(weight=0.1, temperature=2.0)}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _as_users_write():
    """The tests' rule that no rank is promoted is not asked of a user's code."""
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def by_value():
    return notebook_door.main(STEPS, quiet=True)


@pytest.fixture(scope="module")
def by_name(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("by_name")
    kdjax.run(config.get_config(str(STEPS)), workdir, quiet=True)
    return {name: kdjax.open_stage(workdir / name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_both_doors_train_the_same_nets(name, by_value, by_name):
    value, named = by_value[name], by_name[name]
    assert value.members == named.members and len(value.members) > 1
    assert value.metrics == named.metrics and not any(value.diverged)
    trees = (jax.tree.leaves(stage.variables) for stage in (value, named))
    for x, y in zip(*trees, strict=True):
        np.testing.assert_array_equal(x, y)
    inputs = mine.images[-50:]
    np.testing.assert_array_equal(value.predict(inputs), named.predict(inputs))


def test_a_number_of_a_users_term_is_an_axis_that_changes_the_result(by_value):
    skewed = by_value["skewed"]
    assert [member["skew_reverse_kl.skew"] for member in skewed.members] == [0.1, 0.1, 0.5, 0.5]
    logits = skewed.predict(mine.images[-50:])
    assert np.abs(logits[0] - logits[2]).max() > 1e-3


def test_the_parameters_of_a_term_are_not_served(by_value):
    hinted, skewed = by_value["hinted"], by_value["skewed"]
    shapes = lambda stage: jax.tree.map(lambda x: x.shape[1:], stage.variables)
    assert shapes(hinted) == shapes(skewed)


@pytest.fixture(scope="module")
def trained(by_value):
    """(objective, layout) -> loss by chunk, and the stage of two members that it has trained."""

    def train(objective, layout):
        fields = dict(member_shards=layout[0], data_shards=layout[1])
        stage = kdjax.distill(
            kdjax.equinox(mine.EquinoxNet),
            by_value["teachers"],
            mine.digits,
            objective=objective,
            seeds=2,
            steps=STEPS,
            chunk=2,
            learning_rate=0.01,
            execution=fields | dict(devices=layout[0] * layout[1]),
            quiet=True,
        )
        return np.array(stage.report.curves["student"]["loss"]), stage

    return train


@pytest.fixture(scope="module")
def on_one_device(trained):
    return trained(FITNET | RELATION, (1, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_terms_of_features_and_of_the_whole_batch_are_the_same_under_every_layout(
    layout, trained, on_one_device
):
    loss, stage = on_one_device
    other_loss, other = trained(FITNET | RELATION, layout)
    found = other.report.layouts["student"]
    assert (found["member_shards"], found["data_shards"]) == layout
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5, atol=1e-5)
    trees = (jax.tree.leaves(s.variables["params"]) for s in (other, stage))
    for x, y in zip(
        *trees, strict=True
    ):  # AdamW divides a gradient near 0, and its rounding, by it
        np.testing.assert_allclose(x, y, atol=2e-4)
    inputs = mine.images[-50:]
    np.testing.assert_allclose(other.predict(inputs), stage.predict(inputs), atol=1e-5)


def test_a_term_of_the_whole_batch_may_be_the_only_one(trained, on_one_device):
    loss, _ = trained(RELATION, (1, 2))
    assert loss.shape == (3, 2) and np.isfinite(loss).all() and (loss[-1] < loss[0]).all()
    both, _ = on_one_device
    assert (both[0] > loss[0]).all()  # the loss of FitNet is added
