"""Whether students keep an ensemble's disagreement (arXiv 1905.00076, 2001.04694), on MNIST.

    python -m benchmarks.disagreement [WORD[,WORD ...]]

    cpu    the default: five nets of everything; not run in full yet
    quick  the same for a sixth of the steps
    smoke  a few steps of everything

Five nets teach three kinds of students: one that learns their mean, one whose logits are a
Dirichlet distribution over their predictions, and one with a head for each of them. The command
trains them and prints how well the uncertainty of each tells MNIST's test images from those of
other sets. No temperature was tuned.
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage
from kdjax.rules import InputError

from .transforms import smoke

TRAIN, VALIDATION, BATCH = 55_000, 5_000, 250  # examples
EPOCH = TRAIN // BATCH
NETS = 5  # teachers, and seeds of every student
EPOCHS = {"cpu": (12, 30), "quick": (2, 5)}  # of the teachers and of the students
TEACHER, BODY = dict(name="mlp", hidden=(800, 800)), dict(name="mlp", hidden=(400, 400))
ANNEALED = dict(weight=1.0, temperature=2.5, temperature_end=1.0)
STUDENTS = {
    "mean": dict(model=BODY, objective=dict(kl_divergence=1.0), temperature=2.0),
    "dirichlet": dict(model=BODY, objective=dict(dirichlet=ANNEALED)),
    "heads": dict(
        model=BODY | dict(name="hydra", body="mlp", heads=NETS),
        objective=dict(per_teacher=1.0),
        temperature=2.0,
    ),
}


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    unknown = [word for word in words if word not in (*EPOCHS, "smoke")]
    if unknown:
        raise InputError(
            f"--config has the words {', '.join(unknown)}; there may be {', '.join(EPOCHS)} and "
            "smoke"
        )
    teacher_epochs, epochs = EPOCHS["quick" if "quick" in words else "cpu"]
    stages = {"teachers": _stage(teacher_epochs, model=TEACHER, objective=dict(cross_entropy=1.0))}
    for name, fields in STUDENTS.items():
        stages[name] = _stage(epochs, teacher="teachers", teacher_logits="cached", **fields)
    config = experiment(dataset=dict(name="mnist", validation=VALIDATION), stages=stages)
    if "smoke" in words:
        smoke(config, examples=500.0)
        config.stages.heads.model.heads = 2
    return config


def _stage(epochs: int, **fields) -> ConfigDict:
    return stage(
        optimizer=dict(learning_rate=1e-3, clip_norm=5.0, warmup_steps=EPOCH // 4),
        steps=EPOCH * epochs,
        batch=BATCH,
        chunk=EPOCH,
        members=dict(seed=NETS),
        **fields,
    )
