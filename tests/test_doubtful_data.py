"""Data that can be read, but perhaps not as their owner meant: what is said of them."""

import unicodedata

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.class_map import ClassMap, matched
from kdjax.data import DatasetSpec, SubsetSpec, arrays, load, subset

IMAGES, LABELS = load_digits().images.astype(np.uint8) * 15, load_digits().target
NAMES = np.array(["café", *"bcdefghij"])
APART = unicodedata.normalize("NFD", NAMES[0])


def opened(x, labels=LABELS, test=None, class_names=None, **fields):
    test = x if test is None else test
    data = arrays((x[:1000], labels[:1000]), (test[1000:], labels[1000:]), class_names=class_names)
    return load(DatasetSpec(**fields), value=data)


def test_a_name_in_two_forms_of_unicode_is_one_class_in_arrays_too():
    assert NAMES[0] != APART
    names = NAMES[LABELS].astype("<U9")
    names[::2] = np.where(LABELS[::2] == 0, APART, names[::2])
    dataset = opened(IMAGES, names)
    assert dataset.class_names == opened(IMAGES, NAMES[LABELS]).class_names
    expected = opened(IMAGES, NAMES[LABELS]).splits["train"].labels
    np.testing.assert_array_equal(dataset.splits["train"].labels, expected)
    given = opened(IMAGES, NAMES[LABELS], class_names=[APART, *NAMES[1:]])
    assert given.class_names == tuple(NAMES)
    with refuses("class_names is", "two or more different texts"):
        opened(IMAGES, class_names=[APART, *NAMES[:9]])


def test_a_teacher_and_a_subset_may_name_a_class_in_another_form():
    logits = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    teacher = kdjax.logits(logits, class_names=[APART, *NAMES[1:]])
    assert matched(teacher, tuple(NAMES), ClassMap(), "teacher").masked == ()
    spec = SubsetSpec(without=(APART,))
    _, labels = subset(LABELS.astype(np.int32), tuple(NAMES), spec, "subset")
    assert 0 not in labels and 1 in labels


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cat", "cat "), ("1", "01")])
def test_names_that_are_almost_the_same_are_said_to_be(names, tmp_path):
    for name in (*names, "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(IMAGES[len(list(tmp_path.glob("*/*")))]).save(
                tmp_path / name / f"{i}.png"
            )
    says = "are different classes, though their names differ in case, spaces or leading zeros alone"
    folder = load(DatasetSpec(name=f"{tmp_path}/"), "", "none")
    assert folder.classes == 3 and sum(says in note for note in folder.notes) == 1
    assert not any(says in note for note in opened(IMAGES).notes)
    letters = opened(IMAGES, class_names=list("AaBbCcDdEe"))
    assert letters.notes == (f"'A' and 'a' (and 4 more such names) {says}",)


def test_unlabelled_images_stand_beside_the_splits(tmp_path):
    for path in ("train/cat", "train/dog", "train/Unlabelled", "test/cat", "test/dog"):
        (tmp_path / path).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / path / "0.png")
    with refuses("whose train has a folder Unlabelled; it must stand beside the splits"):
        load(DatasetSpec(name=f"{tmp_path}/"), "", "none")


def test_a_class_that_is_named_and_not_trained_is_said():
    nine = np.where(LABELS == 9, 8, LABELS)
    assert "the train split has no example of 'j'" in opened(IMAGES, nine, class_names=NAMES).notes
    assert opened(IMAGES, class_names=NAMES).notes == ()


def test_the_same_inputs_with_other_labels_are_counted():
    labels, images = LABELS.copy(), IMAGES.copy()
    images[:50], labels[:50] = IMAGES[100:150], LABELS[100:150]
    assert not any("another class" in note for note in opened(images, labels).notes)
    labels[:20] = (labels[:20] + 1) % 10
    assert "40 examples have the inputs of an example of another class" in (
        opened(images, labels).notes
    )


def test_floats_that_are_not_scaled_are_said_to_be():
    says = "the inputs are floats from 0 to 240, which are not scaled; config.dataset.normalize="
    assert any(note.startswith(says) for note in opened(IMAGES * 1.0).notes)
    assert opened(IMAGES * 1.0, normalize="standard").notes == opened(IMAGES / 240).notes == ()


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (IMAGES / 255, IMAGES * 1.0, "the test inputs have 255 times the range of the train"),
        (IMAGES, (IMAGES > 120).astype(np.uint8), "times the range of the test inputs"),
    ],
)
def test_splits_of_other_ranges_are_said_to_be(train, test, words):
    assert any(words in note for note in opened(train, test=test).notes)
    assert not any("times the range" in note for note in opened(train).notes)


def test_a_split_is_not_trained_on_and_tested():
    for fields in (dict(train_splits="train+test"), dict(test_splits="test+test")):
        with refuses("is 'mnist', whose train_splits are", "'test' must be named once"):
            load(DatasetSpec(name="mnist", **fields), cache_dir="none")


# What the softmax is taken of.


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_probabilities_are_no_logits(tmp_path):
    z = np.random.default_rng(0).normal(size=(2, 30, 10)).astype(np.float32)
    for wrong in (softmax(z), softmax(z).astype(np.float16), np.eye(10)[LABELS[:30]]):
        with refuses("the teacher's train logits are probabilities, none below 0 and the sum of"):
            kdjax.logits(wrong)
        with refuses("the teacher's train logits are probabilities"):
            kdjax.save_logits(tmp_path / "z.npz", wrong, IMAGES[:30], NAMES)
    assert kdjax.logits(np.log(softmax(z))).count == kdjax.logits(np.abs(z)).count == 2


def test_a_function_that_ends_in_a_softmax_teaches_no_logits():
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    logits = lambda w, x: x.reshape(len(x), -1) @ w
    fields = dict(steps=1, quiet=True, execution=dict(devices=1))
    data = arrays((IMAGES[:300], LABELS[:300]), (IMAGES[300:400], LABELS[300:400]))
    net = dict(name="mlp", hidden=(4,))
    with refuses("whose outputs are probabilities, none below 0 and the sum of each row 1"):
        teacher = kdjax.function(lambda w, x: jax.nn.softmax(logits(w, x)), weights)
        kdjax.distill(net, teacher, data, **fields)
    kdjax.distill(net, kdjax.function(logits, weights), data, **fields)


def test_truths_are_no_bytes():
    data = arrays((IMAGES[:300], LABELS[:300]), (IMAGES[300:400], LABELS[300:400]))
    fields = dict(steps=1, quiet=True, execution=dict(devices=1))
    stage = kdjax.train(dict(name="mlp", hidden=(4,)), data, **fields)
    with refuses("inputs are bool; they must be integers from 0 to 255"):
        stage.predict(IMAGES[:5] > 100)
