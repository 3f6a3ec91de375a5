"""Small experiments on scikit-learn's digits, through the public interface."""

from kdjax.config import experiment, stage

NET = dict(model=dict(name="mlp", hidden=(16,)), steps=16, chunk=8, batch=40)
TEACHERS = NET | dict(model=dict(name="mlp", hidden=(24,)), members=dict(seed=3))
KD = dict(kl_divergence=1.0, cross_entropy=0.1)
STUDENT = NET | dict(teacher="teachers", members=dict(seed=2))


def config(teachers=None, students=None, **fields):
    """Teachers, and by default a baseline and a student of two seeds."""
    if students is None:
        students = dict(
            baseline=stage(**STUDENT),
            distilled=stage(
                **STUDENT,
                objective=KD,
                temperature=4.0,
                teacher_logits="cached",
            ),
        )
    fields = dict(execution=dict(devices=1)) | fields  # the fastest for nets as small as these
    return experiment(
        stages=dict(teachers=stage(**TEACHERS | (teachers or {})), **students), **fields
    )


def values(report):
    """Every metric of every member, which a rerun must repeat bit for bit."""
    return {
        (row.label, name): statistics["values"]
        for row in report.rows
        for name, statistics in row.metrics.items()
    }
