"""Shapes in poses: where they stand, how large and how turned, counted from the pixels."""

import numpy as np
import pytest
import torch

from cnnprobe.datasets import poses, shapes
from cnnprobe.errors import UserError

STILL = {"size": 56, "channels": 1, "count": 16, "split": "test", "seed": 0, "shift": 0.0, "turn": 0.0, "scale": 0.0}
STILL |= {"shear": 0.0, "noise": 0.0, "shapes": 1, "grid": None}


def build(**changes):
    return poses.build(**(STILL | changes))


def moments(cover):
    """Return area, centre and covariance of a picture, px."""
    points = np.stack(np.meshgrid(*[np.arange(len(cover)) + 0.5 - len(cover) / 2] * 2), -1)  # x, y
    area = cover.sum()
    centre = (cover[..., None] * points).sum((0, 1)) / area
    away = points - centre
    return area, centre, np.einsum("yx,yxa,yxb->ab", cover, away, away) / area


@pytest.mark.parametrize("shape", shapes.CLASSES)
def test_a_pose_is_what_the_pixels_have(shape):
    """Area by the square of the scale, centre by shift, covariance by the turned and sheared matrix."""
    rest = moments(poses.covered(shape, np.zeros(5), 224))
    pose = np.array([5.0, -7.0, 0.2, 25.0, 0.3])
    area, centre, spread = moments(poses.covered(shape, pose, 224))
    turn = np.radians(25)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, 0.3], [0, 1]])
    matrix = np.exp(0.2) * matrix
    assert area == pytest.approx(rest[0] * np.exp(0.4), rel=0.01)
    assert centre == pytest.approx(matrix @ rest[1] + pose[:2], abs=0.1)
    assert spread == pytest.approx(matrix @ rest[2] @ matrix.T, abs=0.03 * np.trace(spread))


def test_images_are_white_shapes_of_their_class_within_the_ranges():
    dataset = build(shift=3, turn=30, scale=0.3, shear=0.2)
    assert dataset.labels.tolist() == [index % 8 for index in range(16)]
    assert (np.abs(dataset.poses[:, 0]) <= [3, 3, 0.3, 30, 0.2]).all() and dataset.poses.std(0).min() > 0
    images, _ = dataset.load(range(16))
    for index, image in enumerate(images):
        truth = dataset.truth(index)
        assert np.array_equal(image[0].numpy(), truth["alone"][0]) and truth["pose"].shape == (1, 5)
        assert np.array_equal(truth["cue"], image[0].numpy() >= 0.5)
    wide = build(shift=3, turn=30, scale=0.3, shear=0.2, channels=3, noise=0.05)
    noisy, _ = wide.load([3])
    assert noisy.shape == (1, 3, 56, 56) and torch.equal(noisy[:, 0], noisy[:, 2])
    assert float((noisy[0, 0] - images[3, 0]).abs().mean()) < 0.05 and wide.fingerprint != dataset.fingerprint


def test_splits_and_seeds_have_other_poses():
    given = {"shift": 3.0}
    first = build(**given).poses
    assert not np.array_equal(first, build(split="train", **given).poses)
    assert not np.array_equal(first, build(seed=1, **given).poses)
    assert np.array_equal(first, build(**given).poses)


def test_two_shapes_are_of_different_classes_and_near():
    dataset = build(count=200, shapes=2, shift=3.0)
    assert (dataset.classes_of[:, 0] != dataset.classes_of[:, 1]).all()
    assert np.hypot(*(dataset.poses[:, 0] - dataset.poses[:, 1])[:, :2].T).max() <= 8  # 4 px of 28
    targets, _ = dataset.targets(range(200))
    assert dataset.target.kind == "present" and targets.sum(1).tolist() == [2] * 200
    assert all(targets[i, dataset.classes_of[i]].all() for i in range(200))
    truth = dataset.truth(5)
    assert np.array_equal(dataset.load([5])[0][0, 0].numpy(), truth["alone"].max(0)) and (dataset.labels == -1).all()


def test_a_grid_steps_through_one_factor_at_a_time():
    dataset = build(grid=5, shift=4.0, turn=20.0)
    varied = dataset.varied
    assert len(dataset) == 8 * 3 * 5 and set(varied.stepped) == set(varied.values) == {"x", "y", "turn"}
    own = varied.stepped == "turn"
    assert varied.values["turn"][own][10:15].tolist() == [-20, -10, 0, 10, 20]
    assert not dataset.poses[own][:, :, :3].any() and dataset.labels[own].tolist() == np.repeat(range(8), 5).tolist()
    part = dataset.part(np.flatnonzero(own)).varied
    assert set(part.stepped) == {"turn"} and not part.values["x"].any()


def test_what_varies_is_known_and_round_shapes_have_no_turn():
    dataset = build(shift=3.0, turn=30.0)
    varied = dataset.varied
    assert varied.stepped is None and varied.units == {"x": "px", "y": "px", "turn": "degrees"}
    assert np.array_equal(varied.values["x"], dataset.poses[:, 0, 0])
    assert np.flatnonzero(np.isnan(varied.values["turn"])).tolist() == [0, 1, 8, 9]
    assert build(count=8, shapes=2, shift=3.0).varied is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": 5}, "dataset.grid steps through what varies"),
        ({"grid": 5, "shapes": 2, "shift": 1.0}, "dataset.grid shows one shape at a time"),
        ({"shift": 20.0}, "dataset.shift must be at most 14 px for images of 56 px, got 20"),
    ],
)
def test_what_cannot_be_drawn_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        build(**changes)
