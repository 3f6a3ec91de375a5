"""What is trained, the same in every code that is compared. Plain Python: PyTorch's process has
no JAX in it."""

import itertools
from dataclasses import dataclass, replace

IMAGES, DIGITS, PHOTOS = "images", "digits", "photos"
SHAPES = {IMAGES: (28, 28, 1), DIGITS: (8, 8, 1), PHOTOS: (32, 32, 3)}
SHIFT = {IMAGES: 2, DIGITS: 0, PHOTOS: 2}  # pixels of jitter, each axis; it destroys the digits
CLASSES = 10
OPTIMIZERS = {  # no schedule, and rates at which nothing diverges: both are free
    "sgd": dict(name="sgd", learning_rate=0.01, momentum=0.9, schedule="constant"),
    "adamw": dict(name="adamw", learning_rate=1e-3, weight_decay=1e-2, schedule="constant"),
}
# Floats moved for each parameter and step: it is read forward, its gradient is written and read,
# and parameter and optimizer's moments (one; two) are each read and written.
MOVED = {"sgd": 1 + 2 + 2 * 2, "adamw": 1 + 2 + 3 * 2}
DROPOUT_INPUT, DROPOUT, MAX_SQUARED_NORM = 0.2, 0.5, 15.0  # arXiv 1207.0580


@dataclass(frozen=True)
class Work:
    """A member's turn: `steps` steps of `batch` of the first so many `examples`, shuffled and
    jittered, the loss summed, and then, to `validate`, errors and loss of the validation split.

    Where steps x batch are all examples, a turn is an epoch. `hidden` are widths of dense layers,
    `channels` those of 3x3 convolutions before them; `regularised` adds dropout and a limit on the
    norm of every unit's weights.
    """

    data: str
    hidden: tuple[int, ...]
    channels: tuple[int, ...] = ()
    optimizer: str = "sgd"
    batch: int = 100
    steps: int = 50
    examples: int = 5_000
    regularised: bool = False
    validate: bool = True

    @property
    def name(self) -> str:
        shape = SHAPES[self.data]
        net = "x".join(map(str, shape)) if self.channels else str(_size(shape))
        net = "-".join(map(str, (net, *self.channels, *self.hidden, CLASSES)))
        return f"{net} {self.optimizer} B={self.batch}" + " regularised" * self.regularised

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer of a dense net."""
        assert not self.channels
        return list(itertools.pairwise((_size(SHAPES[self.data]), *self.hidden, CLASSES)))

    @property
    def flops(self) -> int:
        """Of a member's step, by the usual count: two for each weight and example forward, four
        backward."""
        return 6 * self.batch * sum(a * b for a, b in self.layers)

    @property
    def least_flops(self) -> int:
        """The same without the gradient of the net's inputs, which nobody computes: what is
        executed."""
        (a, b), *_ = self.layers
        return self.flops - 2 * self.batch * a * b

    @property
    def moved(self) -> int:
        """The bytes that weights and optimizer move in a member's step. Backward, for the gradient
        of a layer's inputs, the weights are read again, but for those of the first layer."""
        parameters = sum(a * b + b for a, b in self.layers)
        return 4 * (MOVED[self.optimizer] * parameters + sum(a * b for a, b in self.layers[1:]))

    def shortened(self, steps: int) -> "Work":
        """So many of its steps, without validation."""
        return replace(self, steps=steps, validate=False)


def _size(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * shape[2]
