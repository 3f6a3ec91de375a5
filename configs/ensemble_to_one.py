"""From an ensemble to one net: ten teachers, and the small net taught in the paper's ways.

    python -m kdjax.main --config configs/ensemble_to_one.py[:WORD[,WORD ...]]

A word is a data set (`digits`, the default; `mnist`, `fashion_mnist`, `cifar10` or any other image
classification set of TFDS; the path of an .npz, or of a folder of images with a / at its end; or
`module:attribute` of a data set in memory), or one of

    few_labels  labels of 100 training examples only, the rest an unlabelled transfer set
    tune        how the numbers below were chosen: every kind of student over the same grid of
                rates and decays, and temperatures where it has one, on validation data only
    smoke       a few steps of everything

The digits and MNIST have stages of their own, below. Every other set is looked at, and has the
stages of its kind in configs/kinds.py, of which the first line of the run tells.
"""

import re
from typing import Any

from ml_collections import ConfigDict

from kdjax.config import experiment, look, stage
from kdjax.rules import InputError

from .kinds import stages_of
from .transforms import few_labels, smoke, tune

WORDS = ("few_labels", "tune", "smoke")


def get_config(argument: str = "", **given: Any) -> ConfigDict:
    """The experiment of some words.

    Args:
      **given: `dataset`, `data_dir` and `cache_dir`, fields of the experiment that say which data
        to look at, such as `dataset=dict(image_size=64)`.
    """
    words = [word for word in argument.split(",") if word]
    names = [word for word in words if word not in WORDS]
    if len(names) > 1:
        raise InputError(
            f"--config has the words {', '.join(names)}; there must be one data set, and "
            f"otherwise {', '.join(WORDS[:-1])} or {WORDS[-1]}"
        )
    dataset = dict(name=names[0] if names else "digits") | dict(given.pop("dataset", {}))
    few, recipe = "few_labels" in words, ""
    if dataset["name"] == "digits":
        kind = "digits_few_labels" if few else "digits"
        stages, grid = STAGES[kind](), OF_DIGITS
    elif re.fullmatch(r"mnist(:[\d.*]+)?", str(dataset["name"])):
        stages, grid = mnist(), OF_MNIST
    else:
        facts = look(dataset, **given)
        dataset = dict(normalize="standard") | dataset | dict(image_size=facts.image_size)
        stages, grid, recipe = stages_of(facts)
    config = experiment(dataset=dataset, stages=stages, recipe=recipe, **given)
    if few:
        few_labels(config, 100.0)
    if "tune" in words:
        tune(config, **grid)
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


def mnist() -> dict[str, ConfigDict]:
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


STAGES = dict(digits=digits, digits_few_labels=digits_few_labels)
OF_DIGITS = dict(
    rates=(0.01, 0.02, 0.04, 0.08),
    decays=(0.0, 0.03, 0.1, 0.3),
    temperatures=(1.0, 2.0, 4.0),
    validation=400,
    seeds=10,
)
OF_MNIST = dict(rates=(0.002, 0.005, 0.01), decays=(0.0, 0.03, 0.1, 0.3), temperatures=(2.0, 4.0))
