"""Python files of the user's own: run by their path, with what lies beside them, and their errors as one line."""

import importlib.util
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnprobe.errors import UserError, path_of

_BESIDE: dict[str, set[str]] = {}
"""Modules imported from beside the files that were run, by option; another file may mean another one by that name."""


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
    module = importlib.util.module_from_spec(specification)
    known = _forgotten(path.parent, option)
    before = set(sys.modules) - known
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()
    try:
        specification.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(told(error, path)) from None
    finally:
        with suppress(ValueError):  # the file took it out itself
            sys.path.remove(str(path.parent))
        new = set(sys.modules) - before
        _BESIDE[option] = {name for name in new if _lies_in(sys.modules[name], path.parent)}
    return module


def _forgotten(folder: Path, option: str) -> set[str]:
    """Forget what other files have imported from beside them; return what still stands: of other options, from here."""
    known = set()
    for other, names in _BESIDE.items():
        for name in list(names):
            if other != option and name in sys.modules and _lies_in(sys.modules[name], folder):
                known.add(name)
                continue
            sys.modules.pop(name, None)
            names.discard(name)
    return known


def ran_from_beside(option: str) -> tuple[Path, ...]:
    """Return the files that the last one of an option was seen to import from its folder, or from below it."""
    modules = (sys.modules[name] for name in _BESIDE.get(option, ()) if name in sys.modules)
    return tuple(sorted({Path(str(module.__file__)).resolve() for module in modules}))


def _lies_in(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).resolve().is_relative_to(folder)


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
