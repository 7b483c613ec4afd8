"""ccCAM with planted cues."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnprobe as package
from cnnprobe.instruments.layers.naming import find, last_map
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.cam.class_choice import Choice
from cnnprobe.methods.cam.cue_combination import ClassMeans, CueCombination
from tests.support.networks.gap import Deep, Pooled, pictures
from tests.support.networks.rewriting import EVERY, Rewriting, shown


class Planted(nn.Module):
    """Six maps of 7 x 7; GAP; class 0 reads map 0, class 1 map 1, gain 20."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1, bias=False)
        nn.init.dirac_(self.conv.weight)
        self.out = nn.Linear(6, 2, bias=False)
        self.out.weight.data[:] = 0
        self.out.weight.data[0, 0] = self.out.weight.data[1, 1] = 20

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.conv(images).mean((2, 3)))


def planted_images(count):
    """Return images whose class is in map 0 or 1: a 2 x 2 block of ones at rows 2 and 3; maps 2 to 5 are noise."""
    images = torch.rand(count, 6, 7, 7, generator=torch.Generator().manual_seed(0))
    images[:, :2] = 0
    labels = np.arange(count) % 2
    for image, label in zip(images, labels):
        image[label, 2:4, 3:5] = 1
    return images, labels


def test_the_weight_of_a_planted_cue_is_that_of_the_formula():
    """5.T4: (ln 2 - ln(1 + e^-z)) / 4 with z = 80 / 49 for each image, all others 0; its map peaks in the block."""
    model = Planted().eval()
    images, labels = planted_images(200)
    engine = CueCombination(model, find(model, "conv1", (6, 7, 7))[0], (6, 7, 7), finer=True)
    assert not engine.finer
    engine.weigh(images[:130], labels[:130])
    costs = engine.weigh(images[130:], labels[130:])
    z = 20 * 4 / 49
    one = (math.log(2) - math.log(1 + math.exp(-z))) / 4
    assert one == pytest.approx(0.12866, abs=1e-5)
    assert np.allclose(costs[0::2, 0], one, atol=1e-7) and np.allclose(costs[:, 2:], 0, atol=1e-7)
    assert np.allclose(np.diag(engine.weights[:, :2]), 100 * one, atol=1e-5)
    assert engine.weights[0, 0] == pytest.approx(12.866, abs=1e-3)
    assert np.abs(engine.weights[0, 1:]).max() < 1e-5
    found = engine.maps(images[:2], torch.from_numpy(labels[:2]), Choice(fixed=(0,)))
    y, x = np.unravel_index(found.maps[0, 0].argmax(), (7, 7))
    assert y in (2, 3) and x in (3, 4) and abs(found.maps[1, 0]).max() < 1e-4


def test_what_a_faint_cue_costs_is_not_rounding():
    """F98: it was a difference of single precision, divided by the faint cue's square: 3.7 for 2.0."""
    model, (images, labels) = Planted().eval(), planted_images(40)
    model.out.weight.data = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)) * 3
    images[:, 3] *= 1e-4
    engine = CueCombination(model, find(model, "conv1", (6, 7, 7))[0], (6, 7, 7), finer=False)
    costs = engine.weigh(images, labels)
    maps, weight = images.double(), model.out.weight.data.double()
    means = maps.mean((2, 3))
    before = (means @ weight.T).log_softmax(1)[range(40), labels]
    without = ((means @ weight.T) - means[:, 3:4] * weight[:, 3]).log_softmax(1)[range(40), labels]
    expected = (before - without) / maps[:, 3].square().sum((1, 2))
    assert expected.abs().min() > 1
    np.testing.assert_allclose(costs[:, 3], expected.numpy(), rtol=1e-6)


def test_costs_are_those_of_a_loop_over_removed_maps():
    model = Deep().eval().double()
    model.conv.bias.data[2] = -100  # a silent cue
    images, labels = pictures().double(), np.array([0, 1, 2, 3, -1])
    engine = CueCombination(model, last_map(model, (3, 12, 12)), (3, 12, 12), finer=False)
    costs = engine.weigh(images, labels)
    assert not costs[4].any() and not costs[:, 2].any()
    with torch.no_grad():
        for n in range(4):
            maps = model.maps(images[n : n + 1])

            def loss(maps, n=n):
                logits = model.out(model.hidden(maps.mean((2, 3))).relu())
                return -logits.log_softmax(1)[0, labels[n]]

            for cue in (0, 1, 3, 4, 5):
                without = maps.clone()
                without[:, cue] = 0
                expected = (loss(without) - loss(maps)) / maps[0, cue].square().sum()
                assert costs[n, cue] == pytest.approx(float(expected), rel=1e-9)
    assert np.isfinite(engine.weights[:4]).all()


class Shallow(Pooled):
    """Two convolutions with max-pooling between."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(6, 6, 3, padding=1)

    def maps(self, images: Tensor) -> Tensor:
        return self.second(nn.functional.max_pool2d(self.conv(images).relu(), 2)).relu()


def test_finer_maps_are_those_of_the_base_without_its_pooling():
    model = Shallow().eval()
    engine = CueCombination(model, last_map(model, (3, 12, 12)), (3, 12, 12), finer=True)
    assert engine.finer and engine.shape == (12, 12) and engine.grid.shape == (6, 6)
    engine.weigh(pictures(), np.array([0, 0, 1, 1, 1]))
    found = engine.maps(pictures(), torch.zeros(5, dtype=torch.int64), Choice(4))
    with torch.no_grad():
        large = model.second(model.conv(pictures()).relu()).relu()
    for n in range(5):
        for place, c in enumerate(found.classes[n]):
            expected = np.einsum("f,fyx->yx", engine.weights[c], large[n].numpy())
            assert np.allclose(found.maps[n, place], expected, atol=1e-5, equal_nan=True)
    assert np.isnan(engine.weights[2:]).all()


def test_without_labels_the_decision_is_the_class():
    model = Pooled().eval()
    engine = CueCombination(model, last_map(model, (3, 12, 12)), (3, 12, 12))
    engine.weigh(pictures(), None)
    with torch.no_grad():
        decided = model(pictures()).argmax(1)
    assert engine.count.tolist() == np.bincount(decided, minlength=4).tolist()


def test_contrasts_of_groups_are_sure_where_they_differ():
    """The bootstrap's standard error of a mean is sd / sqrt(n); a planted difference stands out, noise does not."""
    random = np.random.default_rng(0)
    means = ClassMeans(draws=1000, seed=3)
    values = random.normal(size=(80, 4, 4)).astype(np.float32)
    values[:40, 1, 2] += 3
    for n, one in enumerate(values):
        means.add(n // 40, n, one)
    found = means.of([0, 1, 5], (4, 4))
    assert np.allclose(found["mean_map"][0], values[:40].mean(0), atol=1e-6)
    assert np.allclose(found["contrast"][0], -found["contrast"][1], atol=1e-6)
    error = values[:40].std(0, ddof=1) / math.sqrt(40)
    assert np.allclose(found["mean_ratio"][0], values[:40].mean(0) / error, rtol=0.2, atol=0.3)
    ratio = found["contrast_ratio"][0]
    assert ratio[1, 2] > 8 and np.abs(np.delete(ratio.ravel(), 6)).max() < 4
    assert np.isnan(found["mean_map"][2]).all() and found["images"].tolist() == [40, 40, 0]


def test_where_nothing_varies_no_ratio_is_made_up():
    """F53."""
    means = ClassMeans(draws=50, seed=0)
    for n in range(6):
        means.add(n % 2, n, np.ones((2, 2), np.float32))
    found = means.of([0, 1], (2, 2))
    assert np.isnan(found["mean_ratio"]).all() and np.isnan(found["contrast_ratio"]).all()
    assert (found["contrast"] == 0).all()
    lonely = ClassMeans(draws=50, seed=0)
    lonely.add(0, 0, np.ones((2, 2), np.float32))
    assert np.isnan(lonely.of([0], (2, 2))["mean_ratio"]).all()


def test_weights_are_nats_per_squared_activation():
    """F99: cues twice as large that say the same weigh a quarter; the store's unit is that of the formula."""
    images, labels = planted_images(20)
    weights = []
    for size in (1.0, 2.0):
        model = Planted().eval()
        model.conv.weight.data *= size
        model.out.weight.data /= size
        engine = CueCombination(model, find(model, "conv1", (6, 7, 7))[0], (6, 7, 7))
        engine.weigh(images, labels)
        weights.append(engine.weights)
    np.testing.assert_allclose(weights[1], weights[0] / 4, rtol=1e-5, atol=1e-9)
    tables = package.measure("cam", model=Planted().eval(), dataset=images.numpy(), kind="cccam").tables
    (classes,) = (table for table in tables if table.name == "classes")
    assert classes.columns["weight"].unit == "nats per squared activation"
    (rows,) = (table for table in tables if table.name == "images")
    assert rows.columns["map"].unit == "nats per activation"


@pytest.mark.parametrize(("does", "ends"), EVERY)
def test_costs_do_not_depend_on_how_the_network_goes_on(does, ends):
    """F20: a loop by hand, of networks that write into their activations, read their images or have hooks."""
    model, images = Rewriting(does, ends), shown(3)
    size = tuple(images.shape[1:])
    known = outputs_of(model, size, tuple("abcd"))
    engine = CueCombination(model, find(model, "b", size)[0], size, finer=False, known=known)
    costs = engine.weigh(images, np.array([0, 1, 2]))
    exact, images = Rewriting(does, ends).double(), images.double()

    def loss(place, label, instead=None):
        scores = exact.by_hand(images[place : place + 1], instead)[0]
        logs = nn.functional.logsigmoid(scores) if ends == "sigmoid" else scores.log_softmax(1)
        return -logs[0, label]

    with torch.no_grad():
        for place in range(3):
            maps = exact.by_hand(images[place : place + 1])[1]
            for cue in range(6):
                without = maps.clone()
                without[:, cue] = 0
                expected = (loss(place, place, without) - loss(place, place)) / maps[0, cue].square().sum()
                assert costs[place, cue] == pytest.approx(float(expected), rel=1e-4, abs=1e-7)
