"""Figures of forgetting show the numbers they are given."""

import numpy as np
import pytest

from cnnprobe.methods.transfer.figures import forgetting
from cnnprobe.plots.style import png

NAN = np.nan


def units(count=6, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"unit": np.arange(count), "correlation": rng.uniform(-0.3, 1, count)}
    columns |= {f"selectivity_{side}": rng.random(count) for side in ("before", "after")}
    columns["forgotten"] = (columns["correlation"] < 0.2) & (columns["selectivity_before"] > 0.5)
    return columns | {"dead_after": np.zeros(count, bool)}


def layers(names):
    rng = np.random.default_rng(1)
    columns = {"name": np.array(names, object), "compared": np.full(len(names), 40)}
    return columns | {key: rng.random(len(names)) for key in ("cka", "cka_biased", "rdm_drift")}


def test_curves_are_the_numbers():
    names = ["conv1", "conv2", "area$_x"]
    given, of_units = layers(names), {name: units(seed=place)["correlation"] for place, name in enumerate(names)}
    given["cka"][1] = NAN
    made = forgetting.layer_curves(given, of_units, "title")
    whole, drift, single = made.axes
    np.testing.assert_array_equal(whole.lines[0].get_ydata(), given["cka_biased"])
    np.testing.assert_array_equal(whole.lines[1].get_ydata(), given["cka"])
    np.testing.assert_array_equal(drift.lines[0].get_ydata(), given["rdm_drift"])
    medians = [line for line in single.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(medians[0].get_ydata(), [np.median(of_units[name]) for name in names])
    points = np.concatenate([line.get_ydata() for line in single.lines if line.get_marker() == "."])
    np.testing.assert_array_equal(points, np.concatenate(list(of_units.values())))
    assert png(made)


def test_a_negative_estimate_is_in_view():
    given = layers(["a", "b"])
    given["cka"] = np.array([-0.2, 0.5])
    made = forgetting.layer_curves(given, {"a": np.zeros(2), "b": np.full(2, NAN)}, "")
    assert made.axes[0].get_ylim()[0] < -0.2
    assert png(made)


def test_forgotten_units_are_red_and_silent_ones_crossed():
    own = units()
    own["selectivity_before"][:] = [0.9, 0.8, 0.1, 0.7, NAN, 0.9]
    own["selectivity_after"][:] = [0.1, 0.9, 0.1, 0.6, 0.2, NAN]
    own["forgotten"] = np.array([True, False, False, False, False, True])
    (ax,) = forgetting.selectivity_scatter({"conv1": own}, "").axes
    _, kept, lost, silent = ax.lines
    np.testing.assert_array_equal(np.transpose(kept.get_data()), [[0.8, 0.9], [0.1, 0.1], [0.7, 0.6]])
    np.testing.assert_array_equal(np.transpose(lost.get_data()), [[0.9, 0.1]])
    assert silent.get_xdata().tolist() == [0.9]
    assert "4 units, 2 forgotten" in ax.get_title()


def test_a_panel_without_units_is_drawn():
    own = units() | {"selectivity_after": np.full(6, NAN), "forgotten": np.zeros(6, bool)}
    assert png(forgetting.selectivity_scatter({"conv1": own, "conv2": units()}, "net"))


def test_of_many_layers_some_have_a_panel():
    made = forgetting.selectivity_scatter({f"conv{number}": units() for number in range(40)}, "net")
    titles = [ax.get_title().split("\n")[0] for ax in made.axes if ax.axison]
    assert len(titles) == forgetting.PANELS and (titles[0], titles[-1]) == ("conv0", "conv39")
    assert "30 of 40 layers" in " ".join(made.get_suptitle().split())


def test_strips_have_a_colour_per_unit_and_name_the_lowest():
    own = units()
    own["correlation"] = np.array([1.0, 0.5, -0.4, NAN, 0.0, 0.9])
    own["forgotten"] = np.array([False, False, True, False, False, False])
    made = forgetting.overwritten_units({"conv1": own, "dead": units(3) | {"correlation": np.full(3, NAN)}}, "")
    first = made.axes[0].images[0]
    colours = np.asarray(first.get_array())[0]
    np.testing.assert_allclose(colours[[0, 2, 4]], forgetting.KEPT([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(colours[3], (0.93, 0.93, 0.93, 1))
    texts = [text.get_text() for text in made.axes[0].texts]
    assert texts[:3] == ["0.50", "1 of 6", "2, 4, 1"] and "none responds in both" in texts
    marks = made.axes[0].lines[0].get_xdata()
    np.testing.assert_allclose(marks, [2.5 / 6])
    assert png(made)


def changed(count=3, k=2, side=8):
    rng = np.random.default_rng(0)
    columns = {"layer": np.arange(count) % 2, "unit": np.arange(count) + 3, "correlation": rng.random(count)}
    columns |= {"overlap": rng.random(count), "forgotten": np.arange(count) == 0, "class_before": np.arange(count) % 2}
    columns["class_after"] = np.full(count, -1)
    for end in ("before", "after"):
        columns |= {
            f"selectivity_{end}": rng.random(count), f"response_{end}": rng.random((count, k)),
            f"picture_{end}": rng.integers(0, 255, (count, k, 3, side, side)).astype(np.uint8),
            f"preferred_{end}": rng.random((count, 3, side, side)), f"preferred_response_{end}": rng.random(count),
            f"field_{end}": rng.normal(size=(count, 2 * side - 1, 2 * side - 1)), f"size_{end}": rng.random(count) * 9,
        }  # fmt: skip
    return columns


@pytest.mark.parametrize("pictorial", [True, False])
def test_every_figure_is_drawn_from_columns(pictorial):
    about = {"layers": ["conv1", "conv2"], "classes": ["a", "b"], "field_sizes": [[3, 3], [5, 5]]}
    own, shown = {"conv1": units(), "conv2": units(seed=1)}, changed()
    shown["unit"][2] = -1  # a row that stayed empty
    if not pictorial:
        for end in ("before", "after"):
            del shown[f"field_{end}"], shown[f"size_{end}"]
            shown[f"preferred_{end}"] = np.random.default_rng(0).normal(size=(3, 2, 30))
            shown[f"picture_{end}"] = np.random.default_rng(1).normal(size=(3, 2, 2, 30))
    made = dict(forgetting.figures(own, layers(["conv1", "conv2"]), shown, about, "net"))
    assert list(made) == ["forgetting", "selectivity", "overwritten", "changed_units"]
    assert all(png(figure) for figure in made.values())
    texts = " ".join(" ".join(text.get_text() for text in made["changed_units"].axes[0].texts).split())
    assert "conv1, unit 3" in texts and "unit -1" not in texts and ("a → none" in texts) == pictorial
    assert list(dict(forgetting.figures(own, layers(["conv1", "conv2"]), None, {}, "net"))) == list(made)[:3]


def test_nothing_to_show_is_said():
    assert png(forgetting.selectivity_scatter({}, "x"))
    assert png(forgetting.overwritten_units({}, "x"))
    assert png(forgetting.layer_curves(layers([]), {}, "x"))
