"""Nets that have learned nothing are known by their answers; errors by class, and pictures."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from kdjax import mistakes


def logits_of(said, classes):
    return np.eye(classes, dtype=np.float32)[np.asarray(said)]


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:900] / 16, y[:900], x[900:] / 16, y[900:]


@pytest.mark.parametrize("strategy", ["most_frequent", "uniform", "stratified", "constant"])
def test_a_guess_has_learned_nothing(digits, strategy):
    x, y, test, labels = digits
    guess = DummyClassifier(strategy=strategy, random_state=0, constant=3).fit(x, y)
    said = logits_of(guess.predict(test), 10)
    assert mistakes.unlearned(said[None], labels).tolist() == [True]


def test_a_fitted_model_has_learned_and_members_are_told_apart(digits):
    x, y, test, labels = digits
    shuffled = np.random.default_rng(0).permutation(y)
    models = [KNeighborsClassifier().fit(x, targets) for targets in (y, shuffled)]
    both = np.stack([logits_of(model.predict(test), 10) for model in models])
    assert mistakes.unlearned(both, labels).tolist() == [False, True]


def test_a_rare_class_that_is_found_was_learned_and_one_that_is_not_was_not():
    labels = np.zeros(1000, int)
    labels[:20] = 1
    found, missed, noisy = labels.copy(), np.zeros(1000, int), labels.copy()
    found[:8] = 0  # 8 errors, where naming the most frequent class makes 20
    noisy[100:140] = 1  # 40 errors
    said = np.stack([logits_of(s, 2) for s in (found, missed, noisy)])
    assert mistakes.unlearned(said, labels).tolist() == [False, True, True]


@pytest.mark.parametrize("classes", [2, 10, 242])
def test_chance_is_seldom_taken_for_learning(classes):
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, 1000)
    said = np.stack([logits_of(draw.integers(0, classes, 1000), classes) for _ in range(100)])
    assert mistakes.unlearned(said, labels).mean() >= 0.95


def test_errors_by_class_are_those_of_each_member():
    labels = np.array([0, 0, 1, 2, 2, 2])
    said = [[0, 1, 1, 2, 0, 1], [0, 0, 0, 2, 2, 2]]
    found = mistakes.by_class(np.stack([logits_of(s, 4) for s in said]), labels)
    assert found.tolist() == [[1, 0, 2, 0], [0, 1, 0, 0]]


def test_the_examples_that_most_members_get_wrong_are_pictured_with_what_they_say():
    labels = np.array([0, 1, 2, 0])
    said = [[0, 0, 0, 0], [0, 0, 1, 0], [0, 2, 1, 1]]
    logits = np.stack([logits_of(s, 3) for s in said])
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    found = mistakes.pictured(images, logits, labels, ("a", "b", "c"))
    assert found["images"].tolist() == images[[1, 2, 3]].tolist()
    assert (found["labels"], found["answers"]) == ([1, 2, 0], [0, 1, 1])
    assert (found["counts"], found["members"]) == ([3, 3, 1], 3)
    assert mistakes.pictured(images.reshape(4, 4), logits, labels, ("a", "b", "c")) is None
    right = np.stack([logits_of(labels, 3)])
    assert mistakes.pictured(images, right, labels, ("a", "b", "c")) is None
