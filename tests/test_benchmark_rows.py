"""Every row that the benchmarks promise: tiny settings run for once, their times made up."""

import itertools
import sys
from dataclasses import replace

import jax
import pytest
from tiny_benchmarks import check, load, named, session, shrink

import kdjax


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    return shrink(monkeypatch)


@pytest.fixture
def measured(monkeypatch):
    """measured(module, seconds, run): the module's cases take these seconds for a unit, or 1, and
    those that `run` names are really run, once. Returns the names of all, as they come."""

    def measured(module, seconds, run=lambda name: False):
        names = []

        def measure(cases, repeats, warm=True):
            for case in cases:
                assert case.units > 0
                if run(case.name):
                    case.run()
            names.extend(case.name for case in cases)
            make = load("timing").Timing
            return {case.name: make((seconds.get(case.name, 1.0),)) for case in cases}

        monkeypatch.setattr(load(module), "measure", measure)
        return names

    return measured


@pytest.fixture
def no_torch(monkeypatch):
    """PyTorch's cases have their names, and no process."""
    load("peers")
    monkeypatch.setattr(load("peers"), "cases", named)


@pytest.fixture
def no_training(monkeypatch):
    """kdjax's cases have their names, and no population."""
    populations = load("populations")

    def of_work(work, members, plan="auto"):
        return load("timing").Case(populations.label(members, plan), None, members * work.steps)

    monkeypatch.setattr(populations, "of_work", of_work)


@pytest.mark.slow
def test_what_trains_large_nets_runs(tmp_path, measured, no_torch, monkeypatch):
    monkeypatch.setattr(load("dense"), "LARGE", load("dense").LARGE[:1])
    measured("dense", {}, run=lambda name: not name.startswith("torch"))
    load("dense").others(session(tmp_path))
    measured("saving", {}, run=lambda name: name == "with")
    (row,) = load("saving").checkpoint(session(tmp_path))
    assert row.name.endswith("M=2, a checkpoint every 16 examples over none")
    assert (tmp_path / "saving" / "checkpoints" / "2").is_dir()


def test_rows_of_large_nets(tmp_path, measured, no_torch, no_training):
    names = ["vs_matmul", "vs_roofline", "vs_torch_best", "vs_torch_loader"]
    names = [f"dense_epoch_{name}" for name in names]
    once = "torch fused, threads=1 (one core)"
    order = measured(
        "dense", {"kdjax M=2": 0.5, once: 0.8, "torch DataLoader, workers=0, threads=1": 0.9}
    )
    dense = load("dense")
    found = check(dense.dense(session(tmp_path)), *names)
    assert order[:4] == [
        "matmul, one device",
        "matmul, every device its own",
        "kdjax M=2",
        "torch, threads=1 (one core)",
    ]
    assert found[names[2]].ratio == pytest.approx(1.6) and found[names[3]].ratio == pytest.approx(
        1.8
    )
    assert found[names[2]].of == "784-4-10 sgd B=8 M=2"
    for net in ("784-4-10", "784-5-10"):
        assert f"dense_epoch_vs_matmul {net} sgd B=8 M=2" in found
        assert found[f"{net} sgd B=8 M=2 over M=1"].ratio == 2.0
    for kind in ("regularised", "adamw"):
        of_kind = [f"{name}, {kind}" for name in names[:3]]
        found = check(getattr(dense, kind)(session(tmp_path)), *of_kind)
        assert kind in found[of_kind[0]].of
    measured("dense", {"kdjax M=2": 0.5})
    found = check(dense.others(session(tmp_path)))
    for peer in ("torch.func", "JAX without scan", "JAX loop over members"):
        assert found[f"784-5-10 sgd B=8 M=2 over {peer} M=2"].ratio == 2.0
    assert found["stream, one device"].unit == "GB/s"


def test_rows_of_small_nets_and_plans(tmp_path, measured, no_torch, no_training):
    measured("dense", {"kdjax M=3": 0.5, "kdjax M=2 map": 2.0})
    dense = load("dense")
    found = check(dense.small(session(tmp_path)), "small_population_vs_torch")
    assert found["small_population_vs_torch"].ratio == 2.0
    assert found["64-4-10 adamw B=8 M=3 over M=2"].ratio == 2.0
    (plan,) = check(dense.plans(session(tmp_path))).values()
    assert plan.name.endswith("vmap over map") and plan.ratio == 2.0


def test_rows_of_an_accelerator(tmp_path, measured, no_training, monkeypatch):
    dense = load("dense")
    for name, value in dict(TEN=2, MORE=3, BATCHES=(8, 16), WHOLE=16).items():
        monkeypatch.setattr(dense, name, value)
    measured("dense", {"kdjax M=3": 0.5})
    found = check(dense.accelerator(session(tmp_path)))
    for name in ("sgd B=8", "adamw B=8", "sgd B=16 regularised"):
        name = f"dense_epoch_vs_matmul 784-5-10 {name}"
        two, three = (found[f"{name} M={members}, whole epochs"] for members in (2, 3))
        assert three.ratio == pytest.approx(2 * two.ratio)
    assert found["matmul, one device"].unit == "GFLOP/s"


def test_rows_without_torch(tmp_path, measured, no_training, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    measured("dense", {})
    found = check(
        load("dense").dense(session(tmp_path)), "dense_epoch_vs_matmul", "dense_epoch_vs_roofline"
    )
    assert load("peers").missing() == load("peers").ABSENT
    assert not [name for name in found if "torch" in name]


def test_torch_does_regularised_work_in_every_process_and_says_what_fails(tiny):
    pytest.importorskip("torch")
    variants, peers, work = load("variants"), load("peers"), load("work")
    regularised = work.Work("images", **tiny, optimizer="adamw", regularised=True)
    loop = replace(variants.in_memory(regularised)[-1], processes=2)
    bad = replace(loop, name="none", workers=-1)
    *_, pictures, arrays = variants.loaders()
    tasks = [loop, bad, variants.ensemble(2), pictures, arrays]
    with peers.cases(regularised, tasks) as (good, bad, stacked, *loaders):
        assert good.units == 2 * 2 and stacked.units == 2 * 2  # steps by processes, by members
        good.run()
        stacked.run()
        for loader in loaders:
            loader.run()
        with pytest.raises(RuntimeError, match=r"PyTorch: ValueError.*num_workers"):
            bad.run()
        good.run()


def test_convolutional(tmp_path, measured, no_torch):
    seconds = {"kdjax M=2": 0.5, "torch channels_last, threads=1 (one core)": 0.8}
    measured("convolutions", seconds, run=lambda name: name == "kdjax M=2")
    names = ["conv_m10_vs_m1", "conv_member_vs_torch"]
    found = check(load("convolutions").convolutional(session(tmp_path)), *names)
    assert found["conv_m10_vs_m1"].ratio == 2.0 and found["conv_m10_vs_m1"].value == 0.5e6
    assert found["conv_member_vs_torch"].ratio == pytest.approx(1.6)


def test_torch_trains_convolutions_in_both_memory_formats():
    torch = pytest.importorskip("torch")
    work = load("convolutions").NET
    split = torch.rand(16, 36, 36, 3), torch.arange(16) % 10
    for variant in load("variants").in_memory(work):
        load("torch_loops").make(variant, work, split, split)()


@pytest.mark.slow
def test_cached_and_live_targets(tmp_path, measured):
    distillation = load("distillation")
    measured(
        "distillation",
        {"cached": 0.5},
        run=lambda name: name in ("cached", "live on jittered views"),
    )
    targets = check(distillation.targets(session(tmp_path)), "cached_vs_live_teacher")
    assert targets["cached_vs_live_teacher"].ratio == 2.0
    assert targets["784-4-10 sgd B=8 M=2 K=2 cached over labels"].ratio == 2.0


@pytest.mark.slow
def test_rows_of_serving(tmp_path, measured, monkeypatch):
    serving, here = load("serving"), session(tmp_path)
    measured("serving", {"student": 0.1}, run=lambda name: True)
    name = "student_vs_ensemble_latency"
    latency = check(serving.latency(here), name)
    assert latency[name].ratio == latency[f"{name}, 100 examples"].ratio == pytest.approx(10)
    assert (latency[name].value, latency[name].unit) == (pytest.approx(100), "ms")
    times = itertools.cycle((1e-3, 5e-3, 3e-3))
    monkeypatch.setattr(serving, "CALLS", 3)
    monkeypatch.setattr(serving, "_seconds", lambda call: next(times))
    predict = check(serving.predict(here), "predict_vs_jitted_net")
    assert predict["predict_vs_jitted_net"].value == pytest.approx(3e3)  # the median, in us
    assert f"predict_vs_jitted_net {serving.SMALL.name} M=2" in predict
    forms = {row.name: row.value for row in serving.exported(here)}
    assert forms.keys() == {
        f"export_vs_predict {form}{examples}"
        for form in ("stablehlo", "onnx")
        for examples in ("", ", 100 examples")
    }


def test_predict_is_compared_with_the_same_logits(tmp_path):
    serving, populations, data = load("serving"), load("populations"), load("data_sets")
    images = data.dataset("digits")
    stage = kdjax.open_stage(populations.finished(session(tmp_path), serving.SMALL, images, 2))
    inputs = images.arrays("test")[0]
    expected = serving.jitted(stage, serving.SMALL)(inputs)
    assert expected.shape == (2, len(inputs), 10)
    assert stage.predict(inputs) == pytest.approx(expected, abs=1e-5)


def test_sweep(tmp_path, measured, monkeypatch):
    """Forty students in one stage, against stages of one, each time other ones."""
    distillation, populations, trained = load("distillation"), load("populations"), []

    def finish(stage, data, directory):
        config = populations.config
        spec = config.parse(config.experiment(stages={populations.STAGE: stage}))
        (stage,) = spec.stages
        trained.append(dict(stage.members)["temperature"])

    monkeypatch.setattr(populations, "finish", finish)
    monkeypatch.setattr(distillation, "finished", lambda *arguments: str(tmp_path))
    measured("distillation", {"sweep": 0.5}, run=lambda name: True)
    found = check(distillation.sweep(session(tmp_path)), "sweep40_vs_runs")
    row = found["sweep40_vs_runs"]
    assert (row.ratio, row.value, row.unit) == (2.0, 0.5, "s per student")
    assert trained == [(1.0, 2.0, 3.0), (1.0,), (2.0,)]


def test_growth(tmp_path, measured, monkeypatch):
    growth, populations, given = load("growth"), load("populations"), session(tmp_path)
    monkeypatch.setattr(growth, "finished", lambda s, work, data, members: f"of/{data.classes}")

    def set_up(stage, data):
        config = populations.config
        (stage,) = config.parse(config.experiment(stages={populations.STAGE: stage})).stages
        assert stage.teacher == (f"of/{data.classes}",) and stage.teacher_logits == "cached"
        return len(dict(stage.members)["seed"]), data.classes, stage.subset.size

    monkeypatch.setattr(populations, "set_up", set_up)
    monkeypatch.setattr(populations, "case", lambda name, found, validate: (name, found))
    sizes = [
        growth._case(given, *size) for size in (("members", 2), ("classes", 20), ("examples", 8))
    ]
    assert sizes == [("2", (2, 10, 3_000)), ("20", (10, 20, 3_000)), ("8", (10, 10, 8))]
    named = lambda session, axis, size: load("timing").Case(str(size), None, 1)
    monkeypatch.setattr(growth, "_case", named)
    monkeypatch.setattr(
        growth, "SIZES", dict(members=(1, 2, 4), classes=(10, 20), examples=(8, 16))
    )
    monkeypatch.setattr(growth, "FIRST", dict(members=2, classes=10, examples=8))
    measured("growth", {"1": 4.0, "4": 0.5, "20": 2.0})
    found = check(growth.growth(given))
    assert [row.ratio for row in found.values()] == [
        0.25,
        2.0,
        1.0,
        1.0,
    ]  # in proportion to classes
    assert next(iter(found)) == "members: 1 over 2, if in proportion"
    assert given.curves[0].values == ((4e6,), (1e6,), (0.5e6,))


@pytest.mark.slow
def test_processes(tmp_path, monkeypatch):
    """The rows of start-up and memory, from one real process and its figures."""
    processes, given = load("processes"), session(tmp_path)
    fields = {"members.seed": 1, "model.hidden": "(4,)", "batch": 8}
    real = processes.command(given, tmp_path / "cache", fields)
    assert 0 < real.ready < real.first_step and 50e6 < real.peak < 5e9
    assert (tmp_path / "cache" / "kdjax").is_dir()  # where the warm start finds the programs
    half = processes.Process(real.ready / 2, real.first_step / 2, real.peak // 2)
    runs = iter([real, half])
    monkeypatch.setattr(processes, "command", lambda *arguments: next(runs))
    monkeypatch.setattr(processes, "run", lambda *arguments: processes.Ran(0.0, 1.0, 0, ""))
    rows = check(processes.start_up(given), "warm_start_seconds")
    warm, cold = rows["warm_start_seconds"], rows["cold start, over warm"]
    assert warm.ratio == pytest.approx(2) and cold.ratio == pytest.approx(0.5)
    assert warm.value == half.first_step and cold.value == real.first_step
    caches, runs = [], iter([half, real])
    monkeypatch.setattr(
        processes, "command", lambda s, cache, f: caches.append(cache) or next(runs)
    )
    monkeypatch.setattr(processes, "MEMBERS", (10,))
    monkeypatch.setattr(processes, "NET", replace(processes.NET, examples=16))
    (memory,) = processes.memory(replace(given, repeats=2))
    assert len(set(caches)) == 2  # both compile
    state = 3 * 4 * 10 * (784 * 1200 + 1200 * 1200 + 1200 * 10 + 2410)
    assert (memory.name, memory.n) == ("peak_memory_gib", 2)
    assert memory.value == pytest.approx(real.peak / 2**30)  # the greatest
    assert memory.spread[0] == pytest.approx((state + 80 * 784) / real.peak, rel=1e-4)
    assert given.curves[0].sizes == (10,)


def test_a_process_is_measured_without_its_parent_and_a_failed_one_says_why():
    held = b"x" * 2**29
    ran = load("processes").run(["-c", "print('said')"])
    assert ran.seconds > 0 and 1e6 < ran.peak < 1e8 < len(held)
    assert ran.printed == "said\n"
    with pytest.raises(RuntimeError, match="NameError: name 'nonsense' is not defined"):
        load("processes").run(["-c", "nonsense"])


def test_images_without_mnist_are_random_and_said_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data_sets = load("data_sets")
    monkeypatch.setattr(data_sets, "DATASETS", {})
    images = data_sets.dataset("images")
    assert images.name == "random images of the shape of mnist"
    assert images.splits["train"].source.inputs.shape == (40, 28, 28, 1)
    assert data_sets.on_disk("images", tmp_path) == (str(tmp_path / "images.npz"), 80 * 784)


def test_all_images_that_a_process_reads_are_counted_once():
    data_sets = load("data_sets")
    read = data_sets.dataset("digits")
    assert [len(read.splits[name]) for name in ("train", "validation")] == [40, 20]
    name, held = data_sets.on_disk("digits", None)
    assert (
        name == "digits"
        and held
        == 1797 * 64 * load("data_sets").DATASETS["digits"].splits["train"].source.inputs.itemsize
    )


def test_what_is_timed_has_been_compiled():
    case = load("populations").of_work(load("dense").LARGE[0], 2)
    case.run()
    compiled = []
    listener = lambda name, seconds, **_: compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(listener)
    for _ in range(3):
        case.run()
    jax.monitoring.unregister_event_duration_listener(listener)
    assert case.units == 2 * 2 and not [name for name in compiled if "compile" in name]
