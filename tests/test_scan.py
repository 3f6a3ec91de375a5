"""What a look at all inputs tells, what `predict` takes by it, and what `inspect` prints."""

import runpy
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.config import experiment, parse, stage
from kdjax.data import DatasetSpec, arrays, load, scan
from kdjax.identity import of_data
from kdjax.raw import accepted

IMAGES, LABELS = load_digits().images.astype(np.uint8), load_digits().target
NET = dict(name="mlp", hidden=(4,))


def opened(x, y=LABELS, cut=1000, **fields):
    pair = lambda rows: (x[rows], y[: len(x)][rows])
    data = arrays(pair(slice(cut)), pair(slice(cut, None)))
    return load(DatasetSpec(**fields), value=data)


def test_bytes_of_0_and_1_are_not_divided_by_255():
    binary = (IMAGES > 8).astype(np.uint8)
    dataset = opened(binary)
    assert dataset.preprocessing.scale == (1.0,) and dataset.input_range == (0, 1)
    assert opened(binary * 255).preprocessing.scale == (1 / 255,)
    assert opened(binary * 2).preprocessing.scale == (1 / 255,)
    assert opened(np.zeros_like(binary)).preprocessing.scale == (1 / 255,)
    late = binary.copy()
    late[-1, 0, 0] = 255  # in the test split alone
    assert opened(late).preprocessing.scale == (1 / 255,)


def test_bytes_that_are_all_small_are_said_to_be():
    assert any("the inputs reach 16 of 255" in note for note in opened(IMAGES).notes)
    for dataset in (
        opened(IMAGES * 15),
        opened(IMAGES, normalize="standard"),
        opened(IMAGES / 16.0),
        load(DatasetSpec()),
    ):
        assert not any("reach" in note for note in dataset.notes)


def test_the_range_of_floats_is_what_there_is_in_all_splits():
    x = IMAGES / 16.0
    x[-1, 0, 0], x[0, 0, 0] = 3.0, -2.0
    assert opened(x).input_range == (-2, 3)
    assert load(DatasetSpec()).input_range == (0, 16)


def doubled():
    """Digits of which 30 that are trained on are tested, and 7 that are for validation."""
    x = IMAGES[:500] * 15
    test = np.concatenate([IMAGES[500:600] * 15, x[:30]])
    validation = np.concatenate([IMAGES[600:650] * 15, test[:7]])
    labels = LABELS[500:600], LABELS[:30], LABELS[600:650], LABELS[500:507]
    return arrays(
        (x, LABELS[:500]),
        (test, np.concatenate(labels[:2])),
        validation=(validation, np.concatenate(labels[2:])),
    )


def test_copies_between_splits_are_counted_said_and_by_choice_removed(monkeypatch):
    data = doubled()
    says = "the inputs of 7 validation and 30 train examples stand in a later split, too"
    kept = load(DatasetSpec(), value=data)
    (note,) = kept.notes
    assert note == f"{says}; config.dataset.duplicates='remove' leaves them out"
    assert len(kept.splits["train"]) == 500 and len(kept.splits["validation"]) == 57
    clean = load(DatasetSpec(duplicates="remove"), value=data)
    assert clean.notes == (f"{says}, and are left out",)
    for split, rows in (("train", slice(30, 500)), ("validation", slice(600, 650))):
        inputs, labels = clean.arrays(split)
        np.testing.assert_array_equal(inputs[..., 0], IMAGES[rows] * 15)
        np.testing.assert_array_equal(labels, LABELS[rows])
    assert len(clean.splits["test"]) == 130
    monkeypatch.setattr(scan, "LIMIT", 1000)  # of larger sets they are counted where it matters
    assert load(DatasetSpec(), value=data).notes == ()
    assert load(DatasetSpec(duplicates="remove"), value=data).notes == clean.notes


def test_a_set_without_copies_says_nothing_and_keeps_its_identity():
    spec = parse(experiment(dict(net=stage())))
    dataset = load(spec.dataset)
    facts = of_data(spec, dataset)
    assert dataset.notes == () and set(facts) == {
        *("name", "validation", "image_size", "normalize", "version")
    }
    spec = parse(experiment(dict(net=stage()), dataset=dict(duplicates="remove")))
    assert of_data(spec, dataset)["duplicates"] == "remove"


# What a net takes.


@pytest.fixture(scope="module")
def trained():
    """One net of each kind of inputs, hardly trained."""
    pair = lambda x, rows: (x[rows], LABELS[rows])
    sets = dict(
        bytes=IMAGES * 15,
        binary=(IMAGES > 8).astype(np.uint8),
        floats=(IMAGES / 16.0 - 0.4) / 0.25,
    )
    data = {n: arrays(pair(x, slice(100)), pair(x, slice(100, 150))) for n, x in sets.items()}
    made = lambda value: kdjax.train(NET, value, steps=1, quiet=True, execution=dict(devices=1))
    return {name: made(value) for name, value in (*data.items(), ("digits", "digits"))}


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("bytes", IMAGES / 16.0, "inputs are floats; they must be integers"),
        ("bytes", IMAGES.astype(int) * 20, "from 0 to 320; they must be from 0 to 255"),
        ("bytes", -IMAGES.astype(int), "from -16 to 0; they must be from 0 to 255"),
        ("binary", IMAGES, "inputs have values from 0 to 16; they must be from 0 to 1"),
        ("digits", IMAGES * 15, "inputs have values from 0 to 240; they must be from 0 to 16"),
        ("floats", IMAGES * 15, "inputs are uint8; they must be floats, as the data set has them"),
        ("floats", IMAGES > 8, "inputs are bool; they must be floats"),
        (
            "floats",
            IMAGES * 15.0,
            "from 0 to 240; they must be near those of the data set, from -1",
        ),
        ("bytes", IMAGES[0], "inputs have the shape (8, 8); it must be [B, 8, 8, 1]"),
        ("bytes", np.repeat(IMAGES[:2, None], 3, 1), "the shape (2, 3, 8, 8); it must be [B, 8, 8"),
    ],
)
def test_predict_refuses_what_was_not_trained_on(trained, name, inputs, words):
    with refuses("inputs ", words):
        trained[name].predict(inputs)


def test_predict_takes_what_was_trained_on(trained):
    for name, inputs in (
        ("bytes", IMAGES * 15),
        ("bytes", IMAGES.astype(int)[..., None]),
        ("binary", IMAGES > 8),
        ("binary", (IMAGES > 8).astype(np.uint8)),
        ("digits", IMAGES),
        ("floats", np.float32(IMAGES / 4 - 2)),
    ):
        assert trained[name].predict(inputs[:3]).shape == (1, 3, 10)
    assert trained["digits"].meta["input_range"] == [0, 16]
    assert accepted(trained["binary"].meta) == (0, 1) and accepted(trained["bytes"].meta) == (
        0,
        255,
    )


@pytest.mark.parametrize("name", ["digits", "binary", "floats"])
def test_image_files_are_for_nets_of_bytes(trained, name, tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    assert trained["bytes"].read_images(tmp_path / "a.png").shape == (1, 8, 8, 1)
    with refuses("image files can be read for nets that were trained on images [H, W, 1 or 3]"):
        trained[name].read_images(tmp_path / "a.png")


def test_a_teacher_of_another_range_is_refused(trained):
    large = IMAGES * 100.0
    data = arrays((large[:100], LABELS[:100]), (large[100:150], LABELS[100:150]))
    with refuses("teacher", "have another range than this data set's [0.0, 1600.0]"):
        kdjax.distill(NET, trained["floats"], data, seeds=(7,), steps=1, quiet=True)


# What kdjax sees.


def folder(root):
    for place in range(60):
        path = root / f"digit {LABELS[place] % 3}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[place] * 15).save(path)
    (root / "digit 0" / "note.txt").write_text("no image")
    return root


def test_an_overview_counts_the_classes_of_each_split(tmp_path):
    found = kdjax.inspect(folder(tmp_path), cache_dir="none")
    dataset = load(DatasetSpec(name=f"{tmp_path}/"), "", "none")
    for split, examples in dataset.splits.items():
        np.testing.assert_array_equal(found.counts[split], np.bincount(examples.labels))
    text = repr(found).splitlines()
    assert text[0].endswith(": 3 classes; 44 train, 4 validation, 12 test")
    assert text[1] == "inputs: uint8 [8, 8, 1], from 0 to 255"
    assert [line.split()[:2] for line in text[3:6]] == [["digit", str(c)] for c in range(3)]
    counts = [int(found.counts[s][0]) for s in ("train", "validation", "test")]
    assert [int(n) for n in text[3].split()[2:]] == counts
    assert text[6] == "not read: 1 .txt"
    assert len(found.figure().axes) == 18


def test_an_overview_of_images_of_many_sizes_says_what_to_do(tmp_path):
    folder(tmp_path)
    Image.new("L", (30, 20)).save(tmp_path / "digit 1" / "wide.png")
    found = kdjax.inspect(f"{tmp_path}/", cache_dir="none")
    assert "of more than one size" in found.notes[-1] and found.dataset.input_shape == (64, 64, 1)
    scaled = kdjax.inspect(tmp_path, image_size=8, cache_dir="none")
    assert scaled.dataset.input_shape == (8, 8, 1)
    assert scaled.notes[-1].endswith(f"is {tmp_path}/, with the / at its end")


def test_an_overview_of_arrays_and_of_what_is_no_image():
    table = np.random.default_rng(0).normal(size=(100, 5))
    y = np.arange(100) % 50
    data = arrays((table, y), (table[:50] + 1, y[:50]), unlabelled=table[:7])
    found = kdjax.inspect(data)
    assert found.unlabelled == 7 and "(7 of train unlabelled)" in repr(found)
    assert "and 10 more classes of " in repr(found)
    with refuses("inputs of 'arrays' have the shape (5,); only images"):
        found.figure()
    with refuses("the field of the dataset is 'size'"):
        kdjax.inspect(data, size=3)
    with refuses("image_size is -1; it must be a whole number"):
        kdjax.inspect("digits", image_size=-1)
    with refuses("dataset is 3; it must be kdjax.arrays(...), or the name of a data set"):
        kdjax.inspect(3)


def test_the_command_prints_the_same_and_draws_examples(tmp_path, capsys, monkeypatch):
    root, picture = folder(tmp_path / "set"), tmp_path / "examples.png"
    monkeypatch.delitem(sys.modules, "kdjax.inspect", raising=False)
    for arguments, code in (([str(root), "--picture", str(picture)], 0), (["/nowhere/"], 2)):
        monkeypatch.setattr(sys, "argv", ["inspect", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("kdjax.inspect", run_name="__main__")
        assert ended.value.code == code
    out, err = capsys.readouterr()
    assert repr(kdjax.inspect(root)) in out and "there is no such folder" in err
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 500


def test_the_function_and_the_module_have_one_name():
    import kdjax.inspect  # puts the module in the function's place

    assert "10 classes" in repr(kdjax.inspect("digits"))
    from kdjax.overview import inspect

    kdjax.inspect = inspect
    assert "10 classes" in repr(kdjax.inspect("digits"))
