"""Every file of configs/ runs, in its smoke variant."""

import importlib
from pathlib import Path

import pytest

import kdjax

CONFIGS = sorted(p.stem for p in (Path(__file__).parents[1] / "configs").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("words", ["smoke", "few_labels,smoke"])
def test_a_shipped_config_runs(tmp_path, name, words):
    config = importlib.import_module(f"configs.{name}").get_config(words)
    config.lock()
    report = kdjax.run(config, tmp_path, quiet=True)
    assert {row.stage for row in report.rows} >= set(config.stages)
    assert all(row.mean("nll") is not None and row.diverged == 0 for row in report.rows)


@pytest.mark.mnist
def test_the_main_config_runs_on_mnist(tmp_path):
    config = importlib.import_module("configs.ensemble_to_one").get_config("mnist,smoke")
    report = kdjax.run(config, tmp_path, quiet=True)
    assert report.row("teachers/ensemble").members == 1
    assert len(report.rows) == 6
