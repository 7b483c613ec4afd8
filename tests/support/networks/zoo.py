"""The networks of the package as their YAML builds them, with random weights."""

from torch import nn

from cnnprobe.config import catalogue
from cnnprobe.instruments.network.about import about
from cnnprobe.preparation import build as preparation

HEAVY = ("alexnet", "vgg", "vit", "resnet")
"""Those that take seconds to build."""


def built(name: str, classes: int = 7) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a network and the size (channel, y, x) or (channel, time) of its images."""
    page = catalogue.page(catalogue.yaml_path("model", name))
    given = {key: entry.default for key, entry in page.entries.items() if key != "num_classes"}
    kind = preparation.module("model", name)
    needs = kind.needs(**given)
    model = kind.build(num_classes=classes, **given)
    return model, about(model).input_size or (needs.channels, needs.size, needs.size)
