"""The stages of a data set of which no more is known than its kind: what is trained, and how long.

The rates, decays and temperature of `columns`, and the rates of images, were chosen on validation
data of three sets each, and the decays of `images` on those of CIFAR-10; docs/first_run.md has the
figures.
"""

from typing import Any

from ml_collections import ConfigDict

from kdjax.config import Facts, stage

# large, small: the nets of the teachers and of the students.
# rates, decays: of the optimizer AdamW, for teachers, baseline and taught students.
# epochs: of the train split, unless they are fewer or more steps than `steps` allows.
# batch: at most; a quarter of a smaller train split.
# shift: pixels; nothing is flipped, for letters and signs are not what they are in a mirror.
# seeds: members of every stage.
IMAGES = dict(
    large=dict(name="cnn", channels=(16, 32, 64), dense=64, norm="batch", dropout=0.25),
    small=dict(name="cnn", channels=(8, 16, 32), dense=32, norm="batch"),
    rates=(0.005, 0.01, 0.01),
    decays=(0.1, 0.1, 0.1),
    temperature=2.0,
    batch=100,
    epochs=30,
    steps=(600, 800),
    shift=2,
    seeds=4,
)
KINDS = dict(
    columns=dict(
        large=dict(name="mlp", hidden=(128, 128), dropout=0.2),
        small=dict(name="mlp", hidden=(16,)),
        rates=(0.001, 0.01, 0.01),
        decays=(0.1, 1.0, 1.0),
        temperature=1.0,
        batch=100,
        epochs=100,
        steps=(500, 5000),
        shift=0,
        seeds=10,
    ),
    few_images=IMAGES | dict(batch=50, epochs=100, steps=(400, 1000)),
    many_classes=IMAGES
    | dict(
        large=IMAGES["large"] | dict(dense=128),
        small=IMAGES["small"] | dict(dense=64),
    ),
    images=IMAGES | dict(decays=(1.0, 1.0, 0.3)),
)
OF_COLUMNS = dict(
    rates=(0.003, 0.01, 0.03), decays=(0.01, 0.1, 1.0), temperatures=(1.0, 2.0, 4.0), seeds=5
)
OF_IMAGES = dict(rates=(0.003, 0.01), decays=(0.1, 0.3, 1.0), temperatures=(2.0, 4.0), seeds=2)
SMALLEST = 12  # pixels: a convolutional net has nothing to halve in smaller images
FEW = 2000  # training examples
MANY = 50  # classes


def kind_of(facts: Facts) -> str:
    """The row of `KINDS` for a data set."""
    if len(facts.input_shape) != 3 or min(facts.input_shape[:2]) < SMALLEST:
        return "columns"
    if facts.classes > MANY:
        return "many_classes"
    return "few_images" if facts.examples < FEW else "images"


def stages_of(facts: Facts) -> tuple[dict[str, ConfigDict], dict[str, Any], str]:
    """The stages for a data set; the grid of `tune`, from which the numbers of its row were
    chosen; and one line that says what was chosen and how to change it."""
    kind = kind_of(facts)
    row = KINDS[kind]
    batch = max(1, min(row["batch"], facts.examples // 4))
    steps = _between(row["epochs"] * facts.examples // batch, *row["steps"])
    both = dict(
        batch=batch,
        steps=steps,
        chunk=max(1, steps // 10),
        augment=dict(shift=row["shift"]),
        order="shared" if row["shift"] else "own",  # so that live teachers see each view once
        members=dict(seed=row["seeds"]),
    )
    optimizers = [
        dict(learning_rate=rate, weight_decay=decay, warmup_steps=steps // 20)
        for rate, decay in zip(row["rates"], row["decays"], strict=True)
    ]
    small = dict(model=row["small"], teacher="teachers", **both)
    logits = "live" if row["shift"] else "cached"
    soft = dict(temperature=row["temperature"], teacher_logits=logits, optimizer=optimizers[2])
    stages = dict(
        teachers=stage(model=row["large"], optimizer=optimizers[0], **both),
        baseline=stage(optimizer=optimizers[1], **small),
        distilled=stage(objective=dict(kl_divergence=1.0, cross_entropy=0.5), **small, **soft),
    )
    shape = "x".join(map(str, facts.input_shape)) + " columns" * (len(facts.input_shape) == 1)
    scaled = f", scaled to {facts.image_size} pixels" * bool(facts.image_size)
    described = f"{facts.examples:,} examples of {shape} in {facts.classes} classes{scaled}"
    recipe = (
        f"defaults for {kind} ({described}): "
        f"{_net(row['large'])} teaches {_net(row['small'])}, rates {row['rates'][0]:g} and "
        f"{row['rates'][1]:g}, {steps} steps of {batch} examples; to change a field: "
        f"--config.stages.baseline.steps={2 * steps}"
    )
    drawn = facts.examples < FEW and not facts.own_validation
    validation = facts.examples // 3 if drawn else 0
    grid = dict(OF_COLUMNS if kind == "columns" else OF_IMAGES, validation=validation)
    return stages, grid, recipe


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _net(model: dict) -> str:
    widths = model["hidden"] if "hidden" in model else (*model["channels"], model["dense"])
    return f"{model['name']} {'-'.join(map(str, widths))}"
