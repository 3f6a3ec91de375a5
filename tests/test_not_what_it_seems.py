"""Data and teachers that look as if they fitted, and do not: each is refused, or said."""

import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_iris
from stages import refuses

import kdjax
from kdjax import logits_file
from kdjax.data import DatasetSpec, load
from kdjax.data.images import header

IRIS, SPECIES = load_iris(return_X_y=True)
IMAGES, LABELS = load_digits(return_X_y=True)
NET = dict(name="mlp", hidden=(4,))
QUICK = dict(steps=2, quiet=True, batch=20)


def table(columns):
    frame = pandas.DataFrame(IRIS.astype("float32"), columns=list("abcd"))[list(columns)]
    part = lambda keep: (frame[keep], SPECIES[keep])
    return kdjax.arrays(
        train=part(np.arange(150) % 3 > 0), test=part(np.arange(150) % 3 == 0), name=columns
    )


def test_a_table_with_its_columns_in_another_order_has_other_inputs(tmp_path):
    teacher = kdjax.train(NET, table("abcd"), workdir=tmp_path, name="teacher", **QUICK)
    there = "whose inputs have other columns than this data set", "column 1 is 'b', and there 'c'"
    for given in (teacher, str(tmp_path / "teacher")):
        with refuses("teacher is", *there):
            kdjax.distill(dict(name="mlp", hidden=(3,)), given, table("acbd"), **QUICK)
    with refuses("init_from is", *there):
        kdjax.train(NET, table("acbd"), init_from=teacher, **QUICK)
    kdjax.distill(dict(name="mlp", hidden=(3,)), teacher, table("abcd"), **QUICK)


@pytest.mark.parametrize("stray", ["cat/cover.png", "bird/train/0.png"])
def test_splits_below_the_classes_are_refused_whatever_stands_beside(stray, tmp_path):
    for place, path in enumerate(["cat/train", "cat/test", "dog/Train", "dog/val"]):
        (tmp_path / path).mkdir(parents=True)
        for i in range(4):
            picture = Image.fromarray(IMAGES[4 * place + i].reshape(8, 8).astype(np.uint8))
            picture.save(tmp_path / path / f"{i}.png")
    (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
    picture.save(tmp_path / stray)
    with refuses(
        "whose cat has the folders train and test, which are named as splits", "train/cat/"
    ):
        load(DatasetSpec(f"{tmp_path}/"), cache_dir="none")


def test_images_of_16_bits_are_refused_however_they_are_stored(tmp_path):
    import struct

    rng = np.random.default_rng(0)
    (tmp_path / "deep.ppm").write_bytes(b"P6 4 4 65535\n" + rng.bytes(4 * 4 * 6))
    with refuses("deep.ppm cannot be read as an image: it has more than 8 bits a channel"):
        header(tmp_path / "deep.ppm", "says")
    (tmp_path / "eight.ppm").write_bytes(b"P6 4 4 255\n" + rng.bytes(4 * 4 * 3))
    assert header(tmp_path / "eight.ppm", "says").shape == (4, 4)
    # A TIFF of three planes of 16 bits, which Pillow reads as noise.
    planes = [rng.bytes(4 * 4 * 2) for _ in range(3)]
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, None), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 3, None), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 3, None), (284, 3, 1, 2)]
    start = 8 + 2 + 12 * len(tags) + 4
    extra, entries = b"", b""
    pixels = start + 6 + 12 + 12
    values = {258: struct.pack("<3H", 16, 16, 16), 279: struct.pack("<3I", 32, 32, 32)}
    values[273] = struct.pack("<3I", *(pixels + 32 * i for i in range(3)))
    for tag, kind, count, value in tags:
        if value is None:
            entries += struct.pack("<HHII", tag, kind, count, start + len(extra))
            extra += values[tag]
        else:
            entries += struct.pack("<HHII", tag, kind, count, value)
    content = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries
    (tmp_path / "planes.tiff").write_bytes(content + b"\0" * 4 + extra + b"".join(planes))
    with refuses("planes.tiff cannot be read as an image: it has more than 8 bits a channel"):
        header(tmp_path / "planes.tiff", "says")


def test_numbers_that_are_named_by_each_other_are_refused():
    digits = lambda names: kdjax.arrays(
        train=(IMAGES[:900], LABELS[:900]), test=(IMAGES[900:], LABELS[900:]), class_names=names
    )
    with refuses("train_labels are numbers", "the same numbers in another order"):
        digits([*"1023456789"])
    assert digits([*"0123456789"]).class_names == tuple("0123456789")
    assert digits([f"{n}0" for n in range(10)]).class_names[2] == "20"


@pytest.mark.parametrize(
    "chosen", [dict(extra="renormalise"), dict(extra="other", other="a"), dict(missing="zero")]
)
def test_probabilities_are_refused_though_the_classes_are_mapped(chosen):
    import jax

    few = chosen.get("missing") == "zero"
    names = ["a", "b"] if few else ["a", "b", "c", "d"]
    weights = np.random.default_rng(0).normal(size=(4, len(names))).astype("float32")
    teacher = kdjax.function(lambda p, x: jax.nn.softmax(x @ p), weights)
    teacher = kdjax.with_class_names(teacher, names)
    data = kdjax.arrays(
        train=(IRIS, SPECIES), test=(IRIS, SPECIES), class_names=["a", "b", "c"], name="iris"
    )
    with refuses("whose outputs are probabilities"):
        kdjax.distill(NET, teacher, data, class_map=chosen, **QUICK)


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_probabilities_are_known_though_they_are_rounded(classes):
    import jax.numpy as jnp

    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(2, 200, classes)).astype(np.float32) * 4
    exact = np.exp(logits - logits.max(-1, keepdims=True))
    exact /= exact.sum(-1, keepdims=True)
    rounded = [exact, exact.astype(np.float16), np.array(jnp.asarray(exact, jnp.bfloat16))]
    rounded += [exact.round(3)] * (classes <= 10) + [exact.round(2)] * (classes <= 10)
    for each in rounded:
        assert logits_file.are_probabilities(each.astype(np.float32))
    for other in (logits, np.log(exact), abs(logits), rng.random((2, 200, classes))):
        assert not logits_file.are_probabilities(other)


def test_splits_of_which_one_was_standardised_are_told_apart():
    x = IMAGES.astype("float32") * 255 / 16
    scaled = (x[:900] - x[:900].mean()) / x[:900].std()
    data = kdjax.arrays(train=(scaled, LABELS[:900]), test=(x[900:], LABELS[900:]))
    for normalize in ("standard", "unit"):
        notes = load(DatasetSpec(normalize=normalize), value=data).notes
        assert any("all splits must be scaled alike" in note for note in notes)


def test_a_class_without_a_test_example_is_said_of_arrays_too():
    keep = LABELS[900:] != 7
    data = kdjax.arrays(
        train=(IMAGES[:900], LABELS[:900]), test=(IMAGES[900:][keep], LABELS[900:][keep])
    )
    notes = load(DatasetSpec(), value=data).notes
    assert any("the test split has no example of '7'" in note for note in notes)


def test_dark_images_of_more_than_bytes_are_said():
    x = IMAGES.astype(np.uint8)
    for values, dark in ((x, True), (x * 15, False)):
        data = kdjax.arrays(train=(values[:900], LABELS[:900]), test=(values[900:], LABELS[900:]))
        notes = load(DatasetSpec(), value=data).notes
        assert any("by which they are divided" in note for note in notes) == dark
