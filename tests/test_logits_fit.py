"""Files of logits that are not of the student's data, or know nothing of it, are refused."""

import functools
import logging

import numpy as np
import pytest
from saved_logits import DATA, IMAGES, INPUTS, LABELS, LOGITS, NAMES, RANDOM, SPLITS, fits, save
from stages import refuses

import kdjax
from kdjax import logits_file, prepare


@pytest.fixture
def saved(tmp_path):
    """(kind of file, changes of the logits) -> the path of a file of them."""
    return functools.partial(save, tmp_path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_logits_of_other_inputs_are_refused(saved, split):
    path = saved(inputs=INPUTS | {split: INPUTS[split][::-1]})
    with refuses(
        f"'teachers', whose {split} logits are of other inputs, or of the same in another"
    ):
        fits(str(path))
    other = kdjax.arrays(train=(IMAGES[:150] + 1, LABELS[:150]), test=(IMAGES[150:], LABELS[150:]))
    with refuses("whose train logits are of other inputs"):
        fits(str(saved()), other)


def test_inputs_are_told_apart_by_content_and_not_by_how_they_are_given():
    x = RANDOM.normal(size=(7, 3)).astype(np.float32)
    digest = logits_file.inputs_digest
    assert digest(7, [x]) == digest(7, [x[:4], x[4:]]) == digest(7, [x.astype(np.float64)])
    assert digest(7, [x]) == digest(7, [np.asfortranarray(x)])
    others = [x[::-1], x.reshape(3, 7), x.view(np.int32), np.where(x == x[3, 1], 0, x)]
    assert len({digest(len(other), [other]) for other in (x, *others)}) == 5


def test_logits_of_the_stored_examples_are_refused_for_another_view(saved):
    path = saved()
    asked = "the teacher must be a stage or a function, so that the teacher sees the same view"
    with refuses("config.stages.s.teacher is logits of the stored examples, but config.s", asked):
        fits(str(path), augment=dict(shift=1))
    with refuses("config.stages.student.teacher is logits of the stored examples", asked):
        kdjax.distill(dict(name="mlp"), path, DATA, augment=dict(shift=1))


def test_logits_of_too_few_or_other_examples_are_refused(saved):
    with refuses("train logits are of 135 examples and 10 classes; they must be of 126 and 10"):
        fits(str(saved()), dataset_of(140))


def dataset_of(count):
    return kdjax.arrays(train=(IMAGES[:count], LABELS[:count]), test=(IMAGES[150:], LABELS[150:]))


def test_logits_that_know_nothing_of_the_labels_are_refused(saved):
    shuffled = LOGITS["train"][:, RANDOM.permutation(135)]
    one = np.concatenate([LOGITS["train"][:1], shuffled[1:]])
    with refuses("whose teacher 1 of 2 names the label of", "are expected by chance; its logits"):
        fits(str(saved(train=one)))
    constant = np.tile(9 * np.eye(10, dtype=np.float32)[LABELS[0]], (135, 1))
    with refuses("whose teacher 0 of 1 names the label of"):
        fits(kdjax.logits(constant))
    assert fits(kdjax.logits(shuffled, against_labels=False)).count == 2


def test_unlabelled_examples_are_held_against_no_label():
    data = kdjax.arrays(
        train=(IMAGES[:100], LABELS[:100]),
        test=(IMAGES[150:], LABELS[150:]),
        unlabelled=IMAGES[100:150],
    )
    images, labels = kdjax.examples(data, "train")
    assert 40 < (labels < 0).sum() <= 50
    knowing = [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in images]
    logits = 9 * np.eye(10, dtype=np.float32)[LABELS[knowing]]
    assert fits(kdjax.logits(logits), data).count == 1
    with refuses("whose teacher 0 of 1 names the label of", "training examples"):
        fits(kdjax.logits(logits[RANDOM.permutation(len(logits))]), data)


def test_logits_of_a_file_have_its_name_or_one_that_is_given(saved):
    path = saved()
    assert kdjax.logits(path).name == "teachers" and kdjax.logits(path, name="mine").name == "mine"
    assert kdjax.logits(LOGITS["train"]).name == "logits"


def test_a_weak_teacher_is_none_that_knows_nothing():
    weak = np.eye(10)[SPLITS["train"][1]] + RANDOM.normal(size=(135, 10))
    assert 0.2 < (weak.argmax(axis=1) == SPLITS["train"][1]).mean() < 0.6
    assert fits(kdjax.logits(weak)).count == 1


def test_too_few_examples_tell_nothing_of_chance():
    few = kdjax.arrays(train=(IMAGES[:6], np.arange(6) % 2), test=(IMAGES[:4], np.arange(4) % 2))
    wrong = 9 * np.eye(2)[1 - kdjax.examples(few, "train")[1]]
    assert fits(kdjax.logits(wrong), few, batch=2).count == 1


def test_a_file_of_plain_numpy_opens_and_it_is_said_that_it_is_not_checked(tmp_path, caplog):
    np.savez(tmp_path / "old.npz", **LOGITS)
    with caplog.at_level(logging.WARNING):
        teacher = fits(str(tmp_path / "old.npz"))
    assert teacher.count == 2 and teacher.class_names == ()
    assert "no digest of the inputs, so that they cannot be held against the student's" in (
        caplog.text
    )
    named = kdjax.logits(tmp_path / "old.npz", class_names=NAMES[::-1])
    asked = prepare.fit.Asked("test", np.arange(50), np.empty(0), None)
    with refuses("names the label of"):  # the classes are the wrong way round
        fits(named)
    np.testing.assert_array_equal(named.predict(asked), LOGITS["test"])


def test_other_names_than_a_files_are_refused(saved):
    with refuses("class_names is (", "but the logits 'teachers' have", "they must be equal"):
        kdjax.logits(saved(), class_names=NAMES[::-1])
    with refuses("logits are of the file 'teachers', which must have those of all splits"):
        kdjax.logits(saved(), test=LOGITS["test"])


def test_the_examples_of_a_config_need_no_teacher_that_is_not_there():
    config = dict(dataset=DATA, stages=dict(s=dict(teacher="runs/none.npz")))
    np.testing.assert_array_equal(kdjax.examples(config, "test")[0], INPUTS["test"])
