"""A network of the user's own, out of a Python file that is run."""

import importlib.util
import inspect
import sys
import traceback
from contextlib import chdir, suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError, path_of, unknown
from cnnprobe.models.inputs import Input
from cnnprobe.options import Range


def needs(
    *, file: str, function: str, input_size: Annotated[int, Range(1)], channels: Annotated[int, Range(1, 4096)]
) -> Input:
    """Say which images the network was made for, as the options say."""
    return Input(channels=channels, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    file: str,
    function: str,
    input_size: Annotated[int, Range(1)],
    channels: Annotated[int, Range(1, 4096)],
) -> nn.Module:
    """Run the file, call its function, and return the network in eval() mode.

    The function is called with `num_classes` if it takes that and a number is known, else with nothing.

    Raises:
        UserError: no such file or function, the file fails (with its line), or what is returned is no network.
    """
    path = path_of(file).resolve()
    if not path.is_file():
        raise UserError(
            f"model.file: {file} is not a file" if path.exists() else f"model.file: there is no file {file}"
        )
    with chdir(Path.cwd()):  # wherever the file goes, the paths of the command line mean what they meant
        return _made(path, function, num_classes)


def _made(path: Path, function: str, num_classes: int | None) -> nn.Module:
    """Run the file, call its function and look at what that returned; see `build`."""
    module = _run(path)
    maker = getattr(module, function, None)
    if not callable(maker):
        own = [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        raise unknown("function", function, own, of=path.name)
    given = {"num_classes": num_classes} if num_classes is not None and _takes(maker, "num_classes") else {}
    try:
        model = maker(**given)
        if not isinstance(model, nn.Module):
            raise UserError(f"{path.name}: {function} returned a {type(model).__name__}, a torch.nn.Module is needed")
        model.eval()  # what this returns is not looked at: it may be a method of the user's
        state = dict(model.state_dict())
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(_told(error, path)) from None
    for name, value in state.items():
        if (problem := _problem(value)) is not None:
            raise UserError(f"{path.name}: {function} returned a network whose {name} {problem}")
    return model


def _problem(value: Any) -> str | None:
    """Say why an entry of a state dict is nothing to measure with, None where it is."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}; a quantised network cannot be probed, the one it was made from can"
    if value.is_meta:
        return "has no values (it is on the device meta)"
    if value.dtype != torch.float32 and (value.is_floating_point() or value.is_complex()):
        return f"is of type {str(value.dtype).removeprefix('torch.')}; return the network.float()"
    return None


def _run(path: Path) -> ModuleType:
    """Import a file by its path; files beside it can be imported by it."""
    specification = importlib.util.spec_from_file_location(f"cnnprobe_custom_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise UserError(f"model.file: {path.name} is not a Python file (.py)")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(_told(error, path)) from None
    finally:
        with suppress(ValueError):  # the file took it out itself
            sys.path.remove(str(path.parent))
    return module


def _takes(function: Any, name: str) -> bool:
    """Tell whether a function has a parameter of this name, or takes any."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _told(error: BaseException, path: Path) -> str:
    """Return one line: the user's file, the line in it, what was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path]
    line = error.lineno if isinstance(error, SyntaxError) else (own[-1] if own else None)
    try:
        words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    except Exception:  # its own __str__
        words = "its message cannot be read"
    return f"{path.name}{f':{line}' if line else ''}: {type(error).__name__}: {words[:200]}"
