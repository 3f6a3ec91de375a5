"""What a user's term may read, and what it costs, whatever the layout and the numbers."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits import ONE, train
from logit_rows import OF_LOGITS
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import data, losses
from kdjax.config import parse
from kdjax.data import DatasetSpec
from kdjax.nets.net import Outputs
from kdjax.objective import check_objective
from kdjax.parallel import Layout

FEW = dict(steps=4, batch=20, quiet=True)
DIVERGING = dict(optimizer=dict(name="sgd", learning_rate=0.01), steps=14)
SHAPES = Outputs(jax.ShapeDtypeStruct((1, 10), "float32"), {})
OF_LABELS = lambda context: losses.cross_entropy(context.student.logits, context.labels)


def term(function, *needs, name="mine", **fields):
    return kdjax.Term(function, needs=frozenset(needs), name=name, **fields)


def a_stage(**fields):
    """A stage of values, not of names."""
    fields = dict(batch=20, steps=6, model=dict(name="mlp", hidden=(16,))) | fields
    return parse(dict(stages=dict(student=fields))).stages[0]


def splits(objective, teacher=()):
    """Whether the batches of a stage with this objective may be split."""
    spec = a_stage(objective=objective, teacher=teacher)
    taught = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), SHAPES)
    dataset = data.load(DatasetSpec(), "")
    taught = taught if spec.taught else None
    return check_objective(spec, SHAPES, taught, dataset, 1000, "objective")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (OF_LABELS, "whose needs are: nothing, cannot be computed for a batch of 20 examples"),
        (lambda c: losses.kl_divergence(c.student.logits, c.teacher.logits[0], 1.0), "'logits'"),
        (
            lambda c: losses.kl_divergence(c.student.logits, c.targets(1.0), 1.0),
            "it reads targets, which are not among its needs",
        ),
        (lambda c: c.student.logits, "gives float32[20, 10] for a batch of 20 examples"),
        (lambda c: (c.student.logits[:, 0], 1.0), "gives float32[20], float32[] for a batch"),
        (lambda c: None, "gives nothing for a batch"),
    ],
)
@pytest.mark.parametrize("teachers", [(), (mine.machine,)])
def test_a_term_reads_what_it_declares_and_gives_a_loss(function, words, teachers):
    given = term(function)
    with refuses(".objective.mine", words):
        if teachers:  # which are compared with
            kdjax.distill(
                kdjax.linen(mine.LinenNet()), teachers, mine.digits, objective=given, **FEW
            )
        else:
            kdjax.train(kdjax.linen(mine.LinenNet()), mine.digits, objective=given, **FEW)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (OF_LABELS, True),
        (lambda c: OF_LABELS(c).sum(), False),
        (lambda c: jnp.sqrt((OF_LABELS(c) ** 2).mean()), False),
        (lambda c: OF_LABELS(c) - OF_LABELS(c).mean(), False),
        (lambda c: c.gather(OF_LABELS(c)).sum(), True),
        (lambda c: c.gather(OF_LABELS(c)), True),
        (lambda c: OF_LABELS(c) - c.gather(OF_LABELS(c)).mean(), True),
    ],
)
def test_a_batch_is_split_where_no_term_depends_on_the_rest_of_its_part(function, expected):
    assert splits({term(function, "labels"): 1.0}) == expected


def test_the_terms_of_the_table_and_of_the_example_may_be_split():
    mine_too = {mine.skew_reverse_kl: 1.0, mine.class_relation: 1.0}
    assert splits(dict.fromkeys(OF_LOGITS, 1.0) | mine_too, teacher=mine.machine)


@pytest.mark.slow
def test_a_loss_of_each_gathered_example_is_one_of_the_whole_batch():
    objective = {term(lambda c: c.gather(OF_LABELS(c)), "labels"): 0.5, "cross_entropy": 1.0}
    spec = a_stage(objective=objective, members=dict(seed=2))
    one = train(spec, ONE)
    for layout in (Layout(1, 2), Layout(2, 2)):
        chex.assert_trees_all_close(train(spec, layout), one, rtol=1e-4, atol=1e-5)


def test_a_weight_of_zero_leaves_an_infinite_term_out():
    infinite = term(lambda c: jnp.log(0 * c.student.logits[:, 0]))
    spec = a_stage(
        objective={infinite: 1.0, "cross_entropy": 1.0},
        members=dict(mine=dict(weight=(0.0, 1.0))),
    )
    assert train(spec)[0].bad.tolist() == [False, True]


def test_peers_do_not_hear_one_that_has_diverged():
    spec = a_stage(
        objective=dict(kl_divergence=1.0, cross_entropy=1.0),
        teacher="kdjax.teachers:peers",
        order="shared",
        **DIVERGING,
        members=dict(weight_decay=(0.0, 1e6), seed=2),
    )
    for layout in (ONE, Layout(2, 1)):
        state, found = train(spec, layout, peers=True)
        assert state.bad.tolist() == [False, False, True, True]
        assert np.isfinite(found[:2]).all()


def test_a_peer_without_a_healthy_peer_trains_on_the_other_terms():
    spec = a_stage(
        objective=dict(kl_divergence=1.0, cross_entropy=1.0),
        teacher="kdjax.teachers:peers",
        order="shared",
        **DIVERGING,
        members=dict(weight_decay=(0.0, 1e6)),
    )
    state, _ = train(spec, peers=True)
    alone, _ = train(
        a_stage(
            objective=dict(cross_entropy=1.0),
            order="shared",
            **DIVERGING,
            members=dict(weight_decay=(0.0, 1e6)),
        )
    )
    assert state.bad.tolist() == [False, True]
    distance = lambda tree: np.abs(tree["Dense_0"]["kernel"][0]).max()
    assert 0 < distance(state.params) < 2 * distance(alone.params)


@pytest.mark.parametrize("average", [None, 0.9])
def test_whole_numbers_of_a_net_are_not_averaged(average):
    apply = lambda p, x: x.reshape(len(x), -1)[:, p["columns"]] @ p["kernel"]
    params = {"columns": np.arange(0, 64, 2), "kernel": np.zeros((32, 10), np.float32)}
    teacher = {} if average is None else dict(teacher="kdjax.teachers:ema")
    spec = a_stage(
        model=kdjax.function(apply, params),
        objective=dict(cross_entropy=1.0) | (dict(kl_divergence=1.0) if teacher else {}),
        **teacher,
    )
    one = train(spec, ONE, average=average)
    assert one[0].collections["constants"]["columns"].dtype == np.int32
    chex.assert_trees_all_close(
        train(spec, Layout(1, 2), average=average), one, rtol=1e-4, atol=1e-5
    )


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.reshape(len(x), -1)).at[:, 9].set(-jnp.inf)


def test_a_class_that_a_net_masks_is_no_divergence():
    found = kdjax.train(
        kdjax.linen(Masked()),
        mine.digits,
        subset=dict(without=(9,)),
        learning_rate=0.01,
        **FEW | dict(steps=60),
    )
    assert not any(found.diverged)
    (errors,) = found.metrics["test"]["errors"]
    assert errors < 300  # of 797, some 80 of them nines


@pytest.mark.parametrize("teacher_logits", ["live", "cached", "cached_float16"])
@pytest.mark.slow
def test_a_class_that_the_teachers_mask_is_no_fault(teacher_logits):
    teacher = kdjax.train(
        kdjax.linen(Masked()), mine.digits, subset=dict(without=(9,)), steps=30, quiet=True
    )
    student = kdjax.distill(
        kdjax.linen(mine.LinenNet()), teacher, mine.digits, teacher_logits=teacher_logits, **FEW
    )
    assert not any(student.diverged)
