"""A small convolutional network for the first lesson, written in both of PyTorch's styles."""

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.normalisation import normalise


def needs(*, written: Literal["class", "sequential"], input_size: Annotated[int, Range(2)]) -> Input:
    """Say which images the network was made for: RGB of the given side."""
    return Input(channels=3, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    written: Literal["class", "sequential"],
    input_size: Annotated[int, Range(2)],
) -> nn.Module:
    """Build the network in eval() mode: four convolutions, one pooling, two dense layers.

    Returns:
        A network of (image, 3, y, x), 0 to 1, to (image, class). With the same weights both styles give the same bits.

    Raises:
        UserError: the side is odd.
    """
    if input_size % 2:
        raise UserError(f"input_size must be even for convnet (it pools by 2), got {input_size}")
    features = 8 * (input_size // 2) ** 2  # 2048 at 32 px
    model = (ConvNet if written == "class" else sequential)(features, num_classes or 10)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # He et al. 2015: with PyTorch's own start the signal dies out in so narrow a network; it learns nothing
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    normalise(model, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    model.cnnprobe = About(input_size=(3, input_size, input_size))
    return model.eval()


class ConvNet(nn.Module):
    """Layers named in `__init__`, their order written in `forward`."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(5, 8, 3, padding=1)
        self.conv4 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc1 = nn.Linear(features, 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (image, class) of images (image, 3, y, x)."""
        x = F.relu(self.conv1(images))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def sequential(features: int, classes: int) -> nn.Sequential:
    """Return the same network as a list of layers."""
    return nn.Sequential(
        *(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(5, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(5, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(features, 128), nn.ReLU()),
        nn.Linear(128, classes),
    )
