"""Seg-Grad-CAM: the map of a sum of scores over a region, against the formula and against the readout itself."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe as package
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.methods.cam.regions import Regions, deepest_map
from cnnprobe.models import unet
from tests.methods.cam.test_method import tables
from tests.support.networks.gap import Pooled, pictures

SIDE = 16


def network(**options):
    torch.manual_seed(1)
    given = {"num_classes": 2, "input_size": SIDE, "channels": 3, "width": 4, "depth": 2, "padding": "same"}
    model = unet.build(**given | {"rise": "transposed"} | options)
    nn.init.normal_(model.readout.bias)
    return model


def images(count=4, target="mask", size=SIDE):
    given = {"split": "test", "seed": 0, "contrast": 0.15, "noise": 0.02}
    return shapes.build(size=size, count=count, target=target, **given)


def mapped(model, dataset, **options):
    return tables(package.measure("cam", model=model, dataset=dataset, **options))["images"]


def test_before_the_readout_the_map_of_all_pixels_is_the_segmentation():
    """There alpha is the weight W_ck of the readout, so the map is the class's logit less its bias at every pixel."""
    model, dataset = network(num_classes=3), images()
    found = mapped(model, dataset, layer="expand1", region="all", class_=[0, 1, 2])
    with torch.no_grad():
        logits = model(dataset.load(range(4))[0])
    expected = (logits - model.readout.bias[:, None, None]).flatten(0, 1).detach().numpy()
    np.testing.assert_allclose(found["map"], expected, atol=1e-5)
    assert (found["pixels"] == SIDE**2).all()
    np.testing.assert_allclose(found["logit"], logits.flatten(2).sum(2).flatten(), rtol=1e-4)


@pytest.mark.parametrize("region", ["predicted", "truth", [3, 5]])
def test_maps_are_those_of_the_formula(region):
    """alpha_k is the mean over positions of d y_c / d A_k, y_c the sum of the class's scores over the region."""
    model, dataset = network(), images()
    found = mapped(model, dataset, region=region, class_=1, batch_size=3)
    pixels, true = dataset.load(range(4))[0], dataset.targets(range(4))[0]
    kept = []
    handle = model.bottom.register_forward_hook(lambda _, __, output: kept.append(output))
    scores = model(pixels)
    handle.remove()
    inside = {"predicted": scores.argmax(1) == 1, "truth": true == 1}.get(str(region))
    if inside is None:
        inside = torch.zeros_like(true, dtype=torch.bool)
        inside[:, 3, 5] = True
    gradient = torch.autograd.grad((scores[:, 1] * inside).sum(), kept)[0]
    expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach()
    assert found["map"].shape == (4, 4, 4)
    np.testing.assert_allclose(found["map"], expected, atol=1e-6, rtol=1e-4)
    assert found["pixels"].tolist() == inside.flatten(1).sum(1).tolist()


def test_classes_are_ranked_by_their_pixels_without_the_background():
    model, dataset = network(num_classes=9), images(4, "classes")
    found = mapped(model, dataset, top_classes=8)
    with torch.no_grad():
        predicted = model(dataset.load(range(4))[0]).argmax(1)
    for image in range(4):
        counts = torch.bincount(predicted[image].flatten(), minlength=9)[1:]
        own = found["class"].reshape(4, 8)[image]
        assert found["pixels"].reshape(4, 8)[image].tolist() == sorted(counts.tolist(), reverse=True)
        assert (own >= 0).sum() == (counts > 0).sum()
        assert (counts[own[own >= 0] - 1].numpy() > 0).all()
        assert found["rank"].reshape(4, 8)[image][own >= 0].tolist() == list(range(int((own >= 0).sum())))


def test_one_pixel_ranks_classes_by_its_scores():
    model, dataset = network(num_classes=3), images()
    found = mapped(model, dataset, region=[2, 9], top_classes=3)
    with torch.no_grad():
        scores = model(dataset.load(range(4))[0])[:, :, 2, 9]
    assert found["class"].tolist() == scores.argsort(1, descending=True).flatten().tolist()
    np.testing.assert_allclose(found["logit"], scores.sort(1, descending=True).values.flatten(), rtol=1e-5)


def test_a_network_without_padding_takes_the_middle_of_the_masks():
    model, dataset = network(padding="valid", input_size=60), images(2, size=60)
    found = mapped(model, dataset, region="truth", class_=1)
    true = dataset.targets(range(2))[0][:, 20:40, 20:40]
    assert found["pixels"].tolist() == (true == 1).flatten(1).sum(1).tolist()


@pytest.mark.parametrize("kind", ["guided-gradcam", "layercam"])
def test_other_kinds_that_need_no_single_output(kind):
    found = mapped(network(), images(), kind=kind, region="all", class_=1)
    assert np.isfinite(found["map"]).all()
    assert ("guided" in found) == (kind == "guided-gradcam")


def test_the_deepest_map_of_a_network_that_does_not_name_it():
    class Plain(nn.Sequential):
        """Halves, convolves, and goes back."""

    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    model = Plain(*layers, nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(4, 2, 1)).eval()
    assert deepest_map(model, (3, 16, 16)).name == "conv2"
    assert deepest_map(network(), (3, 16, 16)).name == "bottom"


@pytest.mark.parametrize("kind", ["cam", "scorecam", "cccam"])
def test_kinds_that_need_one_output_are_refused(kind):
    words = rf"kind={kind} needs one output per image, .* maps \(2 x 16 x 16\): say kind=gradcam region=predicted"
    with pytest.raises(UserError, match=words):
        mapped(network(), images(), kind=kind)


def test_regions_that_are_not_there_are_refused():
    with pytest.raises(UserError, match=r"region=truth needs images with masks of the network's 2 classes"):
        mapped(network(), images(target="class"), region="truth")
    with pytest.raises(UserError, match=r"region must be \[y,x\] from \[0,0\] to \[15,15\], got \[3,16\]"):
        mapped(network(), images(), region=[3, 16])
    with pytest.raises(UserError, match=r"region=\[1,2\] is of a network that gives a class for every pixel"):
        mapped(Pooled().eval(), pictures(4).numpy(), region=[1, 2])


def test_sums_are_over_the_region_alone():
    scores = torch.arange(16.0).reshape(1, 2, 2, 4)
    scores[0, 0, 0, 0] = 100
    regions = Regions((2, 2, 4), "predicted", (1,))
    assert regions.scores(scores).tolist() == [[100, sum(range(9, 16))]]
    assert regions.order.tolist() == [[-1, 7]]


def test_what_a_network_without_padding_finds_is_compared_with_the_object_where_it_lies():
    """The map at the readout is the middle of the image, pixel for pixel; the object outside of it counts nothing."""
    model, dataset = network(padding="valid", input_size=60), images(size=60)
    found = mapped(model, dataset, layer="expand1", region="all", class_=1)
    energies = []
    for image, one in enumerate(found["map"]):
        assert one.shape == (20, 20)
        positive = np.pad(one.clip(0), 20)
        energies.append(positive[dataset.truth(image)["cue"]].sum() / positive.sum())
    assert np.ptp(energies) > 0
    np.testing.assert_allclose(found["energy"], energies, rtol=1e-5)
