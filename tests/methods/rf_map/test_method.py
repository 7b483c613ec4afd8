"""Fields of units that were planted where the answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.instruments.windows.occluders import fillings
from cnnprobe.methods.rf_map import method as rf_map
from cnnprobe.models import convnet
from cnnprobe.store.tables import Phase, Rows
from tests.support.networks import planted


def mapped(model, images, layer="conv1", **options):
    """Run rf-map and join the rows of a layer."""
    measurement = cnnprobe.measure("rf-map", model=model, dataset=images, layer=layer, **options)
    return joined(measurement, f"units/{layer}")


def joined(measurement, table):
    found = {}
    for event in measurement.events:
        if isinstance(event, Rows) and event.table == table:
            for name, values in event.columns.items():
                found.setdefault(name, []).append(values.copy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def plus():
    """A plus sign of 9x9 px, one px wide, without mean."""
    template = torch.zeros(9, 9)
    template[4] = template[:, 4] = 1
    return template - template.mean()


@pytest.mark.parametrize("filling", ["mean", "noise"])
def test_a_planted_template_is_found_where_it_is(filling):
    """2.T5: unit = relu(T * x - 2), T a plus sign somewhere in each of 25 noise images."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(25, 1, 40, 40, generator=random) * 0.25
    corners = torch.randint(0, 32, (25, 2), generator=random)
    for image, (y, x) in zip(images, corners):
        image[0, y : y + 9, x : x + 9] += plus()
    model = nn.Sequential(nn.Conv2d(1, 1, 9), nn.ReLU()).eval()
    model[0].weight.data[0, 0], model[0].bias.data[0] = plus(), -2
    found = mapped(model, images.numpy(), top_images=25, patch_size=5, stride=2, filling=filling)
    assert np.array_equal(found["position"][0], corners[found["image"][0]].numpy())
    field = found["field"][0]
    assert np.argwhere(field == np.nanmax(field)).tolist() == [[side // 2 for side in field.shape]]
    grid = rf_map.grid_of((40, 40), 5, 2)
    unmoved = pixels_by_loop(found["discrepancy"][0], grid).mean(0)
    assert np.nanmax(field) / np.nanmax(unmoved) > 3
    half, fifth = found["size"][0]
    assert 7 < fifth < 11
    assert 5 < half < 7.5
    assert np.abs(found["center"][0]).max() < 1


def pixels_by_loop(discrepancy, grid):
    """Each pixel's mean over the occluders that covered it, by a loop."""
    total, count = np.zeros((len(discrepancy), *grid.sides)), np.zeros(grid.sides)
    for row, top in enumerate(grid.corners[0]):
        for column, left in enumerate(grid.corners[1]):
            hole = slice(top, top + grid.patch), slice(left, left + grid.patch)
            total[(slice(None), *hole)] += discrepancy[:, row, column, None, None]
            count[hole] += 1
    with np.errstate(invalid="ignore"):
        return total / count


BOXES = [((3, -2), 7), ((-4, 4), 5), ((0, 0), 9)]
"""Offset of each planted field from the centre of the theoretical one (15 px), and its side."""


def boxes():
    """A convolution each of whose units adds up the pixels of one square inside its kernel."""
    model = nn.Sequential(nn.Conv2d(1, len(BOXES), 15, padding=7, bias=False), nn.ReLU()).eval()
    nn.init.zeros_(model[0].weight)
    for kernel, ((y, x), side) in zip(model[0].weight.data, BOXES):
        top, left = 7 + y - side // 2, 7 + x - side // 2
        kernel[0, top : top + side, left : left + side] = 1
    return model


@pytest.mark.parametrize("places", ["corners", "inside"])
@pytest.mark.parametrize("unit", range(len(BOXES)))
def test_planted_fields_are_found_in_place_and_size_also_at_borders(unit, places):
    """A bright square that the planted field just sees; in the corners much of the theoretical field is padding."""
    (y, x), side = BOXES[unit]
    tops = np.array([(10, 11), (15, 17), (12, 8), (17, 12)])
    if places == "corners":
        first = np.array([y, x]) - side // 2  # of the planted field of position 0, 0
        tops = np.clip([(0, 0), (0, 36), (36, 0), (36, 36)], np.maximum(first, 0), np.minimum(first + 35, 36 - side))
    images = np.random.default_rng(0).random((4, 1, 36, 36)).astype(np.float32) * 0.1
    for image, (top, left) in zip(images, tops):
        image[0, top : top + side, left : left + side] += 0.8
    found = mapped(boxes(), images, units=[unit], top_images=4, patch_size=3, stride=1, filling="zero")
    centres = tops[found["image"][0]] + side // 2
    assert np.array_equal(found["position"][0], centres - [y, x])
    np.testing.assert_allclose(found["center"][0], [y, x], atol=1)
    assert found["size"][0, 0] == pytest.approx(side, rel=0.15)
    # an occluder of 3 px blurs twice: it changes what its square holds, and each of its pixels gets all of the change
    blurred = math.sqrt((side**2 - 1) / 12 + 2 * (3**2 - 1) / 12)
    np.testing.assert_allclose(found["sigma"][0], blurred, rtol=0.05)
    np.testing.assert_allclose(found["effective_size"][0], side)  # the gradient is the kernel itself
    np.testing.assert_allclose(found["effective_sigma"][0], math.sqrt((side**2 - 1) / 12), rtol=1e-5)
    assert found["field"].shape[1:] == (15 + 4, 15 + 4)


def test_discrepancies_are_those_of_a_plain_loop():
    """Clean minus occluded at the site of the maximum, averaged over draws of noise, with their standard error."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU())
    images = torch.rand(6, 3, 14, 14)
    found = mapped(model, images.numpy(), "conv2", top_images=2, patch_size=4, stride=3, draws=3, seed=7)
    pixels = images.transpose(0, 1).flatten(1)
    grid = rf_map.grid_of((14, 14), 4, 3)
    for unit in np.flatnonzero(~found["dead"]):
        for k, index in enumerate(found["image"][unit]):
            image, (y, x) = images[index], found["position"][unit, k]
            filled = fillings("noise", image, 3, pixels.mean(1), pixels.std(1, unbiased=False), 7)
            expected = np.zeros((3, *grid.shape))
            with torch.no_grad():
                clean = model(image[None])[0, unit]
                assert clean.max() == clean[y, x]
                np.testing.assert_allclose(found["response"][unit, k], clean.max(), rtol=1e-6)
                for draw, row, column in np.ndindex(expected.shape):
                    copy = image.clone()
                    hole = (slice(None), *(slice(3 * place, 3 * place + 4) for place in (row, column)))
                    copy[hole] = filled[draw][hole]
                    expected[draw, row, column] = clean[y, x] - model(copy[None])[0, unit, y, x]
            np.testing.assert_allclose(found["discrepancy"][unit, k], expected.mean(0), atol=1e-5)
            error = math.sqrt((expected.var(0, ddof=1) / 3).mean())
            np.testing.assert_allclose(found["discrepancy_error"][unit, k], error, rtol=1e-4)


def test_what_an_occluder_raises_is_shown_apart():
    """A unit that one square drives and another one inhibits."""
    model = nn.Sequential(nn.Conv2d(1, 1, 11, padding=5, bias=False), nn.ReLU()).eval()
    nn.init.zeros_(model[0].weight)
    model[0].weight.data[0, 0, 1:4, 1:4], model[0].weight.data[0, 0, 7:10, 7:10] = 1, -0.5
    images = np.full((2, 1, 30, 30), 0.2, np.float32)
    for image, (top, left) in zip(images, [(6, 7), (12, 9)]):
        image[0, top : top + 3, left : left + 3] = 1
    found = mapped(model, images, top_images=2, patch_size=1, stride=1, filling="zero")
    field, raised = found["field"][0], found["suppression"][0]
    assert field.shape == (11, 11)
    np.testing.assert_allclose(field[1:4, 1:4], 1, rtol=1e-5)
    np.testing.assert_allclose(field[7:10, 7:10], -0.1, rtol=1e-4)
    np.testing.assert_allclose(raised[7:10, 7:10], 0.1, rtol=1e-4)
    assert np.count_nonzero(field) == 18
    assert np.count_nonzero(raised) == 9
    assert np.isnan(found["discrepancy_error"]).all()  # zero has no draws


def test_the_occluded_picture_shows_the_largest_effect():
    images = np.random.default_rng(0).random((2, 1, 16, 16)).astype(np.float32) * 0.3
    images[0, 0, 5, 9] = 1
    found = mapped(planted.identity(), images, top_images=1, patch_size=3, stride=1, filling="zero")
    picture, occluded = found["picture"][0, 0, 0], found["occluded"][0, 0]
    np.testing.assert_array_equal(picture, np.round(images[0, 0] * 255).astype(np.uint8))
    changed = np.argwhere(picture != occluded)
    assert [5, 9] in changed.tolist()
    assert (occluded[tuple(changed.T)] == 0).all()
    assert len(changed) == 9


def small_network():
    torch.manual_seed(1)
    return convnet.build(num_classes=8, written="class", input_size=32).eval()


def some_images(count=12):
    return shapes.build(size=32, count=count, split="test", seed=1, contrast=0.15, noise=0.02)


FAST = {"top_images": 3, "patch_size": 6, "stride": 5, "draws": 2}


def test_several_layers_are_those_mapped_one_by_one():
    both = cnnprobe.measure("rf-map", model=small_network(), dataset=some_images(), layer=["conv1", "conv3"], **FAST)
    rows = {}
    for event in both.events:
        if isinstance(event, Rows) and event.table.startswith("units/"):
            rows.setdefault(event.table, []).append(event.columns["field"].copy())
    for layer in ("conv1", "conv3"):
        alone = mapped(small_network(), some_images(), layer, **FAST)
        np.testing.assert_array_equal(np.concatenate(rows[f"units/{layer}"]), alone["field"])


def test_only_the_units_asked_for_are_mapped_and_they_are_the_same():
    every = mapped(small_network(), some_images(), "conv3", **FAST)
    some = mapped(small_network(), some_images(), "conv3", units=[6, 1], **FAST)
    for name, values in some.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, every[name][[6, 1]], rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(values, every[name][[6, 1]], err_msg=name)


@pytest.mark.parametrize("reading", ["site", "max", "mean", "anywhere"])
def test_the_batch_of_the_ranking_changes_nothing(reading):
    one, other = (
        mapped(small_network(), some_images(), "conv2", batch_size=size, reading=reading, **FAST) for size in (2, 64)
    )
    for name in ("image", "position"):
        np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_allclose(one["field"], other["field"], atol=1e-5)
    assert (one["field"].shape[1:] == (63, 63)) == (reading != "site")


@pytest.mark.parametrize("done", [0, 8])
def test_what_is_finished_is_not_done_again(done, monkeypatch):
    """The other batches are the same bit for bit, and only their maps are counted."""
    monkeypatch.setattr("cnnprobe.methods.rf_map.mapping.SAVED_UNITS", 4)
    whole = mapped(small_network(), some_images(), "conv3", **FAST)
    finished = {"units/conv3": frozenset(range(0, done, 4))}
    measurement = cnnprobe.measure(
        "rf-map", model=small_network(), dataset=some_images(), layer="conv3", finished=finished, **FAST
    )
    rest, phases = {}, []
    for event in measurement.events:
        if isinstance(event, Rows) and event.table == "units/conv3":
            rest[event.start] = event.columns
        phases += [event] if isinstance(event, Phase) else []
    assert sorted(rest) == list(range(done, len(whole["dead"]), 4))
    for start, columns in rest.items():
        for name, values in columns.items():
            np.testing.assert_array_equal(values, whole[name][start : start + 4], err_msg=name)
    answers = ~np.isnan(whole["discrepancy"]).all((2, 3))
    assert [(phase.total, phase.counts) for phase in phases[::2]] == [(12, "images"), (answers[done:].sum(), "maps")]


def test_a_dead_unit_and_a_silent_image_have_no_map():
    """F49: a rectifier behind a bias of -1e9; a unit that only the first image drives."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()).eval()
    nn.init.zeros_(model[0].weight)
    model[0].weight.data[:, 0, 1, 1] = 1
    model[0].bias.data = torch.tensor([0.0, -1e9, -0.5])
    images = np.full((3, 1, 12, 12), 0.4, np.float32)
    images[0, 0, 4, 4] = 1
    found = mapped(model, images, top_images=3, patch_size=2, stride=1, filling="zero")
    assert found["dead"].tolist() == [False, True, False]
    assert (found["image"][1] == -1).all()
    for name in ("field", "suppression", "discrepancy", "size", "center", "sigma", "effective", "effective_size"):
        assert np.isnan(found[name][1]).all(), name
    assert not found["coverage"][1].any()
    assert (found["picture"][1] == 255).all() and (found["occluded"][1] == 255).all()
    assert np.isnan(found["discrepancy"][2, 1:]).all() and not np.isnan(found["discrepancy"][2, 0]).any()
    assert found["coverage"][2].max() == 1 and found["coverage"][0].max() == 3
    assert np.nanmax(found["field"][2]) == pytest.approx(0.5)


def test_units_that_see_the_whole_image_are_not_moved():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    options = {"top_images": 2, "patch_size": 3, "stride": 3, "filling": "zero"}
    measurement = cnnprobe.measure("rf-map", model=model, dataset=images, layer="4", **options)
    assert measurement.tables[0].attributes["recentred"] is False
    found = joined(measurement, "units/4")
    assert found["field"].shape == (5, 12, 12)
    assert found["position"].shape == (5, 2, 0)
    by_loop = pixels_by_loop(found["discrepancy"][2], rf_map.grid_of((12, 12), 3, 3)).mean(0)
    np.testing.assert_allclose(found["field"][2], by_loop, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("sides", "patch", "stride"), [((224, 224), 11, 3), ((64, 96), 3, 1), ((32, 32), 2, 1)])
def test_the_occluder_is_in_proportion_to_the_image(sides, patch, stride):
    grid = rf_map.grid_of(sides, None, None)
    assert (grid.patch, grid.stride) == (patch, stride)


@pytest.mark.parametrize(("patch", "stride"), [(12, 1), (4, 99), (3, 5)])
def test_odd_geometries_have_the_places_there_are(patch, stride):
    """F51: the patch is the image; a stride larger than the image; gaps between occluders."""
    images = np.random.default_rng(0).random((2, 1, 12, 12)).astype(np.float32)
    found = mapped(planted.identity(), images, top_images=2, patch_size=patch, stride=stride, filling="zero")
    places = (12 - patch) // stride + 1
    assert found["discrepancy"].shape == (1, 2, places, places)
    assert found["coverage"].max() <= 2


@pytest.mark.parametrize(("patch", "stride"), [(3, 3), (5, 2), (2, 5)])
def test_the_edges_of_a_map_by_place_are_about_the_middles_of_its_occluders(patch, stride):
    grid = rf_map.grid_of((24, 24), patch, stride)
    top, left, bottom, right = rf_map._places(grid.shape, {"patch_size": patch, "stride": stride})
    assert (top, bottom) == (left, right)
    middles = grid.corners[0] + patch / 2
    np.testing.assert_allclose(np.linspace(top, bottom, 2 * len(middles) + 1)[1::2], middles)


def test_it_is_said_how_exact_the_engine_was():
    about = cnnprobe.measure("rf-map", model=small_network(), dataset=some_images(), layer="conv2", **FAST)
    own = about.tables[0].attributes
    assert own["engine"] == "windows"
    assert 0 <= own["engine_error"] < 1e-4


def test_what_cannot_be_is_refused():
    images = np.random.default_rng(0).random((2, 1, 32, 32)).astype(np.float32)
    with pytest.raises(UserError, match=r"patch_size must be from 1 to 32 \(the image's side\), got 99"):
        mapped(planted.identity(), images, patch_size=99)
    with pytest.raises(UserError, match="has units 0 to 0"):
        mapped(planted.identity(), images, units=[3])
    with pytest.raises(UserError, match="pages=2: that unit is not among those mapped"):
        mapped(planted.identity(), images, pages=[2])
    with pytest.raises(UserError, match=r"occludes images \(channel, y, x\), got signals of \(2, 64\)"):
        mapped(planted.signals(), np.zeros((3, 2, 64), np.float32), "conv1")


class Shown(dict):
    """Columns of a layer and its attributes, as they are read from a store."""

    has = dict.__contains__

    def __init__(self, measurement, name):
        table = measurement.tables[0]
        super().__init__(joined(measurement, name), unit=table.columns["unit"].values)
        self.name, self.attributes, self.rows = name, table.attributes, self["unit"]
        self.row_count = len(self["unit"])


class Recording(dict):
    """Layers by name."""

    def __init__(self, **layers):
        super().__init__(layers)
        self.attributes = {"model": "net", "weights": "w", "dataset": "images"}

    def tables(self, _):
        return sorted(self)

    def in_order(self):
        return sorted(self.values(), key=lambda table: table.attributes["order"])


@pytest.mark.parametrize(("side", "said"), [(5, False), (21, True)])
def test_figures_say_where_a_theoretical_field_exceeds_the_image(side, said):
    model = nn.Sequential(nn.Conv2d(1, 4, side, padding=side // 2))
    images = np.random.default_rng(0).random((3, 1, 12, 12)).astype(np.float32)
    options = {"top_images": 2, "patch_size": 3, "stride": 3, "filling": "zero"}
    measurement = cnnprobe.measure("rf-map", model=model, dataset=images, layer="conv1", **options)
    figures = dict(rf_map.draw(Recording(**{"units/conv1": Shown(measurement, "units/conv1")})))
    assert list(figures) == ["conv1", "conv1_units", "sizes"]
    for name in ("conv1", "conv1_units"):
        words = " ".join(figures[name].get_suptitle().split())
        assert ("theoretical field of 21 × 21 px, larger than the image of 12 × 12 px" in words) == said
    assert ("theoretical field exceeds the image" in [text.get_text() for text in legend(figures["sizes"])]) == said


def legend(figure):
    return figure.legends[0].get_texts()


def test_layers_are_told_in_the_order_in_which_they_were_asked_for():
    options = {"model": small_network(), "dataset": some_images(), "units": [0, 1], **FAST}
    asked = ["conv3", "conv1", "conv2"]
    order = [t.attributes for t in cnnprobe.measure("rf-map", layer=asked, **options).tables if "order" in t.attributes]
    assert [own["layer"] for own in sorted(order, key=lambda own: own["order"])] == asked
    recording = Recording()
    for layer in asked:
        one = cnnprobe.measure("rf-map", layer=layer, **options)
        one.tables[0].attributes["order"] = asked.index(layer)
        recording[f"units/{layer}"] = Shown(one, f"units/{layer}")
    assert rf_map.summary(recording)["layer"] == asked
    assert [name for name, _ in rf_map.draw(recording)][::2] == [*asked, "sizes"]


def test_the_same_neuron_is_mapped_in_the_images_that_drive_it_most():
    """Images are ranked by it alone, and what is compared is its activation, by the definition."""
    torch.manual_seed(1)
    model, images = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)).eval(), torch.rand(9, 1, 11, 11)
    options = {"top_images": 4, "patch_size": 3, "stride": 2, "filling": "zero", "position": [2, 3]}
    measurement = cnnprobe.measure("rf-map", model=model, dataset=images.numpy(), layer="conv1", **options)
    assert measurement.tables[0].attributes["position"] == [2, 3]
    found = joined(measurement, "units/conv1")
    with torch.no_grad():
        clean = model(images)[..., 2, 3]
        best = clean.argsort(0, descending=True)[:4].T
        assert found["image"].tolist() == best.tolist()
        assert (found["position"] == [2, 3]).all()
        np.testing.assert_allclose(found["response"], clean.T.gather(1, best), rtol=1e-5)
        for unit, place in np.ndindex(2, 4):
            image = images[best[unit, place]]
            for row, column in np.ndindex(*found["discrepancy"].shape[2:]):
                covered = image.clone()
                covered[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = 0
                lost = clean[best[unit, place], unit] - model(covered[None])[0, unit, 2, 3]
                assert abs(found["discrepancy"][unit, place, row, column] - lost) < 1e-5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position": [5, 0]}, r"position=\[5, 0\] is not on the map of conv1, which is 5 x 5$"),
        ({"position": [1]}, r"position=\[1\] is not on the map of conv1"),
        ({"position": [1, 1], "reading": "max"}, r"\(reading=site\), got reading=max$"),
    ],
)
def test_a_neuron_that_is_not_there_is_refused_in_one_line(options, words):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)).eval()
    with pytest.raises(UserError, match=words):
        cnnprobe.measure("rf-map", model=model, dataset=np.zeros((3, 1, 11, 11), np.float32), layer="conv1", **options)
