"""Windows against brute force on published networks: first, middle and last layers, dense ones too."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from cnnprobe.instruments.layers.naming import main_layers
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.models import capsnet, convnet, grasp, mousenet, unet
from tests.support.occluding import misses, scale, textured

MOUSE = {"num_classes": 10, "readout": "pool4", "input_size": None, "upsample_to": None, "mask_seed": 0}
UNET = {"input_size": 32, "channels": 3, "width": 4, "depth": 2, "padding": "same", "rise": "transposed"}
CAPSULES = {"input_size": 20, "channels": 3, "width": 4, "kernel": 5, "types": 2, "primary": 4, "pose": 4, "routing": 3}
CAPSULES |= {"decoder": None, "reconstruction": 0.0}
GRASP = {"input_size": 16, "channels": 3, "features": 4, "units": 5, "between": 0.2, "arrangement": "modular"}
GRASP |= {"activation": "retanh", "tau": 0.1, "step": 0.05, "rates": 0.0, "weights": 0.0}


def published(arch, **options):
    return lambda: getattr(torchvision.models, arch)(weights=None, num_classes=7, **options)


ZOO = {
    # name: how it is built, side of the images
    "alexnet": (published("alexnet"), 67),
    "convnet": (lambda: convnet.build(num_classes=None, written="sequential", input_size=32), 32),
    "mousenet": (lambda: mousenet.build(variant="mousenet32", mask="per_channel", **MOUSE), 32),
    "mobilenet_v2": (published("mobilenet_v2"), 64),
    "resnet": (published("resnet18"), 64),
    "squeezenet": (published("squeezenet1_1"), 64),
    "vit": (published("vit_b_16", image_size=32), 32),
    "unet": (lambda: unet.build(num_classes=None, **UNET), 32),
    "capsnet": (lambda: capsnet.build(num_classes=None, **CAPSULES), 20),
    "grasp": (lambda: grasp.build(num_classes=None, **GRASP), 16),
}
LARGE = {
    "convnext_tiny": (published("convnext_tiny"), 64),
    "densenet121": (published("densenet121"), 64),
    "efficientnet_b0": (published("efficientnet_b0"), 64),
    "googlenet": (published("googlenet", init_weights=False, aux_logits=False), 64),
    "inception_v3": (published("inception_v3", init_weights=False, aux_logits=False), 96),
    "mousenet64": (lambda: mousenet.build(variant="mousenet64", mask="none", **MOUSE), 64),
    "resnet50": (published("resnet50"), 64),
    "shufflenet_v2_x1_0": (published("shufflenet_v2_x1_0"), 64),
    "squeezenet1_0": (published("squeezenet1_0"), 67),
    "vgg": (published("vgg11"), 64),
    "vgg11_bn": (published("vgg11_bn"), 64),
    "regnet_y_400mf": (published("regnet_y_400mf"), 64),
    "mnasnet1_0": (published("mnasnet1_0"), 64),
    "swin_t": (published("swin_t"), 64),
}


LONG = ("mousenet", "vit", "mobilenet_v2", "alexnet", "grasp")
"""Of those above, networks of which brute force takes longest."""


def check(build, side: int, layers: int) -> None:
    torch.manual_seed(0)
    model, size = textured(build()), (3, side, side)
    random = np.random.default_rng(0)
    grid = Grid((side, side), side // 8, side // 4)
    image, filled = (torch.from_numpy(random.random(shape, np.float32)) for shape in (size, (2, *size)))
    every = main_layers(model, size)
    for place in np.unique(np.linspace(0, len(every) - 1, layers).astype(int)):
        layer = every[place]
        units = random.integers(0, layer.channels, 4)
        sites = np.array([[random.integers(0, n) for n in layer.map_size] for _ in units], np.int64).reshape(4, -1)
        windows = Occlusion(model, layer, size, grid)
        assert windows.engine == "windows", (layer.name, windows.engine)
        brute = Occlusion(model, layer, size, grid, engine="brute force")
        largest = scale(model, layer, image)
        for reading in ("site", "anywhere"):
            with windows, brute:
                found, expected = (o.discrepancies(image, filled, units, sites, reading) for o in (windows, brute))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest, err_msg=layer.name)
            if reading == "site" and len(layer.map_size) == 2:
                missed = misses(layer, grid, sites)[:, None].repeat(2, 1)
                # an up-convolution puts several places of its input together: beside what it sees, zeros are rounded
                most = 0 if layer.field is None or layer.field.aligned else 1e-6 * largest
                assert (np.abs(found[missed]) <= most).all(), layer.name


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in ZOO])
def test_published_networks(name):
    check(*ZOO[name], layers=2 if name == "mousenet" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_more_published_networks(name):
    check(*LARGE[name], layers=7)


def test_every_model_of_the_project_is_here():
    names = {path.stem for path in (Path(__file__).parents[3] / "configs" / "model").glob("*.yaml")}
    assert len(names) >= 9
    others = {"shallownet", "deep4net", "grasp"}  # rf-map occludes images; of a recurrence by brute force
    assert names - {"custom", "torchvision"} - others <= {*ZOO, *LARGE}
