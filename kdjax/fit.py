"""Whether finished stages and teachers fit a data set and a stage; nothing is computed."""

import jax

from kdjax.config.spec import StageSpec, grid, plain
from kdjax.data import Dataset, numbered
from kdjax.nets.net import Variables
from kdjax.rules import InputError, shown
from kdjax.stage import Stage
from kdjax.teachers import Teacher


def check_fit(opened: Stage, dataset: Dataset, path: str, reference: str) -> None:
    ours = {
        "classes": dataset.classes,
        "input_shape": list(dataset.input_shape),
        "input_dtype": dataset.input_dtype,
        "preprocessing": plain(dataset.preprocessing),
    }
    for what, here in ours.items():
        there = opened.meta[what]
        if there != here:
            raise InputError(
                f"{path} is {reference!r}, whose {what} {there} differs from this data set's "
                f"{here}; the two must be equal"
            )
    names = zip(dataset.class_names, opened.class_names, strict=True)
    other = next(((n, here, there) for n, (here, there) in enumerate(names) if here != there), None)
    nameless = numbered(dataset.classes)
    if other and nameless not in (dataset.class_names, opened.class_names):
        number, here, there = other
        raise InputError(
            f"{path} is {reference!r}, whose class {number} is {shown(there)}; it must be "
            f"{shown(here)}, for all classes must be this data set's, in the same order"
        )


def check_sizes(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether logits are of this data set's examples and classes."""
    for split, (count, classes) in teacher.sizes.items():
        here = len(dataset.splits[split]), dataset.classes
        both = len(dataset.splits["train"]) + len(dataset.splits["validation"])
        hint = ", for the others are for validation" * (split == "train" and count == both)
        if (count, classes) != here:
            raise InputError(
                f"{path} is {teacher.name!r}, whose {split} logits are of {count} examples and "
                f"{classes} classes; they must be of {here[0]} and {here[1]}{hint}"
            )


def check_outputs(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether a function takes this data set's examples and has its classes, by shapes alone."""
    example = jax.ShapeDtypeStruct((1, *dataset.input_shape), "float32")
    try:
        outputs = jax.eval_shape(lambda v, x: teacher.apply(v, x, ()), teacher.variables, example)
        shape = outputs.logits.shape
    except Exception as error:  # whatever a user's function does
        why = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(
            f"{path} is {teacher.name!r}, which does not take examples of the shape "
            f"{dataset.input_shape}: {why}"
        ) from error
    if shape != (teacher.count, 1, dataset.classes):
        raise InputError(
            f"{path} is {teacher.name!r}, whose logits of one example are {shape[1:]}; they must "
            f"be (1, {dataset.classes})"
        )


def check_variables(
    theirs: str, variables: Variables, ours: str, expected: Variables, says: str
) -> None:
    """Whether one member of a net, `theirs`, can be the start of another, `ours`.

    Args:
      variables, expected: of each, or their shapes and dtypes.
      says: which stage it is, for the message.
    """
    forms = lambda tree: jax.tree.map(lambda x: f"{x.dtype}{x.shape}", tree)
    if forms(variables) != forms(expected):
        raise InputError(f"{says}, whose net {theirs} has other variables than this stage's {ours}")


def check_members(count: int, stage: StageSpec, path: str) -> None:
    """Whether so many members can be the start of a stage's."""
    members = len(grid(stage))
    if count not in (1, members):
        raise InputError(
            f"{path} is {stage.init_from!r} with {count} members; it must have 1, or as many as "
            f"the stage, {members}"
        )
