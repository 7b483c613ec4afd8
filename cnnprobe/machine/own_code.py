"""Code of the user's own, seen as it is compiled: at the head of a file, or where a function first needs it.

Every module, also one of a file that the user's code names by its path, is asked of one of a few loaders of Python.
These tell here what they load for a file of the user's own, and compile it from what it holds now: bytecode that was
kept is taken for its own wherever second and size are equal. Whose it is, is seen from the functions that are running.
"""

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, wraps
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from zipimport import zipimporter

from cnnprobe.machine import files

ASKED: tuple[tuple[Any, str], ...] = (
    (SourceFileLoader, "get_code"),
    (SourcelessFileLoader, "get_code"),
    (ExtensionFileLoader, "create_module"),
    (zipimporter, "get_code"),
)
"""Loaders, and what is asked of them for every module."""
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages, by their names."""


@dataclass(frozen=True)
class Ran:
    """A file of no installed package, as it was run; what stands under its name may be changed at any time.

    Args:
        path: absolute, without links; of a module in an archive that of the archive.
        sha256: of what was compiled.
    """

    path: Path
    sha256: str


@dataclass
class _File:
    """The last file of an option.

    Args:
        module: that it is itself.
        folder: in which it lies.
        ran: what it was seen to run, itself too, by module.
        imported: those of them that stand for whoever imports them next.
    """

    module: str
    folder: Path
    ran: dict[str, Ran]
    imported: set[str]


_FILES: dict[str, _File] = {}
"""By option."""
_OPTIONS: dict[str, str] = {}
"""To which code belongs, by the name that its file has in running functions."""
_PACKAGES: dict[str, None] = {}
"""Installed ones that files of the user's own were the first to import."""
_RUNNING: list[str] = []
"""Options of files that are being run themselves."""


@contextmanager
def running(option: str, module: str, folder: Path, known: dict[str, Ran]) -> Iterator[None]:
    """Run the file of an option inside the block; what it imports belongs to it from then on, whenever it does.

    Args:
        option: that names the file, e.g. "model.file".
        module: that it is itself.
        folder: of the file.
        known: what it finds imported already, by module.
    """
    _watch()
    _FILES[option] = _File(module, folder, dict(known), set(known))
    _RUNNING.append(option)
    try:
        yield
    finally:
        _RUNNING.pop()


def ran(option: str) -> dict[str, Ran]:
    """Return the last file of an option, and those of no installed package that it has run so far, by module."""
    return dict(_FILES[option].ran) if option in _FILES else {}


def imported() -> dict[str, dict[str, Ran]]:
    """Return the modules that stand because the last file of an option has imported them, by option."""
    return {option: {name: one.ran[name] for name in sorted(one.imported)} for option, one in _FILES.items()}


def drop(option: str, names: Iterable[str]) -> None:
    """Take modules away that the last file of an option has imported; each is imported anew where it is needed next."""
    for name in names:
        _FILES[option].imported.discard(name)
        path, module = _FILES[option].ran[name].path, sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None or not Path(file).resolve().is_relative_to(path):
            continue  # a file that was run under the name of another module
        del sys.modules[name]
        package, _, last = name.rpartition(".")
        parent = sys.modules.get(package)
        if parent is not None and getattr(parent, last, None) is module:
            delattr(parent, last)  # or `from package import last` finds it there


def seen() -> tuple[dict[str, dict[str, Ran]], int]:
    """Return what files of the user's own have run so far, by option and module, and how many packages."""
    return {option: dict(one.ran) for option, one in _FILES.items()}, len(_PACKAGES)


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that files of the user's own were the first to import."""
    found = set(_PACKAGES) - set(sys.stdlib_module_names) - {__package__.partition(".")[0]}
    if not found:
        return {}
    from importlib import metadata  # takes a tenth of the time in which help is printed

    of = metadata.packages_distributions()
    return {name: metadata.version(name) for one in sorted(found) for name in of.get(one, ())}


def found(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the files of no installed package that an import of a module, or of something in it, runs now, by module.

    Args:
        name: in full.
        folder: of the file of the user's own.
    """
    whole, places = "", None
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        specification = _specification(whole, places)
        if specification is None:
            return
        if specification.has_location and specification.origin:
            path = _file_of(specification.loader, Path(specification.origin).resolve())
            if not path.is_file() or not _is_own(path, folder):
                return
            yield whole, path
        places = specification.submodule_search_locations
        if places is None:
            return


def _specification(name: str, places: Any) -> ModuleSpec | None:
    if not name or name in sys.builtin_module_names:
        return None
    with suppress(Exception):  # finders of others
        return getattr(sys.modules.get(name), "__spec__", None) or PathFinder.find_spec(name, places)
    return None


@cache
def _watch() -> None:
    """Have the loaders tell what they load."""
    for kind, method in ASKED:
        setattr(kind, method, _telling(kind, getattr(kind, method)))


def _telling(kind: Any, ordinary: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return what is asked of a loader, which tells of files of the user's own."""

    @wraps(ordinary)
    def telling(self: Any, asked: Any) -> Any:
        option = _whose(sys._getframe(1))
        if not option:
            return ordinary(self, asked)
        name = asked if isinstance(asked, str) else asked.name
        path = _file_of(self, Path(self.archive if kind is zipimporter else self.path).resolve())
        if not _is_own(path, _FILES[option].folder):
            _PACKAGES[name.partition(".")[0]] = None
            return ordinary(self, asked)
        if kind is SourceFileLoader:
            data = self.get_data(self.path)
            made, sha256 = self.source_to_code(data, self.path), hashlib.sha256(data).hexdigest()
        else:
            made, sha256 = ordinary(self, asked), files.sha256(path)
        if isinstance(made, CodeType):
            _OPTIONS[made.co_filename] = option
        _note(option, name, Ran(path, sha256))
        return made

    return telling


def _file_of(loader: Any, path: Path) -> Path:
    """Return the file in which the code lies that a loader loads: that of an archive, or the path itself."""
    return Path(loader.archive).resolve() if isinstance(loader, zipimporter) else path


def _note(option: str, name: str, seen: Ran) -> None:
    file, own, number = _FILES[option], name, 2
    while name in file.ran and file.ran[name].path != seen.path:  # another file that was run by that name
        name, number = f"{own} {number}", number + 1
    file.ran[name] = seen
    if own != file.module:
        file.imported.add(name)


def _whose(frame: FrameType | None) -> str:
    """Return the option of the file whose function is running, "" for none."""
    while frame is not None:
        if option := _OPTIONS.get(frame.f_code.co_filename):
            return option
        frame = frame.f_back
    return _RUNNING[-1] if _RUNNING else ""


def _is_own(path: Path, folder: Path) -> bool:
    """Tell whether a file belongs to no installed package, given the folder of the file that imports it."""
    below = path.is_relative_to(folder)  # a home folder may hold a whole installation
    if INSTALLED & set(path.relative_to(folder).parts if below else path.parts):
        return False
    places = [place for place in _installed() if not below or (place != folder and place.is_relative_to(folder))]
    return not any(path.is_relative_to(place) for place in places)


@cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of Python's own library, of installed packages, and of this one."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*(Path(place).resolve() for place in places if place), Path(__file__).resolve().parents[1])
