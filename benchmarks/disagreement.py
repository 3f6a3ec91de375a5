"""How well the uncertainty of an ensemble, and of its students, tells MNIST from other sets.

    python -m benchmarks.disagreement [WORD[,WORD ...]]

The words are those of configs/disagreement.py. The other sets are CIFAR-10's test images and
Omniglot's small2, as they are in $TFDS_DATA_DIR, scaled to 28 x 28; a grey image is the mean of the
three channels; Omniglot's black ink on white becomes white on black, as MNIST's is. A row for each
kind of net and each measure, with the area under the ROC curve: 0.5 is chance. Means and standard
deviations are over seeds; the students of all seeds have the same teachers, so that their
differences are not of other ensembles.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import kdjax
from configs import disagreement as config_file
from kdjax import nets
from kdjax.disagreement import auroc, of_dirichlet, of_nets
from kdjax.raw import in_batches
from kdjax.stage import Stage
from kdjax.views import preprocess

WORKDIR = Path("runs/disagreement")
OTHERS = {
    "cifar10": dict(name="cifar10", image_size=28),
    "omniglot": dict(name="omniglot", image_size=28, train_splits="small1", test_splits="small2"),
}
SHOWN = ("predictive_entropy", "mutual_information")


def main(words: str) -> None:
    kdjax.use_machine()
    config = config_file.get_config(words)
    workdir = WORKDIR / (words.replace(",", "-") or "cpu")
    kdjax.run(config, workdir)
    images = {"mnist": kdjax.examples(config, "test")[0]}
    images |= {name: others(name) for name in OTHERS}
    print(table(workdir, config.stages.heads.model.to_dict(), images))


def others(name: str) -> np.ndarray:
    """The images of another set as MNIST's are, [N, 28, 28, 1] of 0 to 255."""
    images, _ = kdjax.examples(dict(dataset=OTHERS[name]), "test")
    grey = images.mean(axis=3, keepdims=True)
    grey = 255 - grey if name == "omniglot" else grey
    return np.rint(grey).astype(np.uint8)


def table(workdir: Path, model: Mapping[str, Any], images: dict[str, np.ndarray]) -> str:
    """Markdown: the area under the ROC curve of every kind of net and every measure.

    Args:
      workdir: of the run.
      model: the net with heads, as the config has it.
      images: by set, that of the run first.
    """
    lines = [f"| nets | measure | {' | '.join(list(images)[1:])} | n |", "| --- | --- |"]
    lines[1] += " ---: |" * len(images)
    for kind, measures in uncertainties(workdir, model, images).items():
        for measure in SHOWN:
            if any(measure not in found for found in measures["mnist"]):
                continue
            cells = []
            for other in list(images)[1:]:
                pairs = zip(measures["mnist"], measures[other], strict=True)
                areas = [auroc(ours[measure], theirs[measure]) for ours, theirs in pairs]
                cells.append(with_spread(areas))
            name = measure.replace("_", " ")
            lines.append(f"| {kind} | {name} | {' | '.join(cells)} | {len(areas)} |")
    return "\n".join(lines)


def with_spread(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def uncertainties(
    workdir: Path, model: Mapping[str, Any], images: dict[str, np.ndarray]
) -> dict[str, dict[str, list[dict[str, np.ndarray]]]]:
    """{kind of net: {set: [the measures [N] of each member]}}; those of a net alone are its
    entropy."""
    names = "teachers", "mean", "dirichlet"
    teachers, mean, dirichlet = (kdjax.open_stage(workdir / name) for name in names)
    heads = kdjax.open_stage(workdir / "heads", nets.build(model, teachers.meta["classes"]))
    found: dict[str, dict[str, list[dict[str, np.ndarray]]]] = {}

    def note(kind: str, name: str, measures: list[dict[str, np.ndarray]]) -> None:
        found.setdefault(kind, {})[name] = measures

    for name, inputs in images.items():
        logits = teachers.predict(inputs)
        note("the ensemble", name, [of_nets(logits)])
        note("one teacher", name, [alone(z) for z in logits])
        note("student of the mean", name, [alone(z) for z in mean.predict(inputs)])
        note("Dirichlet student", name, [of_dirichlet(z) for z in dirichlet.predict(inputs)])
        each = by_head(heads, inputs)
        note("student with heads", name, [of_nets(np.moveaxis(z, 1, 0)) for z in each])
    return found


def alone(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Of one net, which does not disagree with itself."""
    return {"predictive_entropy": of_nets(logits[None])["predictive_entropy"]}


def by_head(stage: Stage, inputs: np.ndarray) -> np.ndarray:
    """What each head of each member says, [M, N, K, C]."""

    @jax.jit
    def heads(inputs: jax.Array) -> jax.Array:
        seen = preprocess(inputs, stage.preprocessing)
        return stage.forward(stage.variables, seen, ("heads",)).features["heads"]

    return in_batches(lambda part: np.asarray(heads(part)), inputs, axis=1)


if __name__ == "__main__":
    main(",".join(sys.argv[1:]))
