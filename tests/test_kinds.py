"""The stages that a data set gets by its kind, and what a config sees of the data."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from stages import refuses

import kdjax
from configs import ensemble_to_one, kinds
from kdjax.config import Facts, file, look, parse, stage
from kdjax.data import DatasetSpec, load, suitable_size
from kdjax.report import figures

CONFIG = "configs/ensemble_to_one.py"


def written(path, images, labels):
    """A folder of images, one folder for each class."""
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (path / f"class {label}").mkdir(parents=True, exist_ok=True)
        image.save(path / f"class {label}" / f"{place}.png")
    return f"{path}/"


def digits_of(*sizes):
    """A hundred digits as images, of these sizes in turn."""
    pixels, labels = load_digits(return_X_y=True)
    grey = [Image.fromarray(np.uint8(15 * x).reshape(8, 8)) for x in pixels[:100]]
    return [x.resize(sizes[i % len(sizes)]) for i, x in enumerate(grey)], labels[:100]


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "wine.npz"
    x, y = load_wine(return_X_y=True)
    np.savez(
        path, train_inputs=x[::2], train_labels=y[::2], test_inputs=x[1::2], test_labels=y[1::2]
    )
    return str(path)


@pytest.mark.parametrize(
    ("shape", "examples", "classes", "kind"),
    [
        ((13,), 81, 3, "columns"),
        ((13,), 10**6, 1000, "columns"),
        ((20, 3), 500, 2, "columns"),
        ((8, 8, 1), 800, 10, "columns"),
        ((12, 40, 1), 1999, 10, "few_images"),
        ((28, 28, 1), 54_000, 10, "images"),
        ((32, 32, 3), 2000, 50, "images"),
        ((32, 32, 3), 432, 6, "few_images"),
        ((28, 28, 1), 3000, 242, "many_classes"),
    ],
)
def test_the_kind_is_told_by_shape_examples_and_classes(shape, examples, classes, kind):
    facts = Facts(0, shape, examples, classes)
    assert kinds.kind_of(facts) == kind
    stages, _, recipe = kinds.stages_of(facts)
    row = kinds.KINDS[kind]
    assert list(stages) == ["teachers", "baseline", "distilled"]
    assert stages["teachers"].model.name == row["large"]["name"]
    assert (
        recipe.startswith(f"defaults for {kind} ({examples:,} examples of ") and "\n" not in recipe
    )
    for each in stages.values():
        assert each.batch <= max(1, examples // 4)
        assert row["steps"][0] <= each.steps <= row["steps"][1]
    parse(dict(stages=stages))


def test_every_kind_can_be_reached_and_its_nets_take_the_smallest_image():
    side, few, many = kinds.SMALLEST, kinds.FEW, kinds.MANY
    facts = [
        Facts(0, (5,), few, many),
        Facts(0, (side, side, 1), few - 1, many),
        Facts(0, (side, side, 3), few, many),
        Facts(0, (side, side, 1), few, many),
        Facts(0, (side, side, 1), few, many + 1),
    ]
    assert {kinds.kind_of(each) for each in facts} == {*kinds.KINDS}
    for row in kinds.KINDS.values():
        for net in (row["large"], row["small"]):
            assert 2 ** len(net.get("channels", ())) <= side


def test_digits_and_mnist_are_not_looked_at(tmp_path):
    for name in ("digits", "mnist", "mnist:3.0.1"):
        config = ensemble_to_one.get_config(name, data_dir=str(tmp_path), cache_dir="none")
        assert config.recipe == "" and config.dataset.normalize == "unit"
        assert config.stages.baseline.model.hidden == (32,)
    assert not list(tmp_path.iterdir())


def test_what_the_config_chose_can_be_overridden(wine):
    config = parse(ensemble_to_one.get_config(wine))
    assert config.dataset.normalize == "standard"
    assert config.recipe.startswith(
        "defaults for columns (81 examples of 13 columns in 3 classes): "
    )
    overrides = [
        ("config.dataset.normalize", "unit"),
        ("config.dataset.validation", "9"),
        ("config.stages.baseline.steps", "7"),
        ("config.stages.baseline.optimizer.warmup_steps", "0"),
    ]
    changed = parse(file.read(f"{CONFIG}:{wine}", overrides))
    assert changed.dataset == DatasetSpec(wine, 9, normalize="unit")
    assert "80 examples of 13 columns" in changed.recipe and changed.stages[1].steps == 7


def test_tune_uses_a_validation_split_that_the_set_has(tmp_path):
    x, y = load_digits(return_X_y=True)
    path, splits = tmp_path / "own.npz", {}
    for place, split in enumerate(("train", "validation", "test")):
        part = slice(300 * place, 300 * (place + 1))
        splits |= {f"{split}_inputs": x[part], f"{split}_labels": y[part]}
    np.savez(path, **splits)
    spec = parse(ensemble_to_one.get_config(f"{path},tune"))
    assert len(load(spec.dataset, cache_dir="none").splits["validation"]) == 300
    del splits["validation_inputs"], splits["validation_labels"]
    np.savez(path, **splits)
    spec = parse(ensemble_to_one.get_config(f"{path},tune"))
    assert len(load(spec.dataset, cache_dir="none").splits["validation"]) == 270 // 3


def test_the_data_set_may_be_an_override_or_a_value(wine):
    named = file.read(CONFIG, [("config.dataset.name", wine), ("config.cache_dir", "none")])
    assert named["dataset"]["name"] == wine and named["cache_dir"] == "none"
    assert named["recipe"].startswith("defaults for columns")
    x, y = load_breast_cancer(return_X_y=True)
    data = kdjax.arrays(train=(x[:300], y[:300]), test=(x[300:], y[300:]))
    spec = parse(ensemble_to_one.get_config(dataset=dict(name=data)))
    assert spec.arrays is data and "270 examples of 30 columns in 2 classes" in spec.recipe
    words = "config.dataset has no field 'image_sise' (did you mean 'image_size'?)"
    with refuses(words):
        file.read(f"{CONFIG}:{wine}", [("config.dataset.image_sise", "3")])
    with refuses("config.dataset.name is 'wines'; it must be digits"):
        file.read(f"{CONFIG}:wines", [])


def test_a_config_that_takes_nothing_is_given_nothing(tmp_path):
    (tmp_path / "own.py").write_text(
        "def get_config(word='', *, dataset=None):\n"
        "    return {'word': word, 'seen': dataset, 'dataset': {}, 'data_dir': ''}\n"
    )
    overrides = [("config.dataset.validation", "5"), ("config.data_dir", "there")]
    read = file.read(f"{tmp_path}/own.py:a", overrides)
    assert read["seen"] == {"validation": 5} and read["dataset"] == {"validation": 5}
    assert (read["word"], read["data_dir"]) == ("a", "there")
    (tmp_path / "own.py").write_text("def get_config(): return {'dataset': {}}\n")
    assert file.read(f"{tmp_path}/own.py", overrides[:1])["dataset"] == {"validation": 5}


@pytest.mark.parametrize(
    ("sizes", "size"),
    [(((16, 16),), 0), (((40, 12),), 0), (((41, 12),), 32), (((16, 16), (16, 17)), 32)],
)
def test_images_that_are_large_or_of_several_sizes_are_scaled(tmp_path, sizes, size):
    name = written(tmp_path / "images", *digits_of(*sizes))
    assert suitable_size(DatasetSpec(name)) == size
    assert suitable_size(DatasetSpec(name, image_size=20)) == 20
    facts = look(dict(name=name))
    assert facts == Facts(size, ((size, size) if size else sizes[0][::-1]) + (1,), 72, 10)
    config = ensemble_to_one.get_config(name)
    assert config.dataset.image_size == size
    assert (f"scaled to {size} pixels" in config.recipe) == bool(size)
    dataset = load(parse(config).dataset)
    assert dataset.input_shape == facts.input_shape
    own = file.read(f"{CONFIG}:{name}", [("config.dataset.image_size", "24")])
    assert own["dataset"]["image_size"] == 24 and "24x24x1" in own["recipe"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with refuses(f"config.dataset.name is '{tmp_path}/none/'; there is no such folder"):
        ensemble_to_one.get_config(f"{tmp_path}/none/")


@pytest.mark.mnist
@pytest.mark.long
def test_sets_of_tfds_are_scaled(tmp_path):
    data_dir = os.environ["TFDS_DATA_DIR"]
    spec = DatasetSpec("omniglot", train_splits="small1")
    full, small = (
        load(dataclasses.replace(spec, image_size=size), data_dir, "none").splits["test"].source
        for size in (0, 35)
    )
    expected = Image.fromarray(full.fetch(np.array([7]))[0])
    expected = np.asarray(expected.resize((35, 35), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(small.fetch(np.array([7]))[0], expected)
    assert (
        suitable_size(spec, data_dir) == 32 and suitable_size(DatasetSpec("mnist"), data_dir) == 0
    )
    with refuses("image_size is 14; it must be 0 for 'digits', which is no folder of images and"):
        load(DatasetSpec(image_size=14))


@pytest.mark.slow
def test_columns_as_they_come_are_learnt_and_the_recipe_is_told(
    wine, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(figures, "of_report", lambda _: {})
    config = ensemble_to_one.get_config(wine)
    for each in config.stages.values():
        each.update(steps=200, chunk=100, members=dict(seed=3))
    report = kdjax.run(config, tmp_path)
    assert config.recipe in " ".join(capsys.readouterr().out.split())
    assert config.recipe in (tmp_path / "report.md").read_text().replace("\n", " ")
    for row in report.rows:
        assert row.mean("errors") < 0.1 * 89


def test_a_recipe_makes_no_other_stage():
    one, other = (parse(dict(stages=dict(a=stage()), recipe=text)) for text in ("", "how"))
    assert one.stages == other.stages and one != other
