"""Scores in front of probabilities that are clamped, scaled or shifted; expected values are those of torch on them."""

import logging

import numpy as np
import pytest
import torch

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.cam.cue_combination import CueCombination
from tests.instruments.outputs.test_kinds import NOISE, SIZE, Net, images


class Steep(Net):
    """Its probabilities are near 0 and 1 already for images of noise."""

    def __init__(self, end):
        super().__init__(end)
        with torch.no_grad():
            self.head.weight.mul_(6)


ALTERED = {
    "clamped": lambda y: y.softmax(1).clamp(1e-3, 1 - 1e-3),
    "clamped far": lambda y: y.softmax(1).clamp(0.1, 0.9),
    "clamped below": lambda y: y.softmax(1).clamp(min=0.05),
    "smoothed": lambda y: 0.9 * y.softmax(1) + 0.1 / 4,
    "over its sum and a little": lambda y: y.softmax(1) / (y.softmax(1).sum(1, keepdim=True) + 0.05),
    "a little added": lambda y: y.softmax(1) + 1e-3,
    "logarithm of the clamped": lambda y: y.softmax(1).clamp(0.02).log(),
    "logarithm with a little added": lambda y: (y.softmax(1) + 1e-3).log(),
}


@pytest.mark.parametrize("net", [Net, Steep])
@pytest.mark.parametrize("name", ALTERED)
def test_probabilities_that_are_altered_are_those_of_the_scores(name, net, caplog):
    """F86: what is stored is the softmax in front of the clamp, and the class of the largest; said once."""
    model = net(ALTERED[name]).eval()
    with caplog.at_level(logging.WARNING):
        rows = list(cnnprobe.measure("cam", model=model, dataset=NOISE, class_=[0, 1, 2, 3], evaluate=False))
    assert caplog.text.count("probability is the softmax of the scores before") == 1
    found = np.array([row.probability for row in rows if row.table == "images"]).reshape(6, 4)
    expected = model.scores(NOISE).softmax(1).detach().numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-5)
    rows = [row for row in cnnprobe.measure("record", model=model, dataset=NOISE) if row.table == "images"]
    assert [row.prediction for row in rows] == expected.argmax(1).tolist()


@pytest.mark.parametrize("low", [1e-3, 0.1])
def test_sigmoids_that_are_clamped_are_those_of_the_scores(low):
    """F86."""
    model, (pixels, dataset) = Steep(lambda y: y.sigmoid().clamp(low, 1 - low)), images()
    found = outputs_of(model, SIZE, (), dataset)
    assert found.kind == "sigmoid" and found.altered and not found.single
    scores = found.scores(model(pixels), activations(model, [found.before], pixels)[found.before.name])
    torch.testing.assert_close(found.probabilities(scores), model.scores(pixels).sigmoid())


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (lambda y: hidden(y).clamp(1e-3, 1 - 1e-3), "softmax", "the sum of the 3 outputs"),
        (lambda y: hidden(y).clamp(0.1, 0.55), "unknown", "many of the outputs of the network are 0.1 or 0.55"),
        (lambda y: hidden(y) / 1.2, "unknown", "is always 0.8333"),
    ],
)
def test_altered_probabilities_without_scores_are_not_known(end, kind, words):
    """F86: NaN; of those that are nearly right the largest is the class all the same."""
    model = Net(end, outputs=1)
    pixels, _ = images(3)
    model.head.weight.data.mul_(40)
    model.head.bias.data -= model.scores(pixels).median()
    found = outputs_of(model.eval(), SIZE, tuple("abc"))
    assert (found.kind, found.before) == (kind, None) and words in found.remark
    scores = found.scores(model(pixels))
    assert found.probabilities(scores).isnan().all()
    right = hidden(model.scores(pixels)).argmax(1)
    assert found.chosen(scores).tolist() == (right.tolist() if kind == "softmax" else [-1] * 8)


def hidden(y):
    """Return the probabilities of three classes, of which two share one score."""
    return torch.cat([1 - y.sigmoid(), 0.6 * y.sigmoid(), 0.4 * y.sigmoid()], 1)


def test_cues_cannot_be_weighed_by_probabilities_that_are_clamped():
    """F86: what removing one costs would be that of the clamped ones."""
    model, (_, dataset) = Steep(ALTERED["clamped far"]), images()
    with pytest.raises(UserError, match="clamps, scales or shifts"):
        CueCombination(model, find(model, "conv1", SIZE)[0], SIZE, known=outputs_of(model, SIZE, (), dataset))
