"""Which fields of a stage are read, so that one that nothing reads is refused."""

from collections.abc import Iterator

from kdjax.config.spec import StageSpec, weighs_labels
from kdjax.data import SubsetSpec
from kdjax.optim import OPTIMIZERS, OptimizerSpec
from kdjax.rules import InputError, shown

ALL = 1.0  # a subset's size or labelled part that leaves nothing out


def check_reads(stage: StageSpec, path: str) -> None:
    """Raises InputError if a field is not at its default and nothing in the stage reads it."""
    for field, value, default, why in _unread(stage):
        if value != default:
            raise InputError(
                f"{path}.{field} is {shown(value)}, which nothing in the stage reads: {why}; it "
                f"must be left at {default!r}"
            )


def _unread(stage: StageSpec) -> Iterator[tuple[str, object, object, str]]:
    """(field, value, default, why nothing reads it) of every field that is not read."""
    optimizer, terms = stage.optimizer, ", ".join(part.name for part in stage.objective)
    for name in ("learning_rate", "weight_decay", "momentum"):
        if name not in OPTIMIZERS[optimizer.name].hparams:
            why = f"the optimizer {optimizer.name!r} does not"
            default = getattr(OptimizerSpec(), name)
            yield f"optimizer.{name}", getattr(optimizer, name), default, why
    if not stage.reads_temperature:
        why = f"no term of the objective ({terms}) has it, or each has its own"
        yield "temperature", stage.temperature, StageSpec.temperature, why
    if not stage.anneals:
        why = f"no number of the objective ({terms}) has an end, such as weight_end"
        yield "annealing", stage.annealing, StageSpec.annealing, why
    if not stage.taught:
        why = f"no term of the objective ({terms}) has a teacher"
        for name in ("ensemble_size", "teacher_logits"):
            yield name, getattr(stage, name), getattr(StageSpec, name), why
        yield "subset.unlabelled", stage.subset.unlabelled, SubsetSpec.unlabelled, why
        if stage.inside:
            yield "teacher", (stage.inside.name,), (), why
    if stage.inside:
        why = f"its teacher is {stage.inside.name!r}"
        for name in ("ensemble_size", "mixing") + ("mean",) * (stage.inside.scope == "member"):
            yield name, getattr(stage, name), getattr(StageSpec, name), why
    if not stage.teacher:
        for name in ("mean", "mixing"):
            yield name, getattr(stage, name), getattr(StageSpec, name), "it has no teacher"
    subset = stage.subset
    if not any("labels" in part.term.needs for part in stage.objective):
        why = f"no term of the objective ({terms}) has labels"
        yield "subset.labelled", subset.labelled, SubsetSpec.labelled, why
    if subset.size == ALL and (subset.labelled == ALL or not weighs_labels(stage)):
        why = "all examples and all labels are taken"
        yield "subset.seed", subset.seed, SubsetSpec.seed, why
