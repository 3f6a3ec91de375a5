"""What a report says: the sections it has numbers for, and the numbers in them."""

import dataclasses
import re

import numpy as np
import pytest
from reports import BASELINE, ENVIRONMENT, STUDENT, a_missing, a_report, cells, row, small, study

from kdjax.report import page

NAMES = ["errors_against_parameters", "sweep_learning_rate", "soft_targets", "reliability"]
NAMES += ["training_curves"]


def said(report, figures=()):
    """{title: text} of the sections of report.md."""
    _, *sections = re.split(r"^## ", page.markdown(report, figures), flags=re.MULTILINE)
    return {title: text.strip() for title, _, text in (s.partition("\n") for s in sections)}


def table(text):
    """{heading: cells} of the one table in a text."""
    [lines] = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    header, _, *rows = cells(lines)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def facts(report):
    return dict(line[2:].split(": ", 1) for line in said(report)["Run"].splitlines())


@pytest.fixture(scope="module")
def everything():
    return said(study(), NAMES)


def test_sections_without_numbers_are_left_out():
    assert list(said(small())) == ["Results", "Differences", "Costs", "Run"]
    assert list(said(a_report(row("a", [None, None])))) == ["Results", "Costs", "Run"]


def test_the_answer_comes_first():
    text = said(small())["Results"]
    gap = small().difference("distilled", "baseline")
    assert text.startswith(
        f"The best student by validation errors, distilled, gets {np.mean(STUDENT):.1f} ± "
        f"{np.std(STUDENT, ddof=1):.1f} of the 797 test examples wrong; baseline, without a "
        f"teacher, {np.mean(BASELINE):.1f} ± {np.std(BASELINE, ddof=1):.1f}: {-gap['mean']:.1f} "
        f"fewer (standard error {gap['standard_error']:.1f}). The ensemble of its teachers gets "
        "21 wrong.\n\n"
    )
    worse = said(a_report(row("baseline", [24, 26]), row("distilled", [30, 32])))["Results"]
    assert ": 6.0 more (standard error 1.4).\n\n" in worse
    alone = said(a_report(row("distilled", [30])))["Results"]
    assert alone.startswith("The best student by validation errors, distilled, gets 30 of the 797")
    others = [row("a/ensemble", [7]), row("b/ensemble", [8])]
    assert "The ensemble" not in said(a_report(row("distilled", [30]), *others))["Results"]
    assert said(a_report(row("baseline", BASELINE)))["Results"].startswith("All numbers are of")


def test_nets_at_chance_are_named():
    chance = row("distilled", [717, 720]), row("lost", [None]), row("half", [400, 420])
    [text] = re.findall("No better than guessing: (.*?)\\.", said(a_report(*chance))["Results"])
    assert text == "distilled"
    assert "guessing" not in said(small())["Results"]


def test_results_say_which_mean_of_the_teachers_they_compare_with():
    mixtures = {"distilled": "arithmetic", "sweep": "geometric", "baseline": "arithmetic"}
    text = said(dataclasses.replace(small(), mixtures=mixtures))["Results"]
    assert (
        "as mixing and ensemble_size say): the arithmetic mean for distilled, baseline; the "
        "geometric mean for sweep. Each" in text
    )
    alike = dict.fromkeys(mixtures, "geometric")
    text = said(dataclasses.replace(small(), mixtures=alike))["Results"]
    assert "ensemble_size say): the geometric mean. Each" in text
    assert "Agreement" not in said(small())["Results"]


def test_run_says_the_command_the_data_the_devices_and_the_seconds():
    found = facts(small())
    assert found["command"] == "`python -m kdjax.main --config=configs/digits.py`"
    assert found["data set"] == "digits: 800 train, 200 validation, 797 test examples"
    assert found["devices"] == "2 x cpu, 2 CPU cores"
    assert found["versions"] == "python 3.11.7, jax 0.10.2"  # of what is installed
    assert found["training"] == "18 seconds, all stages together"  # the ensemble's once


def test_run_says_which_stages_were_trained_elsewhere():
    there = ENVIRONMENT | {"command": "python train.py", "devices": 8}
    stages = small().environments | {"distilled": there, "sweep": there}
    found = facts(dataclasses.replace(small(), environments=stages))
    others = "teachers, baseline, this report"
    assert found["command of distilled, sweep"] == "`python train.py`"
    assert found[f"command of {others}"] == f"`{ENVIRONMENT['command']}`"
    assert found["devices of distilled, sweep"] == "8 x cpu, 2 CPU cores"
    assert found["system"] == "Linux"


def test_run_ascribes_nothing_to_a_stage_that_does_not_say():
    found = facts(dataclasses.replace(small(), environments={}))
    assert found["devices of this report"] == "2 x cpu, 2 CPU cores" and "devices" not in found


def test_results_have_every_row_and_the_spread_of_every_metric():
    found = table(said(small())["Results"])
    assert found["stage"] == [row.label for row in small().rows]
    accuracy = small().row("distilled").metrics["accuracy"]
    text = f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f}"
    assert found["accuracy %"][3] == text and found["errors"][1] == "21"
    assert found["n"][4] == "2 (1 diverged)" and found["agreement %"][0] == "-"
    assert table(said(small())["Costs"])["parameters"][1] == "255,006"


def test_differences_are_from_the_first_stage_that_only_labels_taught():
    found = table(said(small())["Differences"])
    names = ["teachers", "distilled", "sweep temperature=4", "sweep temperature=0.5"]
    assert found["stage"] == names
    gap = small().difference("distilled", "baseline")
    assert found["errors minus baseline"][1] == f"{gap['mean']:+.1f}"
    assert found["standard error"][1] == f"{gap['standard_error']:.1f}"
    assert found["ratio"][1] == f"{gap['ratio']:+.1f}"


def test_differences_are_from_the_best_cell_of_a_grid():
    errors = {1e-3: [40, 41], 1e-2: [30, 32], 1e-1: [50, 60]}
    grid = [row("baseline", e, {"learning_rate": rate}) for rate, e in errors.items()]
    found = table(said(a_report(*grid, row("distilled", STUDENT)))["Differences"])
    assert found["stage"] == [grid[0].label, grid[2].label, "distilled"]
    assert found[f"errors minus {grid[1].label}"][:2] == ["+9.5", "+24.0"]


@pytest.mark.parametrize(
    ("rows", "teaching"),
    [
        ([row("teachers", [24, 25]), row("teachers/ensemble", [21])], {"teachers"}),
        ([row("a", [24, 25]), row("b", [26, 25])], {"a", "b"}),
        ([row("distilled", STUDENT), row("sweep", BASELINE)], set()),
        ([row("baseline", [24]), row("distilled", STUDENT)], set()),
        ([row("baseline", BASELINE)], set()),
    ],
)
def test_no_differences_without_a_stage_to_compare_with(rows, teaching):
    assert "Differences" not in said(a_report(*rows, teaching=frozenset(teaching)))


def test_missing_classes_have_every_repair_and_the_names_of_the_classes():
    found = a_missing()
    names = tuple(f"digit {c}" for c in range(10))
    report = a_report(row("without_3", [1, 2]), missing=(found,), class_names=names)
    columns = table(said(report)["Missing classes"])
    assert columns["bias"] == ["as trained", "matched", "best"]
    for i, name in enumerate(("as_trained", "matched", "best")):
        errors, missed = found[name]["errors"], found[name]["missing_errors"]
        line = {heading: cells[i] for heading, cells in columns.items()}
        assert (line["stage"], line["missing"]) == ("without_3", "digit 3")
        assert line["of"] == str(found["examples"])
        shift = found[name]["shift"]
        assert line["shift"] == f"{np.mean(shift):.2f} ± {np.std(shift, ddof=1):.2f}"
        assert line["errors"] == f"{np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f}"
        assert line["errors %"] == f"{100 * np.mean(errors) / found['of']:.2f}"
        spread = f"{np.mean(missed):.1f} ± {np.std(missed, ddof=1):.1f}"
        assert line["errors on the missing"] == spread


def test_settings_have_a_line_for_each_field_and_a_column_for_each_stage():
    settings = {
        "teachers": {"steps": 40, "model.hidden": (256, 256), "teacher": ""},
        "student": {"steps": 0, "teacher": "teachers", "init_from": None},
    }
    assert table(said(a_report(row("a", [1]), settings=settings))["Settings"]) == {
        "field": ["steps", "model.hidden", "teacher", "init_from"],
        "teachers": ["40", "256, 256", "-", "-"],
        "student": ["0", "-", "teachers", "-"],
    }


def test_pictures_say_in_words_what_they_show_and_of_how_many(everything):
    assert [t for t, text in everything.items() if "](figures/" in text] == [
        *("Errors against parameters", "Sweeps", "Soft targets", "Calibration", "Training")
    ]
    alt, caption = {}, {}
    for title, text in everything.items():
        [alt[title]] = re.findall(r"!\[(.*)\]\(figures", text) or [""]
        caption[title] = text.split(".png)")[-1]
    best = study().representatives[-1]
    errors = f"{best.mean('errors'):.1f} ± {best.std('errors'):.1f}"
    assert f"; {best.label}: {errors}, 610" in alt["Errors against parameters"]
    assert f"{best.label}: {errors}" in alt["Sweeps"] and "(n = 4)" in caption["Sweeps"]
    assert "(n = 3 to 4)" in caption["Calibration"] and "the 15 bins" in caption["Calibration"]
    assert f"{best.label}: {best.mean('ece'):.3f}" in alt["Calibration"]
    end = 100 * study().curves[best.label]["validation_accuracy"][-1]
    spread = f"{np.mean(end):.2f} ± {np.std(end, ddof=1):.2f} %"
    assert f"validation accuracy {spread}" in alt["Training"].split(best.label)[1]
    assert "teachers, T = 1; teachers, T = 4" in caption["Soft targets"]
    labels = ", ".join(map(str, study().soft_targets["labels"]))
    assert f"classes {labels}, each" in alt["Soft targets"]


def test_only_where_there_is_a_grid_a_caption_says_which_cell_it_shows(everything):
    assert "on the validation split" in everything["Errors against parameters"]
    plain = said(a_report(row("baseline", [3, 4])), NAMES[:1])["Errors against parameters"]
    assert "on the validation split" not in plain and "(n = 2)" in plain


def test_a_sweep_that_was_not_drawn_is_not_shown(everything):
    grid = [
        row("grid", [1, 2], {"temperature": t, "learning_rate": r}) for t in (1, 2) for r in (1, 2)
    ]
    both = dataclasses.replace(study(), rows=(*study().rows, *grid))  # a figure has no such stage
    assert said(both, NAMES[1:2])["Sweeps"] == everything["Sweeps"]
    assert "Sweeps" not in said(study(), NAMES[:1])
