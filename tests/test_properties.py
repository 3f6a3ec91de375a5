"""What holds of every loss, metric and subset, whatever the numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdjax import metrics
from kdjax.data import numbered
from kdjax.data.subset import SubsetSpec, subset
from kdjax.losses import TERMS, Context, Term, distillation, soft_cross_entropy
from kdjax.nets import Outputs
from kdjax.rules import InputError

B, C = 12, 5
explore = settings(max_examples=30, deadline=None, derandomize=True)
OF_LOGITS = [
    n for n, term in TERMS.items() if isinstance(term, Term) and "teacher" not in term.needs
]
every_loss = pytest.mark.parametrize("name", [*OF_LOGITS, "distillation"])
logit = st.floats(-50, 50, width=32, allow_subnormal=False)
any_logits = arrays(np.float32, (B, C), elements=logit)
any_labels = arrays(np.int32, B, elements=st.integers(-1, C - 1))
any_order = st.permutations(range(B)).map(np.array)
any_member = st.fixed_dictionaries(
    dict(
        temperature=st.floats(0.5, 20),
        soft_weight=st.floats(0, 10),
        hard_weight=st.floats(0, 10),
        label_smoothing=st.floats(0, 0.9),
    )
)


def hparams(**numbers) -> dict:
    return numbers


@functools.partial(jax.jit, static_argnums=0)
def loss_of(name, z, v, y, h):
    if name == "distillation":
        return distillation(z, v, y, h["temperature"], h["soft_weight"], h["hard_weight"])
    context = Context(Outputs(z, {}), Outputs(v[None], {}), lambda _: v, z, y, h)
    return TERMS[name].function(context)


def same(a, b, scale) -> None:
    """Equal up to the rounding of float32 numbers of this size."""
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * scale)


def size(member) -> float:
    """Of the terms of a loss, which may cancel."""
    return (1 + member["temperature"] ** 2) * (1 + member["soft_weight"] + member["hard_weight"])


# Losses.


@every_loss
@explore
@given(any_logits, any_logits, any_labels, any_member)
def test_a_loss_is_finite_and_not_negative(name, z, v, y, member):
    loss = loss_of(name, z, v, y, hparams(**member))
    assert loss.shape == (B,) and jnp.isfinite(loss).all() and (loss >= 0).all()


@every_loss
@explore
@given(any_logits, any_logits, any_labels, any_member, any_order, st.permutations(range(C)))
def test_a_loss_knows_no_order_of_examples_or_classes(name, z, v, y, member, order, classes):
    h, classes = hparams(**member), np.array(classes)
    loss = np.asarray(loss_of(name, z, v, y, h))
    same(loss_of(name, z[order], v[order], y[order], h), loss[order], size(member))
    renamed = np.where(y >= 0, np.argsort(classes)[y], -1).astype(np.int32)
    same(loss_of(name, z[:, classes], v[:, classes], renamed, h), loss, size(member))


@every_loss
@explore
@given(any_logits, any_logits, any_labels, any_member, any_logits, any_logits)
def test_a_loss_of_an_example_depends_on_no_other(name, z, v, y, member, z2, v2):
    h = hparams(**member)
    others = np.arange(B) >= B // 2
    z2, v2 = np.where(others[:, None], z2, z), np.where(others[:, None], v2, v)
    y2 = np.where(others, -1, y).astype(np.int32)
    a, b = loss_of(name, z, v, y, h), loss_of(name, z2, v2, y2, h)
    np.testing.assert_array_equal(a[: B // 2], b[: B // 2])


@explore
@given(any_logits, any_logits, any_labels, any_member, st.floats(0, 4))
def test_distillation_is_linear_in_its_weights(z, v, y, member, factor):
    weights = ("soft_weight", "hard_weight")
    whole = loss_of("distillation", z, v, y, hparams(**member))
    parts = [
        loss_of("distillation", z, v, y, hparams(**member | {left_out: 0.0}))
        for left_out in weights
    ]
    same(sum(parts), whole, size(member))
    more = member | {name: factor * member[name] for name in weights}
    scaled = loss_of("distillation", z, v, y, hparams(**more))
    same(scaled, factor * whole, factor * size(member))


@explore
@given(any_logits, any_logits, any_member)
def test_no_student_has_a_lower_soft_loss_than_its_teacher(z, v, member):
    t = member["temperature"]
    own, other = (np.asarray(soft_cross_entropy(x, v, t)) for x in (v, z))
    assert (own <= other + 2e-5 * np.maximum(other, t**2)).all()


# Metrics.

sums_of = jax.jit(metrics.sums)


def finished(totals) -> dict:
    return metrics.finish(jax.tree.map(lambda x: np.asarray(x, np.float64), totals))


@explore
@given(any_logits, any_logits, any_labels, st.integers(0, B), any_order)
def test_metrics_are_the_same_however_a_split_is_cut_and_ordered(z, v, y, cut, order):
    whole = sums_of(z, y, v)
    padded = [
        sums_of(z, np.where(part, y, -1).astype(np.int32), v)
        for part in (np.arange(B) < cut, np.arange(B) >= cut)
    ]
    for name, total in whole.items():
        same(padded[0][name] + padded[1][name], total, 100)
        same(sums_of(z[order], y[order], v[order])[name], total, 100)
    for exact in ("count", "errors", "agreement"):
        assert padded[0][exact] + padded[1][exact] == whole[exact]


@explore
@given(any_logits, any_logits, any_labels)
def test_padding_is_as_if_it_were_not_there(z, v, y):
    half = slice(B // 2)
    padded = np.where(np.arange(B) < B // 2, y, -1).astype(np.int32)
    whole, part = sums_of(z, padded, v), sums_of(z[half], y[half], v[half])
    for name, total in whole.items():
        same(part[name], total, 100)
    assert whole["count"] == (y[half] >= 0).sum()


@explore
@given(any_logits, any_logits, any_labels)
def test_metrics_are_in_their_ranges(z, v, y):
    assume((y >= 0).any())
    numbers = finished(sums_of(z, y, v))
    for name in ("accuracy", "agreement", "ece"):
        assert -1e-6 <= numbers[name] <= 1 + 1e-6
    assert 0 <= numbers["brier"] <= 2 + 1e-5 and numbers["nll"] >= 0
    assert numbers["teacher_kl"] >= 0 and numbers["errors"] <= B
    itself = finished(sums_of(z, y, z))
    assert itself["agreement"] == 1 and itself["teacher_kl"] == 0


# Subsets.

any_split = st.lists(st.integers(0, C - 1), min_size=1, max_size=90).map(np.array)
some_classes = st.sets(st.integers(0, C - 1), max_size=3).map(lambda c: tuple(sorted(c)))


@explore
@given(any_split, some_classes, some_classes, st.data())
def test_a_subset_is_nested_stratified_and_of_its_classes(labels, classes, without, drawn):
    pool = [y for y in labels if (not classes or y in classes) and y not in without]

    def choose(size, labelled):
        amounts = (n if n != 1 else 1 / of for n, of in ((size, len(pool)), (labelled, size)))
        spec = SubsetSpec(classes, without, *amounts)
        return subset(labels, numbered(C), spec, "s")

    if not pool:
        with pytest.raises(InputError, match="there is no example"):
            choose(2, 2)
        return
    small, large = sorted(drawn.draw(st.integers(1, len(pool))) for _ in range(2))
    few, _ = choose(small, small)
    many, shown = choose(large, small)
    available = np.bincount(pool, minlength=C)
    for chosen in (few, many):
        counts = np.bincount(labels[chosen], minlength=C)
        share = available * len(chosen) / len(pool)
        assert (np.diff(chosen) > 0).all() and (counts <= available).all()
        assert (np.abs(counts - share) < 1).all() and (counts[share >= 1] > 0).all()
    assert (len(few), len(many)) == (small, large) and set(few) <= set(many)
    np.testing.assert_array_equal(many[shown >= 0], few)
    np.testing.assert_array_equal(shown[shown >= 0], labels[few])
