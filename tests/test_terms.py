"""The terms of the table, each computed from a Context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import (
    TERMS,
    Context,
    Term,
    cross_entropy,
    ensemble_logits,
    kl_divergence,
    logit_matching,
    soft_cross_entropy,
)
from kdjax.losses.term import NUMBER, TEMPERATURE, WEIGHT
from kdjax.nets.net import Outputs
from kdjax.rules import fraction

K, B, C = 2, 5, 7
T, E = 4.0, 0.1
NUMBERS = {"weight": 3.0, "temperature": T, "label_smoothing": E}
Z, *TEACHERS = np.random.default_rng(0).normal(size=(1 + K, B, C)).astype(np.float32) * 3
LABELS = np.array([3, 0, -1, 6, 2], np.int32)
EXPECTED = {
    "cross_entropy": lambda z, v, y: cross_entropy(z, y, E),
    "soft_cross_entropy": lambda z, v, y: soft_cross_entropy(z, ensemble_logits(v, T), T),
    "kl_divergence": lambda z, v, y: kl_divergence(z, ensemble_logits(v, T), T),
    "logit_matching": lambda z, v, y: logit_matching(z, v.mean(axis=0)),
}
OTHERS = {  # of options, or of what is not in a plain context: their own files test them
    "jacobian_matching",
    "tangent_propagation",
    "dirichlet",
    "per_teacher",
}
every_term = pytest.mark.parametrize("name", EXPECTED)


def targets_of(teachers):
    def targets(temperature):
        if temperature is None:
            return teachers.mean(axis=0)
        return ensemble_logits(teachers, temperature)

    return targets


def context(term, z=Z, teachers=TEACHERS, labels=LABELS, without=()):
    """What the term declares that it reads, and nothing else: reading more is an error."""
    teachers = jnp.asarray(np.stack(teachers))
    return Context(
        student=Outputs(jnp.asarray(z), {}),
        teacher=Outputs(teachers, {}) if "teacher" in term.needs else None,
        targets=targets_of(teachers) if "targets" in term.needs else None,
        inputs=None,
        labels=jnp.asarray(labels) if "labels" in term.needs else None,
        hparams={n: jnp.float32(NUMBERS[n]) for n in term.numbers if n not in without},
    )


def test_every_term_of_the_table_is_tested():
    assert EXPECTED.keys() | OTHERS == TERMS.keys() and not EXPECTED.keys() & OTHERS


@every_term
def test_a_term_is_its_loss_of_each_example_without_the_weight(name):
    term, v, y = TERMS[name], jnp.asarray(np.stack(TEACHERS)), jnp.asarray(LABELS)
    actual = term.function(context(term))
    assert actual.shape == (B,) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, EXPECTED[name](jnp.asarray(Z), v, y), rtol=1e-6)


@every_term
def test_a_term_uses_all_that_it_declares(name):
    term = TERMS[name]
    value = term.function(context(term))
    other_teachers = term.function(context(term, teachers=TEACHERS[0][None, ::-1]))
    other_labels = term.function(context(term, labels=LABELS[::-1]))
    assert bool((value != other_teachers).any()) == bool(term.needs & {"targets", "teacher"})
    assert bool((value != other_labels).any()) == ("labels" in term.needs)
    for number in term.hparams:
        with pytest.raises(KeyError, match=number):
            term.function(context(term, without={number}))


@pytest.mark.parametrize("name", [n for n in EXPECTED if "targets" in TERMS[n].needs])
def test_a_term_lets_no_gradient_into_the_teachers(name):
    term = TERMS[name]

    def loss(teachers):
        here = context(term)
        taught = Context(**{**vars(here), "targets": targets_of(teachers)})
        return term.function(taught).sum()

    assert (jax.grad(loss)(jnp.asarray(np.stack(TEACHERS))) == 0).all()


@every_term
def test_the_name_in_the_table_is_the_label_of_the_term(name):
    assert TERMS[name].label == name


@every_term
def test_the_numbers_of_a_term_are_its_weight_and_what_it_declares(name):
    numbers = TERMS[name].numbers
    assert list(numbers) == ["weight", *TERMS[name].hparams]
    default, rule = numbers["weight"]
    assert default == 1.0 and rule is WEIGHT
    if "temperature" in numbers:
        assert numbers["temperature"] == (None, TEMPERATURE)  # the stage's
    if "label_smoothing" in numbers:
        default, rule = numbers["label_smoothing"]
        assert default == 0.0 and rule.says == fraction().says
    for default, rule in numbers.values():
        assert default is None or rule.accepts(default)


def test_a_term_of_the_users_is_called_by_its_function_unless_it_has_a_name():
    def margin(context):
        return context.hparams["gap"]

    assert Term(margin).label == "margin"
    assert Term(margin, name="hinge").label == "hinge"


def test_a_number_has_the_rule_that_is_given_or_that_of_its_name():
    own = fraction()
    term = Term(len, hparams={"gap": (0.5, own), "power": 2.0, "temperature": 8.0})
    assert term.numbers == {
        "weight": (1.0, WEIGHT),
        "gap": (0.5, own),
        "power": (2.0, NUMBER),
        "temperature": (8.0, TEMPERATURE),
    }
    assert Term(len, hparams={"weight": 5.0}).numbers == {"weight": (5.0, NUMBER)}


@pytest.mark.parametrize(
    ("rule", "accepted", "refused"),
    [
        (WEIGHT, (0, 1e6), (-1e-9, 1e6 + 1, float("nan"))),
        (TEMPERATURE, (1e-3, 1e4), (0, 9e-4, 1.1e4, float("inf"))),
        (NUMBER, (-1e6, 0, 1e6), (-2e6, 2e6, "1", True)),
    ],
)
def test_the_rules_of_numbers_have_these_bounds(rule, accepted, refused):
    assert all(rule.accepts(value) for value in accepted)
    assert not any(rule.accepts(value) for value in refused)
