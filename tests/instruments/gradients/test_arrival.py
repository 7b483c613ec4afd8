"""Gradients that do not arrive are told; those that do are those of the network without what might have cut them."""

import logging

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.gradients.arrival import arrives, in_part, must_arrive
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.cam.maps import ClassMaps
from cnnprobe.methods.gbp.gradients import Gradients, Recipe

SIZE = (3, 12, 12)


class Net(nn.Module):
    """Two convolutions with something between them, and a linear readout."""

    def __init__(self, between, around=None):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)
        self.between, self.around = between, around

    def forward(self, x):
        if self.around is None:
            x = self.between(self.first(x))
        else:
            x = self.around(lambda image: self.between(self.first(image)), x)
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def without(context):
    def run(function, image):
        with context():
            return function(image).float()

    return run


class Wrong(torch.autograd.Function):
    """A rectifier whose backward pass is that of a line of slope 2."""

    @staticmethod
    def forward(context, values):
        return values.clamp(min=0)

    @staticmethod
    def backward(context, signal):
        return 2 * signal


class Right(Wrong):
    """The same with its own derivative."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(context, signal):
        return signal * (context.saved_tensors[0] > 0)


def numpy_trip(values):
    return torch.from_numpy(np.maximum(values.detach().numpy(), 0))


CUTS = {
    "no_grad": Net(torch.relu, without(torch.no_grad)),
    "inference_mode": Net(torch.relu, without(torch.inference_mode)),
    "detach": Net(lambda z: torch.relu(z).detach()),
    "data": Net(lambda z: torch.relu(z).data),
    "sign": Net(torch.sign),
    "round": Net(lambda z: (8 * z).round() / 8),
    "floor": Net(lambda z: (8 * z).floor()),
    "above 0": Net(lambda z: (z > 0).float()),
    "argmax": Net(lambda z: nn.functional.one_hot(z.argmax(1), 6).movedim(-1, 1).float()),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_graph_is_an_error_and_no_map_of_zeros(name):
    """F87: whatever cuts it; other methods than gradients are told of beside it."""
    model = CUTS[name]
    (layer,) = find(model, "second", SIZE)
    with pytest.raises(UserError, match="no gradient gets from second back to the image"):
        must_arrive(model, layer, SIZE)
    assert not arrives(model, layer, SIZE, "the effective field")
    must_arrive(model, find(model, "first", SIZE)[0], SIZE) if name not in ("no_grad", "inference_mode") else None
    for kind in ("gradcam", "layercam", "cam"):
        with pytest.raises(UserError, match=r"gradient|one linear layer"):
            ClassMaps(model, find(model, "first", SIZE)[0], SIZE, kind)


def test_where_the_graph_ends_is_said():
    """F87."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3)), nn.Conv2d(4, 2, 3))
    model[1].forward = torch.no_grad()(model[1].forward)
    with pytest.raises(UserError, match=r"cuts it in 1\.0 "):
        must_arrive(model, find(model, "2", SIZE)[0], SIZE)


def test_a_trip_through_numpy_is_told():
    """F87: nothing behind it can be seen to depend on the image."""
    model = Net(numpy_trip)
    with pytest.raises(UserError, match=r"what it is made from leaves torch"):
        find(model, "second", SIZE)


class Halves(nn.Module):
    """The second branch is cut; or the last channels are."""

    def __init__(self, joined):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.joined = joined

    def forward(self, x):
        return self.joined(self.a(x), self.b(x).detach())


FALSE = {
    "a branch": Halves(lambda a, b: torch.relu(a + b)),
    "straight through": Net(lambda z: z + (z.sign() - z).detach()),
    "rounded straight through": Net(lambda z: z + ((3 * z).floor() - z).detach()),
    "a wrong backward": Net(Wrong.apply),
    "an average cut beside": Net(lambda z: torch.relu(z) + 0.5 * nn.functional.avg_pool2d(z.detach(), 3, 1, 1)),
    "a jump": Net(lambda z: nn.functional.threshold(z, 0.3, 0.0)),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_gradient_that_is_no_derivative_is_warned_of(name, caplog):
    """F87: autograd gives a number, finite differences another one."""
    model = FALSE[name]
    (layer,) = find(model, "logits" if name == "a branch" else "second", SIZE)
    with caplog.at_level(logging.WARNING):
        must_arrive(model, layer, SIZE)
    assert "is not the derivative" in caplog.text


def test_what_may_be_is_said():
    """F87: also of a function that jumps."""
    assert "jumps, as threshold or round" in in_part("second", "the image", 0.3)


@pytest.mark.parametrize(
    "name",
    ["squeezenet1_1", *(pytest.param(one, marks=pytest.mark.slow) for one in ("alexnet", "resnet18", "mobilenet_v2"))],
)
def test_kinks_and_rounding_are_not_warned_of(name, caplog):
    """F87: of deep networks with many rectifiers and maxima."""
    torch.manual_seed(1)
    model = getattr(torchvision.models, name)(num_classes=10).eval()
    layers = find(model, "all", (3, 64, 64))
    with caplog.at_level(logging.WARNING):
        for layer in (*layers[:: len(layers) // 3], *find(model, "logits", (3, 64, 64))):
            must_arrive(model, layer, (3, 64, 64))
    assert not caplog.text


@pytest.mark.parametrize("cut", [False, True])
def test_kinks_close_to_each_other_are_told_from_what_is_cut(cut, caplog):
    """F87: finer steps pass between kinks, and find a gradient of half the derivative as wrong as before."""

    def wave(z):
        z = torch.asin(torch.sin(3000 * z))  # rises and falls evenly, with a kink each 0.001
        return (z + z.detach()) / 2 if cut else z

    model = Net(wave)
    with caplog.at_level(logging.WARNING):
        must_arrive(model, find(model, "second", SIZE)[0], SIZE)
    assert ("is not the derivative" in caplog.text) == cut


def test_units_that_are_cut_are_refused_by_number():
    """F87."""
    model = Halves(lambda a, b: torch.cat([a, b], 1))
    (layer,) = find(model, "logits", SIZE)
    with pytest.raises(UserError, match=r"from 4 of the units of logits back to the image .*units 4, 5, 6, 7"):
        must_arrive(model, layer, SIZE)
    must_arrive(model, layer, SIZE, [0, 3])


GOOD = {
    "checkpoint": Net(torch.relu, lambda function, x: checkpoint(function, x, use_reentrant=False)),
    "reentrant": Net(torch.relu, lambda function, x: checkpoint(function, x, use_reentrant=True)),
    "autocast": Net(torch.relu, without(lambda: torch.autocast("cpu", torch.bfloat16))),
    "half": Net(lambda z: torch.relu(z.half()).float()),
    "a right backward": Net(Right.apply),
    "switched on again": Net(torch.relu, without(torch.enable_grad)),
}


@pytest.mark.parametrize("name", GOOD)
def test_checkpoints_and_half_precision_give_the_plain_maps(name, caplog):
    """F87: beside the same network without them, in the first layer, inside and behind."""
    model, plain = GOOD[name], Net(torch.relu)
    image = torch.rand(SIZE, generator=torch.Generator().manual_seed(5))
    for spec in ("first", "second", "logits"):
        maps = []
        for one in (model, plain):
            (layer,) = find(one, spec, SIZE)
            with caplog.at_level(logging.WARNING):
                must_arrive(one, layer, SIZE)
            with Gradients(one, layer, SIZE, Recipe("gradient")) as gradients:
                position = np.full((1, len(layer.map_size)), 5)
                crop = gradients.maps(image[None], np.zeros(1, int), np.array([1]), position)
            maps.append(crop)
        found = [np.zeros(tuple(side + 40 for side in (0, 12, 12)), np.float32)[:3] for _ in maps]
        for canvas, one in zip(found, maps):
            top, left = one.corners[0] + 20
            canvas[:3, top : top + one.values.shape[2], left : left + one.values.shape[3]] += one.values[0]
        scale = np.abs(found[1]).max()
        assert scale > 0
        assert np.abs(found[0] - found[1]).max() <= (2e-2 if name in ("autocast", "half") else 1e-6) * scale
    assert "derivative" not in caplog.text


def test_a_dead_layer_is_a_result(caplog):
    """F87: nothing that changes with the image is cut."""
    model = Net(torch.relu)
    with torch.no_grad():
        model.second.bias.fill_(-100)
    (layer,) = find(model, "conv2", SIZE)
    with caplog.at_level(logging.WARNING):
        must_arrive(model, layer, SIZE)
    assert layer.rectified
    assert not caplog.text


def test_a_checkpoint_is_itself_again_afterwards():
    """F87: torch is as it was, and the gradient of a training still goes through it."""
    before = torch.utils.checkpoint.CheckpointFunction.apply
    must_arrive(GOOD["reentrant"], find(GOOD["reentrant"], "second", SIZE)[0], SIZE)
    assert torch.utils.checkpoint.CheckpointFunction.apply == before
    image = torch.rand(1, *SIZE, requires_grad=True)
    assert checkpoint(torch.relu, image, use_reentrant=True).grad_fn.name() == "CheckpointFunctionBackward"


@pytest.mark.parametrize("kind", ["gradcam", "layercam", "guided-gradcam"])
def test_class_maps_through_checkpoints_are_the_plain_ones(kind):
    """F87."""
    image = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(5))
    found = []
    for model in (GOOD["checkpoint"], GOOD["reentrant"], Net(torch.relu)):
        with ClassMaps(model, find(model, "first", SIZE)[0], SIZE, kind) as maps:
            found.append(maps.maps(image, torch.tensor([-1]), lambda y, _: torch.arange(5)[None]).maps)
    assert np.abs(found[2]).max() > 0
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[2])


def test_a_branch_behind_the_layer_is_warned_of(caplog):
    """F87: of two ways from the layer to the logits one is cut."""

    class Two(Net):
        def forward(self, x):
            x = torch.relu(self.first(x))
            return self.head((self.second(x) + self.second(x.flip(-1)).detach().exp()).mean((2, 3)))

    model = Two(None)
    with caplog.at_level(logging.WARNING):
        ClassMaps(model, find(model, "first", SIZE)[0], SIZE, "gradcam")
    assert "the gradient from the logits to first is not the derivative" in caplog.text


# ---- in commands -----------------------------------------------------------------------------------------------------

IMAGES = torch.rand(6, *SIZE, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("command", ["gbp", "optimize"])
def test_commands_whose_result_is_a_gradient_refuse(command):
    """F87."""
    given = {"rule": "gradient"} if command == "gbp" else {"steps": 2}
    with pytest.raises(UserError, match="no gradient gets from second back to the image"):
        cnnprobe.measure(command, model=CUTS["detach"], dataset=IMAGES, layer="second", top_images=2, **given)


def test_commands_with_a_gradient_beside_other_results_go_on_without_it(caplog):
    """F87: the field that occlusion measures is there, the effective one is NaN, and that is said."""
    model = CUTS["no_grad"]
    with caplog.at_level(logging.WARNING):
        rows = list(cnnprobe.measure("rf-map", model=model, dataset=IMAGES, layer="second", units=[0], top_images=2))
    (row,) = (row for row in rows if hasattr(row, "field"))
    assert np.isfinite(row.field).any()
    assert np.isnan(row.effective).all()
    assert "the effective field cannot be taken: no gradient" in caplog.text


@pytest.mark.parametrize("kind", ["gradcam", "layercam"])
def test_a_layer_that_is_read_without_a_graph_has_no_class_maps(kind):
    """F87: being read does not give it one."""
    model = Net(torch.relu, without(torch.no_grad))
    image = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(5))
    with (
        pytest.raises(UserError, match="no gradient gets from the logits to conv1"),
        ClassMaps(model, find(model, "conv1", SIZE)[0], SIZE, kind) as maps,
    ):
        maps.maps(image, torch.tensor([-1]), lambda y, _: torch.arange(5)[None])
