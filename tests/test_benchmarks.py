"""The benchmarks' arithmetic and output; no assertion about speed."""

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
KEYS = {"name", "of", "ratio", "value", "unit", "n", "spread", "compile_seconds", "load"}


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


def test_what_is_done_once_is_apart_and_the_repeats_take_turns(capsys):
    clock = Clock()
    cases = [clock.case("a", [5.0, 0.5, 1.0, 1.5], units=10), clock.case("b", [0.4])]
    found = load("timing").measure(cases, 3, clock=clock)
    assert clock.log == ["a", "b", *["a", "b", "b"], *["b", "b", "a"], *["a", "b", "b"]]
    assert found["a"].seconds == pytest.approx((0.05, 0.1, 0.15))
    assert found["a"].median == pytest.approx(0.1)
    assert found["a"].compile_seconds == pytest.approx(4.0)  # of the first call's 5
    assert found["b"].compile_seconds == pytest.approx(0.0)
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["  a: first call 5.0 s", "  b: first call 0.4 s"]
    assert told[2] == "  round 1 of 3: 1.3 s" and len(told) == 5  # two calls of b


def test_what_is_done_once_counts_where_nothing_is_warmed_up():
    clock = Clock()
    found = load("timing").measure([clock.case("a", [5.0, 1.0])], 2, warm=False, clock=clock)
    assert found["a"].seconds == (5.0, 1.0) and found["a"].compile_seconds == 0.0


def test_a_repeat_goes_on_until_it_is_long_enough():
    timing, clock = load("timing"), Clock()
    found = timing.measure([clock.case("a", [0.125], units=5)], 2, clock=clock)
    calls = 4  # 0.5 s, the first multiple that is LEAST
    assert timing.LEAST == 0.5 and clock.log.count("a") == 1 + 2 * calls
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
    assert work.moved == 4 * (7 * parameters + others)  # the others are read backward too
    assert replace(work, optimizer="adamw").moved == 4 * (9 * parameters + others)


def machine_of(flop, byte):
    """Two repeats of a machine whose faster ways take so many seconds."""
    machine = load("machine")
    names = (*machine.PRODUCTS, *machine.PASSES)
    times = dict(zip(names, (2 * flop, flop, byte, 2 * byte), strict=True))
    return {name: timing_of(seconds, seconds) for name, seconds in times.items()}


def test_a_floor_is_operations_and_bytes_at_the_faster_rates_in_turn_or_at_once():
    machine, rates = load("machine"), machine_of(flop=1e-11, byte=2e-11)
    in_turn = machine.without_overlap(rates, flops=1e9, moved=1e8)
    assert in_turn.seconds == pytest.approx((0.012, 0.012))
    assert machine.with_overlap(rates, flops=1e9, moved=1e8).seconds == pytest.approx((0.01, 0.01))
    assert machine.with_overlap(rates, flops=1e7, moved=1e8).seconds == pytest.approx((2e-3, 2e-3))


def test_rows_over_the_machine_are_ratios_of_rates():
    rows, label = load("rows"), load("populations").label
    work = load("dense").LARGE[0]
    busy = work.least_flops * 1e-11
    seconds = busy + 0.002
    timings = machine_of(flop=1e-11, byte=1e-3 / work.moved)
    timings |= {label(10): timing_of(seconds, 2 * seconds), label(1): timing_of(1.0, 1.0)}
    matmul, usual, in_turn, at_once = rows.over_machine(work, timings, 10)
    share = busy / seconds
    assert matmul.ratio == pytest.approx(0.75 * share)  # between the share and its half
    assert matmul.spread == pytest.approx((share / 2, share))
    assert matmul.value == pytest.approx(work.least_flops / 1.5e9 / seconds)
    assert usual.ratio / matmul.ratio == pytest.approx(work.flops / work.least_flops)
    assert in_turn.ratio == pytest.approx(0.75 * (busy + 0.001) / seconds)
    assert at_once.ratio == pytest.approx(0.75 * busy / seconds)  # of which 0.001 is less
    assert "without overlap" in in_turn.name and "with overlap" in at_once.name
    (alone,) = rows.over_fewer(work, timings, 10, [1])
    assert alone.ratio == pytest.approx(0.75 / seconds) and alone.name.endswith("over M=1")


def test_a_peer_is_the_best_of_its_variants_and_a_headline_the_least_of_its_rows(monkeypatch):
    rows, label, large = load("rows"), load("populations").label, load("dense").LARGE
    monkeypatch.setattr(load("variants"), "CORES", 2)
    variants, found = load("variants").in_memory(large[0]), []
    assert [v.name for v in variants[3:]] == [
        "torch fused, threads=1 (one core)",
        "torch fused, threads=2",
        "torch fused, a process per core",
    ]
    assert [(v.threads, v.processes) for v in variants] == [(1, 1), (2, 1), (1, 2)] * 2
    for work, slowest in zip(large, (3.0, 2.0), strict=True):
        timings = {v.name: timing_of(9.0) for v in variants} | {label(10): timing_of(1.0)}
        timings[variants[5].name] = timing_of(slowest)
        found += rows.over_best("headline", variants, work, timings, 10)
        assert not rows.over_best("headline", variants, work, {label(10): timing_of(1.0)}, 10)
    assert [row.ratio for row in found] == [3.0, 2.0]
    (headline,) = rows.least("headline", found, ", adamw")
    assert headline.name == "headline, adamw" and headline.ratio == 2.0
    assert headline.of == "784-1200-1200-10 sgd B=100 M=10"
    assert rows.least("other", found) == []


def test_pytorch_jitters_by_windows_of_the_padded_image():
    torch = pytest.importorskip("torch")
    work = load("work").Work("photos", (4,), batch=2)
    torch.manual_seed(0)
    images = torch.rand(3, 36, 36, 3)
    batches = load("torch_loops").in_memory(work, images, torch.arange(3))
    places, seen = [(top, left) for top in range(5) for left in range(5)], set()
    for _ in range(40):
        for image, i in zip(*next(batches), strict=True):
            cuts = {(y, x): images[i, y : y + 32, x : x + 32] for y, x in places}
            (place,) = (p for p, cut in cuts.items() if torch.equal(cut, image))
            seen.add(place)
    assert len(seen) > 15  # of 25, in 80 draws


def test_a_figure_of_a_benchmarks_curves(tmp_path):
    session = load("session").Session(2, tmp_path)
    session.curve("net", "members", (1, 5, 50), [(1.0, 1.1), (0.9, 1.0), (0.8, 0.9)], "us")
    session.curve("net", "classes", (10, 20), [(1.0, 1.1), (0.9, 1.0)], "us")
    figures, path = load("figures"), tmp_path / "figures" / "growth.png"
    assert figures.write(session.curves, path) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    panels = figures.draw(session.curves).axes
    assert [panel.get_xlabel() for panel in panels] == ["members", "classes"]
    assert list(panels[0].lines[0].get_ydata()) == pytest.approx([1.05, 0.95, 0.85])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "smal"], "--only has 'smal'; it must be of dense, regularised"),
        (["--repeats", "0"], "--repeats is 0; it must be at least 1"),
        (["--against", "nowhere"], "--against is nowhere; it must be a checkout, with the folder"),
    ],
)
def test_wrong_flags_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        load("__main__").main(arguments)
    assert words in capsys.readouterr().err


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Two benchmarks of which one can fail; their rows, as a command leaves them in a file."""
    suite, row_of, path = load("suite"), load("timing").row_of, tmp_path / "found.json"

    def small(session):
        return [row_of("a", [2.0] * session.repeats, 3, "s", of="net"), row_of("b", [1.0], 3, "s")]

    def latency(session):
        if session.repeats > 3:
            raise KeyboardInterrupt
        session.curve("net", "members", (1, 5), [(1.0,), (2.0,)], "us")
        return [row_of("c", [1.0], 3, "s")]

    monkeypatch.setitem(suite.BENCHMARKS, "small", small)
    monkeypatch.setitem(suite.BENCHMARKS, "latency", latency)

    def run(*arguments):
        load("__main__").main([*arguments, "--json", str(path)])
        return json.loads(path.read_text())

    run.path = path
    return run


def test_from_flags_to_json(run, capsys):
    figures = run.path.parent / "figures"
    content = run("--only", "small", "latency", "--repeats", "2", "--figures", str(figures))
    assert set(content) == {"rows", "environment"}
    assert all(set(row) == KEYS and row["load"] > 0 for row in content["rows"])
    row = content["rows"][0]
    assert (row["name"], row["of"], row["ratio"], row["n"]) == ("a", "net", 2.0, 2)
    assert row["spread"] == [2.0, 2.0]
    environment = content["environment"]
    assert environment["devices"] == jax.device_count() and environment["cpus"] > 0
    assert {"jax", "torch"} <= set(environment["versions"])
    assert [path.name for path in figures.iterdir()] == ["latency.png"]
    tables = capsys.readouterr().out.split("\nheadlines\n")
    assert "| a (net) " in tables[0] and "| b " in tables[0]
    assert "| a (net) " in tables[1] and "| b " not in tables[1]


def test_a_table_is_filled_in_several_sittings_and_an_interruption_loses_nothing(run):
    run("--only", "small", "--repeats", "1")
    with pytest.raises(KeyboardInterrupt):
        run("--only", "small", "latency", "--repeats", "4")
    content = json.loads(run.path.read_text())
    assert [(row["name"], row["n"]) for row in content["rows"]] == [("a", 4), ("b", 1)]
    content = run("--only", "latency", "--repeats", "3")
    assert [(row["name"], row["n"]) for row in content["rows"]] == [("a", 4), ("b", 1), ("c", 1)]
    assert len(content["environment"]["commands"]) == 1  # pytest's own, each time
    assert run("--only") == content  # prints the table, and measures nothing


@pytest.mark.parametrize("kind", ["another file", "another machine", "no directory"])
def test_rows_that_do_not_belong_together_are_refused_at_the_start(kind, run):
    content = run("--only", "small")
    if kind == "another file":
        run.path.write_text('{"rows": [{"name": "a"}]}')
        words = "found.json, no file of this program's (.*); give another --json"
    elif kind == "another machine":
        content["environment"]["cpus"] = 1000
        run.path.write_text(json.dumps(content))
        words = "found.json, whose rows are of cpus 1000, here [0-9]+; give another --json"
    else:
        shutil.rmtree(run.path.parent)
        words = "found.json, in no directory; give another --json"
    before = run.path.read_text() if run.path.exists() else None
    with pytest.raises(SystemExit, match=f"error: --json is .*{words}"):
        run("--only", "small")
    assert before == (run.path.read_text() if run.path.exists() else None)


def test_pictures_are_the_jittered_images():
    pytest.importorskip("torch")
    import torch

    loops, work = load("torch_loops"), load("work").Work("images", (4,))
    images = torch.randint(256, (3, 28, 28, 1)) / 255
    padded = torch.nn.functional.pad(images, (0, 0, 2, 2, 2, 2))
    labels = torch.arange(3)
    arrays, pictures = (kind(work, padded, labels) for kind in (loops.Jittered, loops.Pictures))
    for i in range(3):
        torch.manual_seed(i)
        one, label = arrays[i]
        torch.manual_seed(i)
        other, same = pictures[i]
        torch.testing.assert_close(one, other)
        assert label == same == i and other.shape == (28, 28, 1)


def test_what_takes_long_is_run_by_name_alone():
    suite = load("suite")
    assert {*suite.BENCHMARKS} == {*suite.DEFAULT, *suite.LONG}
    assert not {*suite.DEFAULT} & {*suite.LONG}
