"""The classes of a teacher and those of its student, matched by name.

Axes: K teachers, B or n examples, C classes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import rules
from kdjax.data import listed
from kdjax.data.classes import checked_names, composed
from kdjax.nets.net import Array, Outputs, PyTree
from kdjax.rules import InputError, shown
from kdjax.teachers import Asked, Teacher, as_teacher


@dataclass(frozen=True)
class ClassMap:
    """What becomes of classes that only one of teacher and student has."""

    #: Classes that only the teacher has: "refuse" them; "renormalise", which leaves out their
    #: logits, so that the softmax of the others has sum 1; or "other", which adds their mass at
    #: temperature 1 to the student's class of the name `other`.
    extra: str = rules.field("refuse", rules.one_of(("refuse", "renormalise", "other")))
    #: The student's class that has the mass of the teacher's extra classes.
    other: str = rules.field("other", rules.text())
    #: Classes that only the student has: "refuse" them, or "zero": the teacher gives them no mass,
    #: a logit of -inf.
    missing: str = rules.field("refuse", rules.one_of(("refuse", "zero")))


def check_chosen(chosen: ClassMap, teachers: bool, path: str) -> None:
    """Whether a stage with or without teachers reads what was chosen.

    Raises:
      InputError: it does not.
    """
    if chosen != ClassMap() and not teachers:
        raise InputError(f"{path} is {shown(chosen)}, but there is no teacher; it must be left out")
    if chosen.other != ClassMap.other and chosen.extra != "other":
        raise InputError(
            f"{path}.other is {shown(chosen.other)}, but {path}.extra is {chosen.extra!r}; it must "
            "be 'other', to add the mass to that class"
        )


def with_class_names(teacher: Any, class_names: Sequence[str]) -> Teacher:
    """A teacher whose classes have names, by which they are matched with the student's.

        teacher = kdjax.with_class_names(kdjax.function(apply, params), ["cat", "dog", "fish"])
        kdjax.distill(net, teacher, data, class_map=dict(extra="renormalise"))

    Args:
      teacher: whatever `distill` takes as one: a pure function with its parameters, a stage,
        logits.
      class_names: [C] in the order of its logits.

    Raises:
      InputError: it is no teacher, or its logits have another number of classes.
    """
    found = as_teacher(teacher, "teacher")
    classes = {count for _, count in found.sizes.values()} or {len(found.class_names)} - {0}
    names = checked_names("class_names", class_names, classes.pop() if classes else None)
    return dataclasses.replace(
        found,
        class_names=names,
        identity=[found.identity, names],
        part=lambda size: with_class_names(found.part(size), names),
    )


def matched(teacher: Teacher, names: tuple[str, ...], chosen: ClassMap, path: str) -> Teacher:
    """The teacher with the student's classes [C], in its order.

    Classes are matched by name; those of a teacher without names by place.

    Args:
      names: of the student's classes.
      path: of the field that has the teacher, for messages.

    Raises:
      InputError: the classes are not the same, and `chosen` does not say what becomes of them.
    """
    own = teacher.class_names
    if not own or own == names or teacher.scope in ("population", "member"):
        return teacher
    extra = tuple(name for name in own if name not in names)
    fed = extra if chosen.extra == "other" else ()
    says = f"{path} is {teacher.name!r}"
    if not set(own) & set(names):
        raise InputError(
            f"{says}, none of whose classes {shown(', '.join(own))} is one of the data set's "
            f"{shown(', '.join(names))}; some must have the same name, which "
            "kdjax.with_class_names gives those of a teacher"
        )
    if extra and chosen.extra == "refuse":
        raise InputError(
            f"{says}, whose classes {listed(extra)} the data set does not have; class_map.extra "
            "must be 'renormalise', to leave them out, or 'other', to add their mass to the class "
            "of the name class_map.other"
        )
    other = composed(chosen.other)
    if fed and other not in names:
        raise InputError(
            f"class_map.other of {path} is {shown(chosen.other)}; it must be one of the data set's "
            f"classes {shown(', '.join(names))}"
        )
    joins = lambda name, mine: mine == name or (mine in fed and name == other)
    sources = [[place for place, mine in enumerate(own) if joins(name, mine)] for name in names]
    missing = tuple(name for name, places in zip(names, sources, strict=True) if not places)
    if missing and chosen.missing == "refuse":
        raise InputError(
            f"{says}, which does not know the data set's classes {listed(missing)}; "
            "class_map.missing must be 'zero', so that it gives them no mass"
        )
    notes = []
    if extra:
        became = f"added to {chosen.other!r}" if fed else "left out, and the rest renormalised"
        notes.append(f"{len(extra)} of its {len(own)} classes {became}")
    if missing:
        notes.append(f"no mass for {shown(', '.join(missing))}")
    note = f"{teacher.name}: {' and '.join(notes)}" if notes else ""
    return dataclasses.replace(_mapped(teacher, names, sources), masked=missing, note=note)


def _mapped(teacher: Teacher, names: tuple[str, ...], sources: list[list[int]]) -> Teacher:
    """The teacher with logits of other classes, each the sum of the mass of some of its own."""

    def apply(variables: PyTree, inputs: Array, taps: tuple[str, ...]) -> Outputs:
        outputs = teacher.apply(variables, inputs, taps)
        if outputs.logits.shape[-1] != len(teacher.class_names):
            raise InputError(
                f"it has {len(teacher.class_names)} names of classes, and logits of "
                f"{outputs.logits.shape[-1]}; there must be as many"
            )
        return outputs._replace(logits=joined(outputs.logits, sources))

    def predict(asked: Asked) -> np.ndarray | None:
        found = teacher.predict(asked)
        return None if found is None else np.asarray(joined(found, sources))

    return dataclasses.replace(
        teacher,
        identity=[teacher.identity, names, sources],
        apply=apply,
        predict=predict,
        part=lambda size: _mapped(teacher.part(size), names, sources),
        sizes={split: (count, len(names)) for split, (count, _) in teacher.sizes.items()},
        class_names=names,
    )


def joined(logits: Array, sources: Sequence[Sequence[int]]) -> jax.Array:
    """Logits [..., C] of other classes [..., len(sources)], at least float32: of each the log of
    the summed exponentials of the logits at its places, -inf where it has none."""
    logits = jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32))
    nothing = jnp.full((*logits.shape[:-1], 1), -jnp.inf, logits.dtype)
    first = np.array([places[0] if places else logits.shape[-1] for places in sources])
    found = jnp.concatenate([logits, nothing], axis=-1)[..., first]
    for number, places in enumerate(sources):
        if len(places) > 1:
            mass = jax.nn.logsumexp(logits[..., np.array(places)], axis=-1)
            found = found.at[..., number].set(mass)
    return found
