"""Class activation maps of capsules: what each place adds to the length of what a class capsule gathers.

votes            sum over types of c_ij û_ij · s_j / |s_j|, with s_j = sum over primary capsules i of c_ij û_ij what
                 class capsule j gathers, û_ij what i predicts, c_ij its coupling (Sabour, Frosst, Hinton 2017)

The sum over the map is |s_j|, of which the log-odds are made: it leaves nothing out, and needs no gradient.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.models.foreign.network import taken

NAME = "votes"
LAYER = "primary"
"""Where the capsules that vote lie, as a map."""
Votes = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From images to log-odds (image, class) and maps (image, class, y, x)."""


def votes_of(model: nn.Module) -> Votes:
    """Return the method with which a network tells the votes for its classes; a `__getattr__` is not asked.

    It is given images as the network's own forward is: normalised, and one by one where they have to be.

    Raises:
        UserError: it has none.
    """
    if not inspect.isfunction(inspect.getattr_static(model, NAME, None)):
        raise UserError(
            f"kind=votes needs a network of capsules, which vote for the classes (model=capsnet); "
            f"{type(model).__name__} has none: take kind=gradcam"
        )

    def votes(images: Tensor) -> tuple[Tensor, Tensor]:
        conduct = conduct_of(model, tuple(images.shape[1:]))
        alone = conduct.decides or conduct.output.handing == "one by one"
        shown = images.split(1 if alone else len(images))
        logits, maps = zip(*(getattr(model, NAME)(taken(model, conduct.own(some))) for some in shown))
        return torch.cat(logits), torch.cat(maps)

    return votes


def laid(model: nn.Module, layer: Layer, image: Tensor) -> None:
    """Make sure that the votes lie on the map of a layer.

    Raises:
        UserError: they have another size.
    """
    with untouched(model), torch.inference_mode():
        shape = tuple(votes_of(model)(image)[1].shape[2:])
    if shape != tuple(layer.map_size):
        own = " x ".join(map(str, layer.map_size)) or "no positions"
        votes = " x ".join(map(str, shape))
        raise UserError(f"kind=votes maps the capsules that vote, {votes}: say layer={LAYER}; {layer.name} has {own}")
