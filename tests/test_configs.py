"""Every file of configs/ is sound, and runs."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import kdjax
from configs import disagreement, ensemble_to_one, methods, mnist, mnist_tune
from kdjax import report
from kdjax.config import file, parse
from kdjax.config.spec import cells
from kdjax.experiment import load
from kdjax.losses import TERMS
from kdjax.prepare import prepare
from kdjax.rules import InputError

CONFIGS = sorted(p.stem for p in (Path(__file__).parents[1] / "configs").glob("[a-z]*.py"))
MNIST = [name for name in CONFIGS if name.startswith("mnist")]
OF_MNIST = [*MNIST, "disagreement"]


@pytest.mark.slow
def test_a_locked_config_runs(tmp_path, monkeypatch):
    config = ensemble_to_one.get_config("few_labels,smoke")
    config.lock()
    monkeypatch.setattr(report, "write", lambda *_: None)
    found = kdjax.run(config, tmp_path, quiet=True)
    assert {row.stage for row in found.rows} >= set(config.stages)
    assert all(row.mean("nll") is not None and row.diverged == 0 for row in found.rows)


@pytest.mark.parametrize(
    "name",
    ["ensemble_to_one", *(pytest.param(name, marks=pytest.mark.mnist) for name in OF_MNIST)],
)
@pytest.mark.parametrize("words", ["", "smoke"])
def test_nothing_in_a_shipped_config_is_refused(tmp_path, name, words):
    spec = parse(importlib.import_module(f"configs.{name}").get_config(words))
    jobs = prepare(spec, load(spec), tmp_path)
    assert [job.status for job in jobs] == ["new"] * len(spec.stages)


def test_every_method_is_chosen_by_the_same_rule():
    """All terms of the table that need no net of their own have a method, five weights and two
    seeds to choose from, and the same seeds afterwards."""
    own_nets = {"dirichlet", "per_teacher"}
    same = {"soft_cross_entropy", "cross_entropy", "tangent_propagation"}
    assert methods.METHODS.keys() | own_nets | same == TERMS.keys()
    paths = {}
    for words, ends in (("", (0, 1, 2)), ("gpu", (8, 17, 26))):
        vid = methods.get_config(words).stages.vid.objective.vid
        paths[words] = vid.student, vid.teacher
        assert [*vid.teacher] == [f"block{n}" for n in ends]
    assert [*paths["gpu"][0]] == ["block2", "block5", "block8"] and paths[""][0] == paths[""][1]
    for words in ("", "gpu", "quick", "smoke", "dkd,crd"):
        spec = parse(methods.get_config(words))
        stages = {stage.name: stage for stage in spec.stages}
        chosen = [stage for stage in spec.stages if stage.numbers_from]
        assert len(stages) == 2 + 2 * len(chosen) and stages["labels"].members == chosen[0].members
        for stage in chosen:
            assert stage.numbers_from == f"choose_{stage.name}"
            grid = stages[stage.numbers_from]
            told = lambda of: [(p.name, p.options, p.numbers) for p in of.objective]
            assert len(cells(grid)) == 5 and told(grid) == told(stage)
            seeds = dict(grid.members)["seed"], dict(stage.members)["seed"]
            assert len(seeds[0]) == 2 and not {*seeds[0]} & {*seeds[1]}
    with pytest.raises(InputError, match="has the words fitnets; there may be cpu, quick, gpu"):
        methods.get_config("fitnets")


@pytest.mark.slow
def test_the_main_config_runs_on_a_folder_of_images(tmp_path):
    images, labels = load_digits(return_X_y=True)
    for place in range(100):
        folder = tmp_path / "images" / f"digit {labels[place]}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.uint8(16 * images[place].clip(0, 15)).reshape(8, 8)
        Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)).save(folder / f"{place}.png")
    get_config = ensemble_to_one.get_config
    found = kdjax.run(get_config(f"{tmp_path}/images/,smoke"), tmp_path / "run", quiet=True)
    names = {row.stage for row in found.rows}
    assert names == {"teachers", "teachers/ensemble", "baseline", "distilled"}
    assert all(row.diverged == 0 for row in found.rows)
    assert re.search(
        r"Examples of the classes digit \d, ", (tmp_path / "run/report.md").read_text()
    )
    student = kdjax.open_stage(tmp_path / "run" / "distilled")
    assert student.class_names == tuple(f"digit {digit}" for digit in range(10))
    [path] = (tmp_path / "images").glob("*/7.png")
    pixels = np.uint8(16 * images[7].clip(0, 15)).reshape(1, 8, 8, 1).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(student.read_images([path]), pixels)
    Image.open(path).resize((16, 24)).save(tmp_path / "large.png")
    assert student.predict(student.read_images([tmp_path / "large.png"])).shape == (2, 1, 10)
    with pytest.raises(InputError, match=r"absent\.png cannot be read as an image: "):
        student.read_images([tmp_path / "absent.png"])
    tuned = parse(get_config(f"{tmp_path}/images/,tune"))
    assert [len(cells(stage)) for stage in tuned.stages] == [1, 6, 12]


def test_a_config_of_kdjax_is_known_by_its_name():
    assert file.read("ensemble_to_one:smoke") == file.read("configs/ensemble_to_one.py:smoke")
    with pytest.raises(InputError, match="--config is 'ensemble_to_two'; there is no such file"):
        file.read("ensemble_to_two")


def test_a_config_imports_its_neighbours(tmp_path):
    (tmp_path / "parts.py").write_text("STEPS = 7")
    (tmp_path / "mine.py").write_text(
        "from .parts import STEPS\ndef get_config():\n    return {'steps': STEPS}"
    )
    assert file.read(f"{tmp_path}/mine.py") == {"steps": 7}


def test_every_config_is_tried():
    assert {*CONFIGS} - {"kinds", "transforms"} == {"ensemble_to_one", "methods", *OF_MNIST}


@pytest.mark.parametrize("name", MNIST)
@pytest.mark.parametrize("length", mnist.LENGTHS)
def test_every_length_of_the_paper_section_is_a_valid_experiment(name, length):
    spec = parse(importlib.import_module(f"configs.{name}").get_config(length))
    assert all(stage.steps % stage.chunk == 0 for stage in spec.stages)


def test_a_wrong_word_is_one_sentence():
    with pytest.raises(InputError, match=r"has the words cpus; there may be one of paper, cpu, qu"):
        mnist.get_config("cpus")
    with pytest.raises(InputError, match=r"has the words cpu, quick"):
        mnist.get_config("cpu,quick")
    with pytest.raises(InputError, match=r"has the words tune; .* beside it smoke$"):
        mnist.get_config("tune")
    with pytest.raises(InputError, match=r"has the words paper; there may be cpu, quick and smoke"):
        disagreement.get_config("paper")
    with pytest.raises(InputError, match=r"has the words rates, kinds; there may be one of them"):
        mnist_tune.get_config("rates,kinds")


@pytest.mark.parametrize("search", mnist_tune.SEARCHES)
def test_everything_is_tuned_on_validation_data(search):
    spec = parse(mnist_tune.get_config(search))
    assert spec.evaluate == "validation" and spec.dataset.validation == mnist_tune.VALIDATION


def test_rates_of_labels_and_soft_targets_are_tuned_alike():
    spec = parse(mnist_tune.get_config("quick"))
    axes = {stage.name: dict(stage.members).get("learning_rate") for stage in spec.stages}
    assert axes == {"large": None, "labels": mnist_tune.RATES, "distilled": mnist_tune.RATES}
