"""Python files of the user's own: run by their path, with what lies beside them, and their errors as one line."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from cnnprobe.errors import UserError, path_of
from cnnprobe.machine import own_code
from cnnprobe.machine.signals import StoppedError


def found(file: str, option: str) -> Path:
    """Return the path of a file that an option names.

    Raises:
        UserError: there is none.
    """
    path = path_of(file).resolve()
    if not path.is_file():
        told = f"{file} is not a file" if path.exists() else f"there is no file {file}"
        raise UserError(f"{option}: {told}")
    return path


def run(path: Path, option: str, hint: str = "") -> ModuleType:
    """Import a file by its path; files beside it can be imported by it.

    Args:
        path: absolute.
        option: that names it, e.g. "model.file".
        hint: what else may have been meant, for a file that is no Python.

    Raises:
        UserError: it is no Python file, or it fails (with its line).
    """
    name = f"cnnprobe_{option.partition('.')[0]}_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise UserError(f"{option}: {path.name} is not a Python file (.py){hint}")
    with _importing_from(path.parent):
        known = _forgotten(path.parent, option)
    try:
        with _importing_from(path.parent), own_code.running(option, name, path.parent, known):
            module = importlib.util.module_from_spec(specification)
            sys.modules[module.__name__] = module
            specification.loader.exec_module(module)
    except (KeyboardInterrupt, StoppedError):
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(told(error, path)) from None
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let files of a folder be imported inside the block."""
    sys.path_importer_cache.pop(str(folder), None)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the file took it out itself
            sys.path.remove(str(folder))


def _forgotten(folder: Path, option: str) -> dict[str, own_code.Ran]:
    """Forget what other files have imported; return what still stands: of other options, found from here too."""
    known: dict[str, own_code.Ran] = {}
    for other, modules in own_code.imported().items():
        stay = {name: one for name, one in modules.items() if other != option and _is_found_from_here(name, folder)}
        known |= stay
        own_code.drop(other, modules.keys() - stay.keys())
    return known


def forget(option: str) -> None:
    """Forget what the last file of an option has imported: nothing takes that for what it would import itself."""
    own_code.drop(option, own_code.imported().get(option, ()))


def _is_found_from_here(name: str, folder: Path) -> bool:
    """Tell whether a module of that name is the one that an import would find now, which looks in a folder first."""
    first, file = name.partition(".")[0], getattr(sys.modules.get(name), "__file__", None)
    top = getattr(sys.modules.get(first), "__file__", None)
    if file is None or top is None:  # a package without __init__.py has no file
        return file is not None and Path(file).resolve().is_relative_to(folder)
    found = PathFinder.find_spec(first)
    return found is not None and found.origin is not None and Path(found.origin).resolve() == Path(top).resolve()


def told(error: BaseException, path: Path) -> str:
    """Return one line: the user's file, the line in it, what was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path]
    line = error.lineno if isinstance(error, SyntaxError) else (own[-1] if own else None)
    try:
        words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    except Exception:  # its own __str__
        words = "its message cannot be read"
    return f"{path.name}{f':{line}' if line else ''}: {type(error).__name__}: {words[:200]}"
