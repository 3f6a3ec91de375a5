"""The choices behind `ensemble_to_one.py`: baseline and students tuned alike, on validation data.

    python -m kdjax.main --config configs/tune.py[:WORD[,WORD ...]]

Words as in `ensemble_to_one.py`. The teachers are those of that config; every kind of student is
one population over the same learning rates, and over the temperatures where it has one. The
report is of the validation split; the test split decides nothing.
"""

from ml_collections import ConfigDict

from configs import ensemble_to_one

RATES = (0.005, 0.01, 0.02, 0.04)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


def get_config(argument: str = "") -> ConfigDict:
    config = ensemble_to_one.get_config(argument)
    config.evaluate = "validation"
    for name, each in config.stages.items():
        if name == "teachers":
            continue
        each.members.learning_rate = RATES
        if name in ("distilled", "soft_only"):
            each.members.temperature = TEMPERATURES
    return config
