"""What a process without the code that made a run makes of its stages; run as a script."""

import sys
from pathlib import Path

import numpy as np

import kdjax


def of_stages(workdir: Path, names: list[str], inputs: Path) -> dict[str, np.ndarray]:
    """Logits [M, N, C] of each stage on the test inputs, and those of students that all of the
    stages have taught, as "student"."""
    given = np.load(inputs)
    stages = [kdjax.open_stage(workdir / name) for name in names]
    student = kdjax.distill(
        dict(name="mlp", hidden=(16,)),
        tuple(str(workdir / name) for name in names),
        kdjax.arrays(train=(given["train"], given["labels"]), test=(given["test"], given["zeros"])),
        learning_rate=0.01,
        temperature=2.0,
        seeds=2,
        steps=6,
        quiet=True,
    )
    return {stage.name: stage.predict(given["test"]) for stage in (*stages, student)}


if __name__ == "__main__":
    workdir, inputs, logits, forbidden, *names = sys.argv[1:]
    found = of_stages(Path(workdir), names, Path(inputs))
    if forbidden in sys.modules:
        sys.exit(f"{forbidden} was imported")
    np.savez(logits, **found)
