"""The report's table: aligned, in human units, without what does not apply."""

import math
import re

import numpy as np
import pytest
from reports import BASELINE, STUDENT, a_report, cells, row, small

from kdjax import tables
from kdjax.report import table
from kdjax.statistics import summarise


def test_is_aligned_and_github_reads_it():
    lines = small().table().splitlines()
    bars = [[i for i, c in enumerate(line) if c == "|"] for line in lines]
    assert len(lines) == 2 + 6 and bars.count(bars[0]) == len(lines)
    assert re.fullmatch(r"\| :-{2,} \|( -{2,}: \|)+", lines[1])
    assert lines[2].startswith("| teachers              |") and f"| {'3':>6} |" in lines[2]
    assert all(len(set(map(len, column))) == 1 for column in zip(*cells(lines[1]), strict=True))


def test_reads_as_people_write():
    header, _, teachers, ensemble, baseline, distilled, sweep, _ = cells(small().table())
    assert header == [
        *("stage", "n", "errors", "accuracy", "nll", "ece", "agreement", "parameters", "seconds")
    ]
    assert teachers[:4] == ["teachers", "3", "24.0 ± 1.0", "96.99%"]
    assert teachers[6:] == ["-", "85,002", "3.5"]
    assert ensemble[:3] == ["teachers/ensemble", "1", "21"]
    assert baseline[:2] == ["baseline", "5"] and baseline[6] == "4.34%"
    assert distilled[2] == f"30.0 ± {np.std(STUDENT, ddof=1):.1f}"
    assert sweep[:3] == ["sweep temperature=4", "2 of 3", "32.0 ± 2.8"]


def test_drops_only_columns_that_apply_to_no_row():
    baseline, distilled = row("baseline", BASELINE), row("distilled", STUDENT, compared=True)
    for rows, shown in (((baseline,), False), ((baseline, distilled), True)):
        assert ("agreement" in cells(a_report(*rows).table())[0]) == shown
    without = row("baseline", BASELINE, latency_ms=math.nan)
    assert "latency ms" not in dict(table.columns([without], table.COSTS))


def test_a_stage_of_which_nothing_is_left_still_has_its_row():
    _, _, lost, _ = cells(a_report(row("a", [None, None]), row("b", [1, 2])).table())
    assert lost[:4] == ["a", "0 of 2", "-", "-"]


def test_a_terminal_of_100_columns_shows_every_name_and_number():
    long = {"temperature": 4.0, "learning_rate": 0.0125, "cross_entropy.weight": 0.3}
    rows = [row("distilled_from_many_teachers", [1234, 1567], long, compared=True)]
    rows += [row("teachers/ensemble", [21], parameters=1_255_006_000)]
    lines = repr(a_report(*rows)).splitlines()
    assert all(len(line) <= 100 for line in lines)
    numbers = ["2", "1400.5 ± 235.5", "-75.72%", "1.757", "1.757", "175.72%", "2,410", "3.5"]
    assert re.split(" {2,}", lines[2])[1:] == numbers
    names = [re.split(" {2,}", line.strip())[0] for line in lines[2 : lines.index("")]]
    assert "".join(names).replace(" ", "") == "".join(r.label.replace(" ", "") for r in rows)


def test_a_spread_is_in_one_format_and_one_net_has_none():
    assert tables.spread(summarise([1.0, 2.0]), ".2f") == "1.50 ± 0.71"
    assert tables.spread(summarise([0.5, 0.25]), ".1f", 100) == "37.5 ± 17.7"
    assert tables.spread(summarise([7, None]), ".1f") == "7.0"
    assert tables.spread(summarise([7]), ".1f", alone=".10g") == "7"
    assert tables.spread(summarise([None]), ".1f") == "-"


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (0.0, "0"),
        (950.0, "950"),
        (999.6, "1 k"),
        (4820.0, "4.82 k"),
        (3.14159e6, "3.14 M"),
        (999.9e6, "1 G"),
        (2.5e12, "2.5 T"),
        (None, "-"),
        (math.inf, "-"),
    ],
)
def test_units(flops, text):
    columns = dict(table.COSTS)
    assert columns["FLOPs per example"](row("a", [1], flops_per_example=flops)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.012345, "0.0123"), (12.34, "12.3"), (1234.5, "1,230")]
)
def test_three_digits(seconds, text):
    assert dict(table.COSTS)["seconds"](row("a", [1], seconds=seconds)) == text
