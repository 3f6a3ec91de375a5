"""Tables of pandas: columns and rows have names, by which they must agree."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine
from stages import refuses

import kdjax
from kdjax.data import arrays

WINE = load_wine(as_frame=True)
X, Y = WINE.data.sample(frac=1, random_state=0), WINE.target.sample(frac=1, random_state=0)
LEFT = X[X.columns[::-1]]


def split(x, y=Y):
    return (x[:120], y[:120]), (x[120:], y[120:])


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (LEFT, "column 0 is 'proline', and there 'alcohol'; the columns must be the same, in the"),
        (X.rename(columns={"hue": "tint"}), "column 10 is 'tint', and there 'hue'"),
    ],
)
def test_columns_of_other_names_or_order_are_refused(test, words):
    with refuses("arrays: test_inputs have other columns than train_inputs", words):
        arrays(split(X)[0], split(test)[1])


def test_columns_without_names_are_taken_by_place():
    for test in (X.to_numpy(), pd.DataFrame(X.to_numpy(), X.index)):
        data = arrays(split(X)[0], split(test)[1])
        assert data.columns == tuple(X.columns)
        np.testing.assert_array_equal(
            data.splits["test"].source.inputs, X[120:].to_numpy(np.float32)
        )


def test_predict_and_an_export_take_the_columns_that_were_trained_on(tmp_path):
    net = dict(name="mlp", hidden=(4,))
    fields = dict(steps=1, quiet=True, execution=dict(devices=1))
    stage = kdjax.train(net, arrays(*split(X)), workdir=tmp_path / "run", **fields)
    stage = kdjax.open_stage(stage.path).best()
    stage.export(tmp_path / "export", onnx=False)
    for opened in (stage, kdjax.open_export(tmp_path / "export")):
        np.testing.assert_array_equal(opened.predict(X), opened.predict(X.to_numpy()))
        with refuses("inputs have other columns than the data set", "column 0 is 'proline'"):
            opened.predict(LEFT)
        with refuses("column 12 is absent, and there 'proline'"):
            opened.predict(X[X.columns[:-1]])


def test_labels_in_another_order_than_their_inputs_are_refused():
    in_order = Y.sort_index()
    for train, test in (
        ((X[:120], Y[:120].sort_index()), split(X)[1]),
        split(X, in_order),
    ):
        with refuses("arrays: inputs and labels have the same index in another order"):
            arrays(train, test)
    expected = arrays(*split(X)).splits["train"].labels
    for labels in (in_order.loc[X.index], Y.to_numpy()):
        found = arrays(*split(X, labels)).splits["train"].labels
        np.testing.assert_array_equal(found, expected)
    anew = [(x.reset_index(drop=True), y) for x, y in split(X)]
    np.testing.assert_array_equal(arrays(*anew).splits["train"].labels, expected)


def test_masked_values_are_refused_wherever_arrays_are_given(tmp_path):
    x, y = X.to_numpy(), Y.to_numpy()
    hidden = np.ma.masked_array(x, x > 1000)
    count = int((x[:120] > 1000).sum())
    with refuses(f"train_inputs have {count} masked values; all must be known"):
        arrays((hidden[:120], y[:120]), (x[120:], y[120:]))
    with refuses("test_labels have", "masked values; all must be known"):
        arrays((x[:120], y[:120]), (x[120:], np.ma.masked_equal(y, 2)[120:]))
    with refuses("the teacher's train logits have", "masked values"):
        kdjax.logits(np.ma.masked_greater(x[:, :3], 3))
    unmasked = np.ma.masked_array(x[:120])
    assert arrays((unmasked, y[:120]), (x[120:], y[120:])).version == (
        arrays((x[:120], y[:120]), (x[120:], y[120:])).version
    )


def test_values_that_float32_cannot_tell_apart_are_refused():
    x = X.to_numpy()
    seconds = np.column_stack([x, 1.7e9 + np.arange(len(x))])
    with refuses(
        "train_inputs have values from 1700000000 to 1700000119 in column 13, which float"
    ):
        arrays(*split(seconds, Y.to_numpy()))
    seconds[:, 13] -= 1.7e9
    constant = np.column_stack(
        [seconds, np.full(len(x), 0.1), np.where(x[:, 0] > 13, 0.3, 0.1 * 3)]
    )
    assert arrays(*split(constant, Y.to_numpy())).splits["test"].source.inputs.shape == (58, 16)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y.to_numpy().astype("m8[s]"), "train_labels are timedelta64[s]; they must be integers"),
        ([2**70, *Y[1:]], f"train_labels have {2**70}; they must be below 2**63"),
    ],
)
def test_labels_that_are_no_numbers_of_classes_are_refused(labels, words):
    with refuses(words):
        arrays(*split(X.to_numpy(), labels))


def test_labels_of_numpys_own_text_are_text():
    names = np.array(WINE.target_names)[Y]
    data = arrays(*split(X, names.astype(np.dtypes.StringDType())))
    expected = arrays(*split(X, names))
    assert data.class_names == expected.class_names
    np.testing.assert_array_equal(data.splits["test"].labels, expected.splits["test"].labels)
