"""Data sets that are arrays in memory, and the checks that all arrays of a user go through.

NumPy only. Axes: N examples, C classes; images are [N, H, W] or [N, H, W, channels].
"""

import hashlib
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.dtypes import issubdtype  # NumPy's knows no bfloat16

from kdjax.data.classes import checked_names, composed, listed, ordered
from kdjax.data.given import as_array, check_columns, columns, finite
from kdjax.data.sources import ArraySource, RawSet, all_of, numbered
from kdjax.rules import InputError, check, shown, text

Pair = tuple[Any, Any]  # inputs and labels: whatever np.asarray takes
COARSE = 0.01  # of a column's range, the largest step between its values in float32
NOISE = 1e-12  # of a column's values, below which it does not vary


def arrays(
    train: Pair,
    test: Pair | None = None,
    validation: Pair | None = None,
    unlabelled: Any = None,
    class_names: Sequence[str] | None = None,
    name: str = "arrays",
) -> RawSet:
    """A data set of arrays in memory.

        data = kdjax.arrays(train=(x, y), test=(x_test, y_test))

    Args:
      train, test, validation: (inputs, labels) each. Inputs are [N, ...] uint8 or float, of one
        shape and type in all splits: NumPy or JAX arrays, pandas DataFrames, lists. [N, H, W] is
        taken as images of one channel, [N, H, W, 1]. Labels are [N] integers from 0 on, or text,
        whose classes are in the order of the sorted names, by number where all are
        numbers. Without validation, a part of
        train is used. The arrays are copied.
      unlabelled: inputs without labels, for stages that have a teacher.
      class_names: [C] in the order of the logits; by default the text of the labels, or numbers.
      name: of the data set, in reports.

    Returns:
      A value that does not change; its version is the SHA-256 of the content.

    Raises:
      InputError: the arrays cannot be used. Messages call them train_inputs, train_labels, and so
        on, as an .npz file has them.
    """
    check(text(), "arrays: name", name)
    found: dict[str, Any] = {}
    for split, pair in (("train", train), ("test", test), ("validation", validation)):
        if pair is None and split == "validation":
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"arrays: {split} is {shown(pair)}; it must be (inputs, labels)")
        found |= {f"{split}_inputs": pair[0], f"{split}_labels": pair[1]}
    found |= {} if unlabelled is None else {"unlabelled_inputs": unlabelled}
    return checked("arrays: ", found, class_names, name, copy=True)


def checked(
    says: str,
    arrays: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    name: str = "",
    copy: bool = False,
) -> RawSet:
    """The data set of `<split>_inputs` [N, ...] and `<split>_labels` [N] for each split; those of
    "unlabelled", which has no labels, are the last of the train split.

    Args:
      says: begins the message where an array cannot be used.
      copy: whether the caller may change the arrays later.

    Raises:
      InputError: an array cannot be used, or one does not fit another.
    """
    splits = [key.removesuffix("_inputs") for key in arrays if key.endswith("_inputs")]
    raw = {f"{s}_inputs": as_array(f"{says}{s}_inputs", arrays[f"{s}_inputs"]) for s in splits}
    inputs = {s: _inputs(f"{says}{s}_inputs", raw[f"{s}_inputs"], copy) for s in splits}
    labelled = [s for s in splits if s != "unlabelled"]
    raw |= {f"{s}_labels": _labels(f"{says}{s}_labels", arrays[f"{s}_labels"]) for s in labelled}
    named = {s: columns(arrays[f"{s}_inputs"]) for s in splits}
    for s in splits:
        here, train = inputs[s], inputs["train"]
        check_columns(f"{says}{s}_inputs", named[s], named["train"], "train_inputs")
        shape = raw[f"{s}_labels"].shape if s in labelled else (len(here),)
        if (here.shape[1:], here.dtype) != (train.shape[1:], train.dtype):
            raise InputError(
                f"{says}{s}_inputs are {here.dtype} {here.shape[1:]}; they must be as "
                f"train_inputs are, {train.dtype} {train.shape[1:]}"
            )
        if shape != (len(here),):
            raise InputError(
                f"{says}{s}_labels have shape {shape}; it must be ({len(here)},), one each"
            )
    _check_rows(says, arrays, labelled)
    _check_rounding(f"{says}train_inputs", raw["train_inputs"])
    names = None if class_names is None else checked_names(f"{says}class_names", class_names)
    version = _digest({key: raw[key] for key in arrays}, names)
    labels, names = _number(says, {s: raw[f"{s}_labels"] for s in labelled}, names)
    if "unlabelled" in splits:
        more = inputs.pop("unlabelled")
        inputs["train"] = np.concatenate([inputs["train"], more])
        labels["train"] = np.append(labels["train"], np.full(len(more), -1, np.int32))
    for array in (*inputs.values(), *labels.values()):
        array.flags.writeable = False
    found = {s: all_of(ArraySource(inputs[s], labels[s])) for s in labelled}
    return RawSet(found, names, version, name, columns=named["train"])


def shaped(inputs: np.ndarray, input_shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Images [N, H, W] as those of one channel, [N, H, W, 1]; other inputs as they are.

    Args:
      input_shape: of one example, where a net has been trained; None: [N, H, W] is always images.
    """
    wanted = input_shape is None or (*inputs.shape[1:], 1) == tuple(input_shape)
    return inputs[..., None] if inputs.ndim == 3 and wanted else inputs


def _inputs(says: str, inputs: np.ndarray, copy: bool) -> np.ndarray:
    """[N, ...] uint8 as it is, or any float as float32."""
    if inputs.ndim < 2 or not inputs.size:
        raise InputError(f"{says} have shape {inputs.shape}; it must be [N, ...], N at least 1")
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and inputs.shape[3] not in (1, 3):
        raise InputError(
            f"{says} have shape {inputs.shape}, as images [N, channels, H, W]; it must be "
            "[N, H, W, channels], as numpy.moveaxis(inputs, 1, -1) makes it"
        )
    if inputs.dtype == np.uint8:
        return shaped(inputs.copy() if copy else inputs)
    if not issubdtype(inputs.dtype, np.floating):
        hint = ', as .astype("float32") makes them' * (inputs.dtype.kind in "iub")
        raise InputError(f"{says} are {inputs.dtype}; they must be uint8 or float{hint}")
    return shaped(finite(says, inputs, copy))


def _check_rounding(says: str, inputs: np.ndarray) -> None:
    """Whether float32 tells the values of every column of a table apart, as it does not where they
    are far from 0 and close to each other, such as times in seconds since 1970."""
    if inputs.ndim != 2 or inputs.dtype.kind != "f" or inputs.dtype.itemsize < 8:
        return
    least, most = inputs.min(axis=0), inputs.max(axis=0)
    far = np.maximum(np.abs(least), np.abs(most))
    varies = most - least > NOISE * far
    wrong = np.flatnonzero(varies & (np.spacing(far.astype(np.float32)) > (most - least) * COARSE))
    if len(wrong):
        c = wrong[0]
        raise InputError(
            f"{says} have values from {least[c]:.12g} to {most[c]:.12g} in column {c}, which "
            "float32 cannot tell apart; it must be given as the difference from one of them"
        )


def _check_rows(says: str, arrays: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Whether tables of pandas have the rows of inputs and labels in one order. Where the index of
    all is not that of the same rows, one of them was made anew, and nothing is known."""
    inputs, labels = ([arrays[f"{s}_{part}"] for s in splits] for part in ("inputs", "labels"))
    if not all(hasattr(table, "iloc") for table in (*inputs, *labels)):
        return
    one, other = ([row for table in tables for row in table.index] for tables in (inputs, labels))
    if one != other and len(one) == len(other) and set(one) == set(other):
        raise InputError(
            f"{says}inputs and labels have the same index in another order; a row of both must be "
            "one example, as labels.loc[inputs.index] makes it, or reset_index() in both says it is"
        )


def _labels(says: str, given: Any) -> np.ndarray:
    """Integers of at least 0 as they are, or text in Unicode's composed form."""
    # NumPy makes a list of text and numbers all text, in which a missing label is a class "nan".
    labels = as_array(says, given, object if isinstance(given, list | tuple) else None)
    if labels.dtype.kind in "OT":  # of pandas, or of lists
        values = labels.ravel()
        kind = str if values.size and isinstance(values[0], str) else numbers.Integral
        other = [v for v in values if not isinstance(v, kind) or isinstance(v, bool)]
        if other:
            raise InputError(f"{says} have {shown(other[0])}; all must be integers, or all text")
        try:
            labels = np.array(labels.tolist(), str if kind is str else np.int64)
        except OverflowError as error:
            most = shown(max(values, key=abs))
            raise InputError(f"{says} have {most}; they must be below 2**63") from error
    if labels.dtype.kind == "U":
        kinds, places = np.unique(labels, return_inverse=True)
        if kinds.size and not all(map(str.strip, kinds.tolist())):
            raise InputError(f"{says} have a text without letters; every label must have a name")
        names = [composed(str(name)) for name in kinds]
        return labels if names == kinds.tolist() else np.array(names, str)[places]
    if labels.dtype.kind not in "iu":
        raise InputError(f"{says} are {labels.dtype}; they must be integers, or text")
    if labels.size and labels.min() < 0:
        raise InputError(f"{says} have {labels.min()}; they must be at least 0")
    return labels


def _number(
    says: str, labels: dict[str, np.ndarray], names: tuple[str, ...] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels [N] int32 of each split, and the classes' names: those given, or those of train."""
    kinds = {s: "text" if here.dtype.kind == "U" else here.dtype for s, here in labels.items()}
    if "text" in kinds.values():
        if any(kind != "text" for kind in kinds.values()):
            kinds_found = ", ".join(f"{s}_labels are {kind}" for s, kind in kinds.items())
            raise InputError(f"{says}{kinds_found}; all must be integers, or all text")
        return _number_text(says, labels, names)
    train = labels["train"]
    if names is not None and names != numbered(len(names)) and {*names} == {*numbered(len(names))}:
        raise InputError(
            f"{says}train_labels are numbers, and class_names {shown(', '.join(names))} the same "
            "numbers in another order; the labels must be text, or the names in order"
        )
    classes = int(train.max()) + 1 if names is None else len(names)
    if names is None and not 2 <= classes <= len(train):
        raise InputError(
            f"{says}train_labels reach {classes - 1}; labels must count classes from 0, at least 2 "
            f"of them and at most one per example, of which there are {len(train)}"
        )
    gaps = np.setdiff1d(np.arange(classes), train)
    if names is None and len(gaps):
        raise InputError(
            f"{says}train_labels have none of {listed(gaps.tolist())} among 0 to {classes - 1}; "
            "labels must count classes from 0 without gaps, or class_names must name them all"
        )
    for s, here in labels.items():
        if here.max() >= classes:
            among = "those of train_labels" if names is None else "the places in class_names"
            raise InputError(
                f"{says}{s}_labels reach {here.max()}; they must be among {among}, 0 to "
                f"{classes - 1}"
            )
    return {s: here.astype(np.int32) for s, here in labels.items()}, names or numbered(classes)


def _number_text(
    says: str, labels: dict[str, np.ndarray], names: tuple[str, ...] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    names = names or tuple(ordered(map(str, np.unique(labels["train"]))))
    if len(names) < 2:
        raise InputError(f"{says}train_labels are all {names[0]!r}; there must be two classes")
    place = {name: number for number, name in enumerate(names)}
    for s, here in labels.items():
        other = next((str(label) for label in np.unique(here) if str(label) not in place), None)
        if other is not None:
            among = shown(", ".join(names))
            raise InputError(f"{says}{s}_labels have {other!r}; they must be among {among}")
    numbers = {s: [place[str(label)] for label in here] for s, here in labels.items()}
    return {s: np.array(here, np.int32) for s, here in numbers.items()}, names


def _digest(arrays: Mapping[str, np.ndarray], class_names: tuple[str, ...] | None) -> str:
    """The SHA-256 of all that was given."""
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    for name in class_names or ():
        digest.update(f"{name}\n".encode())
    return digest.hexdigest()
