"""The default job's rows, with processes that only say what they were asked."""

import pytest
from tiny_benchmarks import check, load, session, shrink


@pytest.fixture
def asked(monkeypatch):
    """The processes that a benchmark has run: (arguments, environment, checkout) of each."""
    shrink(monkeypatch)
    processes, asked = load("processes"), []

    def run(arguments, environment=None, root=processes.ROOT):
        asked.append((arguments, environment, root))
        return processes.Ran(0.0, 1.0, 1, "teachers: 1.0 ± 0.5\nworkdir: there")

    monkeypatch.setattr(processes, "run", run)
    return asked


def test_the_default_job_is_run_warm_and_cold_by_each_checkout_and_by_the_plain_script(
    tmp_path, asked, monkeypatch, capsys
):
    job = load("default_job")
    seconds = {"kdjax": 2.0, "plain JAX": 3.0, "kdjax, cold": 8.0, "the other checkout": 5.0}

    def measure(cases, repeats, warm):
        assert repeats == 1 and not warm
        for case in cases:
            case.run()
        make = load("timing").Timing
        return {case.name: make((seconds.get(case.name, 16.0),)) for case in cases}

    monkeypatch.setattr(job, "measure", measure)
    here, other = session(tmp_path), tmp_path / "other"
    found = check(job.default_job(here), "default_job_vs_plain_jax")
    assert found["default_job_vs_plain_jax"].ratio == 1.5
    assert found["default job, cold, over warm"].ratio == 0.25
    assert "teachers: 1.0" in capsys.readouterr().err
    # To fill the caches, warm, and kdjax's job cold.
    assert [arguments[0] for arguments, *_ in asked].count("-m") == 3 and len(asked) == 5
    caches = [environment["XDG_CACHE_HOME"] for a, environment, _ in asked if a[0] == "-m"]
    assert caches[0] == caches[1] != caches[2]
    asked.clear()
    found = job.default_job(load("session").Session(1, tmp_path, against=other))
    ratios = {row.name: row.ratio for row in found}
    assert ratios["default job, warm, over other"] == 2.5
    assert ratios["default job, cold, over other"] == 2.0
    workdirs = {a[-1] for a, *_ in asked if a[0] == "-m"}
    assert len(workdirs) == 6 and [root for *_, root in asked].count(other) == 3
