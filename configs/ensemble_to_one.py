"""From an ensemble to one net: ten teachers, and the small net taught in the paper's ways.

    python -m kdjax.main --config configs/ensemble_to_one.py[:WORD[,WORD ...]]

A word is a data set (`digits`, the default; `mnist`, `fashion_mnist`, `cifar10` or any other image
classification set of TFDS; the path of an .npz, or of a folder of images with a / at its end),
or one of

    few_labels  labels of 100 training examples only, the rest an unlabelled transfer set
    tune        how the numbers below were chosen: every kind of student over the same grid of
                rates and decays, and temperatures where it has one, on validation data only
    smoke       a few steps of everything

The digits take 40 seconds on two CPU cores, with `tune` some ten minutes. A folder of images has
convolutional nets, jittered views, and of the students baseline and distilled alone, for its live
teachers take most of the time: 3,000 photographs of 32x32 pixels take seven minutes. Its numbers
were chosen on such photographs and are a start for others, as are those of MNIST for other sets.
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage
from kdjax.rules import InputError

# By `tune`, the values with the fewest errors on validation data. Some lie on an edge of the grid.
TUNED = {
    "digits": dict(
        baseline=dict(learning_rate=0.02, weight_decay=0.3),
        distilled=dict(learning_rate=0.04, weight_decay=0.1, temperature=2.0),
        soft_only=dict(learning_rate=0.04, weight_decay=0.1, temperature=2.0),
        logit_matching=dict(learning_rate=0.04, weight_decay=0.0),
    ),
    "digits, few_labels": dict(
        baseline=dict(learning_rate=0.01, weight_decay=0.3),
        distilled=dict(learning_rate=0.08, weight_decay=0.3, temperature=1.0),
        soft_only=dict(learning_rate=0.08, weight_decay=0.3, temperature=1.0),
        logit_matching=dict(learning_rate=0.01, weight_decay=0.0),
    ),
    "other": dict(  # chosen for MNIST
        baseline=dict(learning_rate=0.01, weight_decay=0.1),
        distilled=dict(learning_rate=0.01, weight_decay=0.03, temperature=2.0),
        soft_only=dict(learning_rate=0.005, weight_decay=0.03, temperature=2.0),
        logit_matching=dict(learning_rate=0.01, weight_decay=0.03),
    ),
    # By two searches on 3,000 images of CIFAR-10, n = 3, 600 for validation, none of them a test
    # image; the second was of decay and temperature.
    "folder": dict(
        baseline=dict(learning_rate=0.003, weight_decay=0.3),
        distilled=dict(learning_rate=0.003, weight_decay=0.03, temperature=2.0),
    ),
}
GRIDS = {  # of `tune`: rates, decays, temperatures
    "digits": ((0.01, 0.02, 0.04, 0.08), (0.0, 0.03, 0.1, 0.3), (1.0, 2.0, 4.0)),
    "other": ((0.002, 0.005, 0.01), (0.0, 0.03, 0.1, 0.3), (2.0, 4.0)),
    "folder": ((0.001, 0.003, 0.01), (0.01, 0.03, 0.3), (1.0, 2.0, 4.0)),
}
DENSE = dict(
    model=dict(name="mlp", hidden=(256, 256), dropout_input=0.1, dropout=0.5),
    optimizer=dict(learning_rate=1e-3),
    members=dict(seed=10),
)
SMALL_DENSE = dict(teacher_logits="cached", members=dict(seed=10))
# Batches and views are the same for all, so that the teachers see each once.
CONVOLUTIONAL = dict(
    model=dict(name="cnn", channels=(16, 32, 64), dense=64, dropout=0.25),
    optimizer=dict(learning_rate=3e-3, weight_decay=0.01),
    augment=dict(shift=2),
    steps=1600,
    members=dict(seed=4),
)
SMALL_CONVOLUTIONAL = dict(
    model=dict(name="cnn", channels=(8, 16, 32), dense=32),
    augment=dict(shift=2),
    teacher_logits="live",
    order="shared",
    steps=2000,
    members=dict(seed=4),
)


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    names = [word for word in words if word not in ("few_labels", "tune", "smoke")]
    if len(names) > 1:
        raise InputError(
            f"--config has the words {', '.join(names)}; there must be one data set, and "
            "otherwise few_labels, tune or smoke"
        )
    dataset = names[0] if names else "digits"
    digits, few_labels, folder = dataset == "digits", "few_labels" in words, dataset.endswith("/")
    kind = "folder" if folder else "digits" if digits else "other"
    tuned = TUNED[kind + ", few_labels" * (digits and few_labels)]
    labelled = dict(size=100.0 if few_labels else 1.0)
    transfer = dict(labelled=100.0 if few_labels else 1.0)
    if folder:
        large, small = CONVOLUTIONAL, SMALL_CONVOLUTIONAL
    else:
        hidden = (16,) if digits and few_labels else (32,)
        large = DENSE | dict(steps=2500 if digits else 10_000)
        small = SMALL_DENSE | dict(
            model=dict(name="mlp", hidden=hidden), steps=3000 if digits else 10_000
        )
    chunk = 500 if kind == "other" else 100

    def student(name, **fields):
        optimizer = {k: v for k, v in tuned[name].items() if k != "temperature"}
        temperature = {k: v for k, v in tuned[name].items() if k == "temperature"}
        # The baseline has teachers, too, to measure its agreement with them.
        every = dict(chunk=chunk, teacher="teachers", optimizer=optimizer)
        return stage(**small, **every, **temperature, **fields)

    kinds = dict(
        baseline=dict(subset=labelled),
        distilled=dict(loss="distillation", hard_weight=0.5, subset=transfer),
        soft_only=dict(loss="kl_divergence", subset=transfer),
        logit_matching=dict(loss="logit_matching", mean="geometric", subset=transfer),
    )
    stages = dict(teachers=stage(**large, chunk=chunk, subset=labelled))
    stages |= {name: student(name, **kinds[name]) for name in tuned}
    config = experiment(dataset=dict(name=dataset), stages=stages)
    if "tune" in words:
        tune(config, kind)
    if "smoke" in words:
        for each in config.stages.values():
            each.update(steps=4, chunk=2, batch=20)
            each.members.seed = 2
    return config


def tune(config: ConfigDict, kind: str) -> None:
    """Makes each kind of student a grid, on validation data, of which the digits get more."""
    config.evaluate = "validation"
    digits = kind == "digits"
    config.dataset.validation = 400 if digits else 0
    rates, decays, temperatures = GRIDS[kind]
    for name, each in config.stages.items():
        if name == "teachers":
            continue
        each.members.seed = 10 if digits else 2
        each.members.learning_rate, each.members.weight_decay = rates, decays
        if name in ("distilled", "soft_only"):
            each.members.temperature = temperatures
