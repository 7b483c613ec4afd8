"""Slices through a brain: the right side up, the places that matter, one scale."""

import numpy as np
import pytest

from cnnprobe.methods.rsa.figures.slices import chosen, closest_layer, searchlight_slices, upright
from cnnprobe.plots.style import png

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -12], [0, 0, 4, -8], [0, 0, 0, 1]])


def maps(layers=2, shape=(6, 8, 10)):
    values = np.random.default_rng(0).normal(size=(layers, *shape)) * 0.1
    values[:, 0] = np.nan
    values[0, 3, 4, 2], values[1, 5, 1, 7] = 0.9, 0.8
    return values


def panels(made):
    return [ax for ax in made.axes if ax.images and ax.get_label() != "<colorbar>"]


@pytest.mark.parametrize(
    "affine",
    [
        AFFINE,
        np.array([[0, 0, 2.0, -5], [-1.5, 0.1, 0, 4], [0, -3, 0.2, 9], [0, 0, 0, 1]]),
        np.array([[0.8, -0.7, 0, 0], [0.7, 0.8, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]]),
    ],
)
def test_axes_go_right_front_and_up_and_every_voxel_keeps_its_place(affine):
    values = np.arange(24.0).reshape(2, 3, 4)
    turned, made = upright(values, affine)
    assert (np.diag(made)[:3] > 0).all()
    assert (np.abs(made[:3, :3]).argmax(0) == range(3)).all()
    for index in np.ndindex(values.shape):
        there = np.linalg.solve(made, affine @ [*index, 1])
        assert turned[tuple(there[:3].round().astype(int))] == values[index]
        np.testing.assert_allclose(there, there.round(), atol=1e-9)


def test_the_slices_with_the_peaks_are_among_those_shown():
    found = chosen(maps(), 5)
    assert {2, 7} <= set(found) and found == sorted(set(found)) and len(found) == 5
    assert max(np.diff([-1, *found, 10])) <= 4
    assert chosen(maps()[..., :3], 5) == [0, 1, 2]
    assert chosen(maps() * np.nan, 5) == []
    empty = maps()
    empty[1] = np.nan
    assert 2 in chosen(empty, 4)


def test_one_scale_for_all_layers_peaks_and_their_places():
    made = searchlight_slices(maps(), ["conv1", "conv2"], AFFINE, "title", "Spearman's ρ", most=4)
    shown = panels(made)
    assert len(shown) == 8
    assert {ax.images[-1].get_clim() for ax in shown} == {(-0.9, 0.9)}
    assert "conv1\npeak 0.9\n(4, 0, 0) mm" in [ax.get_ylabel() for ax in shown]  # 10 - 2 * 3, -12 + 3 * 4, -8 + 4 * 2
    assert "z = 0 mm" in [ax.get_title() for ax in shown]
    # left of the picture is left of the body: x of the file goes left
    first = next(ax for ax in shown if ax.get_title() == "z = 0 mm")
    assert first.images[-1].get_array()[4, 2] == 0.9


def test_places_that_are_significant_are_outlined():
    p = np.ones((2, 6, 8, 10))
    p[0, 2:5, 3:6, 2] = 0.01
    inside = np.ones((6, 8, 10), bool)
    made = searchlight_slices(maps(), ["a", "b"], AFFINE, "title", "ρ", p=p, inside=inside)
    assert sum(len(ax.collections) > 0 for ax in panels(made)) == 1
    assert "outlined: p < 0.05" in made._supxlabel.get_text()
    assert "no place: p < 0.05" in searchlight_slices(maps(), "ab", AFFINE, "", "ρ", p=p + 1)._supxlabel.get_text()
    assert png(made)


def test_the_closest_layer_of_each_place():
    p = np.full((2, 6, 8, 10), 0.01)
    p[:, 5, 1, 7] = 0.5
    made = closest_layer(maps(), ["a", "b"], AFFINE, "title")
    shown = np.concatenate([ax.images[-1].get_array().filled(-1).ravel() for ax in panels(made)])
    assert set(shown) == {-1, 0, 1}
    words = [text.get_text() for text in made.legends[0].get_texts()]
    filled = np.nan_to_num(maps(), nan=-1)
    high = filled.max(0) > -np.nanmin(maps())
    counts = [int(((filled.argmax(0) == layer) & high).sum()) for layer in (0, 1)]
    assert words == [f"a: {counts[0]} voxels", f"b: {counts[1]} voxels"]
    significant = int(((filled.argmax(0) == 1) & (np.isfinite(maps()[0]))).sum()) - 1
    more = closest_layer(maps(), ["a", "b"], AFFINE, "title", p=p).legends[0].get_texts()[1].get_text()
    assert more == f"b: {significant} voxels"


def test_maps_without_values_are_drawn():
    """F81."""
    nothing = maps() * np.nan
    assert png(searchlight_slices(nothing, ["a", "b"], AFFINE, "title", "ρ"))
    assert png(closest_layer(nothing, ["a", "b"], AFFINE, "title"))
    half = maps()
    half[1] = np.nan
    made = searchlight_slices(half, ["a", "b"], AFFINE, "title", "ρ")
    assert "b\nnot defined" in [ax.get_ylabel() for ax in panels(made)]
    assert png(searchlight_slices(maps() * 0, ["a", "b"], AFFINE, "title", "ρ"))
