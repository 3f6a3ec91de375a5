"""One term of an objective, for one member.

Axes: K teachers, B examples of the batch or of this device's part of it, C classes, N examples of
the stage.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.typing import ArrayLike

from kdjax.nets.net import Outputs
from kdjax.rules import InputError, Rule, check, number, shown, tuple_of

PyTree = Any
WEIGHT, TEMPERATURE, NUMBER = number(0, 1e6), number(1e-3, 1e4), number(-1e6, 1e6)
END = "_end"  # of a number: to which it moves over the steps of its stage
NEEDS = ("labels", "targets", "teacher", "index", "key")


@dataclass(frozen=True)
class Derivatives:
    """The derivatives of logits along the R directions of a term, `Term.directions`.

    Attributes:
      student: [B, R, C].
      teacher: [K, B, R, C], without a gradient.
      targets: (temperature or None) -> [B, R, C], those of `Context.targets`.
    """

    student: jax.Array
    teacher: jax.Array | None
    targets: Callable[[jax.Array | float | None], jax.Array]


def derivatives_of(
    term: str,
    student: Outputs,
    teacher: Outputs | None,
    mixed: Callable[[jax.Array, jax.Array | float | None], jax.Array],
) -> Derivatives | None:
    """Those of a term by its name, if it has directions; `mixed`: (those of the teachers [K, B, R,
    C], temperature or None) -> [B, R, C]."""
    if term not in student.derivatives:
        return None
    theirs = None if teacher is None else teacher.derivatives.get(term)
    targets = _no_targets if theirs is None else functools.partial(mixed, theirs)
    return Derivatives(student.derivatives[term], theirs, targets)


@dataclass(frozen=True)
class Context:
    """What a term is computed from.

    Attributes:
      student: logits [B, C], and the features that the term taps.
      teacher: logits [K, B, C] and features [K, B, ...] of the teachers, without a gradient.
      targets: (temperature or None) -> [B, C], the K teachers mixed by this member's weights: the
        logits whose softmax at that temperature is the mixture; None: the mean of the logits.
      inputs: [B, ...] preprocessed, as the student sees them.
      labels: [B] int32, negative where there is none.
      hparams: the term's own numbers by name, such as "weight" and "temperature", scalars.
      aux: the term's own parameters, as its `aux` made them; trained with the net, but without its
        weight decay and its limit on norms.
      gather: [b, ...] of this device's part of the batch -> [B, ...] of the whole batch.
      mixing: [K], how this member mixes its teachers; the sum is 1.
      index: [B] int32, the number of each example among the stage's N.
      key: for what the term draws at random: another one at each step, the same on every device.
      memory: the term's own state, as its `memory` or the step before made it.
      derivatives: of the logits, along the term's own directions; None without.

    A term is given no `teacher`, `targets`, `labels`, `index` and `key` that it does not name in
    its `needs`; `mixing` comes with `teacher`.
    """

    student: Outputs
    teacher: Outputs | None
    targets: Callable[[jax.Array | float | None], jax.Array]
    inputs: jax.Array
    labels: jax.Array
    hparams: Mapping[str, jax.Array]
    aux: PyTree = None
    gather: Callable[[jax.Array], jax.Array] = lambda x: x
    mixing: ArrayLike | None = None
    index: jax.Array | None = None
    key: jax.Array | None = None
    memory: PyTree = None
    derivatives: Derivatives | None = None


def _are_needs(value: Any) -> bool:
    return isinstance(value, Collection) and all(need in NEEDS for need in value)


def _are_numbers(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    pairs = [v for v in value.values() if isinstance(v, tuple)]
    ruled = all(len(pair) == 2 and isinstance(pair[1], Rule) for pair in pairs)
    return ruled and all(isinstance(name, str) and name.isidentifier() for name in value)


HPARAMS = Rule("a dict {name: default, or (default, rule)}, its names identifiers", _are_numbers)


@dataclass(frozen=True, eq=False)
class Term:
    """One term of an objective, which is the weighted sum of its terms.

    Attributes:
      function: (Context) -> [B], a loss for each example, or a scalar of the whole batch. With
        `memory` it returns a pair: that, and the memory after the step, of the same form, which
        must be the same on every device (`gather` what it is made of).
      needs: of "labels", "targets" (the mixed teachers), "teacher" (each teacher's outputs),
        "index" and "key". The student's outputs and the inputs are always there.
      hparams: {name: default, or (default, rule)} of the numbers that the function reads from
        `Context.hparams`. "weight" is always there. An objective may give each an end, such as
        "weight_end", to which it moves over the steps. A "temperature" of None is the stage's,
        unless the objective gives the term one of its own.
      aux: (key, student Outputs, teacher Outputs or None) -> parameters of the term itself, such as
        a projection; they train with the net and are not part of what is served.
      student, teacher: paths of the layers whose outputs the function reads.
      directions: (key, one example as the nets see it) -> [R, ...], directions of that example
        along which the logits are differentiated for `Context.derivatives`, those of the teachers
        too if the term needs them. The key is of the step and the example, the same for all nets.
      name: as an objective and a report have it; the function's name if "".
      memory: (key, student Outputs, teacher Outputs or None, number of examples N) -> what the term
        keeps from step to step without a gradient, such as a bank of features: a dict of arrays. It
        is part of a checkpoint, and not of what is served. The outputs are those of one example.

    Raises:
      InputError: a field is not of that form.
    """

    function: Callable[[Context], Any]
    needs: frozenset[str] = frozenset()
    hparams: Mapping[str, float | tuple[float | None, Rule] | None] = field(default_factory=dict)
    aux: Callable[[jax.Array, Outputs, Outputs | None], PyTree] | None = None
    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()
    directions: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    name: str = ""
    memory: Callable[[jax.Array, Outputs, Outputs | None, int], PyTree] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"a Term's function is {shown(self.function)}; it must be a function")
        for field_name in ("aux", "memory", "directions"):
            given = getattr(self, field_name)
            if given is not None and not callable(given):
                raise InputError(
                    f"a Term's {field_name} is {shown(given)}; it must be a function, or None"
                )
        named = self.label if isinstance(self.name, str) else self.name
        if not isinstance(named, str) or not named.isidentifier():
            raise InputError(
                f"a Term's name is {shown(named)}; it must be of letters, digits and _, such as "
                "Term(function, name='my_loss')"
            )
        says = f"the term {self.label!r}:"
        known = Rule(f"a set of: {', '.join(NEEDS)}", _are_needs)
        object.__setattr__(self, "needs", frozenset(check(known, f"{says} needs", self.needs)))
        paths = tuple_of(Rule("the path of a layer", lambda path: isinstance(path, str)))
        check(paths, f"{says} student", self.student)
        check(paths, f"{says} teacher", self.teacher)
        check(HPARAMS, f"{says} hparams", self.hparams)
        for name, (default, rule) in self.numbers.items():
            if name.endswith(END):
                raise InputError(
                    f"{says} a number is named {name!r}; the end {END!r} is that of the value to "
                    "which a number moves"
                )
            if default is not None:
                check(rule, f"{says} the default of {name}", default)
            elif name != "temperature":
                raise InputError(
                    f"{says} the default of {name} is None; only that of temperature may be, which "
                    "is then the stage's"
                )

    @property
    def label(self) -> str:
        """What an objective and a report call it."""
        return self.name or getattr(self.function, "__name__", type(self.function).__name__)

    def needed(self, context: Context) -> Context:
        """The context without what the term does not need."""
        hidden: dict[str, Any] = {}
        for name in ("labels", "index", "key"):
            if name not in self.needs:
                hidden[name] = None
        inner: dict[str, Any] = {}
        if "targets" not in self.needs:
            hidden["targets"] = inner["targets"] = _no_targets
        if "teacher" not in self.needs and not self.teacher:
            hidden["teacher"] = hidden["mixing"] = inner["teacher"] = None
        if context.derivatives is not None:
            hidden["derivatives"] = dataclasses.replace(context.derivatives, **inner)
        return dataclasses.replace(context, **hidden)

    @property
    def is_taught(self) -> bool:
        """Whether it reads the teachers."""
        return bool(self.needs & {"targets", "teacher"} or self.teacher)

    @property
    def numbers(self) -> dict[str, tuple[float | None, Rule]]:
        """Every number that it reads: its default, None for the stage's, and its rule."""
        found: dict[str, tuple[float | None, Rule]] = {"weight": (1.0, WEIGHT)}
        for name, given in self.hparams.items():
            if isinstance(given, tuple):
                found[name] = given
            else:
                found[name] = given, TEMPERATURE if name == "temperature" else NUMBER
        return found

    @property
    def ends(self) -> dict[str, tuple[None, Rule]]:
        """The end of each number, which is None where it does not change, and its rule."""
        return {f"{name}{END}": (None, rule) for name, (_, rule) in self.numbers.items()}


def _no_targets(temperature: jax.Array | float | None) -> jax.Array:
    raise InputError("it reads targets, which are not among its needs")
