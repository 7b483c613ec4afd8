"""Recording for dissimilarity: one pass for all layers, pieces that change nothing, memory, what cannot be read."""

import logging
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import nn

from cnnprobe.datasets.base.given import Given
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.statistics import dissimilarity
from cnnprobe.instruments.statistics.dissimilarity import upper
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.rsa import patterns
from cnnprobe.methods.rsa.patterns import IMAGES, Patterns, Piece
from tests.support.calling import Unchecked
from tests.support.networks.gap import pictures

IMAGESET = pictures(11, 24)
LAYERS = ["conv1", "conv2", "logits"]


def network():
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(inplace=True)
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(1200, 5)).eval()


def recorded(model, shown=IMAGESET, *, ranked=False, memory=None, batch_size=4, layers=LAYERS):
    dataset = shown if isinstance(shown, Given) else Given(shown)
    given = {"computation": Computation(batch_size=batch_size), "memory": memory}
    recorder = Patterns(model, find(model, layers, dataset.size), dataset, ranked=ranked, pixels=True, **given)
    work = recorder.record()
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def expected(model, images, metric):
    found = activations(model, find(model, LAYERS, tuple(images.shape[1:])), images)
    found[IMAGES] = images
    return {name: pdist(values.flatten(1).double().numpy(), metric) for name, values in found.items()}


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_matrices_are_those_of_whole_activations(metric):
    model = network()
    products = recorded(model)
    wanted = expected(model, IMAGESET, metric)
    assert products.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.allclose(upper(dissimilarity.dissimilarity(products[name], metric)), values, atol=1e-5), name


def test_one_pass_for_all_layers_where_memory_suffices():
    model = network()
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    recorder = Patterns(model, find(model, LAYERS, (3, 24, 24)), Given(IMAGESET), ranked=False, pixels=True,
                        computation=Computation(batch_size=4))  # fmt: skip
    seen.clear()
    list(recorder.record())
    assert seen == [4, 1, 1, 1, 4, 1, 3]  # three images of the first batch once more alone, and one of the second


@pytest.mark.parametrize("memory", [1, 40_000, 200_000])
def test_with_little_memory_there_are_more_passes_and_the_same_bits(memory, monkeypatch, caplog):
    monkeypatch.setattr(dissimilarity, "ELEMENTS", 11 * 256)
    model = network()
    with caplog.at_level(logging.WARNING):
        few = recorded(model, memory=memory)
    assert "memory is short: the patterns of all layers take" in caplog.text
    caplog.clear()
    whole = recorded(model, memory=10**9)
    assert not caplog.text
    for name in whole:
        assert torch.equal(few[name].inner, whole[name].inner) and torch.equal(few[name].total, whole[name].total)


def test_every_feature_is_in_one_piece_and_pieces_fit(monkeypatch):
    monkeypatch.setattr(dissimilarity, "ELEMENTS", 11 * 256)
    model = network()
    recorder = Patterns(model, find(model, LAYERS, (3, 24, 24)), Given(IMAGESET), ranked=False, pixels=True,
                        computation=Computation(batch_size=4), memory=4 * 11 * 1024)  # fmt: skip
    passes = recorder.passes()
    every = [piece for pieces in passes for piece in pieces]
    assert all(sum(piece.stop - piece.start for piece in pieces) <= 1024 for pieces in passes)
    for name, features in recorder.features.items():
        own = [piece for piece in every if piece.name == name]
        assert own[0].start == 0 and own[-1].stop == features
        assert all(one.stop == other.start and one.stop % 256 == 0 for one, other in pairwise(own))


def test_ranks_need_whole_layers():
    model = network()
    products = recorded(model, ranked=True, memory=1)
    found = activations(model, find(model, ["conv2"], (3, 24, 24)), IMAGESET)["conv2"].flatten(1)
    assert torch.allclose(
        dissimilarity.dissimilarity(products["conv2"], "spearman"),
        dissimilarity.dissimilarity_matrix(found, "spearman"),
        atol=1e-6,
    )
    recorder = Patterns(model, find(model, LAYERS, (3, 24, 24)), Given(IMAGESET), ranked=True, pixels=False,
                        computation=Computation(batch_size=4), memory=1)  # fmt: skip
    assert recorder.passes() == [[Piece(name, 0, count)] for name, count in recorder.features.items()]


def test_results_do_not_depend_on_the_batch():
    model = network()
    one, other = (recorded(model, batch_size=size) for size in (3, 11))
    for name in one:
        assert torch.allclose(one[name].inner, other[name].inner, rtol=1e-5)


class Broken(Given):
    def load_source(self, indices):
        images, readable = super().load_source(indices)
        readable = np.asarray(indices) != 5
        self.problems["000005"] = "planted"
        return images * torch.from_numpy(readable)[:, None, None, None], readable


def test_an_image_that_cannot_be_read_has_no_pattern(caplog):
    products = recorded(network(), Broken(IMAGESET))
    for name in (*LAYERS, IMAGES):
        found = dissimilarity.dissimilarity(products[name], "euclidean")
        assert found[5].isnan().all() and found[:5, :5].isfinite().all(), name
    assert "not finite" not in caplog.text


def test_an_image_that_makes_the_network_overflow_is_told(caplog):
    """F48."""
    images = IMAGESET.clone()
    images[7] = torch.inf
    products = recorded(network(), Unchecked(images))
    assert "conv1: not finite for 1 images, first image 7" in caplog.text
    found = dissimilarity.dissimilarity(products["conv1"], "correlation")
    assert found[7].isnan().all() and found[:7, :7].isfinite().all()


def test_free_memory_is_asked_for_where_no_limit_is_given(monkeypatch):
    monkeypatch.setattr(patterns, "free_memory", lambda device: 2)
    recorder = Patterns(network(), find(network(), LAYERS, (3, 24, 24)), Given(IMAGESET), ranked=True,
                        pixels=False, computation=Computation(batch_size=4))  # fmt: skip
    assert len(recorder.passes()) == 3
