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
    assert list(said(small())) == ["Finding", "Results", "Differences", "Costs", "Run"]
    assert list(said(a_report(row("a", [None, None])))) == ["Results", "Costs", "Run"]


def test_the_report_begins_with_the_finding():
    text = page.markdown(small(), ())
    assert text.startswith(
        "# digits, test split\n\n## Finding\n\ndistilled: 4.6 ± 2.2 fewer errors"
    )
    titled = page.markdown(dataclasses.replace(small(), name="ensemble_to_one"), ())
    assert titled.startswith("# ensemble_to_one: digits, test split\n")


def test_nets_at_chance_are_shouted_before_everything():
    chance = row("distilled", [717, 720], unlearned=1)
    text = page.markdown(a_report(chance, row("baseline", [30, 31])), ())
    first, then = text.split("\n\n")[1:3]
    assert first == (
        "**WARNING: distilled: 1 of 2 members are no better than guessing (718.5 ± 2.1 of 797 "
        "wrong; always naming the most frequent class gets 714 wrong)**"
    )
    assert then.startswith("**Such nets have learned next to nothing. Try ")
    assert '<div class="warning" role="alert">' in page.html(a_report(chance), {})
    assert "WARNING" not in page.markdown(small(), ())


def test_errors_by_class_are_means_with_the_worst_class_first():
    counts, names = (10, 20, 40), ("cat", "dog", "a | b")
    errors = {"baseline": [[1, 2, 9], [3, 2, 12]], "distilled": [[1, 0, 3], [0, 0, 4]]}
    given = dict(class_counts=counts, class_names=names, class_errors=errors)
    rows = row("baseline", [12, 17]), row("distilled", [4, 4])
    found = table(said(a_report(*rows, **given))["Errors by class"].replace("a \\| b", "a or b"))
    assert found == {
        "class": ["a or b", "cat", "dog"],  # 14, 12.5 and 2 of 40, 10 and 20
        "examples": ["40", "10", "20"],
        "baseline": ["10.5", "2.0", "2.0"],
        "distilled": ["3.5", "0.5", "0.0"],
    }
    many = dict(class_counts=(2,) * 30, class_names=tuple(map(str, range(30))))
    many["class_errors"] = {"a": [[0] * 29 + [1]]}
    text = said(a_report(row("a", [1]), **many))["Errors by class"]
    assert "of the classes with the highest error rates" in text and len(table(text)["class"]) == 20
    assert table(text)["class"][0] == "29"


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
    scaled = dataclasses.replace(small(), config={"dataset": {"normalize": "standard"}})
    assert facts(scaled)["data set"].endswith("797 test examples, inputs normalized: standard")
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
    assert found["n"][4] == "2 of 3" and found["agreement %"][0] == "-"
    assert table(said(small())["Costs"])["parameters"][1] == "255,006"


def test_differences_are_from_the_first_stage_that_only_labels_taught():
    found = table(said(small())["Differences"])
    names = ["teachers", "baseline", "distilled", "sweep temperature=4", "sweep temperature=0.5"]
    assert found["stage"] == names
    gap = small().difference("distilled", "baseline")
    text = f"{-gap['mean']:+.1f} ± {gap['standard_error']:.1f}, not told apart"
    assert found["fewer errors than baseline"][1:3] == ["-", text]
    assert found["fewer errors than baseline"][0].startswith("+10.6 ± 1.7, better")
    gap = small().difference("distilled", "teachers/ensemble")
    text = f"{-gap['mean']:+.1f} ± {gap['standard_error']:.1f}, worse"
    assert found["fewer errors than teachers/ensemble"][2] == text
    assert found["fewer errors than teachers/ensemble"][0] == "-"  # they are that ensemble


def test_differences_are_from_the_best_cell_of_a_grid():
    errors = {1e-3: [40, 41], 1e-2: [30, 32], 1e-1: [50, 60]}
    grid = [row("baseline", e, {"learning_rate": rate}) for rate, e in errors.items()]
    found = table(said(a_report(*grid, row("distilled", STUDENT)))["Differences"])
    assert found["stage"] == [*(each.label for each in grid), "distilled"]
    column = found[f"fewer errors than {grid[1].label}"]
    assert [cell.split(" ")[0] for cell in column[:3]] == ["-9.5", "-", "-24.0"]


def test_ways_to_teach_are_compared_with_plain_distillation_by_pairs():
    """By pairs of seeds, each verdict as one of several (Holm)."""
    ways = {"plain": BASELINE, "better": [b - 3 for b in BASELINE], "like": [*reversed(BASELINE)]}
    ways["better"][0] += 1
    rows = [row(name, errors) for name, errors in ways.items()]
    terms = dict(plain=["kl_divergence", "cross_entropy"], better=["dkd"], like=["dist"])
    stages = {
        name: {"objective": [{"source": source} for source in sources]}
        for name, sources in terms.items()
    }
    given = dataclasses.replace(
        a_report(row("labels", STUDENT), *rows), taught=frozenset(terms), config={"stages": stages}
    )
    assert given.plain is given.row("plain")
    differences = table(said(given)["Differences"])
    gap = given.difference("better", "labels", paired=True)
    text = f"{-gap['mean']:+.1f} ± {gap['standard_error']:.1f}"
    assert differences["fewer errors than labels"][2].startswith(text)
    found = differences["fewer errors than plain"]
    gaps = np.subtract(BASELINE, ways["better"])
    error = gaps.std(ddof=1) / np.sqrt(len(gaps))
    assert found[:3] == ["-", "-", f"{gaps.mean():+.1f} ± {error:.1f}, better"]
    assert found[3].endswith("not told apart")
    stages["other"] = {"numbers_from": "plain", "objective": []}
    chosen = dataclasses.replace(given, config={"stages": stages})
    assert "plain" not in {row.stage for row in chosen.representatives}


def test_one_member_tells_no_difference():
    found = table(said(a_report(row("baseline", [24]), row("distilled", STUDENT)))["Differences"])
    assert found["fewer errors than baseline"] == ["-", "-6.0, not told apart"]


@pytest.mark.parametrize(
    "rows",
    [
        [row("teachers", [24, 25]), row("teachers/ensemble", [21])],
        [row("distilled", STUDENT), row("sweep", BASELINE)],
        [row("baseline", BASELINE)],
        [row("baseline", BASELINE), row("distilled", [None, None])],
    ],
)
def test_no_differences_without_a_stage_to_compare_with(rows):
    assert "Differences" not in said(a_report(*rows))


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
