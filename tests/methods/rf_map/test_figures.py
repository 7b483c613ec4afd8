"""Sheets of fields: signed maps on one scale about a white zero, and nothing hidden that is not a number."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cnnprobe.methods.rf_map import figures as fields
from cnnprobe.methods.rf_map.figures import UnitRow
from cnnprobe.plots import style

FIELDS = np.random.default_rng(0).normal(size=(3, 9, 7))


def maps(made):
    """Return the maps and colour scales drawn on the first axes, not the pictures."""
    return [image for image in made.axes[0].images if image.get_array().ndim == 2]


def hatched(made):
    return [patch for patch in made.axes[0].patches if patch.get_hatch()]


def words(made):
    return [text.get_text() for text in made.axes[0].texts]


def unit(**changes):
    values = np.linspace(-1, 4, 2 * 12).reshape(2, 4, 3)
    given = {
        "name": "7",
        "pictures": np.full((2, 3, 16, 12), 9, np.uint8),
        "outline": np.array([4.0, 3.0, 12.0, 9.0]),
        "occluded": np.full((3, 16, 12), 5, np.uint8),
        "maps": values,
        "places": (1.0, 1.5, 15.0, 10.5),
        "captions": ["3.2", "1.1"],
        "field": np.full((5, 5), 0.25) * np.arange(5),
        "suppression": np.eye(5) / 2,
        "box": (3, 3),
    }
    return UnitRow(**given | changes)


def test_zero_is_white_and_the_signs_have_their_colours():
    assert style.DIVERGING(0.5) == (1, 1, 1, 1)
    negative, positive = style.DIVERGING(0.0), style.DIVERGING(1.0)
    assert negative[2] > negative[0]
    assert positive[0] > positive[2]


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 35, 21), (16, 40, 201), (64, 35, 35)])
def test_a_sheet_shows_every_field_with_its_values_on_one_scale(shape):
    given = np.random.default_rng(1).normal(size=shape) + 2
    made = fields.field_sheet(given, [str(u) for u in range(shape[0])], "title", (5, 5), side=max(shape))
    assert np.array_equal([image.get_array() for image in maps(made)], given)
    limit = np.abs(given).max()
    assert {image.get_clim() for image in maps(made)} == {(-limit, limit)}
    assert made.axes[1].get_ylabel() == "discrepancy (activation)"
    assert made.axes[1].get_ylim() == (-limit, limit)


def test_fields_stand_in_reading_order_without_touching():
    made = fields.field_sheet(np.zeros((9, 5, 5)) + np.arange(9)[:, None, None], list("abcdefghi"), "", None)
    extents = np.array([image.get_extent() for image in maps(made)])  # left, right, bottom, top
    assert [len(set(extents[:, 0])), len(set(extents[:, 3]))] == [3, 3]
    assert (extents[1:3, 0] > extents[:2, 1]).all()
    assert extents[3, 3] > extents[0, 2]  # y goes down
    assert np.allclose(extents[:, 1] - extents[:, 0], extents[:, 2] - extents[:, 3])


def test_normalised_weak_fields_are_seen_beside_strong_ones_and_it_is_said():
    given = FIELDS * np.array([1e-4, 1, 1e4])[:, None, None]
    made = fields.field_sheet(given, list("abc"), "title", None, normalised=True)
    assert [np.abs(image.get_array()).max() for image in maps(made)] == pytest.approx([1, 1, 1])
    assert {image.get_clim() for image in maps(made)} == {(-1, 1)}
    assert made.axes[1].get_ylabel() == "discrepancy / own largest"
    assert "divided by its own largest" in made.get_suptitle()


def test_what_is_not_a_number_is_hatched_and_a_unit_without_any_is_dead():
    """F81."""
    given = FIELDS.copy()
    given[1, 0, 0] = np.nan
    given[2] = np.nan
    made = fields.field_sheet(given, list("abc"), "", None)
    assert len(hatched(made)) == 2
    assert maps(made)[1].get_array().mask.sum() == 1
    assert words(made).count("dead") == 1
    assert "hatched: no value" in made.get_supxlabel()
    assert "hatched" not in fields.field_sheet(FIELDS, list("abc"), "", None).get_supxlabel()


def test_infinite_values_are_said_and_do_not_make_the_scale():
    """F81."""
    given = FIELDS.copy()
    given[0, 0, 0], given[1, 0, :2] = np.inf, -np.inf
    made = fields.field_sheet(given, list("abc"), "", None)
    assert maps(made)[0].get_clim()[1] == np.abs(given[np.isfinite(given)]).max()
    assert "3 infinite values, hatched" in made.get_supxlabel()
    assert len(hatched(made)) == 2


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "all 0"), (2.5, "all 2.5"), (3e38, "all 3e+38"), (1e-44, "all 9.81e-45")]
)
@pytest.mark.parametrize("size", [9, 600])
def test_maps_of_one_value_say_it(value, said, size):
    """F81."""
    made = fields.field_sheet(np.full((1, size, size), value, np.float32), ["a"], "", None)
    assert words(made).count(said) == 1
    low, high = maps(made)[0].get_clim()
    assert low == -high < 0
    assert style.png(made)


@pytest.mark.parametrize(
    ("length", "box", "expected"), [(35, 31, (2, 33)), (9, 4, (3, 7)), (64, 64, (0, 64)), (9, 99, (0, 9))]
)
def test_the_theoretical_field_is_drawn_about_the_middle(length, box, expected):
    """In px of the map; the middle px of an even field is the lower of its two; a larger one ends with the map."""
    made = fields.field_sheet(np.ones((1, length, length)), ["a"], "", (box, box), side=length)
    collection = next(one for one in made.axes[0].collections if isinstance(one, LineCollection))
    left, _, _, top = maps(made)[0].get_extent()
    corners = collection.get_segments()[0] - (left, top)
    assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([expected[0]] * 2, [expected[1]] * 2)
    assert f"{box} × {box} px" in made.get_supxlabel()
    assert ("larger than the map" in made.get_supxlabel()) == (box > length)


@pytest.mark.parametrize(("length", "said"), [(1, 1), (9, 2), (35, 10), (64, 20), (201, 100), (447, 200)])
def test_the_scale_bar_is_as_long_as_it_says(length, said):
    """At least a fifth of the map, at most a half; a map of one px has one."""
    made = fields.field_sheet(np.ones((1, length, length)), ["a"], "", None, side=2 * length)
    (bar,) = made.axes[0].lines
    assert words(made)[-1] == f"{said} px"
    assert np.ptp(bar.get_xdata()) == pytest.approx(2 * said)


def test_maps_of_many_px_are_shown_as_means_of_blocks():
    given = np.random.default_rng(2).normal(size=(1, 90, 60))
    given[0, :30, :30] = np.nan
    given[0, 30, 30] = np.nan
    made = fields.field_sheet(given, ["a"], "", None, side=15)
    blocks = np.lib.stride_tricks.sliding_window_view(given[0], (3, 3))[::3, ::3].reshape(30, 20, 9)
    shown = maps(made)[0].get_array()
    assert shown.mask[:10, :10].all()
    assert shown.mask.sum() == 100
    expected = [np.nanmean(block) for block in blocks.reshape(-1, 9) if np.isfinite(block).any()]
    assert np.allclose(shown.compressed(), expected)


def test_long_and_hard_names_are_shown_literally_and_cut():
    """F77."""
    hard = ["$\\frac{1}{$", "word " * 100, "\x1b[31m\x00\n2nd"]
    made = fields.field_sheet(FIELDS, hard, "$\\alpha_{", (3, 3))
    assert "\\x1b[31m\\x00\n2nd" in words(made)
    narrow = words(fields.field_sheet(FIELDS, hard, "", None, side=60))
    assert max(len(text.split("\n")) for text in narrow) == 3
    assert sum(text.endswith("…") for text in narrow) == 1
    assert style.png(made).startswith(b"\x89PNG")
    assert style.png(fields.unit_rows([unit(name=name) for name in hard], "$x_")).startswith(b"\x89PNG")


def test_a_sheet_of_many_units_is_one_axes_and_the_same_each_time():
    given = np.random.default_rng(3).normal(size=(128, 35, 35)).astype(np.float32)

    def drawn():
        return fields.field_sheet(given, [str(u) for u in range(128)], "title", (31, 31), normalised=True)

    made = drawn()
    assert len(maps(made)) == 128
    assert len(made.axes) == 2  # the fields and the colour bar
    assert made.get_figwidth() < 9
    assert style.png(made) == style.png(drawn())


def test_no_units_are_said():
    assert "no units" in fields.field_sheet(np.zeros((0, 5, 5)), [], "t", (3, 3)).get_suptitle()
    assert "no units" in fields.unit_rows([], "t").get_suptitle()


def test_a_row_shows_the_maps_on_one_scale_and_field_and_suppression_on_another():
    row = unit()
    made = fields.unit_rows([row], "title")
    first, second, bar, field, suppression, other = maps(made)
    assert np.array_equal([first.get_array(), second.get_array()], row.maps)
    assert first.get_clim() == second.get_clim() == (-4, 4)
    assert np.array_equal(field.get_array(), row.field)
    assert np.array_equal(suppression.get_array(), -row.suppression)  # with the sign it has in the discrepancy
    assert field.get_clim() == suppression.get_clim() == (-1, 1)
    assert [bar.get_array()[50, 0], other.get_array()[50, 0]] == [0, 0]
    said = words(made)
    assert [said.count(one) for one in ("4", "-4", "1", "-1", "3.2", "1.1", "7")] == [1] * 7


def test_the_scale_of_a_row_is_its_own():
    made = fields.unit_rows([unit(), unit(maps=unit().maps * 100)], "")
    limits = [image.get_clim()[1] for image in maps(made)]
    assert limits == [4, 4, 1, 1, 1, 1, 400, 400, 1, 1, 1, 1]


def test_the_outline_keeps_its_place_on_the_picture():
    made = fields.unit_rows([unit()], "")
    picture = made.axes[0].images[0]
    left, right, bottom, top = picture.get_extent()
    outline = next(line for line in made.axes[0].lines if line.get_color() == style.ACCENT)
    scale = (right - left) / 12
    assert bottom - top == pytest.approx(16 * scale)
    x, y = np.array(outline.get_data()) - [[left], [top]]
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([3 * scale, 9 * scale, 4 * scale, 12 * scale])


def test_a_map_lies_on_its_picture_where_the_occluder_stood():
    """Two maps on a dark picture and a bright one of 16x12 px; of places beyond the picture nothing is shown."""
    pictures = np.stack([np.zeros((3, 16, 12), np.uint8), np.full((3, 16, 12), 255, np.uint8)])
    made = fields.unit_rows([unit(pictures=pictures)], "")
    behind = [image for image in made.axes[0].images if image.get_array().shape[2:] == (4,)]
    assert [image.get_array()[..., 3].max() for image in behind] == [fields.FAINT, 0]
    for one, picture in zip(maps(made), behind):
        (left, right, bottom, top), (x0, x1, _, y0) = one.get_extent(), picture.get_extent()
        scale = (x1 - x0) / 12
        assert [top - y0, left - x0, bottom - y0, right - x0] == pytest.approx(scale * np.array(unit().places))
        assert np.allclose(one.get_clip_box().bounds, frame(made, picture))


def frame(made, image):
    """Return the bounds of an image on the canvas, px."""
    left, right, bottom, top = image.get_extent()
    corners = made.axes[0].transData.transform([(left, bottom), (right, top)])
    return [*corners[0], *(corners[1] - corners[0])]


def test_what_is_occluded_is_framed_on_its_picture():
    occluded = unit().pictures[0].copy()
    occluded[:, 4:7, 2:5] = 77
    made = fields.unit_rows([unit(occluded=occluded), unit(occluded=unit().pictures[0])], "")
    (line,) = [line for line in made.axes[0].lines if line.get_color() == fields.OCCLUDER]
    left, right, _, top = made.axes[0].images[1].get_extent()
    x, y = (np.array(line.get_data()) - [[left], [top]]) * 12 / (right - left)
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([2, 5, 4, 7])


@pytest.mark.parametrize(("k", "shown"), [(1, 1), (5, 5), (10, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_any_number_of_maps(k, shown, channels):
    pictures = np.zeros((k, channels, 8, 8), np.uint8)
    maps_of = np.ones((k, 3, 3)) * np.eye(3)
    row = unit(maps=maps_of, captions=["x"] * k, pictures=pictures, occluded=pictures[0])
    made = fields.unit_rows([row], "")
    assert words(made).count("x") == shown
    assert len(maps(made)) == shown + 4
    assert style.png(made)


def test_a_dead_unit_keeps_its_row():
    nothing = np.full((5, 5), np.nan)
    row = unit(outline=np.full(4, np.nan), maps=np.full((2, 3, 3), np.nan), field=nothing, suppression=nothing)
    made = fields.unit_rows([row, unit()], "")
    assert [words(made).count(said) for said in ("no map", "dead")] == [2, 2]
    assert len(hatched(made)) == 4
    assert "hatched: no value" in made.get_supxlabel()
    assert len([line for line in made.axes[0].lines if line.get_color() == style.ACCENT]) == 1
