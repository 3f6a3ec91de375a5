"""The splits of digits, the transfer sets of stages and the order of their batches."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from kdjax.data import DatasetSpec, SubsetSpec, fetch, load, order, scan, stratified
from kdjax.data.subset import subset
from kdjax.rules import InputError

KEY = (7, 1)
PINNED = {"train": 1918347598, "test": 1734478202, "validation": 1962543138}
FIRST_DRAW = 1021880708
ORDERED = [10, 43, 20, 8, 29, 41, 3, 9, 46, 5]
quick = settings(max_examples=60, deadline=None, derandomize=True)


def counts(labels, classes=10):
    return np.bincount(labels, minlength=classes)


def within_one(chosen, labels):
    """Whether each class has its share among the chosen, rounded up or down."""
    share = counts(labels) * len(chosen) / len(labels)
    return np.all(np.abs(counts(labels[chosen]) - share) < 1)


@pytest.fixture(scope="module")
def digits():
    return load(DatasetSpec(), "")


def test_digits_are_split_once_and_for_all(digits):
    splits = digits.splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 800,
        "validation": 200,
        "test": 797,
    }
    together = np.concatenate([split.index for split in splits.values()])
    np.testing.assert_array_equal(np.sort(together), np.arange(1797))
    pinned = {name: zlib.crc32(s.index.astype("<i4").tobytes()) for name, s in splits.items()}
    assert pinned == PINNED, "published results are of these splits; NumPy's shuffles may differ"


def test_every_split_of_digits_has_each_class_in_proportion(digits):
    _, labels = load_digits(return_X_y=True)
    for split in digits.splits.values():
        share = counts(labels) * len(split) / len(labels)
        assert np.all(np.abs(counts(split.labels) - share) < 2)


def test_digits_are_scikit_learns(digits):
    images, labels = load_digits(return_X_y=True)
    assert (digits.classes, digits.input_shape) == (10, (8, 8, 1))
    assert digits.preprocessing.mean == (0.0,) and digits.preprocessing.scale == (1 / 16,)
    for split in digits.splits.values():
        inputs = fetch(split, np.array([5, 0]))
        assert inputs.dtype == np.uint8 and inputs.shape == (2, 8, 8, 1)
        np.testing.assert_array_equal(inputs.reshape(2, 64), images[split.index[[5, 0]]])
        np.testing.assert_array_equal(split.labels, labels[split.index])


def test_standard_normalisation_is_that_of_the_train_split(monkeypatch):
    monkeypatch.setattr(scan, "BATCH", 300)  # two parts of this size and a smaller one
    dataset = load(DatasetSpec(normalize="standard"), "")
    train = fetch(dataset.splits["train"], np.arange(800)).astype(np.float64)
    np.testing.assert_allclose(dataset.preprocessing.mean, [train.mean()], rtol=1e-12)
    np.testing.assert_allclose(dataset.preprocessing.scale, [1 / train.std()], rtol=1e-12)


def test_the_validation_split_takes_from_the_train_split_only(digits):
    dataset = load(DatasetSpec(validation=300), "")
    assert [len(dataset.splits[s]) for s in ("train", "validation", "test")] == [700, 300, 797]
    np.testing.assert_array_equal(dataset.splits["test"].index, digits.splits["test"].index)
    assert set(digits.splits["validation"].index) <= set(dataset.splits["validation"].index)


def test_too_large_a_validation_split_is_an_error():
    with pytest.raises(InputError, match=r"dataset\.validation is 1000; .* less than the 1000"):
        load(DatasetSpec(validation=1000), "")


label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)


@quick
@given(label_lists, st.data())
def test_a_stratified_choice_is_exact_in_proportion_and_nested(labels, drawn):
    small, large = sorted(drawn.draw(st.integers(0, len(labels))) for _ in range(2))
    few, many = stratified(labels, small, KEY), stratified(labels, large, KEY)
    assert len(set(few)) == small and len(set(many)) == large
    assert set(few) <= set(many)
    assert within_one(few, labels) and within_one(many, labels)


def test_no_class_loses_an_example_when_a_choice_grows():
    labels = np.repeat([0, 1, 2], [6, 6, 2])  # by largest remainder class 2 has 1 of 3, 0 of 4
    third = [counts(labels[stratified(labels, size, KEY)])[2] for size in range(15)]
    assert third == sorted(third) and third[-1] == 2


def test_other_keys_choose_other_examples(digits):
    labels = digits.splits["train"].labels
    assert set(stratified(labels, 100, (7, 1))) != set(stratified(labels, 100, (7, 2)))


def choose(digits, **fields):
    return subset(digits.splits["train"].labels, digits.class_names, SubsetSpec(**fields), "subset")


def test_a_subset_is_everything_by_default(digits):
    positions, labels = choose(digits)
    np.testing.assert_array_equal(positions, np.arange(800))
    np.testing.assert_array_equal(labels, digits.splits["train"].labels)
    assert labels.dtype == np.int32


def test_classes_are_kept_and_left_out(digits):
    assert set(choose(digits, classes=(7, 8))[1]) == {7, 8}
    assert set(choose(digits, without=(3,))[1]) == set(range(10)) - {3}
    assert set(choose(digits, classes=(7, 8), without=(8,))[1]) == {7}


@pytest.mark.parametrize("fields", [{}, {"without": (3,)}])
@pytest.mark.parametrize("amount", [100, 0.25])
def test_the_labelled_are_the_subset_of_that_size_and_nested(digits, fields, amount):
    train = digits.splits["train"].labels
    few, _ = choose(digits, size=amount, **fields)
    many, labels = choose(digits, size=1.0, labelled=amount, **fields)
    assert len(few) == (amount if amount == 100 else round(0.25 * len(many)))
    assert set(few) <= set(choose(digits, size=0.5, **fields)[0]) <= set(many)
    np.testing.assert_array_equal(many[labels >= 0], few)
    np.testing.assert_array_equal(labels[labels >= 0], train[few])
    assert np.all(labels[~np.isin(many, few)] == -1)
    assert np.all(np.diff(many) > 0)


def test_another_seed_is_another_draw_of_the_same_proportion_and_nested(digits):
    train = digits.splits["train"].labels
    draws = [choose(digits, size=50, labelled=20, seed=seed) for seed in range(4)]
    assert zlib.crc32(draws[0][0].astype("<i4").tobytes()) == FIRST_DRAW, "seed 0 is published"
    assert len({tuple(chosen) for chosen, _ in draws}) == 4
    assert len({tuple(chosen[labels >= 0]) for chosen, labels in draws}) == 4
    for seed, (chosen, labels) in enumerate(draws):
        assert within_one(chosen, train) and within_one(chosen[labels >= 0], train)
        assert set(chosen) <= set(choose(digits, size=100, seed=seed)[0])
        assert set(chosen[labels >= 0]) == set(choose(digits, size=20, seed=seed)[0])


def test_a_fraction_labelled_is_one_of_the_subset(digits):
    _, labels = choose(digits, size=200, labelled=0.1)
    assert len(labels) == 200 and (labels >= 0).sum() == 20
    assert np.all(choose(digits, labelled=0)[1] == -1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"classes": (3, 10)},
            r"^s\.classes has 10; it must be of classes 0 to 9, or their na",
        ),
        ({"without": (12,)}, r"^s\.without has 12; it must be of classes 0 to 9, or their na"),
        ({"classes": (3,), "without": (3,)}, r"no example among 800; it must leave at least one$"),
        ({"size": 0}, r"^s\.size is 0; there must be at least one example$"),
        ({"size": 801}, r"^s\.size is 801; it must be at most 800, all there are$"),
        ({"size": 0.0001}, r"^s\.size is 0\.0001 of 800 examples; it must be at least one$"),
        ({"size": 90, "labelled": 91}, r"^s\.labelled is 91; it must be at most 90"),
        ({"size": 90, "labelled": 0.001}, r"^s\.labelled is 0\.001 of 90 examples"),
    ],
)
def test_an_impossible_subset_is_an_error(digits, fields, message):
    with pytest.raises(InputError, match=message):
        subset(digits.splits["train"].labels, digits.class_names, SubsetSpec(**fields), "s")


sizes = st.integers(1, 30)


@quick
@given(st.integers(0, 2**31 - 1), sizes, sizes, st.integers(0, 40), st.integers(1, 10))
def test_an_order_from_any_step_on_is_a_part_of_the_whole(seed, examples, batch, start, steps):
    whole = order(seed, examples, batch, 0, start + steps)
    part = order(seed, examples, batch, start, steps)
    assert part.dtype == np.int32 and part.shape == (steps, batch)
    np.testing.assert_array_equal(part, whole[start:])


@quick
@given(st.integers(0, 1000), sizes, sizes)
def test_every_epoch_of_an_order_is_all_examples_once(seed, examples, batch):
    epochs = 3
    stream = order(seed, examples, batch, 0, -(-epochs * examples // batch)).ravel()
    for epoch in stream[: epochs * examples].reshape(epochs, examples):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(examples))


def test_an_order_is_written_down():
    shuffle = np.random.Generator(np.random.Philox(key=[3, 1])).permutation(50)
    np.testing.assert_array_equal(order(3, 50, 10, 5, 5).ravel(), shuffle)
    assert order(3, 50, 10, 0, 1).tolist() == [ORDERED]
    assert order(3, 50, 10, 0, 1).tolist() != order(4, 50, 10, 0, 1).tolist()
