import numpy as np
import pytest

from cnnprobe.plots import sheet, style


def test_grey_becomes_rgb_and_numbers_from_0_to_1():
    made = sheet.rgb(np.full((2, 1, 3, 4), 255, np.uint8))
    assert made.shape == (2, 3, 4, 3)
    assert made.max() == 1


def test_the_field_of_a_position_becomes_edges_on_the_picture():
    """A field of 7 px that steps by 4 from -2, on an image of 32 px shown at half its size."""
    own = {"image_size": [3, 32, 32], "field_start": [-2, -2], "field_stride": [4, 4], "field_size": [7, 7]}
    edges = sheet.outlines(np.array([[[0, 3], [-1, -1]]]), (16, 16), own)
    assert edges[0, 0].tolist() == [-1.0, 5.0, 2.5, 8.5]
    assert np.isnan(edges[0, 1]).all()


@pytest.mark.parametrize(("units", "k"), [(1, 1), (5, 9), (130, 3)])
def test_a_sheet_shows_every_picture_at_its_place(units, k):
    pictures = np.zeros((units, k, 3, 8, 8), np.uint8)
    pictures[..., 0, :, :] = np.arange(units)[:, None, None, None] + 1
    made = sheet.unit_sheet(pictures, [f"{u}\n1.0" for u in range(units)], None, "title $x_1")
    canvas = made.axes[0].images[0].get_array()
    shown = np.round(canvas[..., 0] * 255)[canvas[..., 1] == 0]
    assert sorted(set(shown)) == list(range(1, units + 1))
    assert len(made.axes[0].texts) == units


def test_a_strangers_text_is_shown_literally(tmp_path):
    """F77: mathematics, escapes and long names in captions and titles."""
    images = np.zeros((3, 3, 8, 8), np.uint8)
    hard = ["$\\frac{1}{$", "x" * 5000, "\x1b[31m\x00"]
    made = sheet.contact_sheet(images, hard, [True, False, False], "$\\alpha_{")
    assert style.png(made).startswith(b"\x89PNG")
    assert style.png(sheet.unit_page(images, hard, None, "$x_")).startswith(b"\x89PNG")


def test_no_line_of_a_caption_is_lost_behind_a_long_one():
    """The response stands below a class name of any length."""
    images = np.zeros((1, 3, 8, 8), np.uint8)
    for made in (
        sheet.contact_sheet(images, ["word " * 90 + "\n3.25"]),
        sheet.unit_page(images, ["word " * 90 + "\n3.25"], None, ""),
    ):
        (text,) = made.axes[0].texts
        assert text.get_text().endswith("…\n3.25") and text.get_text().count("\n") == 2


def test_an_image_that_was_decided_wrongly_is_framed():
    made = sheet.contact_sheet(np.zeros((2, 3, 8, 8), np.uint8), ["a", "b"], [False, True])
    (ax,) = made.axes
    (frame,) = ax.patches
    assert frame.get_extents().bounds == pytest.approx(ax.images[1].get_window_extent().bounds, abs=1e-6)
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def test_the_field_on_a_page_lies_where_its_pixels_do():
    """A 4 x 2 px field of an 8 x 8 px picture, on the second one; no more than one axes is made for all of them."""
    edges = np.array([[np.nan] * 4, [2, 4, 6, 6]])
    made = sheet.unit_page(np.zeros((2, 3, 8, 8), np.uint8), ["a", "b"], edges, "")
    (ax,) = made.axes
    (line,) = ax.lines
    left, right, bottom, top = ax.images[1].get_extent()
    width, height = right - left, bottom - top
    x, y = line.get_xydata().T
    assert (x.min(), x.max()) == pytest.approx((left + width / 2, left + width * 6 / 8))
    assert (y.min(), y.max()) == pytest.approx((top + height * 2 / 8, top + height * 6 / 8))


def test_borders_are_the_edges_between_pixels_of_different_classes():
    """One pixel of another class has four edges; one in a corner has two, as beyond the map there are none."""
    classes = np.zeros((3, 4), int)
    classes[1, 2] = 1
    edges = {tuple(map(tuple, edge)) for edge in sheet.borders(classes).tolist()}
    assert edges == {((1, 2), (1, 3)), ((2, 2), (2, 3)), ((1, 2), (2, 2)), ((1, 3), (2, 3))}
    corner = np.zeros((3, 4), int)
    corner[0, 0] = 255
    assert len(sheet.borders(corner)) == 2 and not len(sheet.borders(np.ones((3, 4))))


def test_an_outline_lies_around_its_pixels_in_the_picture():
    maps = np.zeros((1, 8, 8), np.uint8)
    maps[0, 2:4, 4:8] = 1
    made = sheet.contact_sheet(np.zeros((1, 3, 8, 8), np.uint8), ["a"],
                               outlined=[sheet.Outlined(maps, "white", "black", 1.0, "true")])  # fmt: skip
    (ax,) = made.axes
    left, right, bottom, top = ax.images[0].get_extent()
    x, y = np.concatenate(ax.collections[0].get_segments()).T
    assert (x.min(), x.max()) == pytest.approx(((left + right) / 2, right))
    assert (y.min(), y.max()) == pytest.approx((top + (bottom - top) / 4, (top + bottom) / 2))
