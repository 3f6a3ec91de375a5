"""Sets of TensorFlow Datasets: how they are read, and what is said of those that cannot be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdjax.data import DatasetSpec, fetch, load
from kdjax.data import tfds as tfds_source
from kdjax.data.sources import RawSet, all_of, digits, numbered
from kdjax.data.tfds import TfdsSource, pick_features
from kdjax.rules import InputError


def test_an_unknown_name_is_an_error_with_the_choices(tmp_path):
    message = (
        r"^config\.dataset\.name is 'mnsit'; it must be digits, the path of an \.npz file, that of "
        r"a folder of images with a / at its end, module:attribute of a value of kdjax\.arrays, a "
        r"set prepared in /.* \(there is none\), or any "
        r"TFDS image classification set; did you mean"
    )
    with pytest.raises(InputError, match=message + " mnist") as raised:
        load(DatasetSpec(name="mnsit"), str(tmp_path))
    assert len(str(raised.value)) < 450
    for name in ("", "a b", "../mnist", "hugging face:mnist"):
        with pytest.raises(InputError, match="it must be digits, the path of an"):
            load(DatasetSpec(name=name), str(tmp_path))
    with pytest.raises(InputError, match=r"did you mean digits\?$"):
        load(DatasetSpec(name="digit"), str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mnist:9.9.9",
            r"which TFDS cannot open in /.*: Dataset mnist cannot be loaded at version",
        ),
        ("emnist/leters", r"its configurations are: byclass, .*, letters, "),
        ("mnist/3.0.1", r"'mnist/3\.0\.1', which TFDS cannot open in /.*: .* are: none$"),
        ("lm1b", r"of features text \(Text\); it must have one Image and one ClassLabel$"),
        ("cats_vs_dogs", r"of images \(None, None, 3\); config\.dataset\.image_size must say"),
        ("fashion_mnist", r"not prepared in /.*; prepare it with: pip install 'kdjax\[prepare\]'"),
    ],
)
def test_a_set_that_cannot_be_used_is_an_error(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        load(DatasetSpec(name=name), str(tmp_path))


def test_the_advice_to_prepare_a_set_is_a_command(tmp_path):
    with pytest.raises(InputError) as raised:
        load(DatasetSpec(name="fashion_mnist"), str(tmp_path))
    code = str(raised.value).split('python -c "')[1].removesuffix('"')
    assert str(tmp_path) in code and "file_format='array_record'" in code
    compile(code, "advice", "exec")


def test_the_data_dir_is_the_environments_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "a"))
    with pytest.raises(InputError, match=f"not prepared in {tmp_path}/a;"):
        load(DatasetSpec(name="fashion_mnist"), "")
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(InputError, match=r"not prepared in /.*/tensorflow_datasets;"):
        load(DatasetSpec(name="fashion_mnist"), "")


def test_the_one_image_and_the_one_label_are_picked():
    from tensorflow_datasets import features as kinds

    image, label, text = kinds.Image(shape=(4, 4, 1)), kinds.ClassLabel(num_classes=3), kinds.Text()
    assert pick_features("x", {"t": text, "i": image, "l": label}, None) == ("i", "l")
    assert pick_features("x", {"i": image, "l": label, "m": label}, ("i", "m")) == ("i", "m")
    with pytest.raises(InputError, match=r"i \(Image\), l \(ClassLabel\), m \(ClassLabel\)"):
        pick_features("x", {"i": image, "l": label, "m": label}, None)


def prepared(directory, splits, name="mnist", version="3.0.1", **info):
    """A small set in `directory` whose splits are all MNIST's 10,000 test images."""
    there = Path(os.environ["TFDS_DATA_DIR"]) / "mnist" / "3.0.1"
    here = Path(directory) / name / version
    here.mkdir(parents=True)
    shutil.copy(there / "features.json", here)
    known = json.loads((there / "dataset_info.json").read_text())
    test = next(split for split in known["splits"] if split["name"] == "test")
    known |= {"name": name, "version": version, "splits": [test | {"name": s} for s in splits]}
    (here / "dataset_info.json").write_text(json.dumps(known | info))
    for split in splits:
        file = here / f"{name}-{split}.array_record-00000-of-00001"
        file.symlink_to(there / "mnist-test.array_record-00000-of-00001")
    return here


@pytest.mark.mnist
@pytest.mark.slow
def test_a_set_may_have_no_test_split_an_older_version_or_no_code(tmp_path):
    prepared(tmp_path, ["train", "validation"], version="3.0.0")
    assert len(load(DatasetSpec(name="mnist"), str(tmp_path)).splits["test"]) == 10_000
    prepared(tmp_path, ["train", "test"], name="my_own")
    dataset = load(DatasetSpec(name="my_own", validation=400), str(tmp_path))
    assert len(dataset.splits["train"]) == 9_600 and dataset.classes == 10
    with pytest.raises(InputError, match=r"prepared in /.* \(mnist, my_own\)"):
        load(DatasetSpec(name="my_other"), str(tmp_path))


@pytest.mark.mnist
def test_a_set_without_a_test_split_is_cut(tmp_path):
    prepared(tmp_path, ["train"])
    splits = load(DatasetSpec(name="mnist"), str(tmp_path)).splits
    assert {n: len(s) for n, s in splits.items()} == {
        "train": 7_200,
        "validation": 800,
        "test": 2_000,
    }
    together = np.concatenate([split.index for split in splits.values()])
    np.testing.assert_array_equal(np.sort(together), np.arange(10_000))


@pytest.mark.mnist
def test_a_split_without_labels_does_not_count(tmp_path, monkeypatch):
    """As of ImageNet's test split, whose labels TFDS gives as -1."""
    prepared(tmp_path, ["train", "validation", "test"])
    hidden, labels = {"test"}, TfdsSource.labels
    seen = lambda source: -np.ones(9) if source.encoded.split in hidden else labels(source)
    monkeypatch.setattr(TfdsSource, "labels", seen)
    test = load(DatasetSpec(name="mnist"), str(tmp_path), "none").splits["test"]
    assert test.source.examples.split == "validation"
    hidden.add("train")
    with pytest.raises(InputError, match=r"must have a split train with labels \("):
        load(DatasetSpec(name="mnist"), str(tmp_path), "none")


@pytest.mark.mnist
def test_a_set_that_cannot_be_read_is_an_error(tmp_path):
    prepared(tmp_path / "a", ["test"])
    with pytest.raises(InputError, match=r"of splits test; .* split train with labels \(config"):
        load(DatasetSpec(name="mnist"), str(tmp_path / "a"))
    prepared(tmp_path / "b", ["train", "test"], fileFormat="tfrecord")
    with pytest.raises(InputError, match="prepared in another format than array_record; use anoth"):
        load(DatasetSpec(name="mnist"), str(tmp_path / "b"))
    here = prepared(tmp_path / "c", ["train", "test"])
    next(here.glob("mnist-train*")).unlink()
    with pytest.raises(
        InputError, match=r"'mnist', whose files in /.* cannot be read: open\(\) fa"
    ):
        load(DatasetSpec(name="mnist"), str(tmp_path / "c"))


@pytest.mark.mnist
def test_where_tensorflow_is_installed_a_set_is_prepared(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def no_network(builder):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(tfds_source.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(
        InputError, match=r"not prepared in /.* \(tried, but: no network\); prepare"
    ):
        load(DatasetSpec(name="mnist"), str(tmp_path))
    done = lambda builder: prepared(tmp_path, ["train", "test"])
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", done)
    assert len(load(DatasetSpec(name="mnist"), str(tmp_path)).splits["test"]) == 10_000


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_is_read_without_tensorflow_and_without_opencv(tmp_path):
    prepared(tmp_path, ["train", "test"])
    code = f"""
import sys
sys.modules["cv2"] = None
import numpy as np
from kdjax.data import fetch, load
from kdjax.data import DatasetSpec
split = load(DatasetSpec(name="mnist:3.0.1"), {str(tmp_path)!r}).splits["test"]
np.save({str(tmp_path / "read.npy")!r}, fetch(split, np.arange(1_500)))
assert "tensorflow" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    split = load(DatasetSpec(name="mnist"), str(tmp_path)).splits["test"]
    np.testing.assert_array_equal(np.load(tmp_path / "read.npy"), fetch(split, np.arange(1_500)))


@pytest.mark.mnist
def test_mnists_pixels_labels_and_splits():
    """Against TFDS's own reading, one example at a time."""
    import tensorflow_datasets as tfds

    dataset = load(DatasetSpec(name="mnist", validation=5_000), "")
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert (dataset.class_names, dataset.input_shape) == (tuple("0123456789"), (28, 28, 1))
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    together = np.sort(np.concatenate([train.index, validation.index]))
    np.testing.assert_array_equal(together, np.arange(60_000))
    share = np.bincount(train.labels) / 11 - np.bincount(validation.labels)
    assert np.all(np.abs(share) < 1.1)
    directory = os.environ["TFDS_DATA_DIR"]
    builder = tfds.builder("mnist", data_dir=directory, file_format="array_record")
    for split, name in ((train, "train"), (validation, "train"), (dataset.splits["test"], "test")):
        positions = np.array([17, 3, 1_999])
        examples = [builder.as_data_source(name)[int(i)] for i in split.index[positions]]
        images = [e["image"] for e in examples]
        np.testing.assert_array_equal(fetch(split, positions), images)
        np.testing.assert_array_equal(fetch(split, np.arange(2_000))[positions], images)
        np.testing.assert_array_equal(split.labels[positions], [e["label"] for e in examples])


@pytest.mark.mnist
@pytest.mark.long
def test_mnist_from_the_cache_is_mnist_bit_for_bit(tmp_path):
    prepared(tmp_path, ["train", "validation", "test"])
    spec, cache_dir = DatasetSpec(name="mnist", normalize="standard"), str(tmp_path / "cache")
    decoded = load(spec, str(tmp_path), "none")
    load(spec, str(tmp_path), cache_dir)
    code = f"""
import sys
import numpy as np
from kdjax.data import fetch, load
from kdjax.data import DatasetSpec
kept = load(DatasetSpec(name="mnist", normalize="standard"), {str(tmp_path)!r}, {cache_dir!r})
assert not {{"tensorflow_datasets", "cv2", "PIL"}} & set(sys.modules)
for name, split in kept.splits.items():
    inputs = fetch(split, np.arange(len(split)))
    np.savez({str(tmp_path)!r} + "/" + name, inputs=inputs, labels=split.labels)
print(kept.name, kept.version, kept.classes, kept.input_shape, kept.preprocessing)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same = decoded.name, decoded.version, decoded.classes, decoded.input_shape
    assert done.stdout.strip() == " ".join(map(str, (*same, decoded.preprocessing)))
    for name, split in decoded.splits.items():
        kept = np.load(tmp_path / f"{name}.npz")
        inputs = fetch(split, np.arange(10_000))
        assert kept["inputs"].dtype == inputs.dtype and kept["labels"].dtype == split.labels.dtype
        np.testing.assert_array_equal(kept["inputs"], inputs)
        np.testing.assert_array_equal(kept["labels"], split.labels)


@pytest.mark.mnist
def test_a_set_that_was_prepared_anew_is_decoded_anew(tmp_path, monkeypatch):
    here, cache_dir = prepared(tmp_path, ["train", "test"]), str(tmp_path / "cache")
    small = {split: all_of(digits()) for split in ("train", "test")}  # faster to read
    times, raw = [], RawSet(small, numbered(10), "mnist")
    monkeypatch.setattr(tfds_source, "_from_records", lambda *a: times.append(a) or raw)
    opened = lambda: load(DatasetSpec(name="mnist"), str(tmp_path), cache_dir)
    opened(), opened()
    assert len(times) == 1
    os.utime(here / "features.json", ns=(0, 0))
    opened(), opened()
    assert len(times) == 2
    monkeypatch.setattr(tfds_source, "DECODERS", ("numpy",))
    opened()
    assert len(times) == 3
