"""The door of a notebook: the values of `mine.py` as they are.

python -m examples.your_own.notebook_door
"""

import kdjax
from examples.your_own.mine import (
    EquinoxNet,
    LinenNet,
    NnxNet,
    class_relation,
    digits,
    fitnet,
    machine,
    skew_reverse_kl,
)


def main(steps: int = 1500, quiet: bool = False) -> dict[str, kdjax.Stage]:
    fields = dict(steps=steps, learning_rate=0.01, quiet=quiet)
    teachers = kdjax.train(
        kdjax.linen(LinenNet(width=128)), digits, name="teachers", seeds=3, **fields
    )
    skewed = kdjax.distill(
        kdjax.nnx(NnxNet),
        teachers,
        digits,
        name="skewed",
        objective={skew_reverse_kl: dict(weight=1.0, skew=(0.1, 0.5))},
        temperature=2.0,
        seeds=2,
        **fields,
    )
    of_function = kdjax.distill(
        kdjax.equinox(EquinoxNet),
        machine,
        digits,
        name="of_function",
        objective=dict(kl_divergence=1.0, cross_entropy=0.5),
        temperature=(1.0, 2.0),
        seeds=2,
        **fields,
    )
    hinted = kdjax.distill(
        kdjax.nnx(NnxNet),
        teachers,
        digits,
        name="hinted",
        objective={"kl_divergence": 1.0, fitnet("hidden", "Dense_0"): 0.1},
        seeds=2,
        **fields,
    )
    related = kdjax.distill(
        kdjax.equinox(EquinoxNet),
        (teachers, machine),
        digits,
        name="related",
        objective={"cross_entropy": 1.0, class_relation: dict(weight=0.1, temperature=2.0)},
        seeds=2,
        **fields,
    )
    return {stage.name: stage for stage in (teachers, skewed, of_function, hinted, related)}


if __name__ == "__main__":
    kdjax.use_machine()
    main()
