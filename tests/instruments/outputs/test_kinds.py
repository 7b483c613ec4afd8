"""What networks return is recognised by what it does; expected values are those of torch on the same scores."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cnnprobe
from cnnprobe.datasets.base.targets import Target
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.kinds import class_scores, outputs_of
from cnnprobe.methods.cam.maps import ClassMaps
from cnnprobe.methods.gbp.method import _layers as gbp_layers
from cnnprobe.methods.train.recipe import check_loss

SIZE = (3, 8, 8)


class Net(nn.Module):
    """A convolution, the mean of its map, a linear layer, and what the network makes of the scores."""

    def __init__(self, end=lambda y: y, outputs=4):
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, outputs)
        self.end = end
        with torch.no_grad():
            self.head.weight.mul_(9)

    def scores(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

    def forward(self, x):
        return self.end(self.scores(x))


def by_hand(y):
    powers = (y - y.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Sequential(nn.Identity(), nn.Softmax(-1))

    def forward(self, y):
        return self.out(y)


def images(classes=4, count=8, kind="class"):
    """Return an image set of noise."""
    pixels = torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(7))
    return pixels, SimpleNamespace(
        target=Target(kind, tuple("abcdefgh"[:classes])),
        size=SIZE, labels=np.arange(count) % max(classes, 1) - (classes == 0), classes=tuple("abcdefgh"[:classes]),
        names=[f"{i}" for i in range(count)], name="noise", fingerprint="", __len__=None,
    )  # fmt: skip


ENDS = {
    "nothing": (lambda y: y, "logits", lambda y: y.softmax(1)),
    "map of one": (lambda y: y[:, :, None, None], "logits", lambda y: y.softmax(1)),
    "softmax": (lambda y: y.softmax(1), "softmax", lambda y: y.softmax(1)),
    "module": (nn.Softmax(1), "softmax", lambda y: y.softmax(1)),
    "inner": (Inner(), "softmax", lambda y: y.softmax(1)),
    "by hand": (by_hand, "softmax", lambda y: y.softmax(1)),
    "temperature": (lambda y: F.softmax(y / 3, 1), "softmax", lambda y: (y / 3).softmax(1)),
    "two networks": (lambda y: (y.softmax(1) + (2 * y).softmax(1)) / 2, "softmax",
                     lambda y: (y.softmax(1) + (2 * y).softmax(1)) / 2),
    "log-softmax": (nn.LogSoftmax(1), "log-softmax", lambda y: y.softmax(1)),
    "less its log-sum-exp": (lambda y: y - y.logsumexp(1, keepdim=True), "log-softmax", lambda y: y.softmax(1)),
    "sigmoid": (torch.sigmoid, "sigmoid", torch.sigmoid),
    "sigmoid by hand": (lambda y: 1 / (1 + (-y).exp()), "sigmoid", torch.sigmoid),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_are_those_of_the_scores(name):
    """F86: beside torch on the scores; multi-label outputs choose no class, the others the most probable one."""
    end, kind, right = ENDS[name]
    model, (pixels, dataset) = Net(end), images()
    found = outputs_of(model, SIZE, (), dataset)
    assert found.kind == kind
    assert found.classes == 4
    expected = right(model.scores(pixels)).detach()
    assert torch.allclose(found.probabilities(found.scores(model(pixels))), expected, atol=1e-5)
    chosen = found.chosen(found.scores(model(pixels)))
    assert chosen.tolist() == ([-1] * 8 if kind == "sigmoid" else expected.argmax(1).tolist())
    assert bool(found.remark) == (kind != "logits")
    assert outputs_of(model, SIZE, tuple("abcd")).chosen(model.scores(pixels)).tolist() == expected.argmax(1).tolist()


def test_classes_that_stand_each_for_itself_have_sigmoids_for_probabilities():
    """Of a network that says so one is chosen, unless the images may have several; of these none ever is."""
    model, (pixels, one_class) = Net(), images()
    scores = model.scores(pixels).detach()
    silent = outputs_of(model, SIZE, (), images(kind="present")[1])
    assert (silent.kind, silent.single, silent.form) == ("logits", False, "classes")
    model.cnnprobe = cnnprobe.About(output="existence")
    lengths = outputs_of(model, SIZE, (), one_class)
    assert (lengths.kind, lengths.form, lengths.shape, lengths.remark) == ("logits", "existence", (4,), "")
    assert torch.equal(lengths.chosen(scores), scores.argmax(1))
    several = outputs_of(model, SIZE, (), images(kind="present")[1])
    for found in (silent, lengths, several):
        assert torch.equal(found.scores(model(pixels)), scores)
        assert torch.allclose(found.probabilities(scores), 1 / (1 + (-scores).exp()), atol=1e-6)
        assert torch.allclose(found.log_probabilities(scores).exp(), 1 / (1 + (-scores).exp()), atol=1e-6)
    assert (silent.chosen(scores) == -1).all()
    assert (several.chosen(scores) == -1).all()
    alone = Net(outputs=1)
    alone.cnnprobe = cnnprobe.About(output="existence")
    assert outputs_of(alone, SIZE, ("a",)).scores(alone(pixels)).shape == (8, 1)  # no second class


@pytest.mark.parametrize(("end", "form", "shape"), [
    (lambda y: y[:, :, None, None].expand(-1, -1, 5, 6), "map", (4, 5, 6)),
    (lambda y: y[:, :, None].expand(-1, -1, 7), "course", (4, 7)),
])  # fmt: skip
def test_maps_and_courses_are_told_by_their_axes(end, form, shape):
    found = outputs_of(Net(end), SIZE, (), images()[1])
    assert (found.kind, found.count, found.form, found.shape) == ("unknown", 0, form, shape)


def test_one_output_is_a_class_where_two_are_known():
    """F86: the probability of class 1 is the sigmoid, and class 0 has the rest."""
    pixels, dataset = images(2)
    for end, kind in (
        (lambda y: y, "logits"),
        (torch.sigmoid, "sigmoid"),
        (lambda y: torch.sigmoid(y)[:, 0], "sigmoid"),
    ):
        model = Net(end, outputs=1)
        model.head.bias.data -= model.scores(pixels).median()
        found = outputs_of(model, SIZE, (), dataset)
        assert (found.kind, found.classes, found.binary) == (kind, 2, True)
        right = model.scores(pixels).sigmoid().detach()[:, 0]
        shares = found.probabilities(found.scores(model(pixels))).detach()
        assert torch.allclose(shares, torch.stack([1 - right, right], 1), atol=1e-5)
        chosen = found.chosen(found.scores(model(pixels)))
        assert chosen.tolist() == (right > 0.5).long().tolist()
        assert set(chosen.tolist()) == {0, 1}
        assert "one output" in found.remark


UNKNOWN = {
    "one number, no classes": (Net(outputs=1), 0, "may be anything"),
    "one number, four classes": (Net(outputs=1), 4, "may be anything"),
    "norm 1": (Net(F.normalize), 4, "norm 1"),
    "tanh": (Net(torch.tanh), 4, "between -1 and 1"),
    "features": (nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten()), 4,
                 "no linear layer"),
    "softmax of one": (Net(nn.Softmax(1), outputs=1), 2, "is 1 for every image"),
    "a tuple": (Net(lambda y: (y, y)), 4, "returns a tuple of 2"),
    "a dict": (Net(lambda y: {"a": y}), 4, "returns a dict of 1"),
    "a map": (Net(lambda y: y[:, :, None, None].expand(-1, -1, 2, 3)), 4, "returns 4 x 2 x 3 per image"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_class_is_said_to_be_unknown(name):
    """F86: no probability, no prediction, and one remark."""
    model, classes, words = UNKNOWN[name]
    pixels, dataset = images(classes)
    found = outputs_of(model.eval(), SIZE, (), dataset)
    assert found.kind == "unknown"
    assert words in found.remark
    scores = found.scores(model(pixels))
    if found.count:
        assert found.probabilities(scores).isnan().all()
        assert (found.chosen(scores) == -1).all()
    else:
        assert scores is None


def test_outputs_of_no_known_classes_are_taken_as_logits_and_that_is_said():
    """F86: a network from elsewhere is shown images of other classes."""
    found = outputs_of(Net(outputs=8), SIZE, (), images()[1])
    assert found.kind == "logits"
    assert "nothing says what the 8 outputs" in found.remark


@pytest.mark.parametrize("name", ["softmax", "by hand", "temperature", "log-softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["cam", "gradcam", "layercam"])
def test_class_maps_are_those_of_the_scores(name, kind):
    """F86: the same maps as of the network without its end; of cam the evidence is the score."""
    pixels, dataset = images()
    model, plain = Net(ENDS[name][0]), Net((lambda y: y / 3) if name == "temperature" else (lambda y: y))
    found = []
    for one, known in ((model, outputs_of(model, SIZE, (), dataset)), (plain, None)):
        layer = find(one, "conv1", SIZE)[0]
        with ClassMaps(one, layer, SIZE, kind, known=known) as maps:
            found.append(maps.maps(pixels, torch.full((8,), -1), lambda y, _: torch.arange(4).expand(len(y), -1)))
    assert np.abs(found[1].maps).max() > 0
    assert np.array_equal(found[0].maps, found[1].maps)
    assert np.array_equal(found[0].logits, found[1].logits)
    if kind == "cam":
        assert np.allclose(found[0].evidence, plain(pixels).detach().numpy(), atol=1e-4)


def test_class_maps_of_one_output_speak_for_class_1_and_against_class_0():
    """F86."""
    pixels, dataset = images(2)
    model = Net(torch.sigmoid, outputs=1)
    with ClassMaps(
        model, find(model, "conv1", SIZE)[0], SIZE, "cam", known=outputs_of(model, SIZE, (), dataset)
    ) as maps:
        found = maps.maps(pixels, torch.full((8,), -1), lambda y, _: torch.arange(2).expand(len(y), -1))
    assert np.array_equal(found.maps[:, 0], -found.maps[:, 1])
    assert np.allclose(found.evidence[:, 1], model.scores(pixels).detach().numpy()[:, 0], atol=1e-4)


class Named(Net):
    """Its readout is called logits, and what it returns is something else."""

    def __init__(self):
        super().__init__()
        self.logits = self.head
        del self.head

    def forward(self, x):
        return self.logits(torch.relu(self.conv(x)).mean((2, 3))).softmax(1)


def test_logits_is_what_the_network_returns(caplog):
    """F86: also where a module has that name, which is said once."""
    model = Named()
    with caplog.at_level(logging.WARNING):
        assert find(model, "logits", SIZE)[0].reads == "the output"
        assert find(model, "logits", SIZE)[0].tap.module == ""
    assert caplog.text.count("logits#1") == 1
    assert find(model, "logits#1", SIZE)[0].tap.module == "logits"
    same = nn.Sequential()
    same.add_module("conv", nn.Conv2d(3, 4, 8))
    same.add_module("logits", nn.Flatten())
    assert find(same, "logits", SIZE)[0].channels == 4
    assert caplog.text.count("logits#1") == 1


def test_a_class_is_its_score_before_a_softmax(caplog):
    """F86: for gradients of classes and their preferred images."""
    model = Net(nn.Softmax(1))
    with caplog.at_level(logging.WARNING):
        layer = class_scores(model, SIZE)
    assert (layer.name, layer.tap.module, layer.channels) == ("scores", "head", 4)
    assert "ends in its own softmax" in caplog.text
    assert gbp_layers(model, None, "class", SIZE)[0].tap.module == "head"
    assert class_scores(Net(), SIZE).name == "logits"


# ---- in commands -----------------------------------------------------------------------------------------------------

NOISE = torch.rand(6, *SIZE, generator=torch.Generator().manual_seed(6))


def test_cam_stores_the_probabilities_of_a_softmax_as_they_are(caplog):
    """F86: its score is what the softmax is made from."""
    model = Net(nn.Softmax(1))
    with caplog.at_level(logging.WARNING):
        rows = list(cnnprobe.measure("cam", model=model, dataset=NOISE, class_=[0, 1, 2, 3], evaluate=False))
    rows = [row for row in rows if row.table == "images"]
    found = np.array([row.probability for row in rows]).reshape(6, 4)
    assert np.allclose(found, model(NOISE).detach(), atol=1e-5)
    assert np.allclose([row.logit for row in rows], model.scores(NOISE).detach().flatten(), atol=1e-4)
    assert caplog.text.count("ends in its own softmax") == 1


@pytest.mark.parametrize("end", ["sigmoid", "softmax"])
def test_record_decides_for_one_class_or_for_none(end, caplog):
    """F86."""
    model = Net(ENDS[end][0])
    with caplog.at_level(logging.WARNING):
        rows = [row for row in cnnprobe.measure("record", model=model, dataset=NOISE) if row.table == "images"]
    right = [-1] * 6 if end == "sigmoid" else model(NOISE).argmax(1).tolist()
    assert [row.prediction for row in rows] == right
    assert caplog.text.count(f"{end}") >= 1


def test_training_on_a_softmax_of_its_own_is_warned_of(caplog):
    """F86: cross-entropy would take it twice."""
    dataset = images()[1]
    with caplog.at_level(logging.WARNING):
        for end, count in (("nothing", 0), ("log-softmax", 0), ("softmax", 1), ("sigmoid", 2)):
            check_loss(Net(ENDS[end][0]), dataset, "cross-entropy")
            assert caplog.text.count("once more") == count


def test_probabilities_that_are_clamped_are_still_those_of_one_choice():
    """F86: their sum is a little off 1; they are no sigmoids of their own."""
    net = Net(lambda y: y.softmax(1).clamp(1e-4, 1 - 1e-4))
    found = outputs_of(net, SIZE, tuple("abcd"))
    assert found.kind == "softmax" and found.single
    pixels, _ = images()
    returned = net(pixels)
    scores = found.scores(returned)
    torch.testing.assert_close(found.probabilities(scores), returned, rtol=0, atol=5e-4)


def test_percentages_are_no_logits():
    """F86: a softmax of percentages would be 1 for the largest, whatever it is."""
    found = outputs_of(Net(lambda y: 100 * y.softmax(1)), SIZE, tuple("abcd"))
    assert found.kind == "unknown" and "their sum is always 100" in found.remark


def test_scores_that_are_not_found_are_said_to_be_none():
    """F86: of p beside 1 - p the logit is no score of the network."""
    found = outputs_of(Net(lambda y: torch.cat([1 - y.sigmoid(), y.sigmoid()], 1), outputs=1), SIZE, ())
    assert found.kind == "softmax" and "the scores before it were not found" in found.remark


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda y: -y.log_softmax(1), "negative logarithms of probabilities"),
        (lambda y: y.log_softmax(1) / np.log(2), "logarithms to base 2 of probabilities"),
        (lambda y: y.log_softmax(1) / np.log(10), "logarithms to base 10 of probabilities"),
    ],
)
def test_logarithms_that_are_no_log_softmax_are_no_logits(end, told):
    """F86: though as many as there are classes."""
    found = outputs_of(Net(end).eval(), SIZE, tuple("abcd"))
    assert found.kind == "unknown" and told in found.remark


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda y: (y - 3).square(), "never negative for images of noise: .* of distances"),
        (lambda y: F.softplus(y) + 1, "never negative for images of noise: .* evidence"),
        (F.logsigmoid, "never positive for images of noise"),
    ],
)
def test_of_outputs_of_one_sign_it_is_said_that_they_are_taken_as_logits(end, told):
    """F86."""
    found = outputs_of(Net(end).eval(), SIZE, tuple("abcd"))
    assert found.kind == "logits" and re.search(told, found.remark)
    assert not outputs_of(Net().eval(), SIZE, tuple("abcd")).remark


def test_the_names_that_a_network_gives_its_classes_are_used_from_python(caplog):
    """F88: as on the command line; a name of the call comes first."""
    pixels, _ = images()
    model = Net(torch.sigmoid).eval()
    model.cnnprobe = cnnprobe.About(classes=tuple("abcd"))
    rows = [
        row
        for row in cnnprobe.measure("record", model=model, dataset=pixels, layer="conv1")
        if "prediction" in vars(row)
    ]
    expected = model.scores(pixels).argmax(1)
    assert [int(row.prediction) for row in rows] == expected.tolist()
    assert "no classes are known" not in caplog.text


class Small(nn.Module):
    """An untrained classifier whose scores are small: all of them lie between 0 and 1, of every image."""

    def __init__(self, outputs=3, end=lambda y: y, steps=1):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.end, self.steps = nn.Conv2d(3, 6, 3), nn.Linear(6, outputs), end, steps
        with torch.no_grad():
            self.head.weight.mul_(1e-3)
            self.head.bias.copy_(torch.linspace(0.3, 0.7, outputs))

    def forward(self, x):
        features = torch.relu(self.conv(x)).mean((2, 3))
        return self.end([self.head(features * (step + 1)) for step in range(self.steps)][-1])


@pytest.mark.parametrize(
    "end",
    [lambda y: y, lambda y: y / 2 + 0.1, lambda y: y.view(len(y), -1, 1).mean(2)],
    ids=["as is", "scaled", "mean"],
)
def test_small_scores_of_a_linear_layer_are_no_probabilities(end):
    """F86: a range of 0 to 1 says nothing of what comes from a linear layer itself."""
    pixels, _ = images(3)
    found = outputs_of(model := Small(end=end).eval(), SIZE, ("a", "b", "c"))
    with torch.no_grad():
        expected = model(pixels)
    assert found.kind == "logits" and float(expected.min()) > 0 and float(expected.max()) < 1
    np.testing.assert_allclose(found.probabilities(found.scores(expected)), expected.softmax(1), atol=1e-6)
    assert outputs_of(Small(1).eval(), SIZE, ("a", "b")).kind == "logits"
    assert outputs_of(Small(end=torch.sigmoid).eval(), SIZE, ("a", "b", "c")).kind == "sigmoid"


def test_a_linear_layer_that_is_used_in_every_step_gives_logits():
    """F86: of a recurrent network, which reads out after each of its steps."""
    found = outputs_of(Small(steps=3).eval(), SIZE, ())
    assert found.kind == "logits" and found.remark.startswith("nothing says what the 3 outputs")


def test_of_small_outputs_as_of_sigmoids_logit_and_gradient_are_their_own():
    """F86: a mean of sigmoids whose scores were not found, 1e-11 and less."""
    net = Net(lambda y: ((y - 25).sigmoid() + (y.roll(1, 1) - 26).sigmoid()) / 2)
    found = outputs_of(net, SIZE, tuple("abcd"))
    assert found.kind == "sigmoid" and found.before is None
    pixels, _ = images()
    pixels.requires_grad_()
    returned = net(pixels)
    scores = found.scores(returned)
    exact = returned.detach().double()
    assert float(exact.max()) < 1e-7
    torch.testing.assert_close(scores.double(), (exact / (1 - exact)).log(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.probabilities(scores), returned, rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert float(gradient.abs().max()) > 1e-3
    ends = found.scores(torch.tensor([[0.0, 1.0, 0.5, 1e-20]]))
    assert torch.isfinite(ends).all() and float(ends[0, 0]) < float(ends[0, 3]) < float(ends[0, 2]) < float(ends[0, 1])
