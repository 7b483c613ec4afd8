"""What images a network takes, and whether it takes those of a dataset."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.models.foreign import as_it_was
from cnnprobe.protocol import about

LARGEST = 1024  # px; a network that takes no image up to this side takes none


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
    model: nn.Module, name: str, size: tuple[int, ...], is_short: Callable[[Exception], bool] = lambda _: False
) -> None:
    """Try the network on one black image, so that a misfit ends the run before the first batch.

    Args:
        model: in eval() mode.
        name: of the model, for the message.
        size: (channel, y, x) or (channel, time) of the dataset's images.
        is_short: says of an error that memory did not suffice; then it is no misfit.

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
    for channels in known[:1] or (3, 1):
        if channels != size[0] and _failure(model, (channels, *(known[1:] or size[1:]))) is None:
            raise UserError(f"{name} takes images of {channels} channels, dataset gives {size[0]}")
    works = _sides_that_work(model, size, known)
    shown = "x".join(str(side) for side in dict.fromkeys(size[1:]))
    if works is None:
        raise UserError(f"{name} takes no image of {shown} px: {_one_line(error)}")
    least, exactly = works
    needs = f"images of {least} px and no others" if exactly else f"images of at least {least} px"
    raise UserError(f"{name} needs {needs}, dataset gives {shown}")


def _failure(model: nn.Module, size: tuple[int, ...]) -> Exception | None:
    """Return what one image of this size makes the network raise, or None."""
    weight = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), as_it_was(model):
            output = model(torch.zeros(1, *size, device=weight.device, dtype=weight.dtype))
    except Exception as error:  # a network may raise anything: shapes, assertions, its author's own
        return error
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
    trials = [*known[-1:], *(side for side in doublings if side <= LARGEST)]
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
