"""The choices behind `ensemble_to_one.py`: baseline and students tuned alike, on validation data.

    python -m kdjax.main --config configs/tune.py[:WORD[,WORD ...]]

Words as in `ensemble_to_one.py`, whose teachers these are. Every kind of student is one population
over the same learning rates and weight decays, and over temperatures where it has one. The
validation split is made larger than there, the report is of it, and the test split decides
nothing. Half an hour on two cores for the digits.
"""

from ml_collections import ConfigDict

from configs import ensemble_to_one

RATES = (0.01, 0.02, 0.04, 0.08)
DECAYS = (0.0, 0.03, 0.1, 0.3)
TEMPERATURES = (1.0, 2.0, 4.0)


def get_config(argument: str = "") -> ConfigDict:
    config = ensemble_to_one.get_config(argument)
    config.evaluate = "validation"
    if config.dataset.name == "digits":
        config.dataset.validation = 400
    for name, each in config.stages.items():
        if name == "teachers":
            continue
        each.members.learning_rate = RATES
        each.members.weight_decay = DECAYS
        if name in ("distilled", "soft_only"):
            each.members.temperature = TEMPERATURES
    return config
