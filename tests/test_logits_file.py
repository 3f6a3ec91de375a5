"""Files of logits: what is read is what was saved, or a refusal in one sentence."""

import functools
import json
import pickle
import random
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from mutations import mutated
from saved_logits import INPUTS, LOGITS, NAMES, RANDOM, fits, save
from stages import refuses

import kdjax
from kdjax import logits_file, prepare
from kdjax.rules import InputError

every_kind = pytest.mark.parametrize("kind", ["npz", "safetensors"])


@pytest.fixture
def saved(tmp_path):
    """(kind of file, changes of the logits) -> the path of a file of them."""
    return functools.partial(save, tmp_path)


@every_kind
def test_what_is_read_is_what_was_saved(saved, kind):
    found = logits_file.read(saved(kind))
    assert found.class_names == NAMES and set(found.arrays) == set(LOGITS) == set(found.inputs)
    for split, z in LOGITS.items():
        np.testing.assert_array_equal(found.arrays[split], z)


@every_kind
def test_the_teacher_of_a_student_says_what_was_saved(saved, kind):
    teacher = fits(str(saved(kind)))
    assert (teacher.count, teacher.class_names, teacher.name) == (2, NAMES, "teachers")
    asked = prepare.fit.Asked("train", np.array([3, 1]), np.empty(0), None)
    np.testing.assert_array_equal(teacher.predict(asked), LOGITS["train"][:, [3, 1]])


def test_logits_of_one_teacher_and_of_the_train_split_alone(tmp_path):
    path = tmp_path / "one.npz"
    kdjax.save_logits(path, jnp.asarray(LOGITS["train"][0], jnp.float16), INPUTS["train"], NAMES)
    found = logits_file.read(path)
    expected = LOGITS["train"][:1].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found.arrays["train"], expected)
    assert list(found.arrays) == ["train"] and fits(kdjax.logits(path)).count == 1


def test_classes_in_another_order_are_the_students_by_name(saved):
    order = RANDOM.permutation(10)
    permuted = {split: z[..., order] for split, z in LOGITS.items()}
    teacher = fits(str(saved(names=[NAMES[i] for i in order], **permuted)))
    asked = prepare.fit.Asked("test", np.arange(50), np.empty(0), None)
    np.testing.assert_array_equal(teacher.predict(asked), LOGITS["test"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(path="x.pt"), "is 'x.pt'; it must be a path that ends in .npz or .safetensors"),
        (dict(path=3), "is 3; it must be a path that ends in .npz or .safetensors"),
        (
            dict(logits=LOGITS["train"][..., :1]),
            "train logits are float32 (2, 135, 1); they must be",
        ),
        (dict(logits=[[1, 2], [3, 4]]), "the teacher's train logits are int64 (2, 2)"),
        (dict(logits={"val": 1}), "logits are of 'val'; they must be of train, and may be of"),
        (dict(logits={}), "the teacher's logits are of ''; they must be of train"),
        (dict(logits=np.full((135, 10), np.nan)), "have 1350 values NaN or infinite"),
        (dict(logits=np.full((135, 10), 1e300)), "have 1350 values NaN or infinite"),
        (dict(logits=LOGITS), "of the splits train, and logits of train, validation, test"),
        (dict(inputs=INPUTS["train"][1:]), "inputs have the shape (134, 8, 8, 1), and the train"),
        (dict(inputs=3.0), "the train inputs have the shape ()"),
        (dict(class_names=NAMES[1:]), "class_names has 9 names, and the logits have 10 classes"),
        (dict(class_names="0123456789"), "class_names is '0123456789'; it must be a list of"),
        (dict(class_names=range(10)), "class_names has 0; every name must be text"),
        (dict(class_names=["a"] * 10), "it must be two or more different texts"),
        (dict(class_names=None), "class_names is (); it must be two or more"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_not_written(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = dict(path="x.npz", logits=LOGITS["train"], inputs=INPUTS["train"], class_names=NAMES)
    with refuses(words):
        kdjax.save_logits(**given | arguments)
    assert not list(tmp_path.iterdir())


def test_splits_of_different_teachers_are_refused(tmp_path):
    changed = LOGITS | dict(test=LOGITS["test"][:1])
    with refuses("train (2, 135, 10), validation (2, 15, 10), test (1, 50, 10); all splits must"):
        kdjax.save_logits(tmp_path / "x.npz", changed, INPUTS, NAMES)


# Files that hold what they must not.


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\xff" * 100])
def test_what_is_no_file_of_logits_is_refused(kind, content, tmp_path):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    with refuses(f"the file of logits is {str(path)!r}, which cannot be read (", "save_logits"):
        logits_file.read(path)


@every_kind
def test_a_file_that_is_not_there_is_refused(kind, tmp_path):
    path = tmp_path / f"x.{kind}"
    with refuses(f"the file of logits is {str(path)!r}, which is not there; kdjax.save_logits"):
        logits_file.read(path)


@every_kind
def test_a_directory_is_refused(kind, tmp_path):
    (tmp_path / f"x.{kind}").mkdir()
    with refuses("which cannot be read ("):
        logits_file.read(tmp_path / f"x.{kind}")


def test_nothing_is_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path / "harm").touch, ()

    np.savez(tmp_path / "x.npz", train=np.array([Payload()], object))
    with refuses("has Python objects"):
        logits_file.read(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(pickle.dumps(Payload()))
    with refuses("which cannot be read ("):
        logits_file.read(tmp_path / "y.npz")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (dict(val=LOGITS["test"], train=LOGITS["train"]), "or an array for each split, of train"),
        (dict(train_logits=LOGITS["train"]), "which holds 'train_logits.npy'; it must hold what"),
        (dict(test=LOGITS["test"]), "the teacher's logits are of 'test'; they must be of train"),
        (dict(about=np.array("{}")), "which is not as it was saved (no 'format')"),
        (dict(about=np.array("3")), "which is not as it was saved ("),
        (dict(about=np.array("[" * 9999)), "which is not as it was saved ("),
        (dict(train=LOGITS["train"] * np.nan), "values NaN or infinite; they must be finite"),
    ],
)
def test_an_npz_file_of_other_arrays_is_refused(held, words, tmp_path):
    np.savez(tmp_path / "x.npz", **held)
    with refuses(words):
        logits_file.read(tmp_path / "x.npz")


def test_an_entry_that_is_no_array_is_refused(saved):
    path = saved()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("validation", b"not an array")
    with refuses("it must hold what kdjax.save_logits writes, or an array for each split"):
        logits_file.read(path)


@every_kind
@pytest.mark.parametrize("change", ["logits", "names", "inputs", "split", "version"])
def test_a_file_that_another_program_changed_is_refused(saved, kind, change):
    path = saved(kind)
    if kind == "npz":
        with np.load(path) as file:
            held = dict(file)
        about = json.loads(str(held.pop("about")))
    else:
        held = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["about"])
    if change == "logits":
        held["train_logits"] = held["train_logits"][:, ::-1].copy()
    elif change == "names":
        about["class_names"] = about["class_names"][::-1]
    elif change == "inputs":
        about["inputs"]["test"] = about["inputs"]["train"]
    elif change == "split":
        del held["validation_logits"]
    else:
        about["format"] = "kdjax logits 2"
    if kind == "npz":
        np.savez(path, **held, about=np.array(json.dumps(about)))
    else:
        safetensors.numpy.save_file(held, path, {"about": json.dumps(about)})
    with refuses("which is not as it was saved ("):
        logits_file.read(path)


def test_safetensors_that_tell_nothing_of_their_content_are_refused(tmp_path):
    safetensors.numpy.save_file({"train": LOGITS["train"]}, tmp_path / "x.safetensors")
    with refuses("which cannot be read (no 'about'); it must be a file that kdjax.save_logits"):
        logits_file.read(tmp_path / "x.safetensors")


def test_safetensors_must_be_installed_for_its_files(saved, monkeypatch):
    path = saved("safetensors")
    monkeypatch.setattr(logits_file.importlib.util, "find_spec", lambda name: None)
    for use in (lambda: logits_file.read(path), lambda: saved("safetensors")):
        with refuses("but safetensors is not installed; pip install safetensors, or use"):
            use()
    assert logits_file.read(saved("npz")).class_names == NAMES


@pytest.mark.parametrize("kind", ["npz", "safetensors", "plain"])
def test_a_damaged_file_is_refused_or_reads_the_same(kind, tmp_path):
    small = {"train": LOGITS["train"][:, :7, :3], "test": LOGITS["test"][:, :5, :3]}
    inputs = {"train": INPUTS["train"][:7], "test": INPUTS["test"][:5]}
    path = tmp_path / f"x.{'npz' if kind == 'plain' else kind}"
    if kind == "plain":
        np.savez(path, **small)
    else:
        kdjax.save_logits(path, small, inputs, ("cat", "dog", "fish"))
    whole, content, refused = logits_file.read(path), path.read_bytes(), 0
    for seed in range(300):
        damaged = mutated(content, random.Random(seed))
        path.write_bytes(damaged)
        try:
            found = logits_file.read(path)
        except InputError as error:
            refused += damaged != content
            assert "\n" not in str(error) and len(str(error)) < 700
            continue
        for split, z in small.items():
            np.testing.assert_array_equal(found.arrays[split], z)
        assert (found.class_names, found.inputs) == (whole.class_names, whole.inputs)
    assert refused > 200
