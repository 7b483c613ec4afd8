"""Shaded objects: their outlines and shading by formulas, and the fixation point."""

import numpy as np
import pytest

from cnnprobe.datasets.rendering import graspable
from cnnprobe.datasets.rendering.graspable import KINDS, LIGHT, MIDDLE, REACH

SIDE = 64


def test_a_sphere_covers_a_disc_and_is_brightest_towards_the_light():
    bright, cover = graspable.shaded("sphere", 0.6, 0.0, SIDE)
    radius = 0.6 * REACH * SIDE / 2
    assert cover.sum() == pytest.approx(np.pi * radius**2, rel=0.01)
    y, x = np.unravel_index(bright.argmax(), bright.shape)
    expected = SIDE / 2 + radius * LIGHT[0], SIDE / 2 * (1 + MIDDLE) + radius * LIGHT[1]
    assert (x, y) == pytest.approx(expected, abs=1.5)
    assert bright.max() == pytest.approx(1, abs=0.01)


def test_a_ring_has_a_hole_and_the_area_of_a_ring():
    _, cover = graspable.shaded("ring", 1.0, 0.0, SIDE)
    outer = REACH * SIDE / 2
    assert cover.sum() == pytest.approx(np.pi * outer**2 * (1 - (1 - 2 * 0.27) ** 2), rel=0.01)
    assert cover[round(SIDE / 2 * (1 + MIDDLE)), SIDE // 2] == 0


def test_a_box_covers_the_shadow_of_its_faces():
    """Its area in projection is that of three faces, each by the cosine of its normal to the ray."""
    turned = graspable._turned(np.radians(25), np.radians(35))
    _, cover = graspable.shaded("cube", 0.8, 0.0, SIDE)
    face = (2 * 0.58 * 0.8 * REACH * SIDE / 2) ** 2
    assert cover.sum() == pytest.approx(face * np.abs(turned[2]).sum(), rel=0.01)


def test_a_cylinder_covers_its_side_and_one_end():
    """A rectangle of its diameter and its height in projection, and an ellipse: half at the top, half at the foot."""
    for kind in ("upright", "lying"):
        _, cover = graspable.shaded(kind, 0.9, 0.0, SIDE)
        unit, tilt = 0.9 * REACH * SIDE / 2, np.radians(20)
        side = 2 * 0.42 * unit * 2 * 0.85 * unit * np.cos(tilt)
        assert cover.sum() == pytest.approx(
            side + np.pi * (0.42 * unit) ** 2 * np.sin(tilt), rel=0.02
        )  # straight edges fall on rows
    upright, lying = (graspable.shaded(kind, 0.9, 0.0, SIDE)[1] for kind in ("upright", "lying"))
    wide = [(one.any(0).sum(), one.any(1).sum()) for one in (upright, lying)]
    assert wide[0][0] < wide[0][1] and wide[1][0] > wide[1][1]


@pytest.mark.parametrize("angle", [-50.0, 0.0, 35.0])
def test_a_bar_lies_along_its_angle(angle):
    _, cover = graspable.shaded("bar", 1.0, angle, SIDE)
    y, x = np.mgrid[:SIDE, :SIDE]
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=cover.ravel())
    along = np.linalg.eigh(spread)[1][:, -1]  # (x, y) of the long axis
    found = np.degrees(np.arctan2(-along[0], along[1]))
    assert (found - angle + 90) % 180 - 90 == pytest.approx(0, abs=5)  # the tilt of its own shifts it a little


def test_objects_of_any_kind_stay_in_the_image_and_below_the_fixation_point():
    dot = graspable.fixation_point(SIDE)
    for kind in KINDS:
        _, cover = graspable.shaded(kind, 1.0, 60.0, SIDE, (0.06, -0.06))
        border = np.concatenate([cover[[0, -1]].ravel(), cover[:, [0, -1]].ravel()])
        assert not border.any() and not (cover * dot).any(), kind
    image = graspable.fixation_image((3, SIDE, SIDE))
    assert image[0].max() == 1 and image[1].max() == pytest.approx(0.1)
    assert graspable.fixation_image((1, SIDE, SIDE)).max() == 1
