"""Files that were made to do harm: nothing in them is run, nothing too large is read, and what is
wrong is said in one sentence."""

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from runs import config
from stages import refuses
from test_sources import own

import kdjax
from kdjax.config import parse
from kdjax.data import DatasetSpec, load
from kdjax.host import memory
from kdjax.prepare import prepare
from kdjax.rules import InputError


class Payload:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@contextlib.contextmanager
def little_memory(most: int = 2**23):
    """No more bytes than these are asked for at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def opens(path: Path):
    return load(DatasetSpec(name=str(path)), "")


def npz(path: Path, **members: bytes) -> Path:
    """An .npz file of the usual arrays, and these bytes instead of some of them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in own().items():
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{name}.npy", members.get(name, file.getvalue()))
    return path


def header(dtype: str, shape: tuple) -> bytes:
    """The first bytes of an array of this kind, whatever follows."""
    file = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def test_an_npz_file_made_by_hand_is_read(tmp_path):
    assert opens(npz(tmp_path / "x.npz")).classes == 10


def test_pickles_are_not_opened(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "x.npz"
    objects = np.array([Payload(mark)], dtype=object)
    np.savez(path, **own(train_inputs=objects))
    with refuses("x.npz'; it must be a file written by numpy.savez", "Python objects"):
        opens(path)
    path.write_bytes(pickle.dumps(Payload(mark)))
    with refuses("x.npz'; it must be a file written by numpy.savez"):
        opens(path)
    npz(path, train_labels=header("|O", (1,)) + pickle.dumps(Payload(mark)))
    with refuses("Python objects"):
        opens(path)
    npz(path, train_labels=pickle.dumps(Payload(mark)))
    with refuses("x.npz'"):
        opens(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()  # it would have been


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (header("|u1", (2**40,)) + b"x", "says it is uint8 (1099511627776,), and has 1 bytes"),
        (header("<f8", (2**62, 2**62)), "and has 0 bytes"),
        (header("<f4", (-1, 4)) + bytes(16), "and has 16 bytes"),
        (header("|V1099511627776", (1,)) + b"x", "is not a valid dtype descriptor"),
        (header("<f4", (2, 3)) + bytes(23), "and has 23 bytes"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1), "version 1.0"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 65535) + b"(" * 65535, "x.npz'"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, "x.npz'"),
        (b"", "x.npz'"),
    ],
)
def test_an_array_that_is_not_what_it_says_is_not_read(tmp_path, member, says):
    path = npz(tmp_path / "x.npz", test_inputs=member)
    with little_memory(), refuses(says):
        opens(path)


def test_an_archive_that_says_it_is_huge_is_not_read(tmp_path):
    """A terabyte, by the array and by the archive's own table."""
    start = header("|u1", (2**40,))
    path = npz(tmp_path / "x.npz", train_inputs=start)
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("train_inputs.npy").file_size = len(start) + 2**40
        archive.writestr("more", b"")  # so that the table is written again
    with little_memory(), refuses("its arrays are 1.02e+03 GiB, more than the", "of memory there"):
        opens(path)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **own(train_inputs=np.zeros((60, 500_000), np.uint8)))
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(memory, "total", lambda: 2**24)
    with little_memory(), refuses("its arrays are 0.0279 GiB, more than the 0.0156 GiB"):
        opens(path)


def test_data_larger_than_memory_is_not_made_resident(monkeypatch, tmp_path):
    """Devices of a CPU each have a copy: one of the digits is 51,200 bytes."""
    monkeypatch.setattr(memory, "total", lambda: 100_000)
    dataset = load(DatasetSpec(), "")
    for resident, devices in ((True, 1), (False, 2)):
        fields = dict(dataset=dict(resident=resident), execution=dict(devices=devices))
        prepare(parse(config(students={}, **fields)), dataset, tmp_path)
    spec = parse(config(students={}, execution=dict(devices=2)))
    says = "but 2 x 800 examples are 9.54e-05 GiB, more than the 9.31e-05 GiB"
    with refuses("config.dataset.resident is True (False", says):
        prepare(spec, dataset, tmp_path)


def test_memory_is_the_machines_or_the_containers(tmp_path, monkeypatch):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**28 < memory.total() <= whole
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "LIMITS", (str(limit), str(tmp_path / "none")))
    for text, expected in (("max\n", whole), ("4096\n", 4096)):
        limit.write_text(text)
        assert memory.total() == expected


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    (tmp_path / "directory.npz").mkdir()
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("x", "directory", "zero"):
        with refuses(f"{name}.npz'", "it is no regular file"):
            opens(tmp_path / f"{name}.npz")


def test_any_part_of_an_npz_file_is_refused(tmp_path):
    content = npz(tmp_path / "x.npz").read_bytes()
    for size in range(0, len(content), len(content) // 12):
        (tmp_path / "x.npz").write_bytes(content[:size])
        with refuses("x.npz'; it must be a file written by numpy.savez"):
            opens(tmp_path / "x.npz")


def test_arrays_of_any_kind_are_a_data_set_or_one_sentence(tmp_path):
    def is_data_set(**arrays):
        np.savez(tmp_path / "x.npz", **own(**arrays))
        try:
            return bool(opens(tmp_path / "x.npz"))
        except InputError as error:
            assert "\n" not in str(error) and "x.npz'" in str(error)
            return False

    def cast(array, kind):
        return (
            np.zeros(array.shape, kind) if kind in ("M8[s]", "V4", "i4,f4") else array.astype(kind)
        )

    kinds = "?", "u2", "f2", ">f4", "f8", "g", "c8", ">i8", "M8[s]", "U3", "S2", "V4", "i4,f4"
    arrays = own()
    inputs = [
        kind
        for kind in kinds
        if is_data_set(**{n: cast(arrays[n], kind) for n in ("train_inputs", "test_inputs")})
    ]
    labels = [
        kind for kind in kinds if is_data_set(train_labels=cast(arrays["train_labels"], kind))
    ]
    assert inputs == ["f2", ">f4", "f8", "g"] and labels == ["u2", ">i8"]


def test_a_data_dir_that_is_no_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "none"):
        with refuses("config.dataset.name is 'mnist'"):
            load(DatasetSpec(name="mnist"), str(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


# Stages.


@pytest.fixture(scope="module")
def trained(tmp_path_factory, undrawn):
    directory = tmp_path_factory.mktemp("trained")
    kdjax.run(config(students={}), directory, quiet=True)
    return directory / "teachers"


@pytest.fixture
def teachers(trained, tmp_path):
    """A finished stage, to tamper with."""
    return shutil.copytree(trained, tmp_path / "teachers")


def tamper(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


META = [
    (
        lambda m: m.update(model={"name": "os.system"}),
        "its model is {'name': 'os.system'}; it must",
    ),
    (lambda m: m.update(classes=11, class_names=[]), "its logits are not those of 11 classes"),
    (lambda m: m.update(input_shape=[8, 9, 1]), "its inputs (b"),
    (lambda m: m.update(classes="10"), "its number of classes is '10'"),
    (lambda m: m.update(input_shape=[2**31, 2**31]), "its input shape is [2147483648, 2147483648]"),
    (lambda m: m.update(preprocessing={"mean": ["0"], "scale": [1]}), "its preprocessing's mean"),
    (lambda m: m["class_names"].pop(), "it has 9 names of 10 classes"),
    (lambda m: m.update(class_names=[["0"]] * 10), "its classes' names is [['0'], "),
    (lambda m: m.update(class_names="0123456789"), "its classes' names is '0123456789'"),
    (
        lambda m: m.update(classes=2**31 - 1, class_names=[]),
        "its logits are not those of 2147483647",
    ),
    (lambda m: m.update(input_dtype="object"), "its inputs' dtype is 'object'"),
    (lambda m: m.update(members=m["members"][:2]), "arrays are not one for each of its members"),
    (lambda m: m.pop("model"), "cannot be opened ('model')"),
    (lambda m: m.pop("digests"), "cannot be read ('digests')"),
]


@pytest.mark.parametrize(("change", "says"), META, ids=[says[:30] for _, says in META])
def test_a_stage_whose_description_was_tampered_with_does_not_open(teachers, change, says):
    tamper(teachers / "checkpoints" / "16" / "meta" / "metadata", change)
    with refuses(str(teachers), says):
        kdjax.open_stage(teachers)


def test_a_stage_without_its_program_or_with_another_does_not_open(teachers):
    program = teachers / "forward.stablehlo"
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1
    program.write_bytes(content)
    with refuses(str(teachers), "it is damaged, or no exported net"):
        kdjax.open_stage(teachers)
    program.unlink()
    with refuses(str(teachers), "has no forward.stablehlo", "train it again"):
        kdjax.open_stage(teachers)


def test_a_stage_whose_results_were_tampered_with_does_not_open(teachers):
    tamper(teachers / "DONE", lambda done: done.update(diverged=[False]))
    with refuses(str(teachers), "it has 1 of 3 members' results"):
        kdjax.open_stage(teachers)


def test_an_array_of_a_stage_that_says_it_is_huge_is_not_read(teachers):
    item = teachers / "checkpoints" / "16" / "variables"
    array = {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": f"file://{item}/", "path": "params.Dense_0.kernel/"},
    }
    found = tensorstore.open(array).result().spec().to_json()["metadata"]
    wide = found | {"shape": [3, 2**20, 2**20], "chunks": [1, 1, 1]}
    tensorstore.open(array | {"metadata": wide}, create=True, delete_existing=True).result()
    with little_memory(), refuses("its arrays are 1.23e+04 GiB, more than"):
        kdjax.open_stage(teachers)


def test_pickles_in_a_stage_are_not_opened(teachers, tmp_path):
    mark = tmp_path / "mark"
    for path in [p for p in (teachers / "checkpoints" / "16").rglob("*") if p.is_file()]:
        path.write_bytes(pickle.dumps(Payload(mark)))
    with refuses(str(teachers)):
        kdjax.open_stage(teachers)
    assert not mark.exists()


def test_predict_takes_finite_numbers_of_the_shape_it_knows(trained):
    stage, inputs = kdjax.open_stage(trained), np.zeros((2, 8, 8, 1))
    assert stage.predict(inputs[:0].astype(np.uint8)).shape == (3, 0, 10)
    for wrong, says in (
        (
            np.where(np.arange(128).reshape(inputs.shape) == 5, np.nan, 0),
            "inputs have 1 values NaN",
        ),
        (inputs / 16, "inputs are floats; they must be integers, as the data set has them"),
        (inputs.astype(int) + 17, "inputs have values from 17 to 17; they must be from 0 to 16"),
        (inputs.astype(int) - 1, "inputs have values from -1 to -1; they must be from 0 to 16"),
        (inputs - np.inf, "inputs have 128 values NaN or infinite; they must be finite"),
        (inputs.astype(str), "inputs are <U32; they must be numbers"),
        (np.full(inputs.shape, None), "inputs are object; they must be numbers"),
        (inputs.astype(complex), "inputs are complex128; they must be numbers"),
        (inputs[0], r"inputs have the shape (8, 8, 1); it must be [B, 8, 8, 1]"),
        (np.zeros(()), r"inputs have the shape (); it must be [B, 8, 8, 1]"),
    ):
        with refuses(says):
            stage.predict(wrong)
