"""Maps over images: the image stays in sight, the scale is stated, nothing that is not a number is hidden."""

import numpy as np
import pytest

from cnnprobe.methods.cam.figures import (  # fmt: skip
    AGAINST,
    COVER,
    SPEAKS,
    Prediction,
    class_sheet,
    guided_rows,
    localisation_points,
    mean_figure,
    overlay,
    prediction_rows,
    stretched,
)
from cnnprobe.plots import style

HARD = ["$\\frac{1}{$", "word " * 100, "\x1b[31m\x00\n2nd", ""]


def words(made):
    return [text.get_text() for text in made.axes[0].texts]


def legend(made):
    return made.get_supxlabel().replace("\n", " ")


def row(**changes):
    random = np.random.default_rng(0)
    given = {
        "name": "image 3\ntench",
        "picture": random.integers(0, 255, (3, 24, 20)).astype(np.uint8),
        "maps": random.normal(size=(3, 4, 4)),
        "captions": ["a\n1. 90 %", "b", "c"],
        "own": np.array([True, False, False]),
    }
    return Prediction(**given | changes)


def test_where_a_map_is_0_the_image_is_seen_and_its_sign_is_its_colour():
    picture = np.full((3, 8, 8), 0.5)
    values = np.zeros((2, 2))
    assert np.ptp(overlay(picture, values, 1.0)) == 0
    values = np.array([[2.0, 2.0], [-2.0, -2.0]])
    made = overlay(picture, values, 2.0)
    grey = 0.2 + 0.75 * 0.5
    assert np.allclose(made[0, 0], grey * (1 - COVER) + SPEAKS * COVER, atol=1e-6)
    assert np.allclose(made[-1, 0], grey * (1 - COVER) + AGAINST * COVER, atol=1e-6)
    fine = np.random.default_rng(1).random((3, 8, 8))
    under, over = overlay(fine, values * 0, 2.0), overlay(fine, values * 0 + 2, 2.0)
    assert over.std() > 0.2 * under.std()  # also below the full colour


def test_stretching_keeps_each_value_in_the_middle_of_its_share():
    values = np.array([[1.0, 3.0]])
    assert stretched(values, (1, 4))[0].tolist() == [1.0, 1.5, 2.5, 3.0]


def test_rows_say_their_limit_and_frame_the_own_class():
    made = prediction_rows([row()], "title")
    said = style.number(float(np.abs(row().maps).max()))
    assert any(f"limit {said}" in text for text in words(made))
    assert len(made.axes[0].images) == 1 + 3 + 1  # image, maps, scale
    frames = [p for p in made.axes[0].patches if p.get_linewidth() > 1.5]
    assert len(frames) == 1 and "green frame" in legend(made)
    assert "red is evidence for the class" in legend(made)
    assert "green frame" not in legend(prediction_rows([row(own=np.zeros(3, bool))], ""))


def test_a_sheet_frames_the_wrong_ones_and_has_one_limit():
    pictures = np.stack([row().picture] * 11)
    maps = np.random.default_rng(2).normal(size=(11, 4, 4))
    made = class_sheet(pictures, maps, [str(n) for n in range(11)], np.arange(11) % 4 == 1, "title")
    frames = [p for p in made.axes[0].patches if p.get_linewidth() == 2]
    assert len(frames) == 3
    limit = float(np.percentile(np.abs(maps), 99))
    assert style.number(limit) in words(made) and "0" in words(made) and "99th percentile" in legend(made)
    first = made.axes[0].images[0].get_array()
    assert np.allclose(first, overlay(pictures[0], maps[0], limit))


@pytest.mark.parametrize("value", [0.0, 2.5, np.nan, np.inf])
def test_maps_of_one_value_nan_and_infinity(value):
    """F81."""
    maps = np.full((3, 4, 4), value)
    made = prediction_rows([row(maps=maps)], "")
    expected = "no map" if not np.isfinite(value) else f"all {style.number(value)}"
    assert words(made).count(expected) == 3
    hatched = [patch for patch in made.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == (0 if np.isfinite(value) else 3)
    assert ("hatched" in legend(made)) == (not np.isfinite(value))
    assert style.png(made).startswith(b"\x89PNG")
    sheet = class_sheet(np.stack([row().picture] * 3), maps, list("abc"), np.zeros(3, bool), "")
    assert words(sheet).count(expected) == 3
    assert style.png(mean_figure(maps[None], ["a"], list("xyz"), "")).startswith(b"\x89PNG")


def test_some_px_that_are_not_known_are_hatched():
    maps = np.random.default_rng(3).normal(size=(3, 4, 4))
    maps[1, 2, 2] = np.nan
    made = prediction_rows([row(maps=maps)], "")
    assert len([patch for patch in made.axes[0].patches if patch.get_hatch()]) == 1


def test_nothing_to_show_is_said():
    """F81."""
    assert "no images" in prediction_rows([], "t").get_suptitle()
    assert "no images" in guided_rows([], [], "t").get_suptitle()
    nothing = np.zeros((0, 3, 4, 4), np.uint8)
    assert "no images" in class_sheet(nothing, np.zeros((0, 2, 2)), [], np.zeros(0, bool), "t").get_suptitle()
    assert "no classes" in mean_figure(np.zeros((0, 2, 3, 3)), [], ["a", "b"], "t").get_suptitle()
    assert "no classes" in localisation_points({"pointing": np.zeros((0, 4))}, [], "t").get_suptitle()


def test_hard_names_are_shown_literally():
    """F77."""
    made = prediction_rows([row(name=name, captions=HARD[:3]) for name in HARD], "$x_{")
    assert style.png(made).startswith(b"\x89PNG")
    assert any("\\x1b[31m\\x00" in text for text in words(made))
    points = localisation_points({"pointing": np.full((4, 4), np.nan)}, HARD, "$x_{")
    assert style.png(points).startswith(b"\x89PNG")


@pytest.mark.parametrize("truth", [None, np.eye(24, 20) > 0, np.ones((24, 20), bool), np.zeros((24, 20), bool)])
def test_the_object_is_outlined(truth):
    made = prediction_rows([row(truth=truth)], "")
    outlined = len(made.axes[0].collections) > 0
    assert outlined == (truth is not None and truth.any() and not truth.all())
    assert style.png(made)


def test_guided_maps_in_colour_have_the_limit_of_their_image():
    maps = np.random.default_rng(4).normal(size=(3, 3, 24, 20))
    made = guided_rows([row()], [maps], "title")
    assert any("limit" in text for text in words(made))
    assert len(made.axes[0].images) == 4


def test_points_stand_at_their_means_and_chance():
    values = np.array([[0.7, 0.6, 0.8, 0.2], [np.nan] * 4])
    made = localisation_points({"pointing": values, "iou": values}, ["a", "b"], "t")
    lines = made.axes[0].lines
    assert lines[0].get_xdata()[0] == 0.7 and lines[1].get_xdata()[0] == 0.2
    assert made.axes[0].get_xlim() == (-0.02, 1.02)
