"""From an ensemble to one net: ten teachers, and the small net taught in the paper's ways.

    python -m kdjax.main --config configs/ensemble_to_one.py[:WORD[,WORD ...]]

A word is a data set (`digits`, the default; `mnist`, `fashion_mnist`, `cifar10` or any other image
classification set of TFDS; the path of an .npz, or of a folder of images with a / at its end; or
`module:attribute` of a data set in memory), or one of

    few_labels  labels of 100 training examples only, the rest an unlabelled transfer set
    tune        how the numbers below were chosen: every kind of student over the same grid of
                rates and decays, and temperatures where it has one, on validation data only
    smoke       a few steps of everything

The digits take half a minute on two CPU cores, with `tune` some ten minutes. A folder of images has
convolutional nets, jittered views, and of the students baseline and distilled alone, for its live
teachers take most of the time: 3,000 photographs of 32x32 pixels take seven minutes. Its numbers
were chosen on such photographs and are a start for others, as are those of MNIST for other sets.
"""

from ml_collections import ConfigDict

from kdjax.config import experiment, stage
from kdjax.rules import InputError

from .transforms import few_labels, smoke, tune

WORDS = ("few_labels", "tune", "smoke")


def get_config(argument: str = "") -> ConfigDict:
    words = [word for word in argument.split(",") if word]
    names = [word for word in words if word not in WORDS]
    if len(names) > 1:
        raise InputError(
            f"--config has the words {', '.join(names)}; there must be one data set, and "
            f"otherwise {', '.join(WORDS[:-1])} or {WORDS[-1]}"
        )
    dataset, few = names[0] if names else "digits", "few_labels" in words
    kind = "folder" if dataset.endswith("/") else "digits" if dataset == "digits" else "other"
    if kind == "digits" and few:
        kind = "digits_few_labels"
    config = experiment(dataset=dict(name=dataset), stages=STAGES[kind]())
    if few:
        few_labels(config, 100.0)
    if "tune" in words:
        tune(config, **GRIDS[kind])
    if "smoke" in words:
        smoke(config)
    return config


# By `tune`, the rates, decays and temperatures with the fewest errors on validation data; some lie
# on an edge of the grid. The baseline names the teachers to be compared with them.


def digits() -> dict[str, ConfigDict]:
    small = dict(
        model=dict(name="mlp", hidden=(32,)), steps=3000, members=dict(seed=10), teacher="teachers"
    )
    return dict(
        teachers=stage(
            model=dict(name="mlp", hidden=(256, 256), dropout_input=0.1, dropout=0.5),
            optimizer=dict(learning_rate=1e-3),
            steps=2500,
            members=dict(seed=10),
        ),
        baseline=stage(
            **small,
            objective=dict(cross_entropy=1.0),
            optimizer=dict(learning_rate=0.02, weight_decay=0.3),
        ),
        distilled=stage(
            **small,
            objective=dict(kl_divergence=1.0, cross_entropy=0.5),
            temperature=2.0,
            teacher_logits="cached",
            optimizer=dict(learning_rate=0.04, weight_decay=0.1),
        ),
        soft_only=stage(
            **small,
            objective=dict(kl_divergence=1.0),
            temperature=2.0,
            teacher_logits="cached",
            optimizer=dict(learning_rate=0.04, weight_decay=0.1),
        ),
        logit_matching=stage(
            **small,
            objective=dict(logit_matching=1.0),
            mean="geometric",
            teacher_logits="cached",
            optimizer=dict(learning_rate=0.04, weight_decay=0.0),
        ),
    )


def digits_few_labels() -> dict[str, ConfigDict]:
    stages = digits()
    for name, numbers in dict(
        baseline=dict(learning_rate=0.01, weight_decay=0.3),
        distilled=dict(learning_rate=0.08, weight_decay=0.3),
        soft_only=dict(learning_rate=0.08, weight_decay=0.3),
        logit_matching=dict(learning_rate=0.01, weight_decay=0.0),
    ).items():
        stages[name].model.hidden = (16,)
        stages[name].optimizer.update(numbers)
    stages["distilled"].temperature = stages["soft_only"].temperature = 1.0
    return stages


def other() -> dict[str, ConfigDict]:
    """Chosen for MNIST."""
    stages = digits()
    for name, numbers in dict(
        teachers={},
        baseline=dict(learning_rate=0.01, weight_decay=0.1),
        distilled=dict(learning_rate=0.01, weight_decay=0.03),
        soft_only=dict(learning_rate=0.005, weight_decay=0.03),
        logit_matching=dict(learning_rate=0.01, weight_decay=0.03),
    ).items():
        stages[name].update(steps=10_000, chunk=500)
        stages[name].optimizer.update(numbers)
    return stages


def folder() -> dict[str, ConfigDict]:
    """By two searches on 3,000 images of CIFAR-10, n = 3, 600 for validation, none of them a test
    image; the second was of decay and temperature. Batches and views are the same for all, so that
    the teachers see each once."""
    small = dict(
        model=dict(name="cnn", channels=(8, 16, 32), dense=32),
        augment=dict(shift=2),
        order="shared",
        steps=2000,
        members=dict(seed=4),
        teacher="teachers",
    )
    return dict(
        teachers=stage(
            model=dict(name="cnn", channels=(16, 32, 64), dense=64, dropout=0.25),
            optimizer=dict(learning_rate=3e-3, weight_decay=0.01),
            augment=dict(shift=2),
            steps=1600,
            members=dict(seed=4),
        ),
        baseline=stage(
            **small,
            objective=dict(cross_entropy=1.0),
            optimizer=dict(learning_rate=0.003, weight_decay=0.3),
        ),
        distilled=stage(
            **small,
            objective=dict(kl_divergence=1.0, cross_entropy=0.5),
            temperature=2.0,
            optimizer=dict(learning_rate=0.003, weight_decay=0.03),
        ),
    )


STAGES = dict(digits=digits, digits_few_labels=digits_few_labels, other=other, folder=folder)
OF_DIGITS = dict(
    rates=(0.01, 0.02, 0.04, 0.08),
    decays=(0.0, 0.03, 0.1, 0.3),
    temperatures=(1.0, 2.0, 4.0),
    validation=400,
    seeds=10,
)
GRIDS = dict(
    digits=OF_DIGITS,
    digits_few_labels=OF_DIGITS,
    other=dict(rates=(0.002, 0.005, 0.01), decays=(0.0, 0.03, 0.1, 0.3), temperatures=(2.0, 4.0)),
    folder=dict(rates=(0.001, 0.003, 0.01), decays=(0.01, 0.03, 0.3), temperatures=(1.0, 2.0, 4.0)),
)
