"""Mixup, cutmix and random crops: what they make of images, and how a net learns from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import NET, config, values
from sklearn.datasets import load_digits
from stages import refuses

import kdjax
from kdjax.config import stage
from kdjax.data import Preprocessing
from kdjax.views import AugmentSpec, check_augment, mixed, view

IMAGES = load_digits().images[..., None].astype(np.float32)[:400]
INDEX = np.arange(400, dtype=np.int32)
OTHERS = np.roll(IMAGES, -1, axis=0)
KEY = jax.random.key(3)
RAW = Preprocessing(mean=(0.0,), scale=(1.0,))
mix = jax.jit(mixed, static_argnums=4)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_is_a_mean_whose_share_is_of_a_beta_distribution(alpha):
    found, share = mix(IMAGES, OTHERS, INDEX, KEY, AugmentSpec(mixup=alpha))
    wide = np.asarray(share).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found, wide * IMAGES + (1 - wide) * OTHERS, atol=1e-5)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(variance / 400)
    assert np.var(share) == pytest.approx(variance, rel=0.2)


def test_cutmix_is_a_rectangle_of_the_other_image_and_its_share_is_counted_in_pixels():
    ones, zeros = np.ones((400, 8, 12, 3), np.float32), np.zeros((400, 8, 12, 3), np.float32)
    found, share = mix(ones, zeros, INDEX, KEY, AugmentSpec(cutmix=1.0))
    for image, own in zip(np.asarray(found), np.asarray(share), strict=True):
        pasted = image == 0
        assert (pasted == pasted[..., :1]).all()
        rows, columns = pasted[..., 0].any(axis=1), pasted[..., 0].any(axis=0)
        np.testing.assert_array_equal(pasted[..., 0], rows[:, None] & columns[None])
        for inside in (rows, columns):  # in one piece
            assert len([1 for key, _ in itertools.groupby(inside) if key]) <= 1
        assert own == pytest.approx(1 - pasted[..., 0].mean(), abs=1e-6)
    assert 0.5 < share.mean() < 0.75 and share.min() < 0.2  # a rectangle at the edge is cut


def test_where_both_are_asked_for_one_example_in_two_is_pasted():
    ones, zeros = np.ones_like(IMAGES), np.zeros_like(IMAGES)
    found, share = mix(ones, zeros, INDEX, KEY, AugmentSpec(mixup=1.0, cutmix=1.0))
    pasted = np.isin(np.asarray(found), (0, 1)).all(axis=(1, 2, 3))
    assert abs(pasted.mean() - 0.5) < 0.13
    np.testing.assert_allclose(np.asarray(found).mean(axis=(1, 2, 3)), share, atol=1e-5)


def test_a_mixture_depends_on_key_and_index_alone():
    spec = AugmentSpec(mixup=0.4, cutmix=1.0)
    whole = mix(IMAGES, OTHERS, INDEX, KEY, spec)
    some = np.array([7, 300, 41], np.int32)
    part = mix(IMAGES[some], OTHERS[some], some, KEY, spec)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[some], b)


def test_a_crop_is_a_part_of_the_image_at_its_size():
    """Of an image of its own coordinates: sides, places and orientation can be read off it."""
    rows, columns = np.meshgrid(np.arange(16.0), np.arange(24.0), indexing="ij")
    ramp = np.stack([rows, columns], axis=-1)[None].astype(np.float32)
    two = Preprocessing(mean=(0.0, 0.0), scale=(1.0, 1.0))
    images = jnp.tile(ramp, (400, 1, 1, 1))
    views = np.asarray(view(images, INDEX, KEY, AugmentSpec(crop=0.25), two))
    assert views.shape == (400, 16, 24, 2)
    down, right = views[:, 8, 12, 0] - views[:, 7, 12, 0], views[:, 8, 12, 1] - views[:, 8, 11, 1]
    assert (down <= 1 + 1e-4).all() and (right <= 1 + 1e-4).all()
    area = down * right
    assert area.min() > 0.24 and area.max() < 1 + 1e-4 and 0.5 < area.mean() < 0.7
    assert views.min() > -1e-3 and (views[..., 0] < 15.001).all() and (views[..., 1] < 23.001).all()
    assert np.ptp(views[:, 0, 0, 0]) > 5 and np.ptp(views[:, 0, 0, 1]) > 5
    still = view(images[:5], INDEX[:5], KEY, AugmentSpec(), two)
    np.testing.assert_array_equal(still, images[:5])


@pytest.mark.long
@pytest.mark.parametrize("order", ["own", "shared"])
def test_mixed_examples_teach_alike_on_every_layout(order, tmp_path, undrawn):
    student = NET | dict(
        teacher="teachers",
        members=dict(seed=2),
        objective=dict(kl_divergence=1.0, cross_entropy=0.5),
        augment=dict(mixup=0.5, cutmix=1.0, crop=0.5),
    )
    found = []
    for members, data in [(1, 1), (2, 2)]:
        layout = dict(devices=members * data, member_shards=members, data_shards=data)
        students = dict(mixed=stage(**student, order=order))
        made = config(dict(members=dict(seed=2)), students, execution=layout)
        kdjax.run(made, tmp_path / str(data), quiet=True)
        found.append(kdjax.open_stage(tmp_path / str(data) / "mixed"))
    leaves = [jax.tree.leaves(opened.variables) for opened in found]
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


def test_data_that_are_read_as_they_are_needed_are_mixed_alike(tmp_path, undrawn):
    student = NET | dict(members=dict(seed=2), augment=dict(mixup=1.0))
    found = []
    for resident in (True, False):
        made = config(students=dict(mixed=stage(**student)), dataset=dict(resident=resident))
        found.append(values(kdjax.run(made, tmp_path / str(resident), quiet=True)))
    assert found[0] == found[1]


def test_what_cannot_be_mixed_is_refused(tmp_path):
    def made(**fields):
        return config(students=dict(student=stage(**NET | dict(teacher="teachers") | fields)))

    kd = dict(kl_divergence=1.0)
    with refuses("config.stages.student.teacher_logits is 'cached'", "mixup 1.0", "'live'"):
        fields = dict(objective=kd, teacher_logits="cached", augment=dict(mixup=1.0))
        kdjax.run(made(**fields), tmp_path)
    with refuses("config.stages.student.batch is 1", "mixup 1.0", "at least 2"):
        kdjax.run(made(batch=1, augment=dict(mixup=1.0)), tmp_path)
    with refuses("config.stages.student.augment.crop is 0", "above 0"):
        kdjax.run(made(augment=dict(crop=0.0)), tmp_path)
    with refuses("augment is cutmix 1.0; examples must then be images"):
        check_augment(AugmentSpec(cutmix=1.0), (13,), "augment")
    check_augment(AugmentSpec(mixup=1.0), (13,), "augment")
    whole = kdjax.Term(
        lambda context: context.labels.astype(jnp.float32).mean(), needs={"labels"}, name="whole"
    )
    data = kdjax.arrays(train=(IMAGES, load_digits().target[:400]), test=(IMAGES[:9], INDEX[:9]))
    net = dict(name="mlp", hidden=(4,))
    with refuses("objective.whole gives one number for a batch, and reads labels", "mixup 1.0"):
        kdjax.train(
            net, data, objective={whole: 1.0, "cross_entropy": 1.0}, augment=dict(mixup=1.0)
        )
