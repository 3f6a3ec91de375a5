"""Temperature against width (arXiv 1503.02531, section 3): which T teaches a small net best.

    python -m kdjax.main --config configs/mnist_temperature.py[:WORD[,WORD ...]]

The words are those of configs/mnist.py. One large net teaches nets of two layers of 30,
300 and 800 units, each width one population over all temperatures and seeds. Results:
docs/mnist.md.
"""

from ml_collections import ConfigDict

from .mnist import SOFT, large, read_words, shortened, small

WIDTHS = (30, 300, 800)
TEMPERATURES = (0.5, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0, 40.0)


def get_config(argument: str = "") -> ConfigDict:
    length, config, words = read_words(argument)
    config.stages.large = large(length, nets=1)
    for width in WIDTHS:
        config.stages[f"width_{width}"] = small(
            length,
            length.sweep_epochs,
            hidden=(width, width),
            objective=SOFT,
            members=dict(temperature=TEMPERATURES),
        )
    return shortened(config, words)
