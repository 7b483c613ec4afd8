"""gbp on networks whose maps are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.spectrum import centroid
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.snapshots import Moment, half_time
from cnnprobe.methods.gbp.gradients import Gradients, Recipe
from cnnprobe.store.tables import Phase, Rows


def run(model, images, **options):
    return cnnprobe.measure("gbp", model=model, dataset=images, **options)


def joined(measurement, layer="conv1"):
    found = {}
    for event in measurement.events:
        if isinstance(event, Rows) and event.table == f"units/{layer}":
            for name, values in event.columns.items():
                found.setdefault(name, []).append(values.copy())
    columns = next(table for table in measurement.tables if table.name == f"units/{layer}").columns
    known = {name: column.values for name, column in columns.items() if column.values is not None}
    return known | {name: np.concatenate(parts) for name, parts in found.items()}


def mapped(model, images, layer="conv1", **options):
    return joined(run(model, images, layer=layer, **options), layer)


def gabor(side=9):
    y, x = np.mgrid[:side, :side] - side // 2
    wave = np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * 0.2 * (x * 0.8 + y * 0.6))
    return torch.tensor(wave - wave.mean(), dtype=torch.float32)


def one_gabor():
    model = nn.Sequential(nn.Conv2d(1, 2, 9), nn.ReLU()).eval()
    model[0].weight.data[0, 0], model[0].weight.data[1, 0] = gabor(), -2 * gabor()
    model[0].bias.data[:] = 0
    return model


def noise(count=30, channels=1, side=24, seed=0):
    return np.random.default_rng(seed).random((count, channels, side, side)).astype(np.float32)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 64, 4),
    ).eval()


@pytest.mark.parametrize("rule", ["guided", "gradient", "deconvnet"])
def test_a_gabor_is_found_exactly(rule):
    """3.T4: the map of an active neuron of one convolution is its kernel; so is the mean, guided and plain."""
    found = mapped(one_gabor(), noise(), rule=rule, top_images=20, keep=3)
    kernels = np.stack([gabor().numpy(), -2 * gabor().numpy()])
    assert found["mean_map"].shape == (2, 1, 9, 9)
    assert np.abs(found["mean_map"][:, 0] - kernels).max() < 1e-6
    assert np.abs(found["gradient_map"][:, 0] - kernels).max() < 1e-6
    assert np.abs(found["map"] - kernels[:, None, None]).max() < 1e-6
    assert np.abs(found["mean_map_sd"]).max() < 1e-6
    assert (found["coverage"] == 20).all()
    assert np.allclose(found["consistency"], 1) and np.allclose(found["pairwise"], 1)


def test_over_all_images_the_mean_is_the_share_of_active_ones_times_the_kernel():
    """3.T4, white noise as it is there: neurons that are silent give maps of 0."""
    model, count = one_gabor(), 400
    images = torch.from_numpy(noise(count, side=9)) - 0.5
    layer = find(model, "conv1", (1, 9, 9))[0]
    with Gradients(model, layer, (1, 9, 9), Recipe("guided")) as gradients:
        maps = gradients.maps(images, np.arange(count), np.zeros(count, int), np.zeros((count, 2), int))
    active = (maps.responses > 0).mean()
    assert 0.4 < active < 0.6
    assert np.abs(maps.values.mean(0)[0] - active * gabor().numpy()).max() < 3e-6


def test_maps_lie_with_the_field_in_the_middle_also_at_borders():
    """A position at the corner, with padding: what lies beyond the image is not covered."""
    model = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.ReLU()).eval()
    model[0].weight.data[0, 0], model[0].bias.data[:] = gabor(), 0
    images = np.zeros((3, 1, 20, 20), np.float32)
    images[0, 0, 0, 0], images[1, 0, 10, 10], images[2, 0, 12, 5] = 1, 0.9, 0.8
    found = mapped(model, images, top_images=3, keep=3)
    assert found["position"][0].tolist() == [[0, 0], [10, 10], [12, 5]]
    corner = found["map"][0, 0, 0]
    assert np.abs(corner[4:, 4:] - gabor().numpy()[4:, 4:]).max() < 1e-6
    assert not corner[:4].any() and not corner[:, :4].any()
    assert np.array_equal(found["coverage"][0, 0], np.pad(np.full((5, 5), 3), ((4, 0), (4, 0)), constant_values=2))
    assert np.abs(found["mean_map"][0, 0] - gabor().numpy()).max() < 1e-6
    assert (found["picture"][0, 0, 0, :4] == 128).all() and found["picture"][0, 0, 0, 4, 4] == 255


def test_rows_are_those_of_a_plain_loop():
    """Ranking, cropping and averaging written down once more in the simplest way."""
    model, images = small_network(), noise(12, 3, 22)
    found = mapped(model, images, "conv2", top_images=4, keep=4, rule="gradient", batch_size=5)
    layer = find(model, "conv2", (3, 22, 22))[0]
    side = int(layer.field.size[0])
    assert found["mean_map"].shape == (6, 3, side + 1, side + 1)  # even fields lie on an odd canvas
    for unit in range(6):
        maps = []
        with torch.no_grad():
            peaks = model[:5](torch.from_numpy(images))[:, unit].flatten(1).amax(1)
        best = np.argsort(-peaks.numpy(), kind="stable")[:4]
        alive = peaks.numpy()[best] > 0
        for rank, index in enumerate(best[alive]):
            pixels = torch.from_numpy(images[index : index + 1]).requires_grad_()
            activation = model[:5](pixels)[0, unit]
            slope = torch.autograd.grad(activation.max(), pixels)[0][0].numpy()
            y, x = np.unravel_index(int(activation.argmax()), activation.shape)
            top, left = (math.floor(c) for c in layer.field.centre((y, x)))
            padded = np.pad(slope, ((0, 0), (side, side), (side, side)))
            half = (side + 1) // 2
            maps.append(
                padded[:, top + side - half : top + side + half + 1, left + side - half : left + side + half + 1]
            )
            assert np.allclose(found["map"][unit, rank], maps[-1], atol=1e-6)
        if maps and (found["coverage"][unit] == len(maps)).all():
            assert np.allclose(found["mean_map"][unit], np.mean(maps, 0), atol=1e-6)


def test_results_do_not_depend_on_the_batch_and_units_not_on_each_other():
    model, images = small_network(), noise(12, 3, 22)
    one = mapped(model, images, "conv2", top_images=6, batch_size=64)
    other = mapped(model, images, "conv2", top_images=6, batch_size=5)
    some = mapped(model, images, "conv2", top_images=6, units=[4, 1])
    for name, values in one.items():
        assert np.allclose(values, other[name], atol=1e-6, equal_nan=True), name
        assert np.allclose(values[[4, 1]], some[name], atol=1e-6, equal_nan=True), name


def test_best_and_worst_are_the_ends_of_the_ranking():
    model, images = small_network(), noise(12, 3, 22)
    every = mapped(model, images, "conv2", top_images=8)
    order = np.argsort(-every["consistency"], kind="stable")[: np.isfinite(every["consistency"]).sum()]
    measurement = run(model, images, layer="conv2", top_images=8, units=["best:2", "worst:3"])
    found = joined(measurement, "conv2")
    expected = [*order[:2], *order[::-1][:3]]
    assert found["unit"].tolist() == expected == measurement.facts["ranked"]["conv2"]
    for name, values in found.items():
        assert np.allclose(values, every[name][expected], atol=1e-6, equal_nan=True), name


def test_the_sanity_check_sees_what_randomised_weights_leave():
    """The gradient of a random network is another one; a map is its own likeness; both randomisations end alike."""
    model, images = small_network(), noise(12, 3, 22)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measurement = run(model, images, layer=["conv2"], top_images=5, keep=2, sanity=True, units=[1, 4])
    table = next(table for table in measurement.tables if table.name == "sanity/conv2")
    rows = next(e.columns for e in measurement.events if isinstance(e, Rows) and e.table == "sanity/conv2")
    assert table.columns["block"].values.tolist() == ["original", "3", "0", "3", "0"]
    assert table.columns["kind"].values.tolist() == ["", "cascading", "cascading", "independent", "independent"]
    alike = rows["likeness"]  # (stage, rule, measure, pair)
    pairs = rows["unit"][0] >= 0
    assert set(rows["unit"][0][pairs]) <= {1, 4} and pairs.sum() == 8
    assert np.allclose(alike[0][..., pairs], 1)
    for stage in (1, 2, 3):
        for rule in (0, 1):
            assert np.nanmean(alike[stage, rule, 1]) < 0.6
    assert np.array_equal(alike[1], alike[3], equal_nan=True)  # the last block alone, either way
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_during_learning_the_same_neurons_are_mapped_by_the_network_of_that_time():
    """Three kernels one after the other: their maps, likeness with the last, when half of the way was made."""
    model = one_gabor()
    other = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    last = model[0].weight.detach().clone()
    kernels = [other, 0.5 * other + 2 * last, last]
    bias = torch.zeros(2)
    moments = [
        Moment(f"epoch={epoch:03}", float(epoch), lambda kernel=kernel: {"0.weight": kernel, "0.bias": bias + 50})
        for epoch, kernel in zip((0, 1, 4), kernels)
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = mapped(model, noise(), top_images=6, moments=moments, rule="gradient")
    for moment, kernel in enumerate(kernels):
        assert np.abs(found["learned_map"][:, moment] - kernel.numpy()).max() < 1e-5
        alike = [np.corrcoef(kernel[unit].ravel(), last[unit].ravel())[0, 1] for unit in (0, 1)]
        assert np.allclose(found["learned_likeness"][:, moment], alike, atol=1e-5)
    halves = [half_time(np.array([0.0, 1, 4]), one) for one in found["learned_likeness"]]
    assert np.allclose(found["half_time"], halves, equal_nan=True) and np.isfinite(halves).all()
    assert np.allclose(found["learned_centroid"][:, 2], centroid(last.numpy()), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_stopped_run_does_not_rank_again():
    model, images = small_network(), noise(12, 3, 22)
    facts = {"ranked": {"conv2": [3, 0]}}
    measurement = run(model, images, layer="conv2", top_images=8, units="best:2", facts=facts)
    phases = [event.name for event in measurement.events if isinstance(event, Phase)]
    assert phases == ["ranking", "gradients of conv2"]


def test_the_plain_gradient_is_per_pixel_whatever_the_rule():
    """F95: beside maps of rule=integrated it had their unit."""
    for rule in ("integrated", "input-x-gradient", "guided"):
        columns = run(one_gabor(), noise(), layer="conv1", rule=rule, top_images=4).tables[0].columns
        assert columns["gradient_map"].unit == "activation per pixel"
        assert columns["map"].unit == ("activation per pixel" if rule == "guided" else "activation")


def test_dead_units_have_no_maps_and_say_so():
    model = one_gabor()
    model[0].weight.data[1], model[0].bias.data[1] = 0, -1
    found = mapped(model, noise(), top_images=5)
    assert found["dead"].tolist() == [False, True]
    for name in ("map", "mean_map", "mean_map_sd", "normalised_map", "gradient_map", "consistency", "low_share"):
        assert np.isnan(found[name][1]).all(), name
        assert not np.isnan(found[name][0]).any() or name == "mean_map_sd", name
    assert not found["coverage"][1].any() and (found["picture"][1] == 255).all()


def test_a_class_is_the_logit():
    model, images = small_network(), noise(8, 3, 22)
    measurement = run(model, images, layer=None, target="class", units=[2], rule="gradient", top_images=3, keep=3)
    found = joined(measurement, "logits")
    logits = model(torch.from_numpy(images))[:, 2]
    assert found["image"][0].tolist() == torch.argsort(logits, descending=True)[:3].tolist()
    pixels = torch.from_numpy(images[found["image"][0]]).requires_grad_()
    slopes = torch.autograd.grad(model(pixels)[:, 2].sum(), pixels)[0]
    assert np.allclose(found["map"][0], slopes.numpy(), atol=1e-6)


def test_a_group_is_its_weighted_means():
    model, images = small_network(), noise(8, 3, 22)
    found = mapped(
        model,
        images,
        "conv2",
        target="group",
        groups=[[2], [1, 4]],
        group_weights=[[1.0], [1.0, -2.0]],
        rule="gradient",
        top_images=3,
        keep=3,
    )
    with torch.no_grad():
        means = model[:5](torch.from_numpy(images)).mean((2, 3))
    values = means[:, 1] - 2 * means[:, 4]
    assert found["unit"].tolist() == [0, 1]
    assert found["image"][1].tolist() == torch.argsort(values, descending=True)[:3].tolist()
    assert np.allclose(found["response"][1], values[found["image"][1]], atol=1e-6)
    pixels = torch.from_numpy(images[found["image"][1]]).requires_grad_()
    means = model[:5](pixels).mean((2, 3))
    slopes = torch.autograd.grad((means[:, 1] - 2 * means[:, 4]).sum(), pixels)[0]
    assert np.allclose(found["map"][1], slopes.numpy(), atol=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": None}, "needs layer=… (or target=class); layers of the model: conv1, conv2"),
        ({"layer": "conv1", "target": "class"}, "target=class maps the logits: leave out layer= (got conv1)"),
        ({"groups": [[0]]}, "groups= belongs to target=group, got target=neuron"),
        (
            {"target": "group", "groups": [[0]], "units": [1]},
            "either one group (units=) or listed by group (groups=), got both",
        ),
        ({"target": "group", "groups": [[1], [2, 3]], "group_weights": [[1.0, 2.0]]}, "1, 2 members, 2 weights"),
        ({"target": "group", "groups": [[9]], "layer": "conv2"}, "conv2 has units 0 to 5, got 9"),
        ({"units": ["best:2", 3]}, "units are either named or ranked (best:8, worst:8), got best:2, 3"),
        ({"units": "best:9"}, "units=best:9 asks for 9 units, a layer has 5"),
        ({"pages": 7}, "pages=7: that unit is not among those mapped"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(UserError) as error:
        run(small_network(), noise(4, 3, 22), **({"layer": "conv1"} | options))
    assert said in str(error.value)


def test_signals_are_refused():
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU()).eval()
    with pytest.raises(UserError, match="gbp maps images"):
        run(model, np.random.default_rng(0).random((4, 2, 30), np.float32), layer="conv1")
