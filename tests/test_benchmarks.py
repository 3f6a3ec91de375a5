"""The benchmarks' arithmetic and output; no assertion about speed."""

import importlib
import json
import os
import subprocess
import sys
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

    def case(self, name, seconds, units=1, compiling=0.0):
        """A case whose calls take these times in turn, then the last of them."""
        left = list(seconds)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        def compile():
            self.log.append(f"compile {name}")
            self.now += compiling

        return load("timing").Case(name, run, units, compile)


def timing_of(*seconds):
    return load("timing").Timing(seconds, 0.0)


def test_compiling_and_warming_up_are_apart_and_the_repeats_take_turns():
    timing, clock = load("timing"), Clock()
    cases = [
        clock.case("a", [5.0, 0.5, 1.0, 1.5], units=10, compiling=4.0),
        clock.case("b", [0.4]),
    ]
    found = timing.measure(cases, 3, clock)
    assert clock.log == ["compile a", "compile b"] + ["a", "b"] * 4
    assert found["a"].seconds == pytest.approx((0.05, 0.1, 0.15))
    assert found["a"].median == pytest.approx(0.1)
    assert (found["a"].compile_seconds, found["b"].compile_seconds) == (4.0, 0.0)


def test_a_repeat_goes_on_until_it_is_long_enough():
    timing, clock = load("timing"), Clock()
    found = timing.measure([clock.case("a", [0.125], units=5)], 2, clock)
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
        load("timing").measure([clock.case("a", [1.0]), clock.case("a", [1.0])], 1, clock)


def test_the_best_has_the_least_median():
    steady, lucky = timing_of(2.0, 2.0, 2.0), timing_of(0.1, 3.0, 3.0)
    assert load("timing").best([lucky, steady]) is steady


def test_flops_are_six_for_each_weight_and_example():
    populations = load("populations")
    net = populations.Net("images", (800, 800))
    assert net.name == "784-800-800-10"
    assert net.flops == 6 * 100 * (784 * 800 + 800 * 800 + 800 * 10)
    assert populations.Net("digits", (32, 32)).flops == 6 * 100 * (64 * 32 + 32 * 32 + 32 * 10)


def test_arithmetic_over_the_machine_is_a_ratio_of_rates():
    suite, machine = load("suite"), load("machine")
    timings = {
        machine.ONE: timing_of(1e-11, 1e-11),  # seconds per operation: 100 GFLOP/s
        machine.EACH: timing_of(0.5e-11, 0.5e-11),
        "sgd M=10 map": timing_of(suite.SMALL.flops / 50e9, suite.SMALL.flops / 100e9),
    }
    one, each, own = suite._over_machine(suite.SMALL, timings, timings)
    assert (one.ratio, each.ratio) == pytest.approx((0.5, 1.0))
    assert (one.value, each.value) == pytest.approx((100, 200))
    assert own.ratio == pytest.approx(0.375) and own.spread == pytest.approx((0.25, 0.5))


def test_headlines_of_the_large_nets():
    suite, machine = load("suite"), load("machine")
    session = suite.Session(2)
    timings = {machine.ONE: timing_of(1e-11, 1e-11), machine.EACH: timing_of(1e-11, 1e-11)}
    times = {
        "sgd M=1 map": 0.009,
        "sgd M=10 vmap": 0.008,
        "sgd M=10 map": 0.006,
        "adamw M=1 map": 0.012,
        "adamw M=10 vmap": 0.012,
        "adamw M=10 map": 0.010,
        "torch sgd, threads=2": 0.009,
        "torch sgd fused, threads=2": 0.012,
        "torch adamw, threads=2": 0.020,
        "torch adamw fused, threads=2": 0.015,
    }
    timings |= {name: timing_of(seconds, seconds) for name, seconds in times.items()}
    for net in suite.LARGE.values():
        session._measured[net] = timings
    rows = {row.name: row for row in suite.populations(session) + suite.torch(session)}
    for short, net in suite.LARGE.items():
        over_machine = net.flops * 1e-11 / 0.006
        assert rows[f"dense_step_vs_matmul_{short}"].ratio == pytest.approx(over_machine)
        assert rows[f"dense_step_vs_torch_best_{short}"].ratio == pytest.approx(1.5)
        own = rows[f"{net.name} adamw M=10 map over torch adamw"]
        assert own.ratio == pytest.approx(1.5) and own.value == pytest.approx(10_000)
        assert f"{net.name} adamw M=1 map over torch adamw" not in rows


@pytest.fixture
def tiny(monkeypatch):
    """Benchmarks of two and four members, whose times mean nothing."""
    suite = load("suite")
    monkeypatch.setattr(suite, "SMALL", load("populations").Net("digits", (4,)))
    monkeypatch.setattr(suite, "TEN", 2)
    monkeypatch.setattr(suite, "MORE", 4)
    monkeypatch.setattr(suite, "OPTIMIZERS", ("sgd",))
    monkeypatch.setattr(suite, "PLANS", ("map",))
    monkeypatch.setattr(load("peers"), "CORES", 1)
    monkeypatch.setattr(load("machine"), "SIZE", 32)
    monkeypatch.setattr(load("timing"), "LEAST", 0.001)


def run(capsys, path):
    load("__main__").main(["--only", "small", "--repeats", "1", "--json", str(path)])
    content = json.loads(path.read_text())
    assert set(content) == {"rows", "environment"}
    assert content["environment"]["devices"] == jax.device_count()
    assert content["environment"]["data"] == ["digits"]
    for row in content["rows"]:
        assert set(row) == KEYS and row["n"] == 1 and row["ratio"] > 0 and row["value"] > 0
        assert row["spread"] == [row["ratio"]] * 2
        assert row["unit"] in ("GFLOP/s", "us per member-step")
    printed = capsys.readouterr().out
    names = [row["name"] for row in content["rows"]]
    assert all(f"| {name} " in printed for name in names)
    return names, printed


def test_small_from_flags_to_json_without_torch(tiny, capsys, tmp_path, monkeypatch):
    load("populations").dataset("digits")  # SciPy stumbles over the next line
    monkeypatch.setitem(sys.modules, "torch", None)
    names, printed = run(capsys, tmp_path / "found.json")
    assert load("peers").ABSENT in printed
    assert "64-4-10 sgd M=2 map over matmul" in names
    assert not [name for name in names if "torch" in name]


def test_small_from_flags_to_json_with_torch(tiny, capsys, tmp_path):
    pytest.importorskip("torch")
    names, printed = run(capsys, tmp_path / "found.json")
    assert load("peers").ABSENT not in printed
    assert "small_population_vs_torch" in names
    assert "64-4-10 sgd M=4 map over torch sgd" in names
    assert len(set(names)) == len(names)


def test_images_without_mnist_are_random_and_said_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    populations = load("populations")
    monkeypatch.setattr(populations, "DATASETS", {})
    images = populations.dataset("images")
    assert images.name == populations.RANDOM and images.input_shape == (28, 28, 1)
    assert images.splits["train"].source.inputs.dtype == "uint8"


def test_the_plan_of_a_large_net_is_the_one_that_kdjax_chooses(monkeypatch):
    populations, suite = load("populations"), load("suite")
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    monkeypatch.setitem(populations.DATASETS, "images", populations._random())
    made = populations.set_up(suite.LARGE["800"], "adamw", 10)
    parameters = 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10
    assert made.layout.member_shards == 2
    assert made.state_bytes == pytest.approx(3 * 4 * 5 * parameters, rel=1e-4)
    assert made.chosen == "map"


def test_what_is_timed_has_been_compiled():
    populations = load("populations")
    case = populations.case(populations.Net("digits", (4,)), "adamw", 2, "map")
    case.compile()
    compiled = []
    listener = lambda name, seconds, **_: compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(listener)
    for _ in range(populations.CHUNKS + 1):
        case.run()
    jax.monitoring.unregister_event_duration_listener(listener)
    assert not [name for name in compiled if "compile" in name]


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
