"""Figures of how far maps can be trusted: curves show what they are given, and say what is left out."""

import numpy as np
import pytest

from cnnprobe.methods.gbp import trust_figures
from cnnprobe.methods.gbp.trust_figures import reliability_curves, sanity_figure
from cnnprobe.plots import style

COUNTS = np.array([4, 8, 16, 32])
HARD = "$\\frac{1}{$\x1b[31m" + "word " * 60


def test_reliability_shows_median_and_quartiles_of_the_units():
    values = np.linspace(0, 1, 50)[:, None] * np.array([0.2, 0.4, 0.6, 0.8])
    (ax,) = reliability_curves({"conv1": (COUNTS, values)}, "title").axes
    x, y = ax.lines[0].get_data()
    assert np.array_equal(x, COUNTS)
    assert np.allclose(y, [0.1, 0.2, 0.3, 0.4])
    band = ax.collections[0].get_paths()[0].vertices
    assert {0.05, 0.15, 0.1, 0.3, 0.2, 0.6} <= set(band[:, 1].round(3))
    assert ax.get_xscale() == "log"
    assert ax.get_title() == "conv1: 50 units"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "8", "16", "32"]


@pytest.mark.parametrize(("units", "thin"), [(1, 0), (2, 2), (12, 12), (13, 0)])
def test_few_units_have_a_line_of_their_own(units, thin):
    values = np.random.default_rng(0).random((units, 4))
    made = reliability_curves({"a": (COUNTS, values)}, "")
    lines = [line for line in made.axes[0].lines if line.get_linewidth() < 0.7]
    assert len(lines) == thin
    assert all(np.allclose(line.get_ydata(), one) for line, one in zip(lines, values))
    assert ("single units" in made.get_supxlabel()) == bool(thin)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 7])
def test_each_layer_has_a_panel(layers):
    given = {f"conv{n}": (COUNTS, np.full((20, 4), n / 10)) for n in range(layers)}
    made = reliability_curves(given, "title", "split-half reliability")
    shown = [ax for ax in made.axes if ax.axison]
    assert [ax.get_title() for ax in shown] == [f"conv{n}: 20 units" for n in range(layers)]
    assert made.axes[0].get_ylabel() == "split-half reliability"
    assert style.png(made)


@pytest.mark.parametrize(
    ("counts", "values"),
    [
        (COUNTS, np.full((3, 4), np.nan)),
        (COUNTS, np.zeros((0, 4))),
        ([16], [[0.5]]),
        ([4, 8], [[np.nan, 0.5], [np.inf, -0.8]]),
        (np.arange(2, 60), np.full((2, 58), -1.0)),
        ([], np.zeros((3, 0))),
    ],
)
def test_what_is_missing_is_no_error(counts, values):
    values = np.asarray(values, float)
    made = reliability_curves({HARD: (counts, values)}, HARD)
    known = np.isfinite(values).any()
    assert [text.get_text() for text in made.axes[0].texts] == ([] if known else ["no values"])
    low, high = made.axes[0].get_ylim()
    assert not known or low <= np.min(values[np.isfinite(values)]) <= high
    assert style.png(made)


def test_no_layers_rules_or_stages_are_said():
    assert "no layers" in reliability_curves({}, "t").get_suptitle()
    assert "no rules" in sanity(0, 3)[0].get_suptitle()
    assert "no stages" in sanity(1, 0)[0].get_suptitle()


def sanity(rows, columns, images=3, shape=(3, 8, 8), **changes):
    random = np.random.default_rng(0)
    maps = random.normal(size=(rows, columns, *shape))
    likeness = random.random((rows, 2, columns, images))
    given = {
        "image": np.full(shape, 9, np.uint8),
        "maps": maps,
        "likeness": likeness,
        "rules": [f"rule {n}" for n in range(rows)],
        "stages": ["original", *(f"block.{n}.conv" for n in range(1, columns))][:columns],
        "measures": ["Spearman", "SSIM"],
        "sentence": "What it does not show.",
        "title": "title",
    }
    given |= changes
    return sanity_figure(**given), given


def words(ax):
    return [text.get_text() for text in ax.texts]


def maps_in(ax):
    return [image for image in ax.images if image.get_array().shape[-1] == 4]


def test_maps_stand_in_rows_of_rules_and_columns_of_stages():
    made, given = sanity(2, 3, display="signed")
    ax = made.axes[0]
    found = maps_in(ax)
    assert len(found) == 6
    flat = given["maps"].reshape(6, 3, 8, 8)
    for image, one in zip(found, flat):
        assert np.allclose(image.get_array()[..., :3], np.moveaxis(0.5 + one / np.abs(one).max() / 2, 0, -1))
    extents = np.array([image.get_extent() for image in found]).reshape(2, 3, 4)
    assert (np.diff(extents[..., 0], axis=1) > 0).all()
    assert (np.diff(extents[..., 3], axis=0) > 0).all()
    assert words(ax)[:4] == ["image", "0\noriginal", "1\nblock.1.conv", "2\nblock.2.conv"]
    assert words(ax)[4:] == ["rule 0", "rule 1"]


def test_the_curves_are_the_medians_of_all_stages_beside_the_same_numbers():
    made, given = sanity(2, 30)
    panels = made.axes[1:]
    assert [ax.get_title() for ax in panels] == ["Spearman", "SSIM"]
    for place, ax in enumerate(panels):
        for line, one in zip(ax.lines, given["likeness"]):
            assert np.array_equal(line.get_xdata(), range(30))
            assert np.allclose(line.get_ydata(), np.median(one[place], -1))
    assert len(maps_in(made.axes[0])) == 2 * trust_figures.STAGES
    numbers = [text.split("\n")[0] for text in words(made.axes[0])[1 : trust_figures.STAGES + 1]]
    assert (numbers[0], numbers[-1]) == ("0", "29")
    legend = made.subfigs[1].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["rule 0", "rule 1"]


def test_the_sentence_is_printed_whole():
    sentence = "Guided backpropagation shows edges of the image, not what the network has learned. " * 4
    made, _ = sanity(1, 2, sentence=sentence)
    assert made.get_supxlabel().replace("\n", " ") == sentence.strip()


def test_maps_without_a_likeness_leave_a_gap_that_is_said():
    made, given = sanity(2, 4)
    likeness = given["likeness"]
    likeness[1, :, 2], likeness[0, :, 3, 1] = np.nan, np.inf
    made, _ = sanity(2, 4, likeness=likeness)
    first, second = made.axes[1].lines[:2]
    assert np.isnan(second.get_ydata()).tolist() == [False, False, True, False]
    assert first.get_ydata()[3] == pytest.approx(np.median(likeness[0, 0, 3, [0, 2]]))
    assert "rule 0 1, rule 1 3 (of 12 each)" in made.subfigs[1].get_supxlabel().replace("\n", " ")


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 40), (1, 64, 64), (4, 9, 9)])
@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
def test_constant_maps_of_any_size(shape, value):
    """F81."""
    maps = np.full((1, 2, *shape), value)
    made, _ = sanity(1, 2, images=1, shape=shape, maps=maps, likeness=np.full((1, 2, 2, 1), np.nan))
    said = words(made.axes[0])
    assert ("no map" in said) == bool(np.isnan(value))
    assert style.png(made)


def test_hard_names_are_shown_literally():
    """F77."""
    made, _ = sanity(
        7, 2, rules=[HARD] * 7, stages=[HARD, ""], measures=[HARD, "x"], sentence=HARD, title=HARD, images=1
    )
    assert style.png(made).startswith(b"\x89PNG")
    assert style.png(made) == style.png(made)
