"""What several stages refer to: found once a run, each told from the others; and teachers from
elsewhere, which must be as nets that train."""

import math
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from stages import refuses

import kdjax
from examples.your_own import mine
from kdjax import experiment, logits_file, prepare
from kdjax.config import parse
from kdjax.nets import Outputs

FEW = dict(steps=2, batch=20, chunk=1, quiet=True)
MLP = dict(name="mlp", hidden=(8,))
KNOWN = 3 * np.eye(10, dtype=np.float32)[kdjax.examples(mine.digits, "train")[1]]
LOGITS = KNOWN + np.random.default_rng(0).normal(size=(900, 10)).astype(np.float32)
TESTS = LOGITS[:797]


def student(teacher, seed=7):
    fields = dict(model=MLP, teacher=teacher, objective=dict(kl_divergence=1.0))
    return fields | dict(members=dict(seed=(seed,)), steps=2, batch=20)


def run(workdir, *teachers):
    stages = {f"s{number}": student(teacher) for number, teacher in enumerate(teachers)}
    return kdjax.run(dict(dataset=mine.digits, stages=stages), workdir, quiet=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished stage, the path of its directory."""
    workdir = tmp_path_factory.mktemp("kept")
    return kdjax.train(MLP, mine.digits, seeds=2, name="net", workdir=workdir, **FEW).path


@pytest.fixture
def opened(monkeypatch):
    """The directories that are opened."""
    paths = []
    for module in (prepare, experiment):
        known = module.open_stage
        noted = lambda path, *more, known=known: paths.append(str(path)) or known(path, *more)
        monkeypatch.setattr(module, "open_stage", noted)
    return paths


def ensembles(report):
    return [row.label for row in report.rows if row.is_ensemble]


def test_students_of_one_directory_open_it_once(kept, opened, undrawn, tmp_path):
    report = run(tmp_path, str(kept), f"{kept}/", str(kept))
    assert ensembles(report) == ["net/ensemble"]
    assert opened[0] == str(kept)
    assert opened[1:] == [str(tmp_path / name) for name in ("s0", "s1", "s2")]


def test_students_of_one_file_of_logits_read_it_once(undrawn, tmp_path, monkeypatch):
    np.savez(tmp_path / "t.npz", train=LOGITS, test=TESTS)
    reads, read = [], logits_file.read
    monkeypatch.setattr(logits_file, "read", lambda path: reads.append(path) or read(path))
    report = run(tmp_path / "run", *[str(tmp_path / "t.npz")] * 2)
    assert reads == [str(tmp_path / "t.npz")]
    assert len(ensembles(report)) == 1


def test_students_of_one_value_share_it(kept, undrawn, tmp_path):
    stage, teacher = kdjax.open_stage(kept), kdjax.logits(LOGITS, test=TESTS)
    report = run(tmp_path, stage, stage, teacher, teacher, kdjax.logits(LOGITS, test=TESTS))
    assert ensembles(report) == ["net/ensemble", "logits/ensemble"]


@pytest.mark.slow
def test_teachers_of_one_name_have_rows_and_identities_of_their_own(kept, undrawn, tmp_path):
    one = kdjax.train(MLP, mine.digits, seeds=(3,), **FEW)
    assert one.name == kept.name == "net"
    report = run(tmp_path, str(kept), one)
    assert ensembles(report) == ["net/ensemble", "net 2/ensemble"]
    assert math.isnan(report.row("net 2/ensemble").seconds)  # it was never kept
    assert report.row("net/ensemble").seconds > 0

    def identity(*teachers):
        spec = parse(dict(dataset=mine.digits, stages=dict(s=student(teachers))))
        (job,) = prepare.prepare(spec, experiment.load(spec), tmp_path / "none")
        return job.identity

    other = kdjax.open_stage(kept)
    assert identity(one, other) == identity(one, other) != identity(other, one)
    third = kdjax.train(MLP, mine.digits, seeds=(4,), **FEW)
    assert identity(one, other) != identity(third, other)


def test_the_seconds_of_an_ensemble_are_known_of_all_its_parts_or_not(kept, undrawn, tmp_path):
    report = run(tmp_path, f"{kept}", (str(kept), kdjax.logits(LOGITS, test=TESTS)))
    assert report.row("net/ensemble").seconds > 0
    assert math.isnan(report.row("net+logits/ensemble").seconds)


@pytest.mark.parametrize("by", ["path", "opened", "in memory"])
@pytest.mark.slow
def test_a_student_does_not_start_as_its_teacher_did(by, kept):
    teacher = {"path": lambda: str(kept), "opened": lambda: kdjax.open_stage(kept)}.get(
        by, lambda: kdjax.train(kdjax.linen(mine.LinenNet()), mine.digits, seeds=2, **FEW)
    )()
    net = kdjax.linen(mine.LinenNet()) if by == "in memory" else MLP
    with refuses(
        "seed has 0, as has its teacher 'net' of the same net, so that they would start from the "
        "same parameters; use other seeds, such as (2,)"
    ):
        kdjax.distill(net, teacher, mine.digits, **FEW)
    kdjax.distill(net, teacher, mine.digits, seeds=(2,), **FEW)
    kdjax.distill(dict(name="mlp", hidden=(9,)), teacher, mine.digits, **FEW)


# Teachers from elsewhere.


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.Conv(2, (3, 3), name="conv")(x).reshape(len(x), -1))


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def refused_or_kind(teacher):
    spec = parse(dict(dataset=mine.digits, stages=dict(s=student(teacher))))
    (job,) = prepare.prepare(spec, experiment.load(spec), Path("/no such place"))
    return job.teachers[0].kind


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (lambda p, x: linear(p, x - x.mean(0, keepdims=True)), "depend in evaluation on the other"),
        (lambda p, x: linear(p, x)[:, :5], "whose logits have the shape [B, 5]; it must be [B, 10"),
        (lambda p, x: x @ p, "which does not take examples of the shape (8, 8, 1)"),
    ],
)
def test_a_teacher_from_elsewhere_must_be_as_nets_are(apply, words):
    params = np.ones((64, 10), np.float32)
    for teacher in (kdjax.function(apply, params, name="mine"), by_hand(apply, params)):
        with refuses("config.stages.s.teacher is mine", words):
            refused_or_kind(teacher)


def by_hand(apply, params):
    def outputs(variables, x, taps):
        return Outputs(apply(variables["weights"][0], x)[None], {})

    return kdjax.Teacher("mine", 1, "batch", "mine", {"weights": [params]}, outputs)


def test_a_convolution_of_a_teacher_from_elsewhere_is_seen():
    net, one = Convolutional(), mine.images[:1, ..., None]
    variables = net.init(jax.random.key(0), one)
    convolutional = lambda p, x: net.apply(p, x)
    params = np.ones((64, 10), np.float32)
    assert refused_or_kind(kdjax.function(convolutional, variables)) == "convolutional"
    assert refused_or_kind(kdjax.function(linear, params)) == "dense"
    assert refused_or_kind(by_hand(linear, params)) == "dense"


def test_another_function_with_the_same_parameters_is_another_teacher():
    params = np.ones((64, 10), np.float32)

    def identity(scale):
        teacher = kdjax.function(lambda p, x: linear(p, x) * scale, params)
        spec = parse(dict(dataset=mine.digits, stages=dict(s=student(teacher))))
        (job,) = prepare.prepare(spec, experiment.load(spec), Path("/none"))
        return job.identity

    assert identity(1.0) == identity(1.0) != identity(2.0)
