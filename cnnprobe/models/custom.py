"""A network of the user's own, out of a Python file that is run."""

import inspect
from contextlib import chdir
from pathlib import Path
from typing import Annotated, Any

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError, unknown
from cnnprobe.machine import precision, python_files
from cnnprobe.machine.signals import StoppedError
from cnnprobe.models.foreign import network as foreign
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.weights import extra_state

SIDE, CHANNELS = 224, 3
"""Of the images, where neither options nor weights say."""
OPTION = "model.file"
EXPORTS = (".pt", ".pth", ".pt2", ".safetensors", ".ts", ".onnx", ".ckpt")
"""Endings of files of weights and exported networks."""

Numbers = float | list[float] | None


def needs(
    *,
    file: str,
    function: str,
    input_size: Annotated[int, Range(1)] | None,
    channels: Annotated[int, Range(1, 4096)] | None,
    mean: float | list[float] | None,
    std: float | list[float] | None,
) -> Input:
    """Say which images the network was made for, as the options say: RGB of 224 px where they say nothing."""
    side = input_size or SIDE
    return Input(channels=channels or CHANNELS, size=side, resize=side)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    file: str,
    function: str,
    input_size: Annotated[int, Range(1)] | None,
    channels: Annotated[int, Range(1, 4096)] | None,
    mean: float | list[float] | None,
    std: float | list[float] | None,
) -> nn.Module:
    """Run the file, call its function, and return the network in eval() mode.

    The function is called with `num_classes` if it takes that and a number is known, else with nothing. Images are
    brought to (x - mean) / std before they enter the network.

    Raises:
        UserError: no such file or function, the file fails (with its line), or what is returned cannot be measured.
    """
    normalisation = _normalisation(channels or CHANNELS, mean, std)
    path = python_files.found(file, OPTION)
    # wherever the file goes, and whatever it sets, the command line means what it meant
    with chdir(Path.cwd()), foreign.as_written(), precision.put_back():
        model = _made(path, function, num_classes)
    return foreign.adopt(model, *normalisation)


def _normalisation(channels: int, mean: Numbers, std: Numbers) -> tuple[list[float] | None, list[float] | None]:
    """Return mean and deviation as lists, None where they are not given.

    Raises:
        UserError: there is not one value for all or for each channel, or a deviation of 0.
    """
    lists = [values if isinstance(values, list) or values is None else [values] for values in (mean, std)]
    for name, values in zip(("mean", "std"), lists):
        if values is not None and len(values) not in (1, channels):
            raise UserError(f"model.{name} has {len(values)} values for images of {channels} channels")
    if lists[1] is not None and min(lists[1]) <= 0:
        raise UserError(f"model.std must be above 0, got {min(lists[1]):g}")
    return lists[0], lists[1]


def _made(path: Path, function: str, num_classes: int | None) -> nn.Module:
    """Run the file, call its function and look at what that returned; see `build`."""
    weights = " that builds the network; weights= takes a state dict (TorchScript and exports are none)"
    module = python_files.run(path, OPTION, weights if path.suffix in EXPORTS else "")
    maker = getattr(module, function, None)
    if not callable(maker):
        own = [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        raise unknown("function", function, own, of=path.name)
    given = {"num_classes": num_classes} if num_classes is not None and _takes(maker, "num_classes") else {}
    of = f"{path.name}: {function} returned"
    try:
        model = foreign.plain(maker(**given), of)
        model.eval()  # what this returns is not looked at: it may be a method of the user's
        extra_state.store(model)
        problem = foreign.problem(model)
    except (UserError, KeyboardInterrupt, StoppedError):
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(python_files.told(error, path)) from None
    if problem is not None:
        raise UserError(f"{of} a network whose {problem}")
    return model.to("cpu")  # wherever the file put it, or parts of it; it goes where `device=` says


def _takes(function: Any, name: str) -> bool:
    """Tell whether a function has a parameter of this name, or takes any."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
