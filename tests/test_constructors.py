"""Wrong arguments of public constructors are one sentence."""

import numpy as np
import pytest
from digits import arrays
from stages import refuses

import kdjax
from kdjax.rules import number

IMAGES, LABELS = arrays()
PAIR = IMAGES, LABELS


def margin(context):
    return context.student.logits.max(axis=-1)


@pytest.mark.parametrize("needs", [3, None, "labels", {"label"}, [["labels"]], lambda: 0])
def test_needs_are_a_set(needs):
    with refuses("the term 'margin': needs is", "it must be a set of: labels, targets, "):
        kdjax.Term(margin, needs=needs)


@pytest.mark.parametrize(
    "hparams",
    [["a"], 3, None, "a", {1: 2.0}, {"a b": 1.0}, {"a": (1.0,)}, {"a": (1.0, 2.0)}, {"a": ()}],
)
def test_hparams_are_numbers_by_name(hparams):
    with refuses("the term 'margin': hparams is", "it must be a dict {name: default"):
        kdjax.Term(margin, hparams=hparams)
    assert kdjax.Term(margin, hparams={"a": 1.0, "b": (2.0, number(0))}).numbers["b"][0] == 2.0


@pytest.mark.parametrize("default", ["1", [1.0], float("nan"), True])
def test_a_default_is_a_number(default):
    with refuses("the term 'margin': the default of a is"):
        kdjax.Term(margin, hparams={"a": default})


@pytest.mark.parametrize("name", [3, None, ["a"], b"a", 0])
def test_a_term_s_name_is_text(name):
    with refuses(f"a Term's name is {name!r}; it must be of letters, digits and _"):
        kdjax.Term(margin, name=name)


@pytest.mark.parametrize("aux", [3, "projection", {"w": np.ones(3)}])
def test_a_term_s_own_parameters_come_from_a_function(aux):
    with refuses("a Term's aux is", "it must be a function, or None"):
        kdjax.Term(margin, aux=aux)


@pytest.mark.parametrize("names", [5, "0123456789", 0.5, b"0"])
def test_names_of_classes_are_a_list(names):
    with refuses("class_names", "must be"):
        kdjax.arrays(train=PAIR, test=PAIR, class_names=names)


@pytest.mark.parametrize("name", [5, None, "two\nlines"])
def test_the_name_of_arrays_is_text(name):
    with refuses("arrays: name is", "it must be text"):
        kdjax.arrays(train=PAIR, test=PAIR, name=name)


def test_arrays_without_a_test_split_are_one_sentence():
    with refuses("arrays: test is None; it must be (inputs, labels)"):
        kdjax.arrays(train=PAIR)
