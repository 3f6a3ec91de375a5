"""The shapes of what student and teachers say of one example, with the derivatives of their logits
along the directions of the terms; nothing is computed.

Axes: K teachers, R directions, C classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import fit, nets
from kdjax.config.spec import StageSpec, grid
from kdjax.data import Dataset
from kdjax.nets import calls
from kdjax.nets.check import name_of
from kdjax.nets.derivatives import along
from kdjax.nets.net import Net, Outputs, PyTree, Training, Variables
from kdjax.rules import InputError, told
from kdjax.teachers import Teacher

Shape = jax.ShapeDtypeStruct
Directions = Mapping[str, Shape]  # {term: [1, R, ...]}


def directions(stage: StageSpec, example: Shape, path: str) -> dict[str, Shape]:
    """{term: [1, R, ...]}, the shapes of the directions of each term that has some.

    Args:
      example: the shape of one, [1, ...], as the nets see it.
      path: of the objective, for messages.

    Raises:
      InputError: a term has none for such an example, or not directions of its shape.
    """
    found, keys = {}, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    for part in stage.objective:
        if part.term.directions is None:
            continue
        here = f"{path}.{part.name}"
        try:
            shape: Any = jax.eval_shape(jax.vmap(part.term.directions), keys, example)
        except InputError as error:
            raise InputError(f"{here}: {error}") from error
        except Exception as error:  # whatever a function of the user's raises
            raise InputError(
                f"{here} has no directions for examples of the shape {example.shape[1:]}: "
                f"{told(error)}"
            ) from error
        expected = ", ".join(["R", *map(str, example.shape[1:])])
        axes: tuple[int, ...] = getattr(shape, "shape", ())
        fits = len(axes) > 1 and axes[1] > 0 and axes[2:] == example.shape[1:]
        if not fits or shape.dtype != np.float32:
            given = f"{shape.dtype}{list(axes[1:])}" if axes else f"a {type(shape).__name__}"
            raise InputError(
                f"{here} has directions that are {given}; they must be float32[{expected}], R "
                "directions of one example"
            )
        found[part.name] = shape
    return found


def student(
    net: Net,
    facts: nets.Facts,
    example: Shape,
    taps: tuple[str, ...],
    directions: Directions,
    path: str,
) -> Outputs:
    """[1, ...], as the net says it in training.

    Raises:
      InputError: the net has no derivative by its inputs.
    """
    training = lambda: Training(jnp.arange(1), jax.random.key(0))
    apply = lambda v, x: net.apply(v, x, training(), taps)[0]
    if not directions:
        return facts.outputs
    return _differentiated(apply, facts.variables, example, directions, f"{path} is {name_of(net)}")


def teachers(
    stage: StageSpec,
    net: Net,
    teachers: tuple[str | Teacher, ...],
    earlier: Mapping[str, tuple[Net, int]],
    dataset: Dataset,
    directions: Directions,
    path: str,
) -> Outputs | None:
    """[K, 1, ...] of all teachers; None if they only are compared with.

    Args:
      earlier: {stage: its net, and how many members it has}.

    Raises:
      InputError: a teacher has no such layers, or no derivative by its inputs.
    """
    if not stage.taught:
        return None
    taps = tuple(dict.fromkeys(tap for part in stage.objective for tap in part.term.teacher))
    names = [part.name for part in stage.objective if part.term.is_taught]
    directions = {name: shape for name, shape in directions.items() if name in names}
    example = Shape((1, *dataset.input_shape), "float32")
    found = []

    def of_members(net: Net, count: int) -> Outputs:
        facts = nets.checked(net, dataset.input_shape, dataset.classes, f"{path}.teacher", taps)
        one = facts.outputs
        if directions:
            apply = lambda v, x: net.apply(v, x, None, taps)[0]
            says = f"{path}.teacher is {name_of(net)}"
            one = _differentiated(apply, facts.variables, example, directions, says)
        return jax.tree.map(lambda x: Shape((count, *x.shape), x.dtype), one)

    for teacher in teachers:
        if isinstance(teacher, str):
            found.append(of_members(*earlier[teacher]))
        elif teacher.scope == "population":
            found.append(of_members(net, len(grid(stage))))
        elif teacher.scope == "member":
            found.append(of_members(net, 1))
        elif teacher.scope == "batch":
            if taps and not teacher.stages:
                fit.traced(teacher, dataset, f"{path}.teacher", taps)
            apply = lambda v, x, apply=teacher.apply: apply(v, x, taps)
            says = f"{path}.teacher is {teacher.name!r}"
            found.append(_differentiated(apply, teacher.variables, example, directions, says))
        else:
            logits: Any = Shape((teacher.count, 1, dataset.classes), np.float32)
            found.append(Outputs(logits, {}))
    if not found:
        return None
    return jax.eval_shape(lambda *each: jax.tree.map(lambda *x: jnp.concatenate(x), *each), *found)


def _differentiated(
    apply: Callable[[PyTree, jax.Array], Outputs],
    variables: PyTree | Variables,
    example: Shape,
    directions: Directions,
    says: str,
) -> Outputs:
    """The shapes of the outputs that `apply` makes of variables and inputs, logits [..., 1, C]."""
    whole = lambda v, x, d: along(lambda inputs: (apply(v, inputs), ()), x, d)[0]
    if not directions:
        return jax.eval_shape(apply, variables, example)
    try:
        return jax.eval_shape(whole, variables, example, dict(directions))
    except InputError as error:
        raise InputError(f"{says}: {error}") from error
    except Exception as error:  # whatever a rule of the user's does
        raise InputError(
            f"{says}, which has no derivative by its inputs: {calls.reason(error)}"
        ) from error
