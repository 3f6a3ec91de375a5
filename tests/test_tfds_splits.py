"""Splits of TFDS sets: named, joined, cut from the train split, and of the classes present."""

import os
from pathlib import Path

import numpy as np
import pytest
from stages import refuses

from kdjax.data import DatasetSpec, load
from kdjax.data.sources import ArraySource, Split, all_of, joined
from kdjax.data.tfds import _directory, _named, _present

RANDOM = np.random.default_rng(0)


def source(labels):
    labels = np.array(labels)
    inputs = RANDOM.integers(0, 255, (len(labels), 2, 2, 1)).astype(np.uint8)
    return all_of(ArraySource(inputs, labels))


def test_joined_splits_are_read_one_after_another():
    parts = [source([0, 1]), source([2]), source([1, 0, 2])]
    one = joined(parts)
    every = np.concatenate([part.source.inputs for part in parts])
    np.testing.assert_array_equal(one.labels, [0, 1, 2, 1, 0, 2])
    np.testing.assert_array_equal(one.source.labels(), one.labels)
    for places in ([0], [5, 0, 3, 2, 2], [], [4]):
        found = one.source.fetch(np.array(places, int))
        np.testing.assert_array_equal(found, every[np.array(places, int)])
        assert found.dtype == np.uint8
    assert joined(parts[:1]) is parts[0]


def test_classes_without_examples_are_left_out_and_counted():
    splits = dict(train=source([5, 2, 2, 7]), test=source([7, 5]))
    names = [f"class {n}" for n in range(9)]
    raw = _present(splits, names, "mine/1.0.0")
    assert raw.class_names == ("class 2", "class 5", "class 7")
    np.testing.assert_array_equal(raw.splits["train"].labels, [1, 0, 0, 2])
    np.testing.assert_array_equal(raw.splits["test"].labels, [2, 1])
    assert raw.version == "mine/1.0.0 of 3 classes"
    assert raw.notes == ("3 of 9 classes have examples; the others are left out",)
    same = _present(splits | dict(more=source(range(9))), names, "mine/1.0.0")
    assert (same.version, same.notes, len(same.class_names)) == ("mine/1.0.0", (), 9)


class Builder:
    class info:
        splits = ("small1", "small2")


def test_a_split_that_there_is_not_is_named_with_those_there_are():
    known = dict(small1=source([0, 1]), small2=source([1]))
    found = _named("train", "small1+small2", "mine", Builder, known.get)
    assert isinstance(found, Split) and len(found) == 3
    with refuses(
        "'mine', of splits small1, small2; it must have a split train with labels", "train_"
    ):
        _named("train", "train", "mine", Builder, known.get)
    with refuses("a split small3 with labels (config.dataset.test_splits names others"):
        _named("test", "small1+small3", "mine", Builder, known.get)


def test_splits_are_named_for_sets_of_tfds_alone():
    for name in ("digits", "here.npz", "there/", "module:value"):
        with refuses(f"train_splits is 'a'; it must be empty for '{name}'"):
            load(DatasetSpec(name=name, train_splits="a"))


def test_a_prepared_set_is_where_its_version_is(tmp_path):
    for name, version, kind in (
        ("a", "1.0.0", "array_record"),
        ("a", "1.10.0", "array_record"),
        ("a", "1.9.0", "array_record"),
        ("a", "2.0.0", "tfrecord"),
        ("b/config", "1.0.0", "array_record"),
    ):
        path = tmp_path / name / version / "dataset_info.json"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"fileFormat": "{kind}"}}')
    (tmp_path / "a" / "3.0.0").mkdir()
    (tmp_path / "a" / "3.0.0" / "dataset_info.json").write_text("damaged")
    find = lambda name: _directory(name, str(tmp_path))
    assert find("a") == tmp_path / "a" / "1.10.0" and find("a:1.9.0") == tmp_path / "a" / "1.9.0"
    assert find("b/config") == tmp_path / "b" / "config" / "1.0.0"
    for name in ("b", "a:2.0.0", "a:3.0.0", "c"):
        assert find(name) is None


@pytest.mark.mnist
def test_a_set_of_sound_is_refused_for_its_features_without_tensorflow():
    there = os.environ["TFDS_DATA_DIR"]
    if not Path(there, "spoken_digit").exists():
        pytest.skip("spoken_digit is not prepared")
    with refuses("'spoken_digit', of features", "it must have one Image and one ClassLabel"):
        load(DatasetSpec(name="spoken_digit"), there, "none")


@pytest.mark.mnist
@pytest.mark.slow
def test_omniglots_splits_are_joined_and_cut_within_each_class(tmp_path):
    there = os.environ["TFDS_DATA_DIR"]
    if not Path(there, "omniglot").exists():
        pytest.skip("omniglot is not prepared")
    with refuses(
        "of splits small1, small2; it must have a split train", "train_splits names others"
    ):
        load(DatasetSpec(name="omniglot"), there, "none")
    with refuses("whose test split has examples of", "of which the train split has none"):
        spec = DatasetSpec(name="omniglot", train_splits="small1", test_splits="small2")
        load(spec, there, str(tmp_path))
    dataset = load(DatasetSpec(name="omniglot", train_splits="small1+small2"), there, str(tmp_path))
    assert dataset.classes == 242 and not any("absent" in name for name in dataset.class_names)
    assert any("242 of 1,623 classes have examples" in note for note in dataset.notes)
    tested = np.bincount(dataset.splits["test"].labels)
    assert np.unique(tested, return_counts=True)[1].tolist() == [192, 50]  # 50 are in both splits
    np.testing.assert_array_equal(np.unique(tested), [4, 8])
    train, validation = (np.bincount(dataset.splits[s].labels) for s in ("train", "validation"))
    np.testing.assert_array_equal(train + validation, 4 * tested)
