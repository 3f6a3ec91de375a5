"""Students that leave: the folder that a stage's member is exported to, and what opens it."""

import json
import random

import jax
import numpy as np
import pytest
from digits import arrays as digit_arrays
from exports import FEW, data, trained
from flax.traverse_util import flatten_dict
from mutations import mutated
from safetensors.numpy import load_file
from stages import refuses

import kdjax
from kdjax import exported
from kdjax.exported import forms, writing

FILES = ["README.md", "config.json", "forward.stablehlo", "model.onnx", "model.safetensors"]


@pytest.fixture(scope="module")
def stage():
    return trained(dict(name="mlp", hidden=(16,)))


@pytest.fixture(scope="module")
def folder(stage, tmp_path_factory):
    return stage.best().export(tmp_path_factory.mktemp("exports") / "served")


@pytest.fixture
def copy(folder, tmp_path):
    """An export to damage."""
    made = tmp_path / "copy"
    made.mkdir()
    for path in folder.iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    return made


def test_the_folder_holds_every_form_and_nothing_else_is_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["served"]
    (folder.parent / "usual").mkdir()
    assert folder.stat().st_mode == (folder.parent / "usual").stat().st_mode


def test_it_opens_and_predicts_as_the_stage_does(stage, folder):
    opened, (images, _) = kdjax.open_export(folder), digit_arrays()
    ours, theirs = stage.best().predict(images)[0], opened.predict(images)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())
    assert opened.class_names == stage.class_names and theirs.dtype == np.float32
    assert opened.predict(images[:0]).shape == (0, 10)
    with refuses("inputs are floats; they must be integers"):
        opened.predict(images / 16)
    assert repr(opened) == "<exported net: mlp, 1,210 parameters, 10 classes>"


def test_the_parameters_are_those_of_the_member(stage, folder):
    saved = load_file(folder / "model.safetensors")
    one = flatten_dict(jax.tree.map(lambda x: x[0], stage.best().variables), sep="/")
    assert saved.keys() == one.keys()
    for name, array in one.items():
        assert saved[name].dtype == array.dtype
        np.testing.assert_array_equal(saved[name], array)


def test_config_and_card_say_what_it_is(stage, folder):
    config, best = json.loads((folder / "config.json").read_text()), stage.best()
    errors = np.array(stage.metrics["test"]["errors"])
    assert config["metrics"]["test"]["errors"] == best.metrics["test"]["errors"][0]
    spread = config["spread"]["test"]["errors"]
    assert spread == {"n": 2, "mean": errors.mean(), "std": errors.std(ddof=1)}
    assert config["calibration_temperature"] > 0
    assert set(config["latency_ms"]) == {"kdjax", "stablehlo", "onnx"}
    assert all(ms > 0 for form in config["latency_ms"].values() for ms in form.values())
    assert max(config["largest_difference"].values()) <= forms.CLOSE
    sizes = {name: (folder / name).stat().st_size for name in config["files"]}
    assert {name: file["bytes"] for name, file in config["files"].items()} == sizes
    card = (folder / "README.md").read_text()
    for words in (
        f"{config['parameters']:,} parameters",
        "It had no teacher",
        f"| test | errors | {best.metrics['test']['errors'][0]:.0f} | 2 | {errors.mean():.1f}",
        f"{config['calibration_temperature']:.3g}",
        "Not tested",
        "onnxruntime.InferenceSession",
        *(f"`{name}` | {sizes[name]:,} |" for name in ("forward.stablehlo", "model.onnx")),
        f"in\n{sizes['model.safetensors']:,} bytes",
    ):
        assert words in card


def test_a_teacher_is_named_and_no_spread_is_made_of_one_member(stage, tmp_path):
    student = kdjax.distill(dict(name="mlp", hidden=(8,)), stage, data(), seeds=(7,), **FEW)
    folder = student.export(tmp_path / "x", onnx=False)
    card = (folder / "README.md").read_text()
    assert "It learned from the teachers `net`" in card and "There is no ONNX form" in card
    assert not (folder / "model.onnx").exists()
    config = kdjax.open_export(folder).config
    assert config["spread"]["test"]["errors"]["std"] is None and "| 1 |" in card


def test_members_of_other_temperatures_are_no_replicates(tmp_path):
    swept = trained(
        dict(name="mlp", hidden=(8,)), objective="cross_entropy", learning_rate=(0.1, 0.01)
    )
    config = kdjax.open_export(swept.part(3).export(tmp_path / "x", onnx=False)).config
    alike = [m for m, n in enumerate(swept.members) if n["learning_rate"] == 0.01]
    errors = np.array(swept.metrics["test"]["errors"])[alike]
    assert len(alike) == 2 and config["spread"]["test"]["errors"]["mean"] == errors.mean()


# What is refused.


def test_several_members_are_refused(stage, tmp_path):
    with refuses("has 2 members; export takes one, as of stage.best() or stage.part(0)"):
        stage.export(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_computed(
    stage, tmp_path, monkeypatch
):
    monkeypatch.setattr(writing, "_forms", None)  # it would be called
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name, says in (
        ("full", "is there and is not empty"),
        ("file", "is no folder"),
        ("link", "is no folder"),
        ("file/below", "nothing can be written in"),
    ):
        with refuses("folder is ", says):
            stage.best().export(tmp_path / name)
    with refuses("folder is 3; it must be the path of a folder"):
        stage.best().export(3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "link"]


def test_nothing_is_left_of_an_export_that_fails(stage, tmp_path, monkeypatch):
    def full(path, data, real=writing.files.write):
        if path.name == "config.json":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(writing.files, "write", full)
    with refuses("which cannot be written", "No space left"):
        stage.best().export(tmp_path / "x", onnx=False)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(stage, tmp_path):
    (tmp_path / "empty").mkdir()
    stage.best().export(tmp_path / "empty", onnx=False)
    assert kdjax.open_export(tmp_path / "empty").class_names == stage.class_names


def test_a_form_that_gives_other_logits_is_refused(stage, tmp_path, monkeypatch):
    real = forms.run_onnx
    off = lambda *given: lambda x: real(*given)(x) * np.float32(1.001)
    monkeypatch.setattr(forms, "run_onnx", off)
    with refuses("as onnx gives logits that differ by", "it must be at most 1e-05"):
        stage.best().export(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_is_refused_or_left_out(stage, tmp_path, monkeypatch):
    real = forms.importlib.util.find_spec
    lacks = lambda name: None if name == "onnxruntime" else real(name)
    monkeypatch.setattr(forms.importlib.util, "find_spec", lacks)
    with refuses("onnx is True, but the package onnxruntime is not installed", "kdjax[onnx]"):
        stage.best().export(tmp_path / "x", onnx=True)
    stage.best().export(tmp_path / "x")
    assert not (tmp_path / "x" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (dict(name="mlp", hidden=(8,), dtype="bfloat16"), "arithmetic in bf16"),
        (
            kdjax.function(
                lambda w, x: jax.lax.sort(x.reshape(-1, 64)) @ w, np.ones((64, 10), "f4")
            ),
            "stablehlo.sort",
        ),
    ],
)
def test_what_onnx_cannot_say_is_refused_by_name(net, says, tmp_path):
    stage = trained(net).part(0)
    with refuses("cannot be written as ONNX, for it has " + says, "onnx=False"):
        stage.export(tmp_path / "x")
    stage.export(tmp_path / "x", onnx=False)
    assert kdjax.open_export(tmp_path / "x").predict(digit_arrays()[0]).shape == (200, 10)


# Damage.


def test_what_is_no_export_is_refused(tmp_path, folder):
    with refuses("has no config.json; it must be a folder that Stage.export has written"):
        kdjax.open_export(tmp_path)
    with refuses("path is 3"):
        kdjax.open_export(3)
    (tmp_path / "config.json").write_text('{"digest": "x"}')
    with refuses("its config.json is not as it was written"):
        kdjax.open_export(tmp_path)


def test_mutated_exports_are_refused(copy):
    chance, count = random.Random(0), 0
    while count < 300:
        path = copy / FILES[1:][count % 4]  # the card is its reader's to edit
        whole = path.read_bytes()
        changed = mutated(whole, chance)
        if changed == whole:
            continue
        path.write_bytes(changed)
        with refuses(str(copy), "cannot be opened"):
            kdjax.open_export(copy)
        path.write_bytes(whole)
        count += 1
    kdjax.open_export(copy)


def test_a_file_that_is_gone_or_of_another_export_is_refused(copy, stage, tmp_path):
    other = stage.part(1).export(tmp_path / "other", onnx=False)
    for name in ("forward.stablehlo", "model.safetensors"):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes((other / name).read_bytes())
        if (other / name).read_bytes() != whole:
            with refuses(name, "cannot be opened"):
                kdjax.open_export(copy)
        (copy / name).unlink()
        with refuses(name, "cannot be opened"):
            kdjax.open_export(copy)
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c.update(classes=11, class_names=list("abcdefghijk")),
            "not those of 11 classes",
        ),
        (lambda c: c.update(input_shape=[8, 9, 1]), "its inputs (b"),
        (lambda c: c.update(input_dtype="float32"), "its inputs are not one array of float32"),
        (lambda c: c["class_names"].pop(), "it has 9 names of 10 classes"),
        (lambda c: c.update(format="kdjax export 2"), "its format is 'kdjax export 2'"),
        (lambda c: c["files"].update({"../x": {"bytes": 1}}), "a file is '../x'"),
        (lambda c: c["files"].pop("forward.stablehlo"), "forward.stablehlo"),
        (lambda c: c.pop("stage"), "stage"),
        (lambda c: c.update(calibration_temperature=0), "its temperature is 0"),
        (lambda c: c.update(input_range=[0]), "the range of its inputs is not of two numbers"),
    ],
)
def test_a_config_that_was_rewritten_on_purpose_is_held_against_the_program(copy, change, says):
    config = json.loads((copy / "config.json").read_text())
    change(config)
    config.pop("digest")
    (copy / "config.json").write_bytes(writing.signed(config))
    with refuses(str(copy), says):
        kdjax.open_export(copy)


def test_the_package_is_all_that_writes_an_export():
    assert exported.open_export is kdjax.open_export and exported.Exported is kdjax.Exported
