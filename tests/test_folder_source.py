"""The user's own images, in folders."""

import errno
import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import kdjax
from kdjax.config import experiment, stage
from kdjax.data import DatasetSpec, fetch, load
from kdjax.data.images import read_images
from kdjax.rules import InputError

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES.reshape(-1, 8, 8) * 15).astype(np.uint8)


def save(root, places, mode="L", suffix="png"):
    """Digits as root/CLASS/PLACE.png."""
    for place in places:
        folder = root / f"digit {LABELS[place]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[place]).convert(mode).save(folder / f"{place:04d}.{suffix}")


def opened(root, **fields):
    return load(DatasetSpec(name=f"{root}/", **fields), "", cache_dir="none")


def refused(root, *words, cache_dir="none", **fields):
    with pytest.raises(InputError) as error:
        dataset = load(DatasetSpec(name=f"{root}/", **fields), "", cache_dir=str(cache_dir))
        fetch(dataset.splits["train"], np.arange(len(dataset.splits["train"])))
    for word in words:
        assert word in str(error.value)


def test_folders_of_images_are_a_data_set(tmp_path):
    save(tmp_path, range(100))
    dataset = opened(tmp_path)
    sizes = {split: len(examples) for split, examples in dataset.splits.items()}
    assert sizes == {"train": 72, "validation": 8, "test": 20}
    assert (dataset.classes, dataset.input_shape) == (10, (8, 8, 1))
    assert dataset.class_names == tuple(f"digit {digit}" for digit in range(10))
    order = sorted(range(100), key=lambda place: (LABELS[place], place))
    for split in dataset.splits.values():
        pixels = fetch(split, np.arange(len(split)))[..., 0]
        np.testing.assert_array_equal(pixels, IMAGES[[order[i] for i in split.index]])
        np.testing.assert_array_equal(split.labels, LABELS[[order[i] for i in split.index]])


def test_splits_of_ones_own(tmp_path):
    for split, places in dict(
        train=range(60), validation=range(60, 90), test=range(90, 130)
    ).items():
        save(tmp_path / split, places)
    sizes = {split: len(examples) for split, examples in opened(tmp_path).splits.items()}
    assert sizes == {"train": 60, "validation": 30, "test": 40}


def test_one_coloured_image_makes_all_coloured(tmp_path):
    save(tmp_path, range(60))
    save(tmp_path, range(60, 61), mode="RGB")
    dataset = opened(tmp_path)
    assert dataset.input_shape == (8, 8, 3)
    pixels = fetch(dataset.splits["test"], np.arange(5))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_images_of_many_sizes_are_scaled(tmp_path):
    save(tmp_path, range(60))
    Image.new("L", (30, 20), 255).save(tmp_path / "digit 0" / "wide.png")
    refused(tmp_path, "wide.png", "(20, 30)", "(8, 8)", "config.dataset.image_size")
    assert opened(tmp_path, image_size=12).input_shape == (12, 12, 1)
    save(tmp_path / "halves" / "train", range(60))
    for place in range(60, 90):
        folder = tmp_path / "halves" / "test" / f"digit {LABELS[place]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[place]).resize((12, 12)).save(folder / f"{place}.png")
    with pytest.raises(InputError, match=r"of \(12, 12\) and .* of \(8, 8\)"):
        opened(tmp_path / "halves")


def test_a_photograph_is_as_it_is_seen_and_hidden_files_are_none(tmp_path):
    save(tmp_path, range(60), mode="RGB")
    for folder in tmp_path.iterdir():
        (folder / "._0.png").write_text("of a Mac")
        (folder / "not a file.png").mkdir()
        for name, size, turned in (("a.jpg", (8, 12), 6), ("b.jpg", (12, 8), 1)):
            exif = Image.Exif()
            exif[0x0112] = turned
            Image.new("RGB", size).save(folder / name, exif=exif)
        for path in folder.glob("0*.png"):
            path.unlink()
    dataset = opened(tmp_path)
    assert dataset.input_shape == (8, 12, 3)
    assert fetch(dataset.splits["train"], np.arange(5)).shape == (5, 8, 12, 3)


def test_the_version_is_of_the_content_not_of_the_place(tmp_path):
    save(tmp_path / "here", range(60))
    (tmp_path / "here").rename(tmp_path / "there")
    save(tmp_path / "here", range(60))
    assert opened(tmp_path / "here").version == opened(tmp_path / "there").version
    save(tmp_path / "here", range(60, 61))
    assert opened(tmp_path / "here").version != opened(tmp_path / "there").version


def test_a_cached_folder_is_read_anew_when_it_changes(tmp_path):
    save(tmp_path / "set", range(60))
    spec = DatasetSpec(name=f"{tmp_path / 'set'}/")
    first = load(spec, "", cache_dir=str(tmp_path / "cache"))
    again = load(spec, "", cache_dir=str(tmp_path / "cache"))
    assert isinstance(again.splits["train"].source.inputs, np.memmap)
    assert (again.version, again.input_shape) == (first.version, first.input_shape)
    save(tmp_path / "set", range(60, 80))
    assert load(spec, "", cache_dir=str(tmp_path / "cache")).version != first.version


def test_pictures_behind_links_are_read_and_watched(tmp_path):
    """Classes that are links, a link in a class, and links that lead back."""
    save(tmp_path / "real", range(60))
    linked, cache = tmp_path / "linked", str(tmp_path / "cache")
    linked.mkdir()
    for number in range(9):
        (linked / f"digit {number}").symlink_to(tmp_path / "real" / f"digit {number}")
    nine = linked / "digit 9"
    nine.mkdir()
    (nine / "more").symlink_to(tmp_path / "real" / "digit 9")
    for name, back in (("up", tmp_path), ("set", linked), ("own", nine)):
        (nine / name).symlink_to(back)
    spec = DatasetSpec(name=f"{linked}/")
    first, every = load(spec, "", cache), opened(tmp_path / "real")
    assert first.splits.keys() == every.splits.keys()
    for split, examples in every.splits.items():
        np.testing.assert_array_equal(first.splits[split].labels, examples.labels)
    for number, suffix in ((3, "digit 3"), (9, "digit 9")):
        before = load(spec, "", cache)
        path = min((tmp_path / "real" / suffix).iterdir())
        Image.fromarray(IMAGES[number + 100]).save(path)
        after = load(spec, "", cache)
        assert after.version != before.version
        assert load(spec, "", cache).version == after.version == opened(linked).version


def test_hidden_folders_are_not_read(tmp_path):
    save(tmp_path, range(60))
    before = opened(tmp_path)
    hidden = tmp_path / "digit 3" / ".ipynb_checkpoints"
    hidden.mkdir()
    Image.fromarray(IMAGES[3]).save(hidden / "0003-checkpoint.png")
    assert opened(tmp_path).version == before.version


def test_what_cannot_be_reached_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "set", range(60))
    link = tmp_path / "set" / "digit 0" / "lost.png"
    link.symlink_to(tmp_path / "nowhere.png")
    refused(tmp_path / "set", "lost.png cannot be read as an image: No such file or directory")
    link.unlink()
    closed = tmp_path / "set" / "digit 0" / "closed"
    closed.mkdir()
    scandir = os.scandir

    def denied(path):  # as it is where the user may not read it
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    refused(tmp_path / "set", f"{closed} cannot be read (Permission denied)")


def test_what_is_no_such_folder_is_refused(tmp_path):
    refused(tmp_path / "absent", "absent", "there is no such folder")
    (tmp_path / "one" / "only").mkdir(parents=True)
    refused(tmp_path / "one", "1 folders", "at least two")
    save(tmp_path / "halves" / "train", range(60))
    refused(tmp_path / "halves", "no test", "both train and test or none")
    save(tmp_path / "halves" / "test", range(60, 90))
    (tmp_path / "halves" / "test" / "cats").mkdir()
    refused(tmp_path / "halves", "test has cats", "digit 0")
    save(tmp_path / "empty", range(60))
    (tmp_path / "empty" / "cats").mkdir()
    refused(tmp_path / "empty", "no image of cats")


def test_what_is_no_image_is_refused(tmp_path):
    save(tmp_path / "text", range(60))
    (tmp_path / "text" / "digit 0" / "note.png").write_text("not an image")
    refused(tmp_path / "text", "note.png cannot be read as an image")
    save(tmp_path / "cut", range(60))
    cut = tmp_path / "cut" / "digit 0" / "0000.png"
    cut.write_bytes(cut.read_bytes()[:60])
    for cache_dir in ("none", tmp_path / "cache"):
        refused(
            tmp_path / "cut", "config.dataset.name", "0000.png", "as an image", cache_dir=cache_dir
        )
    save(tmp_path / "deep", range(60))
    Image.fromarray(IMAGES[0].astype(np.uint16)).save(tmp_path / "deep" / "digit 0" / "deep.png")
    refused(tmp_path / "deep", "deep.png", "its mode is I;16; it must be 1, L, LA, P")


def test_image_size_is_of_folders_only():
    with pytest.raises(InputError, match=r"image_size is 8; it must be 0 for 'digits'"):
        load(DatasetSpec(name="digits", image_size=8), "")


def test_images_are_read_as_those_of_a_folder(tmp_path):
    save(tmp_path, range(60), mode="RGBA")
    train = opened(tmp_path).splits["train"]
    paths = [train.source.paths[place] for place in train.index]
    np.testing.assert_array_equal(
        read_images(paths, (8, 8, 3)), fetch(train, np.arange(len(train)))
    )
    wide = Image.fromarray(np.repeat(IMAGES[0], 2, axis=1))  # [8, 16]
    wide.save(tmp_path / "wide.png")
    read = read_images(tmp_path / "wide.png", (4, 8, 1))
    np.testing.assert_array_equal(read[0, ..., 0], wide.resize((8, 4), Image.Resampling.BILINEAR))
    turned = Image.Exif()
    turned[0x0112] = 6
    wide.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    np.testing.assert_array_equal(read_images(str(tmp_path / "turned.png"), (4, 8, 1)), read)
    assert read_images(tmp_path / "wide.png", (4, 8, 3)).shape == (1, 4, 8, 3)
    assert read_images([], (4, 8, 3)).shape == (0, 4, 8, 3)
    Image.fromarray(IMAGES[0].astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(
        InputError, match=r"deep\.png cannot be read as an image: its mode is I;16; it"
    ):
        read_images([tmp_path / "deep.png"], (8, 8, 1))


def test_names_that_cannot_be_printed_have_escapes(tmp_path):
    save(tmp_path, range(60))
    (tmp_path / "digit 3").rename(tmp_path / "digit 3\u200c\n雪")
    assert opened(tmp_path).class_names[3] == "digit 3\\u200c\\n雪"


@pytest.mark.slow
def test_a_teacher_of_other_classes_is_refused(tmp_path):
    save(tmp_path / "ours", range(60))
    save(tmp_path / "theirs", range(60))
    (tmp_path / "theirs" / "digit 3").rename(tmp_path / "theirs" / "a three")
    stages = dict(teachers=stage(steps=2, batch=10))
    kdjax.run(
        experiment(stages, dataset=dict(name=f"{tmp_path}/ours/")), tmp_path / "a", quiet=True
    )
    student = stage(
        steps=2,
        batch=10,
        objective=dict(kl_divergence=1.0),
        teacher=str(tmp_path / "a" / "teachers"),
    )
    with pytest.raises(
        InputError,
        match=r"whose classes 'digit 3' the data set does not have; class_map\.extra",
    ):
        other = experiment(dict(s=student), dataset=dict(name=f"{tmp_path}/theirs/"))
        kdjax.run(other, tmp_path / "b", quiet=True)


def test_a_folder_of_too_few_images_is_refused(tmp_path):
    save(tmp_path, range(4))
    refused(tmp_path, "config.dataset.name is", "too few examples for a test split")


def test_what_cannot_be_printed_is_escaped_in_messages(tmp_path):
    save(tmp_path, range(60))
    (tmp_path / "digit 0" / "a\nb\x1b.png").write_text("not an image")
    refused(tmp_path, "a\\nb\\x1b.png cannot be read as an image")
