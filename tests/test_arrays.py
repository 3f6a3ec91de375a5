"""Data sets that a user has in memory, as a value or by its name."""

import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.config import experiment, stage
from kdjax.data import DatasetSpec, arrays, load, shaped
from kdjax.rules import InputError

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES.reshape(-1, 8, 8).astype(np.uint8)
TRAIN, TEST = (IMAGES[:80], LABELS[:80]), (IMAGES[80:100], LABELS[80:100])
NAMES = np.array(
    [f"digit {word}" for word in ("zero", "one", "two", "three", "four")] + list("56789")
)

VERSION = "c22101876c94ead69084f4fa04160afafc3edcd82300508114e7ef70e08c1607"


def opened(value, **fields):
    return load(DatasetSpec(**fields), value=value)


def test_a_pair_of_arrays_for_each_split_is_a_data_set():
    data = arrays(TRAIN, TEST, name="my digits")
    assert repr(data) == "<my digits: 80 train, 20 test examples of 10 classes>"
    dataset = opened(data)
    sizes = {split: len(examples) for split, examples in dataset.splits.items()}
    assert sizes == {"train": 72, "validation": 8, "test": 20}
    assert (dataset.name, dataset.classes) == ("my digits", 10)
    assert (dataset.input_shape, dataset.input_dtype) == ((8, 8, 1), "uint8")
    assert dataset.preprocessing.scale == (1 / 255,)
    inputs, labels = dataset.arrays("test")
    np.testing.assert_array_equal(inputs, TEST[0][..., None])
    np.testing.assert_array_equal(labels, TEST[1])
    assert labels.dtype == np.int32


def test_it_is_split_and_versioned_as_the_same_arrays_in_a_file(tmp_path):
    names = "train_inputs", "train_labels", "test_inputs", "test_labels"
    np.savez(tmp_path / "own.npz", **dict(zip(names, (*TRAIN, *TEST), strict=True)))
    file, value = load(DatasetSpec(name=f"{tmp_path}/own.npz")), opened(arrays(TRAIN, TEST))
    assert file.version == value.version and file.class_names == value.class_names
    for split in ("train", "validation", "test"):
        for one, other in zip(file.arrays(split), value.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_version_of_arrays_is_written_down():
    """Workdirs know their data by it."""
    with_channel = lambda pair: (pair[0][..., None], pair[1])
    assert arrays(with_channel(TRAIN), with_channel(TEST)).version == VERSION


def test_what_the_caller_does_to_the_arrays_later_changes_nothing():
    images, labels = TRAIN[0].copy(), TRAIN[1].copy()
    data = arrays((images, labels), TEST)
    images[:], labels[:] = 0, 0
    split = data.splits["train"]
    np.testing.assert_array_equal(split.source.fetch(split.index)[..., 0], TRAIN[0])
    np.testing.assert_array_equal(split.labels, TRAIN[1])
    with pytest.raises(ValueError, match="read-only"):
        split.source.inputs[0] = 1


def test_the_version_is_of_inputs_labels_and_names():
    other = TRAIN[0].copy()
    other[3, 3, 3] += 1
    values = [
        arrays(TRAIN, TEST),
        arrays((other, TRAIN[1]), TEST),
        arrays((TRAIN[0], LABELS[1:81]), TEST),
        arrays(TRAIN, TEST, validation=TEST),
        arrays(TRAIN, TEST, class_names=NAMES),
    ]
    assert len({value.version for value in values}) == len(values)
    assert arrays(TRAIN, TEST).version == values[0].version


@pytest.mark.parametrize(
    "kind",
    [
        jnp.asarray,
        lambda x: x.astype(np.float64),
        lambda x: jnp.asarray(x, jnp.bfloat16),
        lambda x: x.astype(float).tolist(),
    ],
)
def test_inputs_may_be_of_numpy_of_jax_or_lists(kind):
    dataset = opened(arrays((kind(TRAIN[0]), TRAIN[1].tolist()), (kind(TEST[0]), TEST[1])))
    np.testing.assert_array_equal(dataset.arrays("test")[0], TEST[0][..., None])
    assert dataset.input_dtype == ("uint8" if kind is jnp.asarray else "float32")


def test_tables_and_series_of_pandas_are_taken():
    flat = IMAGES.reshape(-1, 64) / 16
    x, y = pd.DataFrame(flat), pd.Series(NAMES[LABELS])
    for labels in (y, y.astype("category"), y.astype(object), y.tolist(), y.to_numpy()):
        data = arrays((x[:80], labels[:80]), (x[80:100], labels[80:100]))
        assert data.class_names == tuple(sorted(NAMES))
        for split, rows in (("train", slice(0, 80)), ("test", slice(80, 100))):
            found = np.array(data.class_names)[data.splits[split].labels]
            np.testing.assert_array_equal(found, NAMES[LABELS[rows]])
    whole_numbers = pd.Series(LABELS, dtype="Int64")
    data = arrays((x[:80], whole_numbers[:80]), (x[80:100], whole_numbers[80:100]))
    np.testing.assert_array_equal(data.splits["train"].labels, TRAIN[1])
    assert opened(data).input_shape == (64,)


def test_names_may_be_given_and_then_number_the_labels():
    by_number = arrays(TRAIN, TEST, class_names=NAMES)
    by_text = arrays((TRAIN[0], NAMES[TRAIN[1]]), (TEST[0], NAMES[TEST[1]]), class_names=NAMES)
    for data in (by_number, by_text):
        assert data.class_names == tuple(NAMES)
        np.testing.assert_array_equal(data.splits["test"].labels, TEST[1])
    more = arrays(TRAIN, TEST, class_names=[*NAMES, "ten"])
    assert opened(more).classes == 11


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: arrays(TRAIN[0], TEST), r"^arrays: train is array.*; it must be \(inputs, labels"),
        (lambda: arrays(TRAIN, None), r"^arrays: test is None; it must be \(inputs, labels\)$"),
        (lambda: arrays(([[1.0], []], [0, 1]), TEST), r"train_inputs are no array \(.*; they must"),
        (
            lambda: arrays((TRAIN[0].astype(int), TRAIN[1]), TEST),
            r"^arrays: train_inputs are int64",
        ),
        (lambda: arrays((TRAIN[0], TRAIN[1] > 4), TEST), r"are bool; they must be integers, or t"),
        (
            lambda: arrays((TRAIN[0], ["a"] * 79 + [np.nan]), TEST),
            r"train_labels have nan; all must be",
        ),
        (
            lambda: arrays((TRAIN[0], pd.Series(["a"] * 79 + [None])), TEST),
            r"train_labels have nan; all must be integers, or all text",
        ),
        (
            lambda: arrays((TRAIN[0], NAMES[TRAIN[1]]), TEST),
            r"^arrays: train_labels are text, test_labels are int64; all must be integers, or",
        ),
        (
            lambda: arrays((TRAIN[0], ["a"] * 80), (TEST[0], ["a"] * 20)),
            r"train_labels are all 'a'; there must be two classes$",
        ),
        (
            lambda: arrays((TRAIN[0], ["a", "b"] * 40), (TEST[0], ["a", "c"] * 10)),
            r"^arrays: test_labels have 'c'; they must be among 'a, b'$",
        ),
        (
            lambda: arrays(TRAIN, TEST, class_names=NAMES[:9]),
            r"train_labels reach 9; they must be among the places in class_names, 0 to 8$",
        ),
        (
            lambda: arrays(TRAIN, TEST, class_names=["a", "a"]),
            r"class_names is \('a', 'a'\); it must be two or more different texts$",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_an_error(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_image_size_is_of_folders_only_and_arrays_may_have_a_validation_split():
    with refuses("image_size is 8; it must be 0 for 'arrays', which is no folder of images"):
        opened(arrays(TRAIN, TEST), image_size=8)
    data = arrays(TRAIN, TEST, validation=TEST)
    assert len(opened(data).splits["train"]) == 80
    with refuses("config.dataset.validation is 5, but 'arrays' has a validation split of its own"):
        opened(data, validation=5)


def test_images_without_an_axis_of_channels_have_one():
    images = np.zeros((5, 8, 7))
    assert shaped(images).shape == shaped(images, (8, 7, 1)).shape == (5, 8, 7, 1)
    assert shaped(images, (8, 7)).shape == (5, 8, 7)
    assert shaped(images[0]).shape == (8, 7) and shaped(images[..., None]).shape == (5, 8, 7, 1)


MODULE = """
import numpy as np
from sklearn.datasets import load_digits
from kdjax.data import arrays
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)

value = arrays((images[:80], labels[:80]), (images[80:100], labels[80:100]))
def made(): return value
def fails(): return {}["absent"]
nested = type("Nested", (), dict(value=value))
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_arrays.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import numpy\n\nnumpy.zeros(-1)\n")
    (tmp_path / "my_typo.py").write_text("def f(:\n")
    (tmp_path / "my_lack.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_arrays", "my_broken", "my_typo", "my_lack"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_config_names_a_value_or_a_function_that_returns_it(module):
    for name in ("my_arrays:value", "my_arrays:made", "my_arrays:nested.value"):
        dataset = load(DatasetSpec(name=name))
        assert dataset.name == name and dataset.input_shape == (8, 8, 1)
    config = experiment(
        dict(net=stage(steps=2, batch=10)), dataset=dict(name="my_arrays:value"), data_dir="none"
    )
    kdjax.run(config, module / "run", quiet=True)
    trained, images = kdjax.open_stage(module / "run" / "net"), IMAGES[:5].astype(float)
    np.testing.assert_array_equal(trained.predict(images), trained.predict(images[..., None]))
    assert trained.predict(images).shape == (1, 5, 10)
    inputs, labels = kdjax.examples(config, "test")
    assert inputs.shape == (20, 8, 8, 1) and labels.shape == (20,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_nothing:value", "'my_nothing:value'; there is no module 'my_nothing' to import"),
        ("my_arrays.more:x", "; there is no module 'my_arrays.more' to import"),
        ("my_arrays:values", "is 'my_arrays:values'; module 'my_arrays' has no 'values'"),
        ("my_arrays:number", "which is 3; it must be a value of kdjax.arrays, or a function with"),
        ("my_arrays:fails", "which raised KeyError: 'absent' (my_arrays.py, line 10)"),
        (
            "my_broken:x",
            "whose module cannot be imported: ValueError: negative dimensions are not allowed "
            "(my_broken.py, line 3)",
        ),
        ("my_typo:x", "cannot be imported: SyntaxError: invalid syntax (my_typo.py, line 1)"),
        ("my_lack:x", "No module named 'not_there_at_all' (my_lack.py, line 1)"),
    ],
)
def test_a_name_that_leads_to_no_value_is_an_error(module, name, message):
    with refuses("config.dataset.name is '", message):
        load(DatasetSpec(name=name))


def test_names_of_files_and_versions_are_no_references(tmp_path):
    path = tmp_path / "own:arrays.npz"
    np.savez(
        path, train_inputs=TRAIN[0], train_labels=TRAIN[1], test_inputs=TEST[0], test_labels=TEST[1]
    )
    assert load(DatasetSpec(name=str(path))).classes == 10
    for name in ("mnist:3.0.1", "emnist/letters:3.1.0"):
        with refuses(f"config.dataset.name is '{name}', which is not prepared in {tmp_path}"):
            load(DatasetSpec(name=name), str(tmp_path))
