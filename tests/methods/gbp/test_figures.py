"""Gradient maps of units and layers: every map with its limit, nothing hidden that is not a number."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cnnprobe.methods.gbp import figures as gradients
from cnnprobe.methods.gbp.figures import GradientRow, gradient_rows, mean_sheet
from cnnprobe.plots import style

HARD = ["$\\frac{1}{$", "word " * 100, "\x1b[31m\x00\n2nd", ""]


def pictures(made):
    """Return the maps on the first axes: those with an opacity."""
    return [image for image in made.axes[0].images if image.get_array().shape[-1] == 4]


def words(made):
    return [text.get_text() for text in made.axes[0].texts]


def legend(made):
    return made.get_supxlabel().replace("\n", " ")


def hatched(made):
    return [patch for patch in made.axes[0].patches if patch.get_hatch()]


def unit(**changes):
    random = np.random.default_rng(0)
    given = {
        "name": "7\nresponse 3.2",
        "pictures": np.full((2, 3, 16, 12), 9, np.uint8),
        "outlines": np.array([[4.0, 3, 12, 9], [np.nan] * 4]),
        "maps": random.normal(size=(2, 3, 16, 12)),
        "captions": ["3.2", "1.1"],
        "mean": random.normal(size=(3, 9, 9)) / 8,
        "coverage": np.full((9, 9), 2),
        "box": (5, 5),
    }
    return GradientRow(**given | changes)


def shown(values, limit):
    return np.clip(np.moveaxis(0.5 + values / limit / 2, 0, -1), 0, 1)


def test_a_row_shows_images_their_maps_on_one_limit_and_the_mean_on_its_own():
    row = unit()
    made = gradient_rows([row], "title")
    first, second, mean, grey = pictures(made)
    limit, own = np.abs(row.maps).max(), np.abs(row.mean).max()
    assert np.allclose(first.get_array()[..., :3], shown(row.maps[0], limit))
    assert np.allclose(second.get_array()[..., :3], shown(row.maps[1], limit))
    assert np.allclose(mean.get_array()[..., :3], shown(row.mean, own))
    assert np.ptp(grey.get_array()[..., :3], -1).max() == 0
    said = words(made)
    assert f"limit\n{style.number(limit)}" in said
    assert f"limit {style.number(own)}; mean of 2 maps" in said
    assert {"3.2", "1.1"} <= set(said)
    assert "each unit's own" in legend(made)


def test_shared_limits_are_those_of_all_units():
    rows = [unit(), unit(maps=unit().maps * 100, mean=unit().mean / 100)]
    made = gradient_rows(rows, "", shared=True)
    limit, own = np.abs(rows[1].maps).max(), np.abs(rows[0].mean).max()
    found = pictures(made)
    assert np.allclose(found[0].get_array()[..., :3], shown(rows[0].maps[0], limit))
    assert np.allclose(found[6].get_array()[..., :3], shown(rows[1].mean, own))
    assert [text.startswith(f"limit {style.number(own)}") for text in words(made)].count(True) == 2
    assert "all units'" in legend(made)


def test_the_outline_keeps_its_place_on_its_picture_only():
    made = gradient_rows([unit(box=None)], "")
    (line,) = [line for line in made.axes[0].lines if line.get_color() == style.ACCENT]
    left, right, bottom, top = made.axes[0].images[0].get_extent()
    x, y = (np.array(line.get_data()) - [[left], [top]]) * 12 / (right - left)
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([3, 9, 4, 12])
    assert bottom - top == pytest.approx((right - left) * 16 / 12)
    plain = gradient_rows([unit(box=None, outlines=np.full((2, 4), np.nan))], "")
    assert "boxes" in legend(made) and "boxes" not in legend(plain)


def test_coverage_is_said_where_it_differs():
    coverage = np.full((9, 9), 30)
    coverage[0] = 12
    assert any(text.endswith("mean of 12 to 30 maps") for text in words(gradient_rows([unit(coverage=coverage)], "")))


@pytest.mark.parametrize("k", [0, 1, 6, 20])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_of_any_number_of_images_and_channels(k, channels):
    values = np.random.default_rng(1).normal(size=(k, channels, 8, 8))
    row = unit(
        pictures=np.zeros((k, channels, 8, 8), np.uint8), outlines=np.full((k, 4), np.nan), maps=values,
        captions=["x"] * k, mean=np.ones((channels, 5, 5)) * np.eye(5),
    )  # fmt: skip
    made = gradient_rows([row], "")
    assert words(made).count("x") == min(k, gradients.MAPS)
    assert len(pictures(made)) == min(k, gradients.MAPS) + 2
    assert style.png(made)


@pytest.mark.parametrize("display", ["signed", "clipped", "stretched", "grey"])
def test_a_dead_unit_keeps_its_row(display):
    nothing = np.full((3, 9, 9), np.nan)
    dead = unit(maps=np.full((2, 3, 16, 12), np.nan), mean=nothing, coverage=np.zeros((9, 9)), box=None)
    made = gradient_rows([dead, unit()], "", display=display)
    assert [words(made).count(said) for said in ("no map", "dead")] == [2, 2]
    assert len(hatched(made)) == 4
    assert "hatched" in legend(made)
    assert style.png(made)


def test_no_units_are_said():
    assert "no units" in gradient_rows([], "t").get_suptitle()
    assert "no units" in mean_sheet(np.zeros((0, 3, 5, 5)), [], "t").get_suptitle()


def test_hard_names_are_shown_literally_and_cut():
    """F77."""
    made = gradient_rows([unit(name=name, captions=[name] * 2) for name in HARD], "$x_{")
    assert style.png(made).startswith(b"\x89PNG")
    sheet = mean_sheet(np.ones((4, 3, 5, 5)) * np.eye(5), HARD, "$\\alpha_{", captions=HARD[::-1])
    assert any("\\x1b[31m\\x00" in text for text in words(sheet))
    assert max(len(text.split("\n")) for text in words(sheet)) <= 3
    assert style.png(sheet).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(1, 3, 9, 9), (3, 1, 35, 21), (16, 3, 40, 201), (65, 3, 19, 19), (2, 3, 1, 1)])
def test_a_sheet_shows_every_unit_on_its_own_limit_or_on_one(shape):
    maps = np.random.default_rng(2).normal(size=shape) * np.arange(1, shape[0] + 1)[:, None, None, None]
    names = [str(unit) for unit in range(shape[0])]
    for shared in (False, True):
        made = mean_sheet(maps, names, "title", (5, 5), shared=shared, side=max(shape))
        found = [image.get_array()[..., :3] for image in pictures(made)]
        limits = [np.abs(maps).max()] * shape[0] if shared else np.abs(maps).max((1, 2, 3))
        expected = [shown(np.broadcast_to(one, (3, *shape[2:])), limit) for one, limit in zip(maps, limits)]
        assert np.allclose(found, expected)
        assert words(made)[: shape[0]][-1] == names[-1] or shape[2:] == (1, 1)
        assert ("all units'" in legend(made)) == shared


def test_the_box_and_the_scale_bar_are_in_px_of_the_image():
    made = mean_sheet(np.random.default_rng(3).normal(size=(1, 3, 35, 35)), ["a"], "", (31, 31), side=70)
    boxes = next(one for one in made.axes[0].collections if isinstance(one, LineCollection))
    left, _, _, top = pictures(made)[0].get_extent()
    corners = (boxes.get_segments()[0] - (left, top)) / 2
    assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([2, 2], [33, 33])
    (bar,) = made.axes[0].lines
    assert words(made)[-1] == "10 px"
    assert np.ptp(bar.get_xdata()) == pytest.approx(20)
    assert "31 × 31 px" in legend(made)


def test_best_and_worst_are_framed_and_told_apart_without_colours():
    made = mean_sheet(np.random.default_rng(4).normal(size=(5, 3, 7, 7)), list("abcde"), "", best=[1], worst=[2, 4])
    frames = {style_of(patch): patch for patch in made.axes[0].patches if patch.get_linewidth() > 1.5}
    counts = [style_of(patch) for patch in made.axes[0].patches if patch.get_linewidth() > 1.5]
    assert (counts.count("solid"), counts.count("broken"), len(frames)) == (1, 2, 2)
    second = pictures(made)[1].get_extent()
    assert frames["solid"].get_x() == pytest.approx(second[0])
    assert "best (green), worst (red, broken)" in legend(made)
    assert "frames" not in legend(mean_sheet(np.ones((1, 3, 7, 7)), ["a"], ""))


def style_of(patch):
    return "solid" if patch.get_linestyle() in ("solid", "-") else "broken"


def test_uncovered_px_are_hatched_and_dead_units_said():
    """F81."""
    maps = np.random.default_rng(5).normal(size=(3, 3, 7, 7))
    maps[0, :, :2], maps[1] = np.nan, np.nan
    maps[2] = 0
    made = mean_sheet(maps, list("abc"), "", captions=["0.5", "nan", "0"])
    assert len(hatched(made)) == 2
    assert [words(made).count(said) for said in ("dead", "all 0", "a\n0.5")] == [1, 1, 1]
    assert "hatched" in legend(made)


def test_a_sheet_of_512_units_is_one_axes_no_wider_than_a_page():
    maps = np.random.default_rng(6).normal(size=(512, 3, 5, 5)).astype(np.float32)
    made = mean_sheet(maps, [str(unit) for unit in range(512)], "title", (9, 9), captions=["0.5"] * 512)
    assert len(pictures(made)) == 512
    assert len(made.axes) == 1
    assert made.get_figwidth() < 10


def test_the_same_maps_give_the_same_file():
    maps = np.random.default_rng(7).normal(size=(4, 3, 11, 11))
    files = {style.png(mean_sheet(maps, list("abcd"), "title", (9, 9), best=[0])) for _ in range(2)}
    assert len(files | {style.png(gradient_rows([unit()], "")) for _ in range(2)}) == 2
