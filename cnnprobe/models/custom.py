"""A network of the user's own, out of a Python file that is run."""

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from torch import nn

from cnnprobe.errors import UserError, unknown
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
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"model.file: there is no file {file}")
    module = _run(path)
    maker = getattr(module, function, None)
    if not callable(maker):
        own = [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        raise unknown("function", function, own, of=path.name)
    given = {"num_classes": num_classes} if num_classes is not None and _takes(maker, "num_classes") else {}
    try:
        model = maker(**given)
    except Exception as error:  # the user's code may raise anything
        raise UserError(_told(error, path)) from None
    if not isinstance(model, nn.Module):
        raise UserError(f"{path.name}: {function} returned a {type(model).__name__}, a torch.nn.Module is needed")
    return model.eval()


def _run(path: Path) -> ModuleType:
    """Import a file by its path; files beside it can be imported by it."""
    specification = importlib.util.spec_from_file_location(f"cnnprobe_custom_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise UserError(f"model.file: {path.name} is not a Python file (.py)")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UserError(_told(error, path)) from None
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _takes(function: Any, name: str) -> bool:
    """Tell whether a function has a parameter of this name, or takes any."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _told(error: Exception, path: Path) -> str:
    """Return one line: the user's file, the line in it, what was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else (own[-1] if own else None)
    words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{path.name}{f':{line}' if line else ''}: {type(error).__name__}: {words[:200]}"
