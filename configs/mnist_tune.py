"""How the numbers of configs/mnist.py were chosen, on 10,000 validation images of the 60,000.

    python -m kdjax.main --config configs/mnist_tune.py[:WORD[,WORD ...]]

    rates    the default, for two CPU cores: labels and soft targets of one large net over the same
             learning rates and weight decays
    kinds    for a GPU: kinds of large nets, and small nets taught by some of them, on the images as
             they are
    batches  for a GPU: batches and learning rates of small nets taught by six large ones

A word of configs/mnist.py gives the length of the small nets. Results: docs/mnist.md.
"""

from ml_collections import ConfigDict

from kdjax.rules import InputError

from .mnist import BATCH, LABELS, SOFT, TRAIN, Length, large, read_words, shortened, small

VALIDATION, SEEDS, EPOCHS = 10_000, 6, 40  # the last two of large nets
RATES, DECAYS = (1e-3, 2e-3, 4e-3), (0.0, 0.2)
KINDS = {  # name: dropout of hidden units and of the inputs, epochs, nets
    "no_dropout": (0.0, 0.0, 40, SEEDS),
    "dropout_25": (0.25, 0.0, 40, SEEDS),
    "dropout_25_longer": (0.25, 0.0, 60, SEEDS),
    "dropout_25_longest": (0.25, 0.0, 200, 3),
    "dropout_50": (0.5, 0.2, 60, SEEDS),
    "dropout_50_sgd": (0.5, 0.2, 300, 3),
}
SGD = dict(name="sgd", learning_rate=0.01, momentum=0.9, schedule="halving")
SGD |= dict(weight_decay=0.0, clip_norm=0.0)
BATCHES = {250: (4e-3, 8e-3, 1.6e-2), 100: (2e-3, 4e-3, 8e-3)}  # rates of each
DISTIL = dict(objective=SOFT, temperature=20.0)


def get_config(argument: str = "") -> ConfigDict:
    length, config, words = read_words(argument, ("rates", "kinds", "batches", "smoke"))
    config.evaluate, config.dataset.validation = "validation", VALIDATION
    searches = [word for word in words if word in SEARCHES]
    if len(searches) > 1:
        raise InputError(f"--config has the words {', '.join(searches)}; there may be one of them")
    SEARCHES[searches[0] if searches else "rates"](config, length)
    return shortened(config, words)


def rates(config: ConfigDict, length: Length) -> None:
    config.stages.large = large(length, 1, EPOCHS)
    grid = dict(seed=2, learning_rate=RATES, weight_decay=DECAYS)
    for name, epochs, fields in (
        ("labels", length.label_epochs, dict(objective=LABELS)),
        ("distilled", length.soft_epochs, DISTIL),
    ):
        config.stages[name] = small(length, epochs, members=grid, **fields)


def kinds(config: ConfigDict, length: Length) -> None:
    for name, (dropout, of_inputs, epochs, seeds) in KINDS.items():
        nets = large(length, seeds, epochs)
        nets.model.update(dropout=dropout, dropout_input=of_inputs)
        if name.endswith("sgd"):
            nets.optimizer.update(SGD)
        config.stages[name] = nets
        if seeds < SEEDS:
            continue
        ensembles = dict(seed=SEEDS, ensemble_size=(1, SEEDS), learning_rate=(2e-3, 4e-3))
        students = small(length, length.soft_epochs, members=ensembles, teacher=name, **DISTIL)
        config.stages[f"of_{name}"] = students


def batches(config: ConfigDict, length: Length) -> None:
    config.stages.large = large(length, SEEDS, EPOCHS)
    config.stages.large.model.dropout = 0.0
    for batch, values in BATCHES.items():
        grid = dict(seed=4, ensemble_size=(1, SEEDS), learning_rate=values)
        students = small(length, length.soft_epochs, members=grid, **DISTIL)
        steps = students.steps * BATCH // batch
        students.update(batch=batch, steps=steps, chunk=TRAIN // batch)
        config.stages[f"batch_{batch}"] = students


SEARCHES = {"rates": rates, "kinds": kinds, "batches": batches}
