"""Classes are matched by their names: in data sets, subsets, reports, and of a teacher."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.config import experiment, stage
from kdjax.data import (
    DatasetSpec,
    SubsetSpec,
    arrays,
    difference,
    left_out,
    load,
    numbered,
    numbers,
)
from kdjax.data.classes import listed, ordered
from kdjax.data.subset import subset

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES.reshape(-1, 8, 8) * 15).astype(np.uint8)
NET = dict(model=dict(name="mlp", hidden=(16,)), steps=40, batch=50, members=dict(seed=1))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def folders(root, name=str, places=range(240)):
    """Digits as root/train/CLASS/PLACE.png and root/test/CLASS/PLACE.png; a third is tested."""
    for place in places:
        split = "test" if place % 3 == 0 else "train"
        path = root / split / name(LABELS[place]) / f"{place:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[place]).save(path)
    return f"{root}/"


def train(dataset, workdir, **fields):
    config = experiment(
        dict(net=stage(**NET | fields)), dataset=dict(name=dataset), execution=dict(devices=1)
    )
    return kdjax.run(config, workdir, quiet=True)


def test_names_that_are_numbers_are_in_the_order_of_the_numbers():
    assert ordered(["10", "2", "1", "0"]) == ["0", "1", "2", "10"]
    assert ordered(["010", "2", "02"]) == ["02", "2", "010"]
    assert ordered(["10", "2", "a"]) == ["10", "2", "a"]
    assert ordered(["٣", "10", "2"]) == ["10", "2", "٣"]  # a digit, though no number of ours
    text = np.array([str(y) for y in np.arange(24) % 12])
    pair = np.zeros((24, 2, 2), np.uint8), text
    assert arrays(pair, pair).class_names == numbered(12)


@pytest.mark.slow
def test_folders_whose_names_are_numbers_are_the_classes_of_arrays_of_numbers(tmp_path, undrawn):
    """A teacher of an .npz file and a student of the same pictures in folders, of 12 classes."""
    y = np.arange(240) % 12
    x = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 1)).astype(np.uint8)[y]
    np.savez(
        tmp_path / "n.npz",
        train_inputs=x[:192],
        train_labels=y[:192],
        test_inputs=x[192:],
        test_labels=y[192:],
    )
    for place, image in enumerate(x):
        path = tmp_path / "f" / ("train" if place < 192 else "test") / str(y[place])
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path / f"{place}.png")
    teacher = dict(optimizer=dict(learning_rate=0.01), steps=120)
    train(str(tmp_path / "n.npz"), tmp_path / "a", **teacher)
    trained = kdjax.open_stage(tmp_path / "a" / "net")
    found = load(DatasetSpec(name=f"{tmp_path}/f/"), "", "none")
    assert found.class_names == trained.class_names == numbered(12)
    inputs, labels = found.arrays("test")
    assert (trained.predict(inputs)[0].argmax(axis=1) == labels).mean() > 0.9
    report = train(
        f"{tmp_path}/f/",
        tmp_path / "b",
        objective=dict(kl_divergence=1.0),
        teacher=str(tmp_path / "a" / "net"),
        **teacher | dict(members=dict(seed=(5,))),
    )
    student = next(row for row in report.rows if row.stage == "net")
    assert student.metrics["accuracy"]["values"][0] > 0.9


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (WORDS, WORDS, ""),
        (("a", "b", "c"), ("a", "c", "b"), "class 1 is 'b', which is class 2 here"),
        (
            ("a", "b"),
            ("a", "c", "d"),
            "2 classes are not this data set's 3: it alone has 'b', this data set alone has 'c'",
        ),
        (
            numbered(12),
            numbered(10),
            "12 classes are not this data set's 10: it alone has '10",
        ),
    ],
)
def test_the_difference_of_classes_is_told_by_name(theirs, ours, words):
    found = difference(theirs, ours)
    assert found.startswith(words) and bool(found) == bool(words)


@pytest.mark.slow
def test_a_teacher_whose_classes_differ_is_refused_in_one_sentence(tmp_path, undrawn):
    other = ("three", *WORDS[:3], *WORDS[4:])  # the same names, another order
    pair = IMAGES[:200], LABELS[:200]
    names = dict(words=WORDS, other=other, numbers=None, fewer=(*WORDS[:9], "nought"))
    sets = {k: arrays(pair, pair, class_names=given, name=k) for k, given in names.items()}
    net = dict(name="mlp", hidden=(4,))
    kdjax.train(net, sets["words"], steps=1, quiet=True, workdir=tmp_path)
    for name, *words in (
        ("other", "class 0 is 'zero', which is class 1 here", "in the same order"),
        ("numbers", "alone has 'zero'", "alone has '0'", "class_names of the arrays"),
        ("fewer", "it alone has 'nine', this data set alone has 'nought'"),
    ):
        with refuses("net", *words):
            kdjax.train(net, sets[name], steps=1, init_from=str(tmp_path / "net"))
    fewer = "whose classes 'nine' the data set does not have"
    for name, word in (("numbers", "none of whose classes"), ("fewer", fewer)):
        with refuses("net", word):
            kdjax.distill(net, str(tmp_path / "net"), sets[name], steps=1, seeds=(7,))


def test_an_npz_file_may_name_its_classes(tmp_path):
    given = dict(
        train_inputs=IMAGES[:200],
        train_labels=LABELS[:200],
        test_inputs=IMAGES[200:300],
        test_labels=LABELS[200:300],
    )
    np.savez(tmp_path / "own.npz", **given, class_names=WORDS)
    found = load(DatasetSpec(name=f"{tmp_path}/own.npz"))
    assert found.class_names == WORDS
    train, test = (IMAGES[:200], LABELS[:200]), (IMAGES[200:300], LABELS[200:300])
    same = arrays(train, test, class_names=WORDS)
    assert found.version == same.version
    for names, words in ((np.arange(10), "text"), (np.array("a"), "must be a list of text")):
        np.savez(tmp_path / "bad.npz", **given, class_names=names)
        with refuses("bad.npz", "class_names", words):
            load(DatasetSpec(name=f"{tmp_path}/bad.npz"))
    for names in (set(WORDS), dict.fromkeys(WORDS), "0123456789"):
        with refuses(
            "arrays: class_names is", "it must be a list of text, in the order of the log"
        ):
            arrays(train, test, class_names=names)
    with refuses("every name must be text, as"):
        arrays(train, test, class_names=(*WORDS[1:], " "))
    with refuses("train_labels have a text without letters; every label must have a name"):
        arrays((train[0], np.array(["cat", ""])[train[1] % 2]), test)


def test_a_subset_names_its_classes():
    names = ("cat", "dog", "gnu")
    labels = np.arange(9) % 3
    for fields in (dict(without=("dog",)), dict(without=(1,)), dict(classes=("gnu", 0))):
        spec = SubsetSpec(**fields)
        chosen, shown = subset(labels, names, spec, "s")
        np.testing.assert_array_equal(shown, [0, 2] * 3)
        np.testing.assert_array_equal(labels[chosen], shown)
        assert left_out(spec, names) == (1,)
    assert left_out(SubsetSpec(), names) == ()
    assert left_out(SubsetSpec(classes=(1, 2), without=(2,)), numbered(10)) == (0, *range(2, 10))
    assert left_out(SubsetSpec(without=("3",)), numbered(10)) == (3,)


@pytest.mark.parametrize(
    ("named", "class_names", "words"),
    [
        (
            ("dgo",),
            ("cat", "dog"),
            "s.without has 'dgo'; it must be of the classes 'cat', 'dog'",
        ),
        ((2,), ("cat", "dog"), "s.without has 2; it must be of classes 0 to 1, or their names"),
        ((1, "dog"), ("cat", "dog"), "s.without is (1, 'dog'); it must name each class once"),
        (
            (3,),
            tuple(map(str, range(1, 13))),
            "s.without has 3, but the classes' names are numbers, '1', '2', '3', '4', '5', '6' and "
            "6 more; it must have a name as text, such as '12'",
        ),
        (
            (2,),
            ("1", "2", "cat"),
            "s.without has 2, but the class at that place is not the one with",
        ),
        ((1,), ("-1", "0", "1"), "that name, '1'; it must have a name as text"),
    ],
)
def test_a_class_that_may_be_another_is_refused(named, class_names, words):
    with refuses(words):
        numbers(named, class_names, "s.without")


@pytest.mark.slow
def test_a_report_names_the_classes_that_were_left_out(tmp_path, capsys, undrawn):
    dataset = folders(tmp_path / "f", name=lambda y: str(y + 1))
    stages = dict(
        teachers=stage(**NET),
        student=stage(
            **NET | dict(members=dict(seed=(5,))),
            objective=dict(kl_divergence=1.0),
            teacher="teachers",
            subset=dict(without=("3",)),
        ),
    )
    config = experiment(stages, dataset=dict(name=dataset), execution=dict(devices=1))
    report = kdjax.run(config, tmp_path / "run")
    assert "without '3'" in capsys.readouterr().out
    assert report.missing[0]["classes"] == [2] and report.class_names[2] == "3"
    assert report.settings["student"]["subset.without"] == ("3",)
    trained = kdjax.open_stage(tmp_path / "run" / "student")
    assert trained.spec["subset"]["without"] == ["3"]
    config.stages.student.subset.without = (3,)
    with refuses("config.stages.student.subset.without has 3, but the classes' names are numbers"):
        kdjax.run(config, tmp_path / "other", quiet=True)


def test_many_names_are_not_all_listed():
    assert listed(numbered(8)) == "'0', '1', '2', '3', '4', '5' and 2 more"
