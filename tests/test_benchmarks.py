"""The benchmarks' arithmetic and output; no assertion about speed."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
KEYS = {"name", "ratio", "value", "unit", "n", "spread", "compile_seconds"}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


class Clock:
    """Time that passes only where a case says so."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def __call__(self):
        return self.now

    def case(self, name, seconds, units=1):
        """A case whose calls take these times in turn, then the last of them."""
        left = list(seconds)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return load("timing").Case(name, run, units)


def timing_of(*seconds):
    return load("timing").Timing(seconds)


def test_what_is_done_once_is_apart_and_the_repeats_take_turns():
    clock = Clock()
    cases = [clock.case("a", [5.0, 0.5, 1.0, 1.5], units=10), clock.case("b", [0.4])]
    found = load("timing").measure(cases, 3, clock=clock)
    assert clock.log == ["a", "b"] * 4
    assert found["a"].seconds == pytest.approx((0.05, 0.1, 0.15))
    assert found["a"].median == pytest.approx(0.1)
    assert found["a"].compile_seconds == pytest.approx(4.0)  # of the first call's 5
    assert found["b"].compile_seconds == pytest.approx(0.0)


def test_what_is_done_once_counts_where_nothing_is_warmed_up():
    clock = Clock()
    found = load("timing").measure([clock.case("a", [5.0, 1.0])], 2, warm=False, clock=clock)
    assert found["a"].seconds == (5.0, 1.0) and found["a"].compile_seconds == 0.0


def test_a_repeat_goes_on_until_it_is_long_enough():
    timing, clock = load("timing"), Clock()
    found = timing.measure([clock.case("a", [0.125], units=5)], 2, clock=clock)
    calls = 3  # 0.375 s, the first multiple above LEAST
    assert timing.LEAST == 0.3 and clock.log.count("a") == 1 + 2 * calls
    assert found["a"].seconds == pytest.approx((0.025, 0.025))


def test_a_ratio_is_the_median_of_the_pairs_and_more_is_faster():
    row = load("timing").row
    own, base = timing_of(1.0, 2.0, 10.0), timing_of(3.0, 4.0, 10.0)
    found = row("own over base", own, base, 7.0, "s")
    assert found.ratio == 2.0 and found.spread == (1.0, 3.0) and found.n == 3
    # Not the ratio of the medians, which is 2 / 4 here:
    assert row("", timing_of(1.0, 4.0, 5.0), timing_of(1.0, 8.0, 2.0), 0, "").ratio == 1.0
    assert row("", own, base, 0, "", scale=10.0).ratio == 20.0
    with pytest.raises(ValueError):
        row("", own, timing_of(1.0), 0, "")


def test_cases_of_one_name_are_refused():
    clock = Clock()
    with pytest.raises(ValueError, match="twice"):
        load("timing").measure([clock.case("a", [1.0]), clock.case("a", [1.0])], 1, clock=clock)


def test_the_best_has_the_least_median():
    steady, lucky = timing_of(2.0, 2.0, 2.0), timing_of(0.1, 3.0, 3.0)
    assert load("timing").best([lucky, steady]) is steady


def test_operations_and_bytes_of_a_step():
    work = load("work").Work("images", (800, 700))
    assert work.name == "784-800-700-10 sgd B=100"
    first, others = 784 * 800, 800 * 700 + 700 * 10
    assert work.flops == 6 * 100 * (first + others)
    assert work.least_flops == 4 * 100 * first + 6 * 100 * others
    parameters = first + others + 800 + 700 + 10
    assert work.moved == 4 * 8 * parameters
    assert replace(work, optimizer="adamw").moved == 4 * 10 * parameters


def machine_of(flop, byte):
    """Two repeats of a machine whose faster ways take so many seconds."""
    machine = load("machine")
    names = (*machine.PRODUCTS, *machine.PASSES)
    times = dict(zip(names, (2 * flop, flop, byte, 2 * byte), strict=True))
    return {name: timing_of(seconds, seconds) for name, seconds in times.items()}


def test_the_floor_is_operations_and_then_bytes_at_the_faster_rates():
    floor = load("machine").floor(machine_of(flop=1e-11, byte=2e-11), flops=1e9, moved=1e8)
    assert floor.seconds == pytest.approx((0.012, 0.012))


def test_rows_over_the_machine_are_ratios_of_rates():
    dense, label = load("dense"), load("populations").label
    work = dense.LARGE[0]
    seconds = work.flops * 1e-11 + 0.002
    timings = machine_of(flop=1e-11, byte=1e-3 / work.moved)
    timings |= {label(10): timing_of(seconds, 2 * seconds), label(1): timing_of(1.0, 1.0)}
    matmul, roofline, usual, alone = dense.over_machine(work, timings, 10)
    share = work.flops * 1e-11 / seconds
    assert matmul.ratio == pytest.approx(0.75 * share)  # between the share and its half
    assert matmul.spread == pytest.approx((share / 2, share))
    assert matmul.value == pytest.approx(work.flops / 1.5e9 / seconds)
    assert usual.ratio == pytest.approx(0.75 * (work.flops * 1e-11 + 0.001) / seconds)
    assert roofline.ratio == pytest.approx(0.75 * (work.least_flops * 1e-11 + 0.001) / seconds)
    assert alone.ratio == pytest.approx(0.75 / seconds) and alone.name.endswith("over M=1")


def test_a_peer_is_the_best_of_its_variants_and_a_headline_the_least_of_its_rows():
    dense, label = load("dense"), load("populations").label
    variants = load("variants").in_memory(dense.LARGE[0])
    rows = []
    for work, slowest in zip(dense.LARGE, (3.0, 2.0), strict=True):
        times = dict(zip((v.name for v in variants), (9.0, slowest, 8.0, 7.0), strict=False))
        timings = {name: timing_of(seconds) for name, seconds in times.items()}
        timings[label(10)] = timing_of(1.0)
        rows += dense.over_best("headline", variants, work, timings, 10)
        assert not dense.over_best("headline", variants, work, {label(10): timing_of(1.0)}, 10)
    assert [row.ratio for row in rows] == [3.0, 2.0]
    (headline,) = dense.least("headline", rows)
    assert headline.name == "headline" and headline.ratio == 2.0
    assert dense.least("other", rows) == []


def test_a_figure_for_each_unit_of_the_curves(tmp_path):
    session = load("session").Session(2, tmp_path)
    session.curve("net", "members", (1, 5, 50), [(1.0, 1.1), (0.9, 1.0), (0.8, 0.9)], "us")
    session.curve("net", "classes", (10, 20), [(1.0, 1.1), (0.9, 1.0)], "us")
    session.curve("memory", "members", (1, 5), [(1.0,), (2.0,)], "GiB")
    figures = load("figures")
    paths = figures.write(session.curves, tmp_path / "figures")
    assert [path.name for path in paths] == ["us.png", "GiB.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    panels = figures.draw(session.curves[:2]).axes
    assert [panel.get_xlabel() for panel in panels] == ["members", "classes"]
    assert list(panels[0].lines[0].get_ydata()) == pytest.approx([1.05, 0.95, 0.85])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--only", "smal"], "smal"), (["--repeats", "0"], "--repeats is 0; it must be at least 1")],
)
def test_wrong_flags_are_refused(arguments, words):
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2 and words in found.stderr and "Traceback" not in found.stderr


def test_from_flags_to_json(monkeypatch, capsys, tmp_path):
    suite, row_of = load("suite"), load("timing").row_of
    monkeypatch.setitem(
        suite.BENCHMARKS, "small", lambda s: [row_of("a", [2.0] * s.repeats, 3, "s")]
    )
    path = tmp_path / "found.json"
    load("__main__").main(["--only", "small", "--repeats", "2", "--json", str(path)])
    content = json.loads(path.read_text())
    assert set(content) == {"rows", "environment"}
    (row,) = content["rows"]
    assert set(row) == KEYS
    assert (row["name"], row["ratio"], row["spread"], row["n"]) == ("a", 2.0, [2.0, 2.0], 2)
    environment = content["environment"]
    assert environment["devices"] == jax.device_count() and environment["cores"] > 0
    assert {"jax", "torch"} <= set(environment["versions"])
    assert "| a " in capsys.readouterr().out
