"""Missing classes: errors and shifts against a direct count."""

import numpy as np
import pytest

from kdjax import missing

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 5, 60)
LOGITS = RANDOM.normal(size=(3, 60, 5)) + 2 * np.eye(5)[LABELS] - 3 * np.eye(5)[3]


def counted(logits, labels, classes, shift):
    shifted = logits + shift * np.isin(np.arange(5), classes)
    wrong = shifted.argmax(axis=1) != labels
    return wrong.sum(), wrong[np.isin(labels, classes)].sum()


@pytest.mark.parametrize("classes", [(3,), (0, 3), (0, 1, 2, 4)])
def test_errors_by_shift_are_a_direct_count(classes):
    shifts = np.linspace(-8, 8, 41)
    every, some = missing.errors_by_shift(LOGITS[0], LABELS, classes, shifts)
    expected = np.array([counted(LOGITS[0], LABELS, classes, s) for s in shifts])
    np.testing.assert_array_equal(np.stack([every, some], axis=1), expected)


@pytest.mark.parametrize("classes", [(3,), (0, 1, 2, 4)])
def test_no_shift_has_fewer_errors_than_the_best(classes):
    best = missing.best_shift(LOGITS[0], LABELS, classes)
    errors = [counted(LOGITS[0], LABELS, classes, s)[0] for s in np.linspace(-9, 9, 2001)]
    assert counted(LOGITS[0], LABELS, classes, best)[0] == min(errors)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_the_matching_shift_makes_a_missing_class_win_that_often(fraction):
    shift = missing.matching_shift(LOGITS[0], (1, 3), fraction)
    wins = np.isin((LOGITS[0] + shift * np.isin(np.arange(5), (1, 3))).argmax(axis=1), (1, 3))
    assert wins.mean() == pytest.approx(fraction)


def test_a_shift_that_helps_nothing_is_none():
    assert missing.best_shift(10 * np.eye(5)[LABELS], LABELS, (3,)) == 0


def test_the_matching_shift_reads_no_label_and_no_test_example():
    taught = np.stack([np.eye(5)[LABELS]] * 3)
    found = missing.examine(LOGITS, taught, LOGITS, LABELS, (3,))
    shuffled = RANDOM.permutation(60)
    moved = missing.examine(LOGITS, taught, LOGITS[:, shuffled], RANDOM.permutation(LABELS), (3,))
    assert found["matched"]["shift"] == moved["matched"]["shift"]
    assert found["best"]["errors"] != moved["best"]["errors"]


def test_each_members_shift_follows_its_own_teachers():
    taught = np.stack([np.eye(5)[np.full(60, c)] for c in (0, 3, 3)])
    found = missing.examine(LOGITS, taught, LOGITS, LABELS, (3,))
    wins = [
        ((z + s * (np.arange(5) == 3)).argmax(axis=1) == 3).mean()
        for z, s in zip(LOGITS, found["matched"]["shift"], strict=True)
    ]
    assert wins == [0, 1, 1]


def test_examine_counts_each_member_with_its_own_shift():
    taught = np.stack([np.eye(5)[LABELS]] * 3)
    found = missing.examine(LOGITS, taught, LOGITS, LABELS, (3,))
    assert found["examples"] == (LABELS == 3).sum() and found["of"] == 60
    for name in ("as_trained", "matched", "best"):
        pairs = [
            counted(z, LABELS, (3,), s) for z, s in zip(LOGITS, found[name]["shift"], strict=True)
        ]
        pairs = np.array(pairs).T.tolist()
        assert [found[name]["errors"], found[name]["missing_errors"]] == pairs
    assert found["as_trained"]["shift"] == [0, 0, 0]
    assert np.shape(found["curve"]["errors"]) == (3, len(found["curve"]["shift"]))
    assert max(found["curve"]["shift"]) >= max(found["best"]["shift"])
