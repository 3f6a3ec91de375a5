"""Convolutional nets in an experiment, as teachers and as students."""

import pytest
from runs import STUDENT, config

import kdjax
from kdjax.config import stage

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = dict(steps=2, chunk=2, batch=4, model=dict(name="cnn", channels=(4, 8), dense=8))


@pytest.mark.long
def test_convolutional_nets_teach_each_other(tmp_path):
    wider = TINY | dict(model=dict(name="cnn", channels=(8, 8), dense=8))
    taught = STUDENT | TINY
    students = dict(
        labels=stage(**taught),
        live=stage(**taught, objective=dict(kl_divergence=1.0), teacher_logits="live"),
        cached=stage(**taught, objective=dict(kl_divergence=1.0), teacher_logits="cached"),
    )
    report = kdjax.run(config(wider, students), tmp_path, quiet=True)
    assert len(report.rows) == 5 and all(row.mean("nll") is not None for row in report.rows)
