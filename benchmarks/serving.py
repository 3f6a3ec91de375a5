"""What a finished stage costs to ask: beside the bare net, and a student beside its teachers."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kdjax
from benchmarks.data_sets import dataset
from benchmarks.plain_jax import BRIGHTEST, MLP
from benchmarks.populations import finished
from benchmarks.rows import least
from benchmarks.session import Session
from benchmarks.timing import Case, Row, Timing, measure, row, tell
from benchmarks.work import DIGITS, IMAGES, Work
from kdjax.losses import ensemble_logits

TEACHER, STUDENT = Work(IMAGES, (1200, 1200)), Work(IMAGES, (800, 800))
STUDENTS, TEACHERS = 10, 10
SERVED = (1, 100)  # examples of a call
SMALL, MEMBERS = Work(DIGITS, (256, 256), examples=800), (1, 10)
CALLS = 100  # of `predict` in a repeat, of which the median counts
PREDICT, LATENCY = "predict_vs_jitted_net", "student_vs_ensemble_latency"
EXPORTED = "export_vs_predict"


def predict(session: Session) -> list[Row]:
    """One raw image through `Stage.predict` against the jitted net, image and logits on the host
    in both, the net's parameters on the device."""
    rows, image = [], np.full((1, 8, 8, 1), 7, np.uint8)
    for members in MEMBERS:
        stage = kdjax.open_stage(finished(session, SMALL, dataset(DIGITS), members))
        bare = jitted(stage, SMALL)
        own, base = _typical(
            functools.partial(stage.predict, image), functools.partial(bare, image), session.repeats
        )
        name = f"{PREDICT} {SMALL.name} M={members}"
        tell(name)
        rows.append(row(name, own, base, 1e6 * own.median, "us"))
    return least(PREDICT, rows) + rows


def exported(session: Session) -> list[Row]:
    """Raw images through each form of an export, in this process, against `Stage.predict`."""
    import onnxruntime

    stage = kdjax.open_stage(finished(session, SMALL, dataset(DIGITS), 1))
    folder, rows = stage.export(session.directory / EXPORTED), []
    onnx = onnxruntime.InferenceSession(folder / "model.onnx")
    forms = {
        "stablehlo": kdjax.open_export(folder).predict,
        "onnx": lambda images: onnx.run(["logits"], {"inputs": images}),
    }
    for examples, (form, call) in itertools.product(SERVED, forms.items()):
        images = np.full((examples, 8, 8, 1), 7, np.uint8)
        calls = (functools.partial(of, images) for of in (call, stage.predict))
        own, base = _typical(*calls, session.repeats)
        name = f"{EXPORTED} {form}" + f", {examples} examples" * (examples > 1)
        rows.append(row(name, own, base, 1e6 * own.median, "us", of=SMALL.name))
    return rows


def jitted(stage: kdjax.Stage, work: Work) -> Callable[[np.ndarray], np.ndarray]:
    """Raw inputs [B, ...] -> logits [M, B, C] of a dense net, with no more than JAX and Flax."""
    net, variables = MLP(work.hidden), jax.device_put({"params": stage.variables["params"]})
    one = lambda v, x: net.apply(v, x.astype(jnp.float32) / BRIGHTEST)
    program = jax.jit(jax.vmap(one, (0, None)))
    return lambda inputs: np.asarray(program(variables, inputs))


def _typical(
    own: Callable[[], object], base: Callable[[], object], repeats: int
) -> tuple[Timing, Timing]:
    """In each repeat, the median seconds of many calls of each, which take turns."""
    seconds = [], []
    own(), base()
    for i in range(repeats):
        turns = list(zip(seconds, (own, base), strict=True))
        for found, call in turns if i % 2 == 0 else reversed(turns):
            found.append(statistics.median(_seconds(call) for _ in range(CALLS)))
    return tuple(Timing(tuple(found)) for found in seconds)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def latency(session: Session) -> list[Row]:
    """Logits of one student against those of its teachers as one classifier, on one device."""
    data, rows = dataset(IMAGES), []
    student = kdjax.open_stage(finished(session, STUDENT, data, STUDENTS))
    teachers = kdjax.open_stage(finished(session, TEACHER, data, TEACHERS))
    first = {"params": jax.tree.map(lambda x: x[0], student.variables["params"])}
    every = lambda v, x: ensemble_logits(teachers.forward(v, x).logits, 1.0)
    for batch in SERVED:
        inputs = jnp.zeros((batch, *data.input_shape))
        cases = [
            _call("student", MLP(STUDENT.hidden).apply, first, inputs),
            _call("ensemble", every, teachers.variables, inputs),
        ]
        timings = measure(cases, session.repeats)
        own, base = timings["student"], timings["ensemble"]
        name = LATENCY + f", {batch} examples" * (batch > 1)
        rows.append(row(name, own, base, 1e3 * own.median, "ms", of=f"{STUDENT.name} K={TEACHERS}"))
    return rows


def _call(name: str, forward: Callable, variables: Any, inputs: jax.Array) -> Case:
    program = jax.jit(forward)
    variables, inputs = jax.device_put((variables, inputs), jax.local_devices()[0])
    return Case(name, lambda: program(variables, inputs).block_until_ready(), 1)
