"""Every row that the benchmarks promise, from tiny settings whose times mean nothing."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Nets of a few units, on a few random images."""
    monkeypatch.syspath_prepend(ROOT)
    data_sets, dense, distillation = load("data_sets"), load("dense"), load("distillation")
    few = dict(steps=2, batch=8, examples=16, hidden=(4,))
    shrunk = {
        dense: dict(TEN=2, MORE=3, OPTIMIZERS=("sgd",), SMALL=replace(dense.SMALL, **few)),
        load("machine"): dict(SIZE=32, FLOATS=2**10),
        load("timing"): dict(LEAST=0.001),
        load("variants"): dict(CORES=1),
        load("teachers"): dict(TEACHERS=2),
        distillation: dict(STUDENTS=2, TEMPERATURES=(1.0, 2.0), SWEEPS=2, SWEEP_STEPS=2),
        data_sets: dict(KEPT={name: 40 for name in data_sets.KEPT}, EVALUATED=20),
    }
    shrunk[dense]["LARGE"] = (replace(dense.LARGE[0], **few),)
    for module, names in (
        (distillation, ["TEACHER", "STUDENT", "SMALL_TEACHER", "SMALL_STUDENT"]),
    ):
        shrunk[module] |= {name: replace(getattr(module, name), **few) for name in names}
    for module, settings in shrunk.items():
        for name, value in settings.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(data_sets, "DATASETS", {})
    for name in ("images", "photos"):
        data_sets.DATASETS[name] = data_sets._random(name)
    return few


def session(tmp_path):
    return load("session").Session(1, tmp_path)


def check(rows, *names):
    """These rows are there, each name once, and all are numbers."""
    found = [row.name for row in rows]
    assert len(set(found)) == len(found) and set(names) <= set(found)
    for row in rows:
        assert row.n == 1 and 0 < row.ratio < float("inf") and 0 < row.value < float("inf")
        assert row.spread == (row.ratio, row.ratio)
    return found


def test_dense_with_torch(tmp_path):
    pytest.importorskip("torch")
    found = check(
        load("dense").dense(session(tmp_path)),
        "dense_epoch_vs_matmul",
        "dense_epoch_vs_roofline",
        "dense_epoch_vs_torch_best",
        "dense_epoch_vs_torch_loader",
        "stream, one device",
    )
    for peer in ("torch fused, threads=1", "torch DataLoader, workers=1", "torch.func M=2"):
        assert f"784-4-10 sgd B=8 M=2 over {peer}" in found
    for peer in ("JAX without scan M=2", "JAX loop over members M=2", "M=1"):
        assert f"784-4-10 sgd B=8 M=2 over {peer}" in found


def test_small_with_torch(tmp_path):
    pytest.importorskip("torch")
    check(load("dense").small(session(tmp_path)), "small_population_vs_torch")


def test_regularised_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = check(load("dense").regularised(session(tmp_path)))
    assert "dense_epoch_vs_matmul 784-4-10 sgd B=8 regularised M=2" in found
    assert load("peers").missing() == load("peers").ABSENT
    assert not [name for name in found if "torch" in name]


def test_torch_does_regularised_work_and_says_what_fails(tiny):
    pytest.importorskip("torch")
    variants, peers, work = load("variants"), load("peers"), load("work")
    regularised = work.Work("images", **tiny, optimizer="adamw", regularised=True)
    loop = variants.in_memory(regularised)[-1]
    with peers.cases(regularised, [loop, replace(loop, name="none", workers=-1)]) as (good, bad):
        assert (good.name, good.units) == ("torch fused, threads=1", 2)
        good.run()
        with pytest.raises(RuntimeError, match=r"PyTorch: ValueError.*num_workers"):
            bad.run()
        good.run()


def test_convolutional(tmp_path, tiny, monkeypatch):
    convolutions = load("convolutions")
    monkeypatch.setattr(convolutions, "TEN", 2)
    net = replace(convolutions.NET, **tiny, channels=(2,))
    monkeypatch.setattr(convolutions, "NET", net)
    found = check(convolutions.convolutional(session(tmp_path)), "conv_m10_vs_m1")
    if not load("peers").missing():
        assert "conv_member_vs_torch" in found
        assert f"{net.name} M=2 over torch channels_last, threads=1" in found


def test_distillation(tmp_path):
    distillation, given = load("distillation"), session(tmp_path)
    check(distillation.targets(given), "cached_vs_live_teacher")
    check(distillation.latency(given), "student_vs_ensemble_latency")


def test_sweep(tmp_path):
    (row,) = load("distillation").sweep(session(tmp_path))
    check([row], "sweep40_vs_runs")
    assert row.unit == "s per student"


def test_growth(tmp_path, tiny, monkeypatch):
    growth, timing, given = load("growth"), load("timing"), session(tmp_path)
    for name in ("STUDENT", "TEACHER"):
        monkeypatch.setattr(growth, name, replace(getattr(growth, name), **tiny))
    monkeypatch.setattr(growth, "BASE", dict(members=2, classes=10, examples=16))
    case = growth._case(given, "classes", 20)
    case.run()
    assert (case.name, case.units) == ("20", 2 * 2)
    twice = lambda cases, n: {"1": timing.Timing((1.0,)), "2": timing.Timing((2.0,))}
    monkeypatch.setattr(growth, "measure", twice)
    monkeypatch.setattr(growth, "_case", lambda *arguments: None)
    monkeypatch.setattr(growth, "SIZES", dict.fromkeys(("members", "classes", "examples"), (1, 2)))
    rows = growth.growth(given)
    check(rows)
    assert [row.ratio for row in rows] == [0.5, 1.0, 0.5]  # classes may cost in proportion
    assert [curve.values for curve in given.curves] == [((1e6,), (2e6,))] * 3


def test_processes(tmp_path, monkeypatch):
    """The rows of start-up and memory, from one real process and its figures."""
    processes, given = load("processes"), session(tmp_path)
    fields = {"members.seed": 1, "model.hidden": "(4,)", "batch": 8}
    real = processes.command(given, tmp_path / "cache", fields)
    assert 0 < real.ready < real.first_step and 50e6 < real.peak < 5e9
    assert (tmp_path / "cache" / "kdjax").is_dir()  # where the warm start finds the programs
    half = processes.Process(real.ready / 2, real.first_step / 2, real.peak)
    runs = iter([real, half])
    monkeypatch.setattr(processes, "command", lambda *arguments: next(runs))
    rows = {row.name: row for row in processes.start_up(given)}
    check(rows.values(), "warm_start_seconds", "kdjax imported, over JAX alone")
    warm, cold = rows["warm_start_seconds"], rows["cold start, over warm"]
    assert warm.ratio == pytest.approx(2) and cold.ratio == pytest.approx(0.5)
    assert warm.value == half.first_step and cold.value == real.first_step
    monkeypatch.setattr(processes, "command", lambda *arguments: real)
    monkeypatch.setattr(processes, "MEMBERS", (10,))
    monkeypatch.setattr(processes, "NET", replace(processes.NET, examples=16))
    (memory,) = processes.memory(given)
    check([memory], "peak_memory_gib")
    state = 3 * 4 * 10 * (784 * 1200 + 1200 * 1200 + 1200 * 10 + 2410)
    assert memory.value == pytest.approx(real.peak / 2**30)
    assert memory.ratio == pytest.approx((state + 80 * 784) / real.peak, rel=1e-4)
    assert given.curves[0].sizes == (10,)


def test_a_failed_process_says_why():
    with pytest.raises(RuntimeError, match="NameError: name 'nonsense' is not defined"):
        load("processes").run(["-c", "nonsense"], {})


def test_images_without_mnist_are_random_and_said_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data_sets = load("data_sets")
    monkeypatch.setattr(data_sets, "DATASETS", {})
    images = data_sets.dataset("images")
    assert images.name == "random images of the shape of mnist"
    assert images.splits["train"].source.inputs.shape == (40, 28, 28, 1)
    assert data_sets.on_disk("images", tmp_path) == str(tmp_path / "images.npz")


def test_what_is_timed_has_been_compiled(tiny):
    populations, work = load("populations"), load("work")
    case = populations.of_work(work.Work("digits", **tiny), 2)
    case.run()
    compiled = []
    listener = lambda name, seconds, **_: compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(listener)
    for _ in range(3):
        case.run()
    jax.monitoring.unregister_event_duration_listener(listener)
    assert case.units == 2 * 2 and not [name for name in compiled if "compile" in name]
