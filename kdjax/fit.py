"""Whether finished stages and teachers fit a data set and a stage, and both the memory there is;
nothing is computed."""

import dataclasses
from typing import Any

import jax
import numpy as np

from kdjax import logits_file, nets, parallel
from kdjax.config.spec import StageSpec, TermSpec, grid, plain
from kdjax.data import Dataset, difference, fetch, numbered, scan
from kdjax.data.given import check_columns
from kdjax.host import memory
from kdjax.nets.net import Array, Net, Variables
from kdjax.nets.trees import Form
from kdjax.raw import accepted
from kdjax.rules import InputError, shown
from kdjax.stage import Stage
from kdjax.teachers import Asked, Teacher

READ = 10_000  # examples whose logits are in memory at once
FEW = 8  # examples that a teacher from elsewhere is tried on


def check_fit(
    opened: Stage, dataset: Dataset, path: str, reference: str | Stage, as_teacher: bool = False
) -> None:
    """Whether a stage takes this data set's examples and, unless it is a teacher, whose classes may
    be matched, has its classes."""
    says = f"{path} is {reference!r}"
    differ = "" if as_teacher else difference(opened.class_names, dataset.class_names)
    if differ:
        numbered_only = [numbered(len(n)) == n for n in (opened.class_names, dataset.class_names)]
        hint = "; class_names of the arrays, or in their .npz file, give names" * any(numbered_only)
        raise InputError(
            f"{says}, whose {differ}; all classes must be the same, in the same order{hint}"
        )
    ours = {
        "input_shape": list(dataset.input_shape),
        "input_dtype": dataset.input_dtype,
        "preprocessing": plain(dataset.preprocessing),
    }
    for what, here in ours.items():
        there = opened.meta[what]
        if there != here:
            raise InputError(
                f"{says}, whose {what} {there} differs from this data set's {here}; the two must "
                "be equal"
            )
    known = opened.meta.get("columns") or ()
    check_columns(f"{says}, whose inputs", known, dataset.columns, "this data set")
    (low, high), here = accepted(opened.meta), dataset.input_range
    if here and not (low <= here[0] and here[1] <= high):
        raise InputError(
            f"{says}, whose inputs {opened.meta['input_range']} have another range than this data "
            f"set's {list(here)}; the two must be alike"
        )


def check_sizes(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether logits are of this data set's examples and classes."""
    for split, (count, classes) in teacher.sizes.items():
        here = len(dataset.splits[split]), dataset.classes
        both = len(dataset.splits["train"]) + len(dataset.splits["validation"])
        hint = ", for the others are for validation: kdjax.examples(data, 'train') gives those"
        hint *= split == "train" and count == both
        if (count, classes) != here:
            raise InputError(
                f"{path} is {teacher.name!r}, whose {split} logits are of {count} examples and "
                f"{classes} classes; they must be of {here[0]} and {here[1]}{hint}"
            )


def check_inputs(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether logits are of this data set's inputs, where they tell the digest of theirs."""
    for split, digest in teacher.inputs.items():
        own = dataset.splits[split]
        if logits_file.inputs_digest(len(own), scan.parts(own)) != digest:
            raise InputError(
                f"{path} is {teacher.name!r}, whose {split} logits are of other inputs, or of the "
                f"same in another order; they must be of those that kdjax.examples(config, "
                f"{split!r}) gives for this config"
            )


def check_agreement(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether each teacher's training logits agree with the labels better than two classifiers do
    that know nothing of each other (the chance of Cohen's kappa), by three standard errors."""
    labels = dataset.splits["train"].labels
    labelled = np.flatnonzero(labels >= 0)
    if not teacher.against_labels or not len(labelled):
        return
    labels = labels[labelled]
    asked = lambda part: Asked("train", part, np.empty((0,)), dataset.preprocessing)
    places = np.split(labelled, np.arange(READ, len(labelled), READ))
    logits: Any = [teacher.predict(asked(part)) for part in places]
    predicted = np.concatenate([z.argmax(axis=2) for z in logits], axis=1)
    share = lambda x: np.bincount(x, minlength=dataset.classes) / len(x)
    count = len(labels)
    for number, its in enumerate(predicted):
        chance = float(share(labels) @ share(its))
        least = chance + 3 * np.sqrt(chance * (1 - chance) / count)
        right = int((its == labels).sum())
        if right < least * count and least < (1 + chance) / 2:  # else the examples are too few
            raise InputError(
                f"{path} is {teacher.name!r}, whose teacher {number} of {len(predicted)} names the "
                f"label of {right:,} of {count:,} training examples, where {chance * count:,.0f} "
                "are expected by chance; its logits must be of the examples in their order "
                "(kdjax.logits takes them as they are with against_labels=False)"
            )


def check_unscaled(teacher: Teacher, dataset: Dataset, path: str) -> None:
    """Whether a teacher from elsewhere gives logits, and not probabilities, of a few examples."""
    inputs = fetch(dataset.splits["train"], np.arange(min(FEW, len(dataset.splits["train"]))))
    logits = teacher.predict(Asked("train", np.arange(len(inputs)), inputs, dataset.preprocessing))
    if logits is not None and logits_file.are_probabilities(logits):
        raise InputError(
            f"{path} is {teacher.name!r}, whose outputs are probabilities, none below 0 and the "
            "sum of each row 1; they must be what the softmax is taken of"
        )


def check_masked(stage: StageSpec, teachers: tuple[str | Teacher, ...], path: str) -> None:
    """Whether the objective bears teachers without mass on some classes."""
    masked = [t for t in teachers if isinstance(t, Teacher) and t.masked]
    infinite = [part.name for part in stage.objective if _needs_every_class(part, stage)]
    if masked and infinite:
        raise InputError(
            f"{path}.objective has {infinite[0]}, which needs the logit of every class, but the "
            f"teacher {masked[0].name!r} does not know {shown(', '.join(masked[0].masked))}; it "
            "must be another term, such as kl_divergence"
        )


def check_heads(stage: StageSpec, path: str) -> None:
    """Whether every teacher teaches every member, where each has a head of its own."""
    if not any(part.source == "per_teacher" for part in stage.objective):
        return
    sizes = [member.get("ensemble_size", 0) for member in grid(stage)]
    inside = f" and the teacher is {stage.inside.name!r}" if stage.inside else ""
    if stage.mixing != "all" or any(sizes) or inside:
        raise InputError(
            f"{path}.objective has per_teacher, but mixing is {stage.mixing!r}, ensemble_size is "
            f"{max(sizes)}{inside}; all teachers must teach every member, or heads that nobody "
            "teaches would be averaged"
        )


def _needs_every_class(part: TermSpec, stage: StageSpec) -> bool:
    """Whether a row of the table costs infinity where a class has mass in the student alone."""
    row = dict(part.options).get("term", part.source)
    reverse = row == "jensen_shannon" and any(m[f"{part.name}.beta"] == 1 for m in grid(stage))
    derived = part.term.directions is not None and part.term.is_taught
    return row in ("logit_matching", "log_softmax_l2", "reverse_kl") or reverse or derived


def traced(teacher: Teacher, dataset: Dataset, path: str, taps: tuple[str, ...] = ()) -> Teacher:
    """A teacher from elsewhere, with what its traced program tells of it: its kind, and what tells
    it from another of that name.

    Raises:
      InputError: it does not take this data set's examples or has other classes, its outputs for
        one depend on the other examples, or it has no such layers.
    """
    net, classes = _as_net(teacher), dataset.classes
    facts = nets.checked(net, dataset.input_shape, classes, path, taps, trained=False)
    found = nets.identified(net, facts, path)
    own = [teacher.identity, found["start"], found["programs"]]
    return dataclasses.replace(teacher, identity=own, kind=facts.kind)


def _as_net(teacher: Teacher) -> Net:
    """The first of the teachers, by the program of all."""
    form = Form.of(teacher.variables)

    def apply(variables: Variables, inputs: Array, training: Any, taps: tuple[str, ...]) -> Any:
        outputs = teacher.apply(form.tree(variables["params"]), inputs, taps)
        shape = outputs.logits.shape
        if len(shape) != 3 or shape[0] != teacher.count:
            raise InputError(
                f"its logits have the shape {shape}; it must be [{teacher.count}, B, C]"
            )
        return jax.tree.map(lambda x: x[0], outputs), {}

    init = lambda key, inputs: {"params": form.nested(teacher.variables)}
    return Net(init, apply, teacher.name, {})


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


def check_start(
    stage: StageSpec,
    start: str,
    teacher: str,
    its: str | None,
    members: list[dict[str, Any]],
    path: str,
) -> None:
    """Whether no member of a stage starts as a member of its teacher did.

    Args:
      start, its: what tells how the net of each is made of a seed.
      members: the teacher's.
    """
    own, seeds = {m["seed"] for m in grid(stage)}, {m["seed"] for m in members}
    if start == its and own & seeds:
        first = int(max(seeds)) + 1
        others = tuple(range(first, first + len(own)))
        raise InputError(
            f"{path}.members.seed has {min(own & seeds)}, as has its teacher {teacher!r} of the "
            "same net, so that they would start from the same parameters; use other seeds, such as "
            f"{shown(others)}"
        )


def check_members(count: int, stage: StageSpec, path: str) -> None:
    """Whether so many members can be the start of a stage's."""
    members = len(grid(stage))
    if count not in (1, members):
        raise InputError(
            f"{path} is {stage.init_from!r} with {count} members; it must have 1, or as many as "
            f"the stage, {members}"
        )


def check_memory(
    stage: StageSpec, parameters: list[tuple[int, ...]], example: tuple[int, ...], path: str
) -> None:
    """Whether the least that the stage must hold fits, by the shapes of one member's parameters and
    of one example; all in numbers of 4 bytes."""
    members = len(grid(stage))
    says = f"{path}.model is {stage.model.name!r}, whose parameters are"
    memory.check(says, [((members, *shape), 4) for shape in parameters])
    batches = members if stage.order == "own" else 1
    says = f"{path}.batch is {stage.batch}, for which a chunk needs"
    chunk = (batches, min(stage.chunk, stage.steps), stage.batch)
    memory.check(says, [(chunk, 4), ((batches, stage.batch, *example), 4)])


def check_resident(dataset: Dataset, examples: int, layout: parallel.Layout) -> None:
    """Whether the examples fit in memory; each device of a CPU holds a copy, all in one memory."""
    one = fetch(dataset.splits["train"], np.arange(1))
    copies = layout.own if jax.default_backend() == "cpu" else 1
    says = (
        f"config.dataset.resident is True (False reads as they are needed), but {copies} x "
        f"{examples} examples are"
    )
    memory.check(says, [((copies, examples, *one.shape[1:]), one.itemsize)])


def check_logits(
    stage: StageSpec, shape: tuple[int, int, int], layout: parallel.Layout, path: str
) -> None:
    """Whether the teachers' logits [N, K, C] fit in memory, on the host and on a CPU's devices."""
    copies = 1 + (layout.own if jax.default_backend() == "cpu" else 0)
    says = f"{path}.teacher_logits is {stage.teacher_logits!r}, and {copies} x {shape} logits are"
    itemsize = 2 if stage.teacher_logits == "cached_float16" else 4
    memory.check(says, [((copies, *shape), itemsize)])
