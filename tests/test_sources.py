"""The user's own arrays in an .npz file."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdjax.data import DatasetSpec, fetch, load
from kdjax.rules import InputError


def own(**changes):
    """Arrays of an .npz file: 60 digits to train on and 20 to test."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    arrays = {"train_inputs": images[:60], "train_labels": labels[:60]}
    arrays |= {"test_inputs": images[60:80], "test_labels": labels[60:80]} | changes
    return {name: array for name, array in arrays.items() if array is not None}


def opened(tmp_path, arrays, **fields):
    np.savez(tmp_path / "own.npz", **arrays)
    return load(DatasetSpec(name=str(tmp_path / "own.npz"), **fields), "")


def test_an_npz_file_is_a_data_set(tmp_path):
    dataset = opened(tmp_path, own())
    assert {s: len(split) for s, split in dataset.splits.items()} == {
        "train": 54,
        "validation": 6,
        "test": 20,
    }
    assert (dataset.classes, dataset.input_shape) == (10, (8, 8, 1))
    assert dataset.preprocessing.scale == (1 / 255,)
    np.testing.assert_array_equal(
        fetch(dataset.splits["test"], np.arange(20)), own()["test_inputs"]
    )
    np.testing.assert_array_equal(dataset.splits["test"].labels, own()["test_labels"])


def test_float_arrays_are_float32_and_not_scaled(tmp_path):
    arrays = own()
    flat = {s: arrays[s].reshape(-1, 64) / 16 for s in ("train_inputs", "test_inputs")}
    dataset = opened(tmp_path, arrays | flat)
    assert dataset.preprocessing.scale == (1.0,) and dataset.input_shape == (64,)
    assert fetch(dataset.splits["train"], np.arange(2)).dtype == np.float32


def test_standard_normalisation_leaves_constant_features_alone(tmp_path):
    arrays = own()
    flat = {s: arrays[s].reshape(-1, 64) / 16 for s in ("train_inputs", "test_inputs")}
    dataset = opened(tmp_path, arrays | flat, normalize="standard")
    train = fetch(dataset.splits["train"], np.arange(54)).astype(np.float64)
    constant = train.std(axis=0) == 0
    scale = np.array(dataset.preprocessing.scale)
    assert constant.any() and np.all(scale[constant] == 1)
    np.testing.assert_allclose(scale[~constant], 1 / train.std(axis=0)[~constant], rtol=1e-9)


def test_an_npz_file_may_have_its_own_validation_split(tmp_path):
    arrays = own()
    arrays |= {f"validation_{part}": arrays[f"test_{part}"] for part in ("inputs", "labels")}
    dataset = opened(tmp_path, arrays)
    assert len(dataset.splits["train"]) == 60 and len(dataset.splits["validation"]) == 20
    with pytest.raises(InputError, match=r"dataset\.validation is 5, but .* its own; .* be 0"):
        opened(tmp_path, arrays, validation=5)


def floats(first=0.0):
    """The training images in float64, the first pixel (which is always 0) replaced."""
    inputs = own()["train_inputs"] / 16.0
    inputs[0, 0, 0] = first
    return inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, r"has no test_labels; it must have the arrays train_inputs, train"),
        ({"validation_labels": own()["test_labels"]}, r"has no validation_inputs; it must"),
        (
            {"train_inputs": np.arange(60)},
            r"train_inputs have shape \(60,\); it must be \[N, \.\.\.",
        ),
        ({"test_inputs": np.zeros((0, 8))}, r"test_inputs have shape \(0, 8\); .* N at least 1"),
        ({"train_inputs": np.ones((60, 8), int)}, r"train_inputs are int64; .* uint8 or float"),
        (
            {"train_inputs": floats(np.nan)},
            r"train_inputs have 1 values NaN or infinite; they must be finite",
        ),
        ({"train_inputs": floats(1e300)}, r"train_inputs have 1 values NaN or infinite"),
        ({"train_inputs": floats()}, r"test_inputs are uint8 \(8, 8, 1\); .* float32 \(8, 8, 1\)"),
        ({"test_inputs": own()["test_inputs"][:, :7]}, r"test_inputs are uint8 \(7, 8, 1\)"),
        (
            {"train_labels": np.zeros(60)},
            r"train_labels are float64; they must be integers, or text",
        ),
        ({"train_labels": np.zeros(59, int)}, r"train_labels have shape \(59,\); .* \(60,\)"),
        ({"test_labels": np.full(20, -1)}, r"test_labels have -1; they must be at least 0"),
        ({"test_labels": np.full(20, 10)}, r"test_labels reach 10; .* train_labels, 0 to 9"),
        ({"train_labels": np.zeros(60, int)}, r"train_labels reach 0; .* at least 2 of them"),
        ({"train_labels": np.full(60, 99)}, r"train_labels reach 99; .* there are 60"),
    ],
)
def test_an_unusable_npz_file_is_an_error(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        opened(tmp_path, own(**changes))


def test_a_file_that_is_no_npz_is_an_error(tmp_path):
    spec = DatasetSpec(name=str(tmp_path / "x.npz"))
    with pytest.raises(InputError, match=r"savez, of plain arrays \(\[Errno 2\] No such file"):
        load(spec, "")
    for write in (
        lambda file: np.save(file, np.arange(3)),
        lambda file: np.savez(file, train_inputs=np.array([{}], object)),
        lambda file: file.write(b"not an archive"),
        lambda file: None,
    ):
        with open(tmp_path / "x.npz", "wb") as file:
            write(file)
        with pytest.raises(InputError, match=r"x\.npz'; it must be a file written by numpy\.savez"):
            load(spec, "")
