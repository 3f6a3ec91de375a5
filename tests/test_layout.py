"""Which files of a folder are which examples, and what is said of those that are none."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.config import experiment, stage
from kdjax.data import DatasetSpec, arrays, load

IMAGES = (load_digits().images * 15).astype(np.uint8)


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGES[number]).save(path)


def tree(root, paths, count=10):
    """`count` pictures in each folder, no two alike."""
    for place, path in enumerate(paths):
        for i in range(count):
            picture(root / path / f"{i}.png", place * count + i)


def opened(root, cache="none", **fields):
    return load(DatasetSpec(name=f"{root}/", **fields), "", str(cache))


def sizes(dataset):
    return {split: len(examples) for split, examples in dataset.splits.items()}


CLASSES = ("cat", "dog")


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("test", ["test", "Testing"])
@pytest.mark.parametrize("validation", [None, "val", "Valid", "validation", "dev"])
def test_splits_of_the_usual_names_are_splits(tmp_path, train, test, validation):
    names = [train, test] + [validation] * (validation is not None)
    tree(tmp_path, [f"{split}/{name}" for split in names for name in CLASSES])
    dataset = opened(tmp_path)
    assert dataset.class_names == CLASSES and not dataset.notes
    own = validation is not None
    assert sizes(dataset) == {
        "train": 20 if own else 18,
        "validation": 20 if own else 2,
        "test": 20,
    }
    if own:
        np.testing.assert_array_equal(dataset.arrays("validation")[0][..., 0], IMAGES[40:60])
    np.testing.assert_array_equal(dataset.arrays("test")[0][..., 0], IMAGES[20:40])


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("val/cat", "val/dog", "test/cat", "test/dog"), "a folder test and val and no train"),
        (("train/cat", "train/dog", "val/cat", "val/dog"), "folder train and val and no test"),
        (("Training", "Testing"), "whose Training and Testing has no folders"),
        (("train/cat", "train/dog", "test"), "whose test has no folders; it must have one of each"),
        (
            ("train/cat", "train/dog", "test/cat", "val/dog", "Validation/dog"),
            "whose folders Validation and val are one split; keep one of them",
        ),
        (
            ("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"),
            "whose folders fold1, fold2 have the same folders in them, cat, dog, as splits have",
        ),
        (("cat", "dog", "test"), "whose test has no folders, and has the name of a split"),
        (("cat", "dog", "Val"), "whose Val has no folders, and has the name of a split"),
        (("set/cat", "set/dog"), "which has 1 folders; it must have at least two"),
        (("train/cat", "train/dog", "test/cat", "test/gnu"), "test has gnu; its classes must be"),
    ],
)
def test_what_may_be_splits_and_may_be_classes_is_refused(tmp_path, paths, words):
    tree(tmp_path, paths)
    with refuses("config.dataset.name is", words):
        opened(tmp_path)


def test_a_folder_in_a_folder_is_named(tmp_path):
    tree(tmp_path, ("set/cat", "set/dog"))
    with refuses(f"did you mean {tmp_path}/set/?"):
        opened(tmp_path)


def test_a_picture_of_a_train_is_a_class_and_so_are_folders_in_folders(tmp_path):
    tree(tmp_path / "a", ("car", "train", "bus"))
    assert opened(tmp_path / "a").class_names == ("bus", "car", "train")
    tree(tmp_path / "b", ("cat/2019", "cat/2020", "dog/2019", "dog/2021"))
    found = opened(tmp_path / "b")
    assert found.class_names == CLASSES and sum(sizes(found).values()) == 40


def test_a_class_that_the_test_lacks_is_said(tmp_path):
    tree(tmp_path, ("train/cat", "train/dog", "test/dog"))
    dataset = opened(tmp_path)
    assert dataset.notes == ("the test split has no example of 'cat'",)
    np.testing.assert_array_equal(dataset.splits["test"].labels, 1)


def test_classes_of_too_few_images_to_be_split_are_refused(tmp_path):
    tree(tmp_path / "one", [f"class {n}" for n in range(10)], count=1)
    with refuses("one/", "has examples of", "a class needs three examples or more to be split"):
        opened(tmp_path / "one")
    tree(tmp_path / "rare", ("train/cat", "train/dog", "test/cat"))
    tree(tmp_path / "rare", [f"train/rare {n}" for n in range(10)], count=1)
    for size in (3, 9):  # the last of a class is trained on, not chosen by
        trained = opened(tmp_path / "rare", validation=size).splits["train"]
        assert set(trained.labels) == set(range(12))
    tree(tmp_path / "three", [f"class {n}" for n in range(10)], count=3)
    assert set(opened(tmp_path / "three").splits["train"].labels) == set(range(10))


def test_hidden_and_machine_made_files_and_folders_never_count(tmp_path):
    tree(tmp_path, CLASSES)
    before = opened(tmp_path)
    for name in (
        *(".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "System Volume Information"),
        *("cat/.ipynb_checkpoints", "dog/@eaDir", "cat/__MACOSX", "cat/.thumbnails"),
    ):
        tree(tmp_path, [name], count=2)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", ".hidden.png"):
        for folder in (tmp_path, tmp_path / "cat"):
            (folder / name).write_bytes(b"of a machine")
    after = opened(tmp_path)
    assert (after.version, after.notes) == (before.version, ())
    assert after.class_names == CLASSES and sum(sizes(after).values()) == 20


def test_what_is_not_read_is_counted_in_one_line(tmp_path):
    root = tmp_path / "set"
    tree(root, ("train/cat", "train/dog", "test/cat", "test/dog"))
    tree(root, ("more", "train", "."), count=3)
    for name in ("a.HEIC", "b.heic", "c.avif", "README", "d.txt"):
        (root / "train" / "cat" / name).write_text("no image that is read")
    (line,) = opened(root).notes
    assert line == (
        "not read: 2 .heic, 1 .avif, 1 .txt, 1 without suffix, 3 images in more, which is no "
        "split, 6 images in no folder of a class"
    )
    again = [opened(root, tmp_path / "cache") for _ in range(2)]
    assert [found.notes for found in again] == [(line,), (line,)]


def test_kinds_of_images_that_are_seldom_are_read(tmp_path):
    tree(tmp_path, CLASSES)
    for suffix, kind in ((".jfif", "jpeg"), (".ppm", "ppm"), (".TIFF", "tiff"), (".JPE", "jpeg")):
        Image.fromarray(IMAGES[0]).save(tmp_path / "cat" / f"x{suffix}", kind)
    dataset = opened(tmp_path)
    assert sum(sizes(dataset).values()) == 24 and not dataset.notes


def test_names_in_two_forms_of_unicode_are_one_class(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree(tmp_path, (f"train/{composed}", "train/thé", f"test/{apart}", "test/thé"))
    dataset = opened(tmp_path)
    assert dataset.class_names == (composed, unicodedata.normalize("NFC", "thé"))
    np.testing.assert_array_equal(dataset.splits["test"].labels, [0] * 10 + [1] * 10)
    tree(tmp_path, (f"train/{apart}",))
    with refuses("two folders of train are named 'café', in two forms of Unicode"):
        opened(tmp_path)


def test_unlabelled_images_are_the_last_of_the_train_split(tmp_path):
    tree(tmp_path / "a", (*CLASSES, "Unlabelled/of/any/depth"))
    tree(tmp_path / "b", ("train/cat", "train/dog", "test/cat", "test/dog", "unlabeled"))
    for name, here in (("a", {"train": 25, "validation": 1, "test": 4}), ("b", None)):
        for cache in ("none", tmp_path / "cache", tmp_path / "cache"):
            dataset = opened(tmp_path / name, cache, validation=1 if name == "a" else 2)
            assert dataset.class_names == CLASSES and not dataset.notes
            assert sizes(dataset) == (here or {"train": 28, "validation": 2, "test": 20})
            inputs, labels = dataset.arrays("train")
            assert set(labels[:-10]) == {0, 1} and set(labels[-10:]) == {-1}
            first = 20 if name == "a" else 40
            np.testing.assert_array_equal(inputs[-10:, ..., 0], IMAGES[first : first + 10])
            assert all((dataset.splits[s].labels >= 0).all() for s in ("validation", "test"))


def test_arrays_may_be_unlabelled(tmp_path):
    x, y = IMAGES[:60], np.arange(60) % 3
    value = arrays((x[:40], y[:40]), (x[40:50], y[40:50]), unlabelled=x[50:])
    np.savez(
        tmp_path / "own.npz",
        train_inputs=x[:40],
        train_labels=y[:40],
        test_inputs=x[40:50],
        test_labels=y[40:50],
        unlabelled_inputs=x[50:],
    )
    file = load(DatasetSpec(name=f"{tmp_path}/own.npz"))
    for dataset in (file, load(DatasetSpec(), value=value)):
        inputs, labels = dataset.arrays("train")
        assert sizes(dataset) == {"train": 46, "validation": 4, "test": 10}
        np.testing.assert_array_equal(inputs[-10:, ..., 0], x[50:])
        np.testing.assert_array_equal(labels[-10:], -1)
        assert dataset.version == file.version
    plain = arrays((x[:40], y[:40]), (x[40:50], y[40:50]))
    assert plain.version != value.version


@pytest.mark.slow
def test_a_student_sees_unlabelled_examples_and_a_net_of_labels_does_not(tmp_path, undrawn):
    x, y = IMAGES[:600], load_digits().target[:600]
    data = arrays((x[:100], y[:100]), (x[400:], y[400:]), unlabelled=x[100:400])
    net = dict(model=dict(name="mlp", hidden=(8,)), steps=2, batch=10)
    told = dict(objective=dict(kl_divergence=1.0), teacher="net", members=dict(seed=(5,)))
    stages = dict(
        net=stage(**net),
        student=stage(**net, **told),
        control=stage(**net, **told, subset=dict(unlabelled=False)),
        few=stage(**net, **told, subset=dict(size=20.0)),
    )
    config = experiment(stages, dataset=dict(name=data), execution=dict(devices=1))
    from kdjax.config import parse
    from kdjax.prepare import prepare

    spec = parse(config)
    jobs = prepare(spec, load(spec.dataset, value=data), tmp_path)
    seen = {job.stage.name: (len(job.labels), int((job.labels >= 0).sum())) for job in jobs}
    assert seen == {"net": (90, 90), "student": (390, 90), "control": (90, 90), "few": (320, 20)}
    kdjax.run(config, tmp_path, quiet=True)
    identity = kdjax.open_stage(tmp_path / "student").spec["subset"]
    assert identity["unlabelled"] is True
    stages = dict(net=stage(**net, subset=dict(unlabelled=False)))
    with refuses("config.stages.net.subset.unlabelled is False, which nothing in the stage reads"):
        kdjax.run(experiment(stages, dataset=dict(name=data)), tmp_path / "b", quiet=True)


@pytest.mark.parametrize("word", ["val", "valid", "Validation", "dev"])
def test_a_validation_split_of_an_npz_file_has_any_of_its_usual_names(tmp_path, word):
    x, y = IMAGES[:60], np.arange(60) % 3
    given = dict(
        train_inputs=x[:30], train_labels=y[:30], test_inputs=x[30:45], test_labels=y[30:45]
    )
    given |= {f"{word}_inputs": x[45:], f"{word}_labels": y[45:]}
    np.savez(tmp_path / "own.npz", **given, extra=y, holdout_inputs=x)
    dataset = load(DatasetSpec(name=f"{tmp_path}/own.npz"))
    assert sizes(dataset) == {"train": 30, "validation": 15, "test": 15}
    np.testing.assert_array_equal(dataset.arrays("validation")[0][..., 0], x[45:])
    assert dataset.notes == ("not read: the arrays extra, holdout_inputs",)
    np.savez(tmp_path / "two.npz", **given, VAL_inputs=x, VALID_inputs=x)
    with refuses("two.npz", "of one split"):
        load(DatasetSpec(name=f"{tmp_path}/two.npz"))


# What the cache watches.


def test_a_link_that_leads_to_another_copy_is_noticed(tmp_path):
    """Of the same size, name and time."""
    for name, first in (("a", 0), ("b", 50)):
        for i in range(10):
            for c, label in enumerate(CLASSES):
                path = tmp_path / name / label / f"{i}.bmp"
                picture(path, first + 10 * c + i)
                os.utime(path, ns=(0, 0))
    link = tmp_path / "set"
    link.mkdir()
    versions = []
    for name in ("a", "b", "a"):
        for label in CLASSES:
            (link / label).unlink(missing_ok=True)
            (link / label).symlink_to(tmp_path / name / label)
        versions.append(opened(link, tmp_path / "cache").version)
        assert versions[-1] == opened(link).version
    assert versions[0] == versions[2] != versions[1]


@pytest.mark.parametrize("split", ["", "train/"])
def test_links_that_lead_above_the_folder_are_not_followed(tmp_path, split):
    tree(tmp_path / "set", [f"{split}cat", f"{split}dog"])
    tree(tmp_path / "set", ["test/cat", "test/dog"] if split else [])
    before = opened(tmp_path / "set", tmp_path / "cache")
    picture(tmp_path / "more" / "0.png", 90)
    (tmp_path / "set" / split / "cat" / "up").symlink_to(tmp_path)
    after = opened(tmp_path / "set", tmp_path / "cache")
    assert sizes(after) == sizes(before) and after.version == before.version


def test_a_set_with_a_link_to_nothing_is_cached_all_the_same(tmp_path):
    tree(tmp_path / "set", CLASSES)
    (tmp_path / "set" / "cat" / "README").symlink_to("nowhere")
    opened(tmp_path / "set", tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/set.json"))


def test_a_file_that_is_written_anew_with_its_old_time_is_noticed(tmp_path):
    tree(tmp_path / "set", CLASSES)
    before = opened(tmp_path / "set", tmp_path / "cache")
    path = tmp_path / "set" / "cat" / "0.png"
    known, content = path.stat(), path.read_bytes()
    other = next(p.read_bytes() for p in path.parent.iterdir() if p.read_bytes() != content)
    path.write_bytes(other.ljust(len(content), b"\0")[: max(len(content), len(other))])
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert opened(tmp_path / "set", tmp_path / "cache").version != before.version


def test_a_folder_that_comes_or_goes_is_noticed_and_a_hidden_one_is_not(tmp_path):
    tree(tmp_path / "set", CLASSES)
    opened(tmp_path / "set", tmp_path / "cache")
    entries = lambda: len(list((tmp_path / "cache").glob("*-*")))
    tree(tmp_path / "set", ["cat/.ipynb_checkpoints"], count=1)
    opened(tmp_path / "set", tmp_path / "cache")
    assert entries() == 1
    (tmp_path / "set" / "gnu").mkdir()
    with refuses("has no image of gnu"):
        opened(tmp_path / "set", tmp_path / "cache")
