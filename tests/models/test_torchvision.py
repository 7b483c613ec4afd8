"""Any classifier of torchvision comes in by its name, others are refused by theirs."""

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.models.torchvision import build, needs


def test_any_classifier_by_name():
    with torch.device("meta"):
        model = build(num_classes=5, arch="mobilenet_v3_small", input_size=None)
    assert model.classifier[-1].out_features == 5


def test_the_whole_list_can_be_built():
    from torchvision import models

    names = models.list_models(module=models)
    assert len(names) >= 80
    with torch.device("meta"):
        for name in [
            n for n in names if n.split("_")[0] in ("densenet121", "googlenet", "inception", "mnasnet0", "swin")
        ]:
            assert not build(num_classes=None, arch=name, input_size=None).training


def test_inception_gives_plain_logits_in_training_too():
    with torch.device("meta"):
        model = build(num_classes=3, arch="inception_v3", input_size=None).train()
        assert model(torch.rand(2, 3, 299, 299)).shape == (2, 3)


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(UserError, match=r"no arch 'resnet19' in torchvision; did you mean 'resnet18'"):
        build(num_classes=None, arch="resnet19", input_size=None)


def test_a_detector_is_refused_by_name():
    with pytest.raises(UserError, match=r"fasterrcnn_resnet50_fpn of torchvision is no classifier of images"):
        build(num_classes=None, arch="fasterrcnn_resnet50_fpn", input_size=None)


@pytest.mark.parametrize(
    ("arch", "asked", "size", "resize"),
    [
        ("resnet18", None, 224, 256),
        ("inception_v3", None, 299, 342),
        ("squeezenet1_0", None, 227, 256),
        ("resnet18", 112, 112, 128),
    ],
)
def test_images_are_those_the_network_was_made_for(arch, asked, size, resize):
    found = needs(arch=arch, input_size=asked)
    assert (found.size, found.resize) == (size, resize)
