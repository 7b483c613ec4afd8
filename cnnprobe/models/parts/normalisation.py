"""Normalisation inside a network, without changing its module paths or the keys of its state dict."""

import torch
from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue over ImageNet, 0 to 1 (torchvision's networks)."""

CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""The same over CIFAR-10, as in the training of MouseNet (Shi et al. 2022, their code)."""


class _Normalisation(nn.Module):
    """Put in front of a network's class: subtracts the mean and divides by the deviation, then runs the network."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (image, channel, y, x), values 0 to 1, and run the network."""
        return super().forward((images - self.channel_mean) / self.channel_deviation)


def normalise(model: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]) -> nn.Module:
    """Make a network take values 0 to 1 that was made for normalised ones.

    The model's class is replaced by a subclass of the same name whose forward normalises first: no wrapper
    module stands around the network, hooks and `torch.fx` see the network as it was. Mean and deviation are
    buffers that are not part of the state dict, so they follow the model to its device.

    Args:
        model: takes (image, channel, y, x).
        mean: one per channel, on the scale 0 to 1.
        deviation: one per channel.

    Returns:
        The same object.
    """
    own = type(model)
    model.__class__ = type(own.__name__, (_Normalisation, own), {"__module__": own.__module__, "__doc__": own.__doc__})
    for name, values in (("channel_mean", mean), ("channel_deviation", deviation)):
        model.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)  # (channel, 1, 1)
    return model
