"""A run of population control: learned, climbed by the package's own ascent, and judged by the brain."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.optimize.ascent.presets import preset_of
from cnnprobe.methods.optimize.ascent.rows import ascend
from cnnprobe.methods.optimize.control.population import Brain
from cnnprobe.methods.optimize.control.session import Controlling, controlled
from cnnprobe.store.tables import Advance, Phase

SIZE = (1, 12, 12)


def finished(generator):
    """Return what a generator gave, and what it returned."""
    given = []
    while True:
        try:
            given.append(next(generator))
        except StopIteration as end:
            return given, end.value


@pytest.fixture
def networks():
    """Two networks with the same first layer; unit 2 of the second one answers nothing."""
    torch.manual_seed(3)
    shared = nn.Conv2d(1, 8, 5)
    shared.weight.data -= shared.weight.data.mean((1, 2, 3), keepdim=True)
    nn.init.constant_(shared.bias, 0.05)
    head = nn.Conv2d(8, 4, 1)
    nn.init.constant_(head.bias, 0.1)
    head.bias.data[2] = -1e3
    return nn.Sequential(shared, nn.ReLU(), nn.Conv2d(8, 3, 3)).eval(), nn.Sequential(
        shared, nn.ReLU(), head, nn.ReLU()
    )


def natural(images=200):
    noise = torch.rand(images, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return 0.2 + 0.6 * nn.functional.interpolate(noise, (12, 12), mode="bilinear")


def controlling(second, kind="stretch", units=(0, 1, 2, 3)):
    return Controlling(Brain(second, find(second, "conv2", SIZE)[0], np.array(units), SIZE), kind)


@pytest.mark.parametrize("kind", ["stretch", "one-hot"])
def test_units_of_the_brain_are_driven_by_the_ascent_through_the_first_network(networks, kind, caplog):
    first, second = networks
    layer = find(first, "conv1", SIZE)[0]
    control = controlling(second, kind)
    with caplog.at_level(logging.WARNING):
        events, objective = finished(
            control.learn(first, layer, batches(given_images(natural()), batch_size=100), 200, seed=0)
        )
    assert events == [Phase("mapping conv1 to conv2 of the brain", 200, "images"), Advance(100), Advance(100)]
    assert "1 of 4 units of conv2 of the brain (2) respond to all images alike" in caplog.text
    settings = preset_of("simonyan", steps=80)
    made = ascend(first, [layer], objective, SIZE, settings, [(0, row) for row in range(4)])
    assert np.isnan(made.images[2]).all()
    found = control.judged(made.images, np.arange(4))
    assert set(found) == set(control.columns())
    with torch.no_grad():
        answers = second(torch.from_numpy(np.nan_to_num(made.images))).mean((2, 3)).numpy()
        best = second(natural()).mean((2, 3)).numpy().max(0)
    driven = np.array([0, 1, 3])
    np.testing.assert_allclose(found["brain_response"][driven], answers[driven, driven], rtol=1e-5)
    np.testing.assert_allclose(found["brain_best_natural"][driven], best[driven], rtol=1e-5)
    if kind == "stretch":
        assert (found["stretch_gain"][driven] > 0).all()
    else:
        assert (found["one_hot"][driven] > found["one_hot_natural"][driven]).all()
    assert found["constant"].tolist() == [False, False, True, False]
    for name in ("brain_response", "stretch_gain", "one_hot", "mapping_r2"):
        assert np.isnan(found[name]).tolist() == [False, False, True, False]


def test_rows_are_judged_alike_in_any_batch(networks):
    first, second = networks
    control = controlling(second, units=(3, 0, 1))
    layer = find(first, "conv1", SIZE)[0]
    finished(control.learn(first, layer, batches(given_images(natural()), batch_size=64), 200, seed=0))
    images = natural(3).numpy()
    whole = control.judged(images, np.arange(3))
    part = control.judged(images[[2, 0]], [2, 0])
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][[2, 0]], rtol=1e-5)
    assert all(len(values) == 0 for values in control.judged(images[:0], []).values())


def test_what_cannot_be_predicted_is_warned_of_and_a_dead_brain_is_refused(networks, caplog):
    first, _ = networks
    layer = find(first, "conv1", SIZE)[0]
    other = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    other[2].weight.data *= 1e-30  # constant, but for what is lost in float32
    with pytest.raises(UserError, match="all 2 units of conv2 of the brain respond to all images alike"):
        control = controlling(other, units=(0, 1))
        finished(control.learn(first, layer, batches(given_images(natural()), batch_size=100), 200, seed=0))
    noise = torch.rand(40, *SIZE, generator=torch.Generator().manual_seed(1))
    silent = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU())
    one_place = nn.Sequential(nn.Flatten(), nn.Linear(144, 1), nn.ReLU())
    one_place[1].weight.data = torch.eye(144)[[77]]
    brain = Brain(one_place, find(one_place, "1", SIZE)[0], np.array([0]), SIZE)
    with caplog.at_level(logging.WARNING):
        finished(
            Controlling(brain, "stretch").learn(
                silent, find(silent, "conv1", SIZE)[0], batches(given_images(noise), batch_size=40), 40, seed=0
            )
        )
    assert "1 of 1 units of 1 of the brain (0) are hardly predicted from conv1 (held-out r2 below 0.1)" in caplog.text


def test_a_brain_is_asked_for_by_layer_and_units_and_only_where_it_is_needed(networks):
    first, second = networks
    layers = find(first, "conv*", SIZE)
    brain = SimpleNamespace(model=second, size=SIZE)
    found = controlled("one-hot", brain, "conv2", "1:3", layers)
    assert list(found) == ["conv1", "conv2"]
    assert found["conv2"].kind == "one-hot"
    assert found["conv1"].brain.units.tolist() == [1, 2]
    assert found["conv1"].brain.layer.name == "conv2"
    assert controlled("channel", None, None, "all", layers) == {}
    for asked, said in (
        (("channel", brain, None), "brain= and brain_layer= are for objective=stretch or one-hot, not channel"),
        (("stretch", None, "conv1"), "objective=stretch drives units of a second network: brain=RUN"),
        (("stretch", brain, None), "needs brain_layer=…; layers of the brain: conv1, conv2"),
        (("stretch", brain, "conv*"), r"brain_layer=conv\* fits 2 layers; one is needed"),
        (("stretch", brain, "conv9"), "no layer 'conv9' in the brain"),
    ):
        with pytest.raises(UserError, match=said):
            controlled(*asked, "all", layers)
    with pytest.raises(UserError, match="9"):
        controlled("stretch", brain, "conv2", [9], layers)
