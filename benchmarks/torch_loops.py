"""PyTorch's process: `python -m benchmarks.torch_loops FD`, started by `peers.py`.

Through the socket FD come the tasks and the data, then the numbers of tasks; each is done for one
turn before it is answered.
"""

import copy
import itertools
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset

from benchmarks.variants import Variant
from benchmarks.work import (
    CLASSES,
    DROPOUT,
    DROPOUT_INPUT,
    MAX_SQUARED_NORM,
    OPTIMIZERS,
    SHAPES,
    SHIFT,
    Work,
)

EVALUATED = 1000  # examples of a batch of the validation split
Batches = Iterator[tuple[Tensor, Tensor]]


def main() -> None:
    with Connection(int(sys.argv[1])) as connection:
        tasks, arrays = connection.recv()
        splits = {name: tuple(map(torch.from_numpy, both)) for name, both in arrays.items()}
        images, labels = splits["train"]
        margin = SHIFT[tasks[0][1].data]  # of zeros, from which a jittered image is cut
        train = pad(images, (0, 0, margin, margin, margin, margin)), labels
        turns = [make(variant, work, train, splits["validation"]) for variant, work in tasks]
        while True:
            try:
                number = connection.recv()
            except EOFError:
                return
            try:
                torch.set_num_threads(tasks[number][0].threads)
                turns[number]()
                connection.send(None)
            except Exception as error:
                connection.send(repr(error))


def make(variant: Variant, work: Work, train: tuple, validation: tuple) -> Callable[[], None]:
    """A turn of this work, from padded images [N, H, W, C] and labels [N]."""
    if variant.members > 1:
        return ensemble(variant, work, train)
    batches = in_memory(work, *train)
    if variant.workers is not None:
        examples = Pictures if variant.pictures else Jittered
        batches = loaded(examples(work, *train), work.batch, variant.workers)
    return single(variant, work, batches, validation)


def single(variant: Variant, work: Work, batches: Batches, validation: tuple) -> Callable[[], None]:
    """One net, in the loop that every tutorial has."""
    memory = torch.channels_last if variant.channels_last else torch.contiguous_format
    model = build(work).to(memory_format=memory)
    optimizer = optimizer_of(model.parameters(), work, variant.fused)

    def forward(inputs: Tensor) -> Tensor:
        if work.channels:
            inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=memory)
        return model(inputs)

    def turn() -> None:
        model.train()
        total = torch.zeros(())
        for inputs, labels in itertools.islice(batches, work.steps):
            loss = cross_entropy(forward(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if work.regularised:
                limit_norms(model)
            total += loss.detach()
        if not torch.isfinite(total):
            raise FloatingPointError("diverged; its time means nothing")
        if work.validate:
            model.eval()
            evaluate(forward, *validation)

    return turn


def ensemble(variant: Variant, work: Work, train: tuple) -> Callable[[], None]:
    """All nets in one call, each with its own batch."""
    models = [build(work) for _ in range(variant.members)]
    base = copy.deepcopy(models[0]).to("meta")
    parameters, buffers = stack_module_state(models)
    optimizer = optimizer_of(parameters.values(), work, variant.fused)
    batches = [in_memory(work, *train) for _ in models]

    def loss(own: dict, buffers: dict, inputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(base, (own, buffers), (inputs,)), labels)

    gradient = vmap(grad_and_value(loss), randomness="different")

    def turn() -> None:
        for _ in range(work.steps):
            inputs, labels = (torch.stack(x) for x in zip(*map(next, batches), strict=True))
            own = {name: value.detach() for name, value in parameters.items()}
            gradients, _ = gradient(own, buffers, inputs, labels)
            for name, value in parameters.items():
                value.grad = gradients[name]
            optimizer.step()

    return turn


def build(work: Work) -> nn.Module:
    """The net of `kdjax.models`."""
    height, width, inputs = SHAPES[work.data]
    layers = []
    for outputs in work.channels:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        height, width, inputs = height // 2, width // 2, outputs
    layers.append(nn.Flatten())
    if work.regularised:
        layers.append(nn.Dropout(DROPOUT_INPUT))
    inputs = height * width * inputs
    for outputs in work.hidden:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        layers += [nn.Dropout(DROPOUT)] * work.regularised
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, CLASSES))


def optimizer_of(parameters: Iterator[Tensor], work: Work, fused: bool) -> torch.optim.Optimizer:
    numbers = OPTIMIZERS[work.optimizer]
    rate = numbers["learning_rate"]
    if work.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=numbers["momentum"], fused=fused)
    decay = numbers["weight_decay"]
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)


@torch.no_grad()
def limit_norms(model: nn.Module) -> None:
    for layer in model:
        if isinstance(layer, nn.Linear):
            squared = layer.weight.square().sum(1, keepdim=True)
            layer.weight.mul_((MAX_SQUARED_NORM / squared).clamp(max=1.0).sqrt())


@torch.inference_mode()
def evaluate(forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> None:
    """Errors and loss of a split."""
    errors, nll = 0, 0.0
    for x, y in zip(inputs.split(EVALUATED), labels.split(EVALUATED), strict=True):
        logits = forward(x)
        errors += int((logits.argmax(1) != y).sum())
        nll += float(cross_entropy(logits, y, reduction="sum"))


def in_memory(work: Work, images: Tensor, labels: Tensor) -> Batches:
    """Shuffled batches without end; a jittered batch is one gather, of windows [N, top, left,
    C, H, W], a view of the padded images."""
    shift, (height, width, _) = SHIFT[work.data], SHAPES[work.data]
    windows = images.unfold(1, height, 1).unfold(2, width, 1)
    while True:
        for index in torch.randperm(len(images)).split(work.batch):
            if len(index) < work.batch:
                continue
            if not shift:
                yield images[index], labels[index]
                continue
            top, left = torch.randint(2 * shift + 1, (2, work.batch))
            yield windows[index, top, left].permute(0, 2, 3, 1), labels[index]


class Jittered(Dataset):
    """Images one by one, each cut at random from its padded self."""

    def __init__(self, work: Work, images: Tensor, labels: Tensor):
        self.shift, self.shape = SHIFT[work.data], SHAPES[work.data]
        self.images, self.labels = images, labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        top, left = torch.randint(2 * self.shift + 1, (2,)).tolist()
        height, width, _ = self.shape
        return self.images[i, top : top + height, left : left + width], self.labels[i]


class Pictures(Jittered):
    """The same as torchvision's MNIST gives them with RandomCrop and ToTensor: each a PIL image
    that is padded, cut and made a float tensor."""

    def __init__(self, work: Work, images: Tensor, labels: Tensor):
        super().__init__(work, images, labels)
        margin, (height, width, _) = self.shift, self.shape
        raw = images[:, margin : margin + height, margin : margin + width]
        self.images = (255 * raw).round().to(torch.uint8).squeeze(-1)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        top, left = torch.randint(2 * self.shift + 1, (2,)).tolist()
        height, width, _ = self.shape
        picture = ImageOps.expand(Image.fromarray(self.images[i].numpy()), self.shift)
        picture = picture.crop((left, top, left + width, top + height))
        pixels = torch.from_numpy(np.array(picture)).view(self.shape)
        return pixels.to(torch.float32).div(255), self.labels[i]


def loaded(examples: Dataset, batch: int, workers: int) -> Batches:
    """Shuffled batches without end by a DataLoader."""
    loader = DataLoader(
        examples,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


if __name__ == "__main__":
    main()
