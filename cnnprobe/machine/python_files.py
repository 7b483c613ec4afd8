"""Python files of the user's own: run by their path, with what lies beside them, and their errors as one line."""

import hashlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from cnnprobe.errors import UserError, path_of
from cnnprobe.machine import files
from cnnprobe.machine.signals import StoppedError

_OWN: dict[str, set[str]] = {}
"""Modules of no installed package that files of an option imported; another file may mean other ones by that name."""
_RAN: dict[str, dict[str, "Ran"]] = {}
"""The files that the last one of an option ran, by module, see `ran`."""
_PACKAGES: set[str] = set()
"""Installed packages that they were the first to import, as they are imported."""


@dataclass(frozen=True)
class Ran:
    """A file of no installed package, as it was run; what stands under its name may be changed at any time.

    Args:
        path: absolute, without links.
        sha256: of what was compiled.
    """

    path: Path
    sha256: str


class _AsItIs(SourceFileLoader):
    """Compiles a file as it is now: bytecode that was kept is taken for its own wherever second and size are equal."""

    sha256 = ""
    """Of what was compiled."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        return self.source_to_code(data, path)


LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (_AsItIs, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)
"""Of files beside one that is run, by their endings, in the order in which they are looked for."""


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
    loader = _AsItIs(name, str(path)) if path.suffix in SOURCE_SUFFIXES else None
    specification = importlib.util.spec_from_file_location(name, path, loader=loader)
    if specification is None or specification.loader is None:
        raise UserError(f"{option}: {path.name} is not a Python file (.py){hint}")
    module = importlib.util.module_from_spec(specification)
    with _importing_from(path.parent):
        known = _forgotten(path.parent, option)
    before = set(sys.modules) - known
    sys.modules[module.__name__] = module
    try:
        with _importing_from(path.parent):
            specification.loader.exec_module(module)
    except (KeyboardInterrupt, StoppedError):
        raise
    except BaseException as error:  # the user's code may raise anything, and leave by sys.exit
        raise UserError(told(error, path)) from None
    finally:
        new = set(sys.modules) - before - {module.__name__}
        _OWN[option] = {name for name in new if _is_own(sys.modules[name], path.parent)}
        _PACKAGES.update(name.partition(".")[0] for name in new - _OWN[option])
    _RAN[option] = {one: _as_run(sys.modules[one]) for one in sorted(_OWN[option])} | {name: _as_run(module)}
    return module


def _as_run(module: ModuleType) -> Ran:
    path, loader = Path(str(module.__file__)).resolve(), module.__spec__ and module.__spec__.loader
    return Ran(path, loader.sha256 if isinstance(loader, _AsItIs) else files.sha256(path))


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let files of a folder be imported inside the block, as they are."""
    installed = [Path(entry).resolve() for entry in sys.path if entry]
    installed = [entry for entry in installed if entry != folder and entry.is_relative_to(folder)]

    def finder(entry: str) -> FileFinder:
        place = Path(entry).resolve()
        if not place.is_relative_to(folder) or any(place.is_relative_to(other) for other in installed):
            raise ImportError("not beside the file", path=entry)
        return FileFinder(entry, *LOADERS)

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.pop(str(folder), None)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the file took it out itself
            sys.path.remove(str(folder))
        with suppress(ValueError):
            sys.path_hooks.remove(finder)


def _forgotten(folder: Path, option: str) -> set[str]:
    """Forget what other files have imported from beside them; return what still stands: of other options, from here."""
    known = set()
    for other, names in _OWN.items():
        for name in list(names):
            if other != option and _is_found_from_here(name, folder):
                known.add(name)
                continue
            sys.modules.pop(name, None)
            names.discard(name)
    return known


def forget(option: str) -> None:
    """Forget what the last file of an option has imported: nothing takes that for what it would import itself."""
    for name in _OWN.pop(option, ()):
        sys.modules.pop(name, None)


def _is_found_from_here(name: str, folder: Path) -> bool:
    """Tell whether a module of that name is the one that an import would find now, which looks in a folder first."""
    first, file = name.partition(".")[0], getattr(sys.modules.get(name), "__file__", None)
    top = getattr(sys.modules.get(first), "__file__", None)
    if file is None or top is None:  # a package without __init__.py has no file
        return file is not None and Path(file).resolve().is_relative_to(folder)
    found = PathFinder.find_spec(first)
    return found is not None and found.origin is not None and Path(found.origin).resolve() == Path(top).resolve()


def ran(option: str) -> dict[str, Ran]:
    """Return the last file of an option, and those of no installed package that it was seen to import, by module."""
    return _RAN.get(option, {})


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that files of the user's own were the first to import."""
    found = _PACKAGES - set(sys.stdlib_module_names) - {__package__.partition(".")[0]}
    if not found:
        return {}
    from importlib import metadata  # takes a tenth of the time in which help is printed

    of = metadata.packages_distributions()
    return {name: metadata.version(name) for one in sorted(found) for name in of.get(one, ())}


def _is_own(module: Any, folder: Path) -> bool:
    """Tell whether a module belongs to no installed package, given the folder of the file that imports it."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    path = Path(file).resolve()
    below = path.is_relative_to(folder)  # a home folder may hold a whole installation
    places = [place for place in _installed() if not below or (place != folder and place.is_relative_to(folder))]
    return not any(path.is_relative_to(place) for place in places)


@cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of Python's own library, of installed packages, and of this one."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    return (*(Path(place).resolve() for place in places if place), Path(__file__).resolve().parents[1])


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
