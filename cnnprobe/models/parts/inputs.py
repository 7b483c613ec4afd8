"""The images a network takes, and whether it takes those of a dataset."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import about
from cnnprobe.machine.signals import StoppedError
from cnnprobe.models.foreign.network import as_it_was

LARGEST = 1024  # px; a network that takes no image up to this side takes none
USUAL = 32, 28, 64, 96, 128, 256, 227, 299, 384, 16, 8
"""Sides of images that are tried where neither the one that is given nor larger ones work."""
SAMPLES = 1000, 224, 4000, 100
"""Lengths of signals that are tried."""


@dataclass(frozen=True)
class Input:
    """The images a network was made for.

    Args:
        channels: 3 for RGB, 1 for grey or one sensor.
        size: side of the square image, px (samples of a signal).
        resize: the shorter side is brought to this before the centre is cropped, px.
    """

    channels: int
    size: int
    resize: int


def check_fits(
    model: nn.Module,
    name: str,
    size: tuple[int, ...],
    is_short: Callable[[Exception], bool] = lambda _: False,
    said: int | None = None,
    fixed: bool = False,
) -> None:
    """Try the network on one black image, so that a misfit ends the run before the first batch.

    Args:
        model: in eval() mode.
        name: of the model, for the message.
        size: (channel, y, x) or (channel, time) of the dataset's images.
        is_short: says of an error that memory did not suffice; then it is no misfit.
        said: the channels that the options say the network takes.
        fixed: whether the dataset's images have the channels they have, whatever the options say.

    Raises:
        UserError: the network does not take such images; names the smallest side that it takes.
    """
    known = about(model).input_size
    error = _failure(model, size)
    if error is None and (not known or known[0] == size[0]):  # normalising would make three channels of one
        return
    if error is not None and is_short(error):
        raise error
    if known and len(known) != len(size):
        dimensions = {2: "signals", 3: "images"}
        raise UserError(
            f"{name} takes {dimensions.get(len(known), 'other data')}, dataset gives {dimensions.get(len(size))}"
        )
    custom = name == "custom"
    for channels in known[:1] or _channels(model, said):
        if channels != size[0] and _failure(model, (channels, *(known[1:] or size[1:]))) is None:
            kind = "images" if len(size) == 3 else "signals"
            way = _way(channels, said, fixed) if custom and kind == "images" else ""
            raise UserError(f"{name} takes {kind} of {_counted(channels)}, dataset gives {size[0]}{way}")
    works = _sides_that_work(model, size, known)
    shown = "x".join(str(side) for side in dict.fromkeys(size[1:]))
    if works is None and (other := _other_form(model, size)):
        raise UserError(f"{name} takes {other}, dataset gives {_kind(size)} of {'x'.join(map(str, size))}")
    if works is None:
        told = f": {_one_line(error)}" if error is not None else ""
        raise UserError(f"{name} takes no {_kind(size)[:-1]} of {shown} px{told}")
    least, exactly = works
    needs = f"images of {least} px and no others" if exactly else f"images of at least {least} px"
    raise UserError(f"{name} needs {needs}, dataset gives {shown}{f'; say model.input_size={least}' if custom else ''}")


def _kind(size: tuple[int, ...]) -> str:
    return {2: "signals", 3: "images"}.get(len(size), "data")


def _counted(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def _way(channels: int, said: int | None, fixed: bool) -> str:
    """Return what to say for images of so many channels, "" where nothing is left to be said."""
    ways = [f"model.channels={channels}"] if said != channels else []
    ways += ["dataset=arrays (your own images in a file) or dataset=manufactured"] if fixed else []
    return f"; say {' and '.join(ways)}" if ways else ""


def _channels(model: nn.Module, said: int | None = None) -> list[int]:
    """Return numbers of channels that are tried: what is said, those of convolutions, of colours, and with depth."""
    own = [one.in_channels for one in model.modules() if isinstance(one, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    return list(dict.fromkeys([*([said] if said else []), *own[:1], 3, 1, 4, 2, *([sum(own[:2])] if own else [])]))


def _other_form(model: nn.Module, size: tuple[int, ...]) -> str:
    """Return what else than images of this form a network takes, in words; "" where that is not found."""
    needed = _needed(model)
    if len(needed) > 1:
        return f"{len(needed)} inputs ({', '.join(needed)}) instead of one"
    if names := _names(model, size):
        return f"a dictionary of inputs ({', '.join(names)}) instead of an image"
    rows = [one.in_features for one in model.modules() if isinstance(one, nn.Linear)][:1]
    steps = [one.input_size for one in model.modules() if isinstance(one, nn.RNNBase)][:1]
    for channels in _channels(model):
        if len(size) == 3:
            if any(_failure(model, (channels, samples)) is None for samples in SAMPLES):
                return f"signals of {_counted(channels)} (dataset=signals or arrays)"
            side = next((side for side in USUAL if _failure(model, (channels, side, side)) is None), 0)
            if side:
                return f"images of {channels}x{side}x{side} (model.channels={channels} model.input_size={side})"
        elif any(_failure(model, (channels, side, side)) is None for side in (size[-1], 224, *USUAL)):
            return f"images of {_counted(channels)}"
        if any(_failure(model, (channels, *[side] * 3)) is None for side in (32, 16, 64)):
            return f"volumes (image, {_counted(channels)}, z, y, x), which cannot be probed"
    for count in steps:
        if _failure(model, (16, count)) is None:
            return f"sequences (image, time, {count} numbers)"
    for count in rows:
        if _failure(model, (count,)) is None:
            return f"rows of {count} numbers, which cannot be probed"
    if _failure(model, (16,), torch.long) is None:
        return "whole numbers (tokens), which cannot be probed"
    return ""


def _needed(model: nn.Module) -> list[str]:
    """Return the inputs of a network that must be given, by name."""
    written = [vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind)]
    own = [function for function in written if getattr(function, "__module__", "") != as_it_was.__module__]
    try:
        given = [*inspect.signature(own[0]).parameters.values()][1:]
    except (TypeError, ValueError):
        return []
    return [one.name for one in given if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


class _Asked(dict):
    """A dictionary of images under every name; those that are requested are in it afterwards."""

    def __init__(self, image: torch.Tensor):
        super().__init__()
        self.image = image

    def __missing__(self, name: Any) -> torch.Tensor:
        self[name] = self.image
        return self.image


def _names(model: nn.Module, size: tuple[int, ...]) -> list[str]:
    """Return the names under which a network looks for its inputs in a dictionary; [] where it takes none."""
    weight = next(model.parameters(), torch.zeros(()))
    asked = _Asked(torch.zeros(1, *size, device=weight.device, dtype=weight.dtype))
    try:
        with torch.no_grad(), as_it_was(model):
            model(asked)
    except StoppedError:
        raise
    except (Exception, SystemExit):
        return []
    return list(map(repr, asked))


def _failure(model: nn.Module, size: tuple[int, ...], dtype: torch.dtype | None = None) -> Exception | None:
    """Return what one image of this size makes the network raise, or None."""
    weight = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), as_it_was(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is tried
            output = model(torch.zeros(1, *size, device=weight.device, dtype=dtype or weight.dtype))
    except Exception as error:  # a network may raise anything: shapes, assertions, its author's own
        return error
    except StoppedError:
        raise
    except SystemExit as end:
        return RuntimeError(f"it ends the program (sys.exit({end.code!r}))")
    if isinstance(output, torch.Tensor) and not output.numel():
        return ValueError(f"it returns nothing, a tensor of {'x'.join(map(str, output.shape))}")
    return None


def _sides_that_work(model: nn.Module, size: tuple[int, ...], known: tuple[int, ...]) -> tuple[int, bool] | None:
    """Return the least side that works and whether larger ones fail; None where none works."""
    axes = len(size) - 1

    def works(side: int) -> bool:
        return _failure(model, (size[0], *[side] * axes)) is None

    doublings = [min(size[1:]) * 2**power for power in range(1, 11)]
    trials = [*known[-1:], *(side for side in doublings if side <= LARGEST), *(USUAL if axes > 1 else SAMPLES)]
    good = next((side for side in trials if works(side)), None)
    if good is None:
        return None
    bad = 0
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if works(middle) else (good, middle)
    return good, not (works(good + 2) or works(2 * good))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
