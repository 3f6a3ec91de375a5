"""On real digits the ensemble's knowledge reaches the small net, and neither more nor less."""

import jax
import pytest

import kdjax
from configs import ensemble_to_one

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(undrawn, tmp_path_factory):
    config = ensemble_to_one.get_config("few_labels")
    del config.stages["distilled"], config.stages["logit_matching"]
    config.execution.devices = 2
    jax.config.update("jax_disable_most_optimizations", False)  # it trains for long
    yield kdjax.run(config, tmp_path_factory.mktemp("learning"), quiet=True)
    jax.config.update("jax_disable_most_optimizations", True)


def test_a_student_without_labels_beats_the_same_net_on_labels(report):
    assert report.difference("baseline", "soft_only", metric="errors")["ratio"] > 3
    assert report.difference("baseline", "soft_only", metric="nll")["ratio"] > 3


def test_the_student_closes_most_of_the_gap_to_the_ensemble_and_all_are_in_their_bands(report):
    errors = {row.stage: row.mean("errors") for row in report.rows}
    assert 60 < errors["teachers/ensemble"] < 95
    assert 85 < errors["baseline"] < 130
    closed = (errors["baseline"] - errors["soft_only"]) / (
        errors["baseline"] - errors["teachers/ensemble"]
    )
    assert 0.6 < closed < 1.4
