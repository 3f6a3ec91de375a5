"""What a report says: the sections it has numbers for, and the numbers in them."""

import dataclasses

import numpy as np
import pytest
from reports import BASELINE, ENVIRONMENT, STUDENT, a_missing, a_report, config, row, small, study

from kdjax.config import complete
from kdjax.report import document
from kdjax.report.document import Facts, Picture, Table

ALL = document.of_report(small(), ())
FORMS = {"mean": "+.1f", "standard_error": ".1f", "ratio": "+.1f"}


def parts(content, title):
    [section] = [section for section in content.sections if section.title == title]
    return section.parts


def table(content, title):
    """{heading: cells} of the one table of a section."""
    [found] = [part for part in parts(content, title) if isinstance(part, Table)]
    return dict(found.columns)


def titles(content):
    return [section.title for section in content.sections]


def test_sections_without_numbers_are_left_out():
    assert titles(ALL) == ["Run", "Results", "Differences", "Costs", "Settings"]
    bare = a_report(row("a", [None, None]), config={"dataset": {"name": "digits"}, "stages": {}})
    assert titles(document.of_report(bare, ())) == ["Run", "Results", "Costs"]


def test_run_says_the_command_the_data_the_devices_and_the_seconds():
    [facts] = parts(ALL, "Run")
    assert isinstance(facts, Facts) and facts.code == ("command",)
    assert facts.pairs["command"] == "python -m kdjax.main --config=configs/digits.py"
    assert facts.pairs["data set"] == "digits: 800 train, 200 validation, 797 test examples"
    assert facts.pairs["devices"] == "2 x cpu, 2 CPU cores"
    assert facts.pairs["versions"] == "python 3.11.7, jax 0.10.2"  # of what is installed
    assert facts.pairs["training"] == "18 seconds, all stages together"  # the ensemble's once


def test_run_says_which_stages_were_trained_elsewhere():
    there = ENVIRONMENT | {"command": "python train.py", "devices": 8}
    stages = small().environments | {"distilled": there, "sweep": there}
    [facts] = parts(
        document.of_report(dataclasses.replace(small(), environments=stages), ()), "Run"
    )
    others = "teachers, baseline, this report"
    assert facts.pairs["command of distilled, sweep"] == "python train.py"
    assert facts.pairs[f"command of {others}"] == ENVIRONMENT["command"]
    assert facts.code == (f"command of {others}", "command of distilled, sweep")
    assert facts.pairs["devices of distilled, sweep"] == "8 x cpu, 2 CPU cores"
    assert facts.pairs["system"] == "Linux"


def test_run_ascribes_nothing_to_a_stage_that_does_not_say():
    [facts] = parts(document.of_report(dataclasses.replace(small(), environments={}), ()), "Run")
    assert facts.pairs["devices of this report"] == "2 x cpu, 2 CPU cores"
    assert "devices" not in facts.pairs and facts.code == ("command of this report",)


def test_results_have_every_row_and_the_spread_of_every_metric():
    found = table(ALL, "Results")
    assert found["stage"] == [row.label for row in small().rows]
    accuracy = small().row("distilled").metrics["accuracy"]
    text = f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f}"
    assert found["accuracy %"][3] == text and found["errors"][1] == "21"
    assert found["n"][4] == "2 (1 diverged)" and found["agreement %"][0] == "-"
    assert table(ALL, "Costs")["parameters"][1] == "255,006"


def test_differences_are_from_the_first_stage_that_only_labels_taught():
    found = table(ALL, "Differences")
    names = ["teachers", "distilled", "sweep temperature=4", "sweep temperature=0.5"]
    assert found["stage"] == names
    gap = small().difference("distilled", "baseline")
    headings = ("errors minus baseline", "standard error", "ratio")
    assert [found[heading][1] for heading in headings] == [
        format(gap[name], form) for name, form in FORMS.items()
    ]


def test_differences_are_from_the_best_cell_of_a_grid():
    errors = {1e-3: [40, 41], 1e-2: [30, 32], 1e-1: [50, 60]}
    grid = [row("baseline", e, {"learning_rate": rate}) for rate, e in errors.items()]
    content = document.of_report(a_report(*grid, row("distilled", STUDENT)), ())
    found = table(content, "Differences")
    assert found["stage"] == [grid[0].label, grid[2].label, "distilled"]
    assert found[f"errors minus {grid[1].label}"][:2] == ["+9.5", "+24.0"]


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        ([row("teachers", [24, 25]), row("teachers/ensemble", [21])], {}),
        ([row("a", [24, 25]), row("b", [26, 25])], {"config": config("a,b", c="distillation")}),
        ([row("distilled", STUDENT), row("sweep", BASELINE)], {}),
        ([row("baseline", [24]), row("distilled", STUDENT)], {}),
        ([row("baseline", BASELINE)], {}),
    ],
)
def test_no_differences_without_a_stage_to_compare_with(rows, fields):
    assert "Differences" not in titles(document.of_report(a_report(*rows, **fields), ()))


def test_missing_classes_have_every_repair():
    found = a_missing()
    content = document.of_report(a_report(row("without_3", [1, 2]), missing=(found,)), ())
    columns = table(content, "Missing classes")
    assert columns["bias"] == list(document.REPAIRS.values())
    for i, name in enumerate(document.REPAIRS):
        errors, missed = found[name]["errors"], found[name]["missing_errors"]
        line = {heading: cells[i] for heading, cells in columns.items()}
        assert (line["stage"], line["missing"], line["of"]) == (
            *("without_3", "3"),
            str(found["examples"]),
        )
        assert line["errors"] == f"{np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f}"
        assert line["errors %"] == f"{100 * np.mean(errors) / found['of']:.2f}"
        spread = f"{np.mean(missed):.1f} ± {np.std(missed, ddof=1):.1f}"
        assert line["errors on the missing"] == spread


def test_settings_are_the_fields_that_are_not_default():
    stages = {
        "teachers": {"steps": 40, "model": {"name": "mlp", "hidden": (256, 256)}},
        "student": {"loss": "kl_divergence", "teacher": "teachers", "model": {"name": "cnn"}},
    }
    stages["student"]["batch"] = 100  # the default
    report = a_report(row("a", [1]), config=complete({"stages": stages}).to_dict())
    found = table(document.of_report(report, ()), "Settings")
    values = zip(found["teachers"], found["student"], strict=True)
    lines = dict(zip(found["field"], values, strict=True))
    assert lines["steps"] == ("40", "1000") and lines["loss"] == ("cross_entropy", "kl_divergence")
    assert lines["model.hidden"][0] == "256, 256" and lines["teacher"] == ("-", "teachers")
    assert lines["model.name"] == ("mlp", "cnn") and "batch" not in lines


def test_pictures_say_in_words_what_they_show_and_of_how_many():
    names = ["errors_against_parameters", "sweep_learning_rate", "soft_targets", "reliability"]
    content = document.of_report(study(), [*names, "training_curves"])
    found = {p.name: p for s in content.sections for p in s.parts if isinstance(p, Picture)}
    assert list(found) == [*names, "training_curves"]
    best = study().representatives[-1]
    assert f"{best.label}: {best.mean('errors'):.1f}" in found["errors_against_parameters"].alt
    assert "(n = 4)" in found["sweep_learning_rate"].caption
    assert "(n = 3 to 4)" in found["reliability"].caption
    assert f"{best.label}: {best.mean('ece'):.3f}" in found["reliability"].alt
    end = [100 * (1 - share) for share in study().curves[best.label]["validation_accuracy"][-1]]
    spread = f"{np.mean(end):.2f} ± {np.std(end, ddof=1):.2f} %"
    assert f"validation errors {spread}" in found["training_curves"].alt.split(best.label)[1]
    assert "on the validation split" in found["errors_against_parameters"].caption
    assert "teachers, T = 1; teachers, T = 4" in found["soft_targets"].caption
    assert titles(document.of_report(study(), names[:1]))[2] == "Errors against parameters"
    grid = [
        row("grid", [1, 2], {"temperature": t, "learning_rate": r}) for t in (1, 2) for r in (1, 2)
    ]
    both = dataclasses.replace(study(), rows=(*study().rows, *grid))  # a figure has no such stage
    [same] = parts(document.of_report(both, names[1:2]), "Sweeps")
    assert same == found["sweep_learning_rate"]
    some = dataclasses.replace(study(), rows=study().rows[:1])
    assert "(n = 3)" in document.of_report(some, names[:1]).sections[2].parts[0].caption
