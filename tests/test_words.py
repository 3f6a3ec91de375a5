"""What a report says in words: findings with verdict and size, and nets that did not learn."""

import dataclasses

import pytest
from reports import BASELINE, STUDENT, a_report, row, small

from kdjax.report import words

TEACHERS = row("teachers", [17, 18], parameters=85_002)


def finding(*rows, **fields):
    [line] = words.findings(a_report(*rows, **fields))
    return line


def test_a_finding_says_how_many_errors_are_saved_how_surely_and_at_what_size():
    rows = row("baseline", [27, 28, 27, 29, 27]), row("distilled", [24, 23, 25, 24, 24])
    assert finding(TEACHERS, *rows) == (
        "distilled: 3.6 ± 0.5 fewer errors than baseline (27.6), 35 times smaller than one "
        "teacher: better"
    )
    assert finding(*rows[::-1]).endswith("fewer errors than baseline (27.6): better")
    worse = finding(row("baseline", [20, 21, 20]), rows[1])
    assert worse == "distilled: 3.7 ± 0.5 more errors than baseline (20.3): worse"


def test_a_difference_within_its_error_is_not_told_apart():
    close = finding(row("baseline", [27, 33, 30]), row("distilled", [26, 33, 28]))
    assert close == "distilled: 1.0 ± 2.7 fewer errors than baseline (30.0): not told apart"
    one = finding(row("baseline", [27]), row("distilled", [20]))
    assert one == "distilled: 7.0 fewer errors than baseline (27): not told apart"


def test_without_a_baseline_a_student_is_compared_with_its_teachers():
    together = row("teachers/ensemble", [16], parameters=850_020)
    text = finding(TEACHERS, together, row("distilled", [24, 25, 23]))
    assert text.startswith(
        "distilled: 8.0 ± 0.6 more errors than teachers/ensemble (16), 35 times "
    )
    elsewhere = finding(together, row("distilled", [24, 25, 23]), teachers={"distilled": ()})
    assert elsewhere.endswith(", 350 times smaller than its teachers together: worse")
    assert words.findings(a_report(row("distilled", STUDENT))) == []
    assert words.findings(a_report(row("baseline", BASELINE))) == []


@pytest.mark.parametrize(
    ("parameters", "text"),
    [(2_500, ", as large as one teacher:"), (241, ", 10 times larger than one teacher:")],
)
def test_a_size_may_be_any(parameters, text):
    teachers = row("teachers", [17, 18], parameters=parameters)
    assert text in finding(teachers, row("baseline", BASELINE), row("distilled", STUDENT))


def test_teachers_of_several_sizes_are_compared_with_together():
    both = row("a", [1, 2], parameters=10_000), row("b", [1, 2], parameters=50_000)
    rows = *both, row("a+b/ensemble", [1], parameters=120_000), row("distilled", STUDENT)
    named = dict(teachers={"distilled": ("a", "b")}, ensembles={"distilled": "a+b/ensemble"})
    assert "50 times smaller than its teachers together" in finding(*rows, **named)


def test_warnings_count_the_members_that_have_not_learned_and_say_what_to_try():
    optimizer = dict(optimizer=dict(learning_rate=0.01), steps=100)
    stages = {
        "teachers": optimizer | {"members": [["seed", [0, 1]]]},
        "distilled": optimizer | {"members": [["learning_rate", [1, 2]], ["seed", [0]]]},
    }
    config = {"dataset": {"normalize": "unit"}, "stages": stages}
    bad, good = row("teachers", [715, 30], unlearned=1), row("distilled", STUDENT)
    first, then = words.warnings(a_report(bad, good, config=config))
    assert first == (
        "WARNING: teachers: 1 of 2 members are no better than guessing (372.5 ± 484.4 of 797 "
        "wrong; always naming the most frequent class gets 714 wrong)"
    )
    assert then == (
        "Such nets have learned next to nothing. Try --config.stages.teachers.optimizer."
        "learning_rate=0.001, or --config.dataset.normalize=standard, or "
        "--config.stages.teachers.steps=200, in a new --workdir."
    )
    alone = a_report(row("distilled", [715], unlearned=1), config=config)
    assert words.warnings(alone)[0].startswith("WARNING: distilled: it is no better than gues")
    assert "learning_rate" not in words.warnings(alone)[1]  # the grid has several
    standard = config | {"dataset": {"normalize": "standard"}}
    assert "normalize" not in words.warnings(dataclasses.replace(alone, config=standard))[1]
    assert words.warnings(small()) == []


def test_a_terminal_ends_with_the_finding_and_then_the_warnings():
    bad = dataclasses.replace(small(), rows=(*small().rows, row("lost", [715], unlearned=1)))
    lines = words.terminal(bad).splitlines()
    assert all(len(line) <= 100 for line in lines)
    parts = [part.replace("\n ", "") for part in words.terminal(bad).split("\n\n")]
    assert parts[2].splitlines() == words.findings(bad)
    assert parts[3].splitlines() == words.warnings(bad) and len(parts) == 4
