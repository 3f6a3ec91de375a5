"""A PyTorch teacher, as `examples/pytorch_teacher` has it; without torch only what needs none."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from examples.pytorch_teacher import config, live
from kdjax.config import parse

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)  # from 0 to 240
DATA = kdjax.arrays(train=(IMAGES[:1000], LABELS[:1000]), test=(IMAGES[1000:], LABELS[1000:]))


@pytest.fixture(scope="module", autouse=True)
def _as_users_write():
    """The tests' rule that no rank is promoted is not asked of a user's code."""
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


def test_the_student_needs_the_file_of_logits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refuses("the file of logits is 'runs/pytorch_teacher/teachers.npz', which is not there"):
        parse(config.get_config())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The nets, and the folder of what they said."""
    pytest.importorskip("torch")
    from examples.pytorch_teacher import teachers

    folder = tmp_path_factory.mktemp("torch")
    return teachers.main(DATA, folder, nets=2, epochs=12), folder


@pytest.mark.slow
def test_the_logits_are_those_of_the_nets_in_evaluation_mode(trained):
    import torch

    from examples.pytorch_teacher.teachers import as_torch

    nets, folder = trained
    kept = kdjax.logits(folder / "teachers.npz")
    assert kept.count == 2 and not any(net.training for net in nets)
    for split in ("train", "test"):
        inputs, labels = kdjax.examples(DATA, split)
        asked = kdjax.teachers.Asked(split, np.arange(len(inputs)), inputs, None)
        with torch.inference_mode():
            expected = torch.stack([net(as_torch(inputs)) for net in nets]).numpy()
        np.testing.assert_allclose(kept.predict(asked), expected, atol=1e-4)
        assert (expected.argmax(axis=2) == labels).mean() > 0.9


@pytest.mark.slow
def test_a_net_without_torch_gives_the_logits_of_the_net(trained):
    _, folder = trained
    teacher = live.teacher(folder)
    inputs, _ = kdjax.examples(DATA, "test")
    found = teacher.apply(teacher.variables, inputs.astype(np.float32) / 255, ()).logits
    kept = kdjax.logits(folder / "teachers.npz").predict(
        kdjax.teachers.Asked("test", np.arange(len(inputs)), inputs, None)
    )
    np.testing.assert_allclose(found[0], kept[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["file", "live"])
def test_students_learn_from_the_nets(which, trained, undrawn):
    _, folder = trained
    teacher = live.teacher(folder) if which == "live" else str(folder / "teachers.npz")
    given = dict(steps=300, learning_rate=0.01, seeds=2, temperature=2.0, quiet=True)
    student = kdjax.distill(dict(name="mlp", hidden=(32,)), teacher, DATA, **given)
    assert max(student.metrics["test"]["errors"]) < 120  # of 797
    assert min(student.metrics["test"]["agreement"]) > 0.85
