"""What `configs/ensemble_to_one.py:DATA` gives on data sets as they come, beside a plain net.

    python -m benchmarks.first_run DATA[,FIELD=VALUE ...] [...]

DATA is as in the config, and the fields are of the data set: omniglot,train_splits=small1+small2.
A row of docs/first_run.md for each: the errors of the command's stages, and those of a plain net of
the student's size, tuned for the set on its labels: scikit-learn's MLPClassifier by
cross-validation for a dense net on up to 5,000 examples, else a net of Flax Linen with Optax by the
validation split. Both see what the baseline sees, the same training examples, standardised, and
images shifted as there; the test split is seen once.
"""

import itertools
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import kdjax
from configs import ensemble_to_one
from kdjax.config import parse
from kdjax.config.spec import ExperimentSpec
from kdjax.data import Dataset
from kdjax.experiment import load

RATES, DECAYS = (0.001, 0.003, 0.01), (0.01, 0.1)
FEW = 5000  # training examples, of which scikit-learn makes its search in minutes
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def row(data: str, workdir: Path) -> dict[str, str]:
    """A line of the table."""
    name, *fields = data.split(",")
    given = dict(field.split("=", 1) for field in fields)
    dataset = {name: int(value) if value.isdigit() else value for name, value in given.items()}
    config = ensemble_to_one.get_config(dataset=dict(name=name, **dataset))
    started, used = time.monotonic(), time.process_time()
    report = kdjax.run(config, workdir / Path(name).stem)
    seconds, cpu = time.monotonic() - started, time.process_time() - used
    spec = parse(config)
    loaded = load(spec)
    splits = {split: _seen(loaded, split) for split in ("train", "validation", "test")}
    labels = splits["test"][1]
    chance = len(labels) - np.bincount(labels, minlength=loaded.classes).max()
    plain = np.array(_plain(spec, splits, loaded.classes))
    errors = {r.stage: r for r in report.rows}
    of_stages = {
        stage: f"{errors[stage].mean('errors'):.1f} ± {errors[stage].std('errors'):.1f}"
        for stage in ("teachers", "baseline", "distilled")
    }
    return {
        "data": Path(name).stem,
        "of": f"{len(labels):,}",
        "chance": str(chance),
        "n": str(errors["baseline"].members),
        **of_stages,
        "plain net": f"{plain.mean():.1f} ± {plain.std(ddof=1):.1f}",
        "seconds": f"{seconds:.0f}",
        "CPU seconds": f"{cpu:.0f}",
    }


def _seen(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [N, ...], scaled as the experiment's nets see them, and labels [N]."""
    inputs, labels = dataset.arrays(split)
    mean, scale = (np.float32(v) for v in vars(dataset.preprocessing).values())
    return (inputs.astype(np.float32) - mean) * scale, labels


def _plain(spec: ExperimentSpec, splits: Splits, classes: int) -> list[int]:
    """Test errors of the plain net, one for each seed."""
    net = dict(spec.stages[1].model.arguments)
    seeds = dict(spec.stages[1].members)["seed"]
    if "hidden" in net and len(splits["train"][1]) <= FEW:
        return _columns(net["hidden"], splits, seeds)
    validated = lambda numbers: _images(spec, net, splits, classes, numbers, 0, "validation")
    numbers = min(itertools.product(RATES, DECAYS), key=validated)
    return [_images(spec, net, splits, classes, numbers, seed, "test") for seed in seeds]


def _columns(hidden: tuple[int, ...], splits: Splits, seeds: Iterable[int]) -> list[int]:
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    grid = {"alpha": (1e-4, 1e-2, 1.0), "learning_rate_init": RATES}
    (x, y), (test, labels) = (splits[split] for split in ("train", "test"))
    x, test = (inputs.reshape(len(inputs), -1) for inputs in (x, test))
    net = lambda seed: MLPClassifier(hidden, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        best = GridSearchCV(net(0), grid, cv=3).fit(x, y).best_params_
        fitted = (net(seed).set_params(**best).fit(x, y) for seed in seeds)
        return [int((each.predict(test) != labels).sum()) for each in fitted]


class PlainNet(nn.Module):
    """Convolutions, normalisation, ReLU and pooling as in Flax's own examples, then two layers; of
    the first alone where there are no channels."""

    classes: int
    channels: tuple[int, ...]
    dense: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for width in self.channels:
            x = nn.Conv(width, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.dense)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(x)


def _images(
    spec: ExperimentSpec,
    net: dict[str, Any],
    splits: Splits,
    classes: int,
    numbers: tuple[float, float],
    seed: int,
    split: str,
) -> int:
    """Errors on a split of one net, trained for as many steps as the baseline is."""
    stage, (x, y) = spec.stages[1], splits["train"]
    model = PlainNet(classes, *_widths(net))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, numbers[0], stage.optimizer.warmup_steps, stage.steps
    )
    optimizer = optax.adamw(schedule, weight_decay=numbers[1])
    variables = model.init(jax.random.key(seed), x[:1], train=False)
    state = variables, optimizer.init(variables["params"])

    @jax.jit
    def step(state: Any, x: jax.Array, y: jax.Array) -> Any:
        variables, opt = state

        def loss(params: Any) -> Any:
            logits, changed = model.apply(
                variables | {"params": params}, x, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), changed

        gradient, changed = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt = optimizer.update(gradient, opt, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **changed}, opt

    rng = np.random.default_rng(seed)
    for at in itertools.islice(_batches(len(x), stage.batch, rng), stage.steps):
        state = step(state, _moved(x[at], rng, stage.augment.shift, stage.augment.flip), y[at])
    evaluate = jax.jit(lambda x: model.apply(state[0], x, train=False).argmax(-1))
    inputs, labels = splits[split]
    parts = range(0, len(labels), 1000)
    return sum(int(jnp.sum(evaluate(inputs[i : i + 1000]) != labels[i : i + 1000])) for i in parts)


def _widths(net: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """The channels, and the width of the layer before the logits."""
    return ((), *net["hidden"]) if "hidden" in net else (net["channels"], net["dense"])


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        order = rng.permutation(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))


def _moved(x: np.ndarray, rng: np.random.Generator, shift: int, flip: bool) -> np.ndarray:
    """[B, H, W, C], each image moved by up to `shift` pixels, and flipped or not."""
    if not (shift or flip):
        return x
    height, width = x.shape[1:3]
    edges = [(0, 0), (shift, shift), (shift, shift), (0, 0)]
    padded, moved = np.pad(x, edges, mode="edge"), np.empty_like(x)
    for i, (down, right) in enumerate(rng.integers(0, 2 * shift + 1, (len(x), 2))):
        moved[i] = padded[i, down : down + height, right : right + width]
        if flip and rng.random() < 0.5:
            moved[i] = moved[i, :, ::-1]
    return moved


if __name__ == "__main__":
    kdjax.use_machine()
    for number, data in enumerate(sys.argv[1:]):
        found = row(data, Path("runs/first_run"))
        if not number:
            print(f"\n| {' | '.join(found)} |\n| :--- |{' ---: |' * (len(found) - 1)}")
        print(f"| {' | '.join(found.values())} |", flush=True)
