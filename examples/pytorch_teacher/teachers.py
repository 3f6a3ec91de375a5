"""Three PyTorch nets that learn MNIST, and a file of their logits for a student of kdjax.

    python -m examples.pytorch_teacher.teachers

Needs torch, which nothing else here does.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

import kdjax
from examples.pytorch_teacher.config import DATA, FOLDER

SPLITS = ("train", "validation", "test")
MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's pixels from 0 to 1


def make_net(classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.LazyLinear(classes),
    )


def as_torch(images: np.ndarray) -> torch.Tensor:
    """Images [N, H, W, 1] from 0 to 255, as kdjax has them, as these nets take them: [N, 1, H, W],
    standardised."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / DEVIATION


def train(images: np.ndarray, labels: np.ndarray, seed: int, epochs: int, rate: float) -> nn.Module:
    torch.manual_seed(seed)
    x, y = as_torch(images), torch.from_numpy(labels).long()
    net = make_net(int(labels.max()) + 1)
    net(x[:2])  # gives the last layer its shape
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    steps = epochs * (len(x) // 100)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: len(x) // 100 * 100].split(100):
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


def logits_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """[N, C], in the order of the images: in evaluation mode, batch by batch, with no softmax."""
    net.eval()
    with torch.inference_mode():
        parts = [net(as_torch(images[i : i + 1000])) for i in range(0, len(images), 1000)]
    return torch.cat(parts).numpy()


def main(
    data=DATA["name"],
    folder: str | Path = FOLDER,
    class_names: tuple[str, ...] = tuple("0123456789"),
    nets: int = 3,
    epochs: int = 3,
    rate: float = 2e-3,
) -> list[nn.Module]:
    """Trains the nets, and writes `teachers.npz`, the logits of all, and `net.npz`, the weights of
    the first, which `live.py` reads."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    examples = {split: kdjax.examples(data, split) for split in SPLITS}
    trained = [train(*examples["train"], seed, epochs, rate) for seed in range(nets)]
    logits = {s: np.stack([logits_of(net, x) for net in trained]) for s, (x, _) in examples.items()}
    inputs = {split: x for split, (x, _) in examples.items()}
    kdjax.save_logits(folder / "teachers.npz", logits, inputs, class_names)
    np.savez(folder / "net.npz", **{k: v.numpy() for k, v in trained[0].state_dict().items()})
    wrong = (logits["test"].argmax(axis=2) != examples["test"][1]).sum(axis=1)
    print(f"test errors of {len(inputs['test'])}, by net: {', '.join(map(str, wrong))}")
    return trained


if __name__ == "__main__":
    main()
