"""Digests of what the results of a run depend on: written when it begins, compared whenever rows would be mixed.

Beside the weights, the images and their size, which a store names in attributes of their own: the labels, classes and
objects, every file and folder that the configuration names (tables, masks, references, volumes), the code of a network
or an experiment of one's own with what it imports of no installed package, the network's buffers that are not among the
weights, the weights of every moment and of a second network, and the runs it is built from, found by what they hold and
not by where they lie.
"""

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.config import catalogue, own_experiment
from cnnprobe.errors import UserError, path_of
from cnnprobe.machine import files, own_code
from cnnprobe.store.reader import Recording

ATTRIBUTE = "identity"
"""Of the root of a store: JSON, digests by part."""
CODE, BUFFER, LABELS, OBJECTS, MOMENT, RUN = "code", "buffer", "labels", "objects", "moment", "run"
EXPERIMENT = "experiment"
"""How the parts are called, what stands behind is which one: "code helpers.py"; "method.reference brain.h5"."""
OUTSIDE = {CODE: "module", EXPERIMENT: "method's module"}
"""The same of what they import from other folders, of no installed package."""
IN_FULL = CODE, EXPERIMENT, OBJECTS, MOMENT, f"held-out {LABELS}"
"""Parts of which a run that has an identity lists every one: what it does not list was not there when it began."""
FOLDERS = ("searchlight",)
"""Options of ours that may name a folder of files; of an experiment of the user's own every text may."""
PAIRS = {".hdr": (".img", ".img.gz"), ".img": (".hdr",), ".img.gz": (".hdr", ".hdr.gz"), ".hdr.gz": (".img.gz",)}
"""Endings of files that are read together with one."""
APART = ("model.file", "method.file", "dataset.root", "method.source")
"""Options whose files are not read as they stand here: code, images and runs have digests of their own."""
RUNS = ("method.brain", "method.old_task")
"""Options of commands of ours that name runs as well."""


def identity_of(config: dict[str, Any], made: Any, read: dict[str, Path]) -> dict[str, str]:
    """Return the digests of everything a run depends on beside its weights, images and options.

    Args:
        config: checked.
        made: the `Preparation`.
        read: the folders of the runs, and files, it is built from, by option.
    """
    found = dict(_named(config)) | code_so_far(config)
    found |= {f"{BUFFER} {name}": digest for name, digest in made.buffers.items()}
    found[LABELS] = labels_of(made.dataset)
    if made.held_out is not None:
        found[f"held-out {LABELS}"] = labels_of(made.held_out)
    if (objects := made.dataset.objects_digest()) is not None:
        found[OBJECTS] = objects
    found |= {f"{MOMENT} {label}": digest for label, digest in made.sums.items()}
    for option, images in made.beside.items():
        found |= {f"{option} images": images.fingerprint, f"{option} {LABELS}": labels_of(images)}
    for option, path in read.items():
        found |= {f"{RUN} {option}": run_digest(path)} if path.is_dir() else {option: files.sha256(path)}
    return found


def own_files(config: dict[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Give the Python files of the user's own that a run runs: with the option that names it, and its part."""
    if config["model"].get("file"):
        yield path_of(config["model"]["file"]), "model.file", CODE
    if config["method"].get("name") in catalogue.OWN:
        yield path_of(config["method"]["file"]), own_experiment.OPTION, EXPERIMENT


def code_so_far(config: dict[str, Any]) -> dict[str, str]:
    """Return the digests of the code of the user's own, with all that was seen to run by now."""
    return {name: digest for one in own_files(config) for name, digest in code_of(*one).items()}


def ran_so_far(config: dict[str, Any]) -> dict[str, str]:
    """Return the digests of the code of the user's own that was seen to run by now, and of no other."""
    found: dict[str, str] = {}
    for file, option, part in own_files(config):
        found |= _as_run(file, part, own_code.ran(option))
    return found


def of_store(recording: Recording) -> dict[str, str]:
    """Return what a store says of its identity, {} where it was written before there was such a thing."""
    try:
        found = json.loads(str(recording.attributes.get(ATTRIBUTE, "{}")))
    except (ValueError, RecursionError):
        return {}
    plain = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if plain else {}


def differences(before: dict[str, str], now: dict[str, str], about: Callable[[str], bool] = bool) -> list[str]:
    """Name the parts that are other ones now: "code helpers.py changed".

    A part that stands in `now` alone is new if `before` lists all of its kind, else it was not known then, and is not
    compared.

    Args:
        before, now: of two runs, or of a run and what would go on with it.
        about: says of a part whether it counts.
    """
    found = [
        f"{part} changed" if part in now else f"{part} is gone"
        for part, digest in before.items()
        if about(part) and now.get(part) != digest
    ]
    listed = IN_FULL + ((BUFFER,) if any(part.startswith(BUFFER) for part in before) else ())
    new = (part for part in now if before and part not in before and part.startswith(listed))
    return found + [f"{part} is new" for part in new if about(part)]


def is_of_the_network(part: str) -> bool:
    """Tell whether a part says what the network computes, so that nothing is built on a run in which it differs."""
    return part.startswith((CODE, OUTSIDE[CODE], BUFFER, "model."))


def is_code(part: str) -> bool:
    """Tell whether a part is code of the user's own."""
    return part.startswith((CODE, EXPERIMENT, *OUTSIDE.values()))


def labels_of(dataset: Any) -> str:
    """Return the digest of the labels and names of classes of an image set, and of what else a network is to answer."""
    digest = hashlib.sha256(np.ascontiguousarray(dataset.labels, "<i8").tobytes())
    digest.update(json.dumps([str(name) for name in dataset.classes]).encode("utf-8", "surrogatepass"))
    if (target := dataset.target).kind != "class":
        asked = [target.kind, target.names, dataset.targets_digest()]
        digest.update(json.dumps(asked).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def run_digest(folder: Path) -> str:
    """Return what tells a run from another one, wherever it lies: the checksums of all there is in its store.

    Raises:
        UserError: the store cannot be read.
    """
    recording = Recording(folder / "store.h5")
    digest = hashlib.sha256()
    for name in sorted(recording):
        table = recording[name]
        digest.update(f"{name} {table.attributes.get('checksum')} ".encode())
        if table.done is not None:
            digest.update(table.done.tobytes() + np.ascontiguousarray(table.sums).tobytes())
    digest.update(str(recording.attributes.get("checksum")).encode())
    return digest.hexdigest()


def found_again(digest: str, places: Iterable[str], commands: Iterable[str]) -> Path | None:
    """Return the run with a digest among those of some commands below some folders, None where there is none."""
    for place in dict.fromkeys(places):
        for command in commands:
            for store in sorted(Path(place).glob(f"{command}/*/*/store.h5")):
                try:
                    if not store.parent.is_symlink() and run_digest(store.parent) == digest:
                        return store.parent
                except UserError:
                    continue
    return None


def _named(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the digests of the files that a configuration names, by option."""
    own = config["method"].get("name") in catalogue.OWN
    apart = APART if own else (*APART, *RUNS)
    for group in ("model", "dataset", "method"):
        for key, value in config[group].items():
            if key == "name" or f"{group}.{key}" in apart:
                continue
            for word in _texts(value):
                folder = _folder_of(word) if key in FOLDERS or (own and group == "method") else None
                if folder is None:
                    sums = {path.name: files.sha256(path) for path in files_of(word)}
                else:
                    sums = below(folder, config["out"] if own else None)
                if len(sums) == 1:
                    yield f"{group}.{key} {word}", next(iter(sums.values()))
                elif sums:
                    several = "".join(f"{place} {digest} " for place, digest in sums.items())
                    yield f"{group}.{key} {word}", hashlib.sha256(several.encode("utf-8", "surrogatepass")).hexdigest()


def _texts(value: Any) -> Iterator[str]:
    """Give the texts of a value, those in lists as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def files_of(word: str) -> list[Path]:
    """Return the files that are read where a text names one: itself and its other half."""
    path = file_of(word)
    if path is None:
        return []
    halves = [ending for ending in PAIRS if path.name.lower().endswith(ending)]
    stem = path.name[: -len(halves[-1])] if halves else ""
    others = (path.with_name(stem + ending) for ending in PAIRS[halves[-1]]) if halves else ()
    return [path, *(other for other in others if other.is_file())]


def _folder_of(word: str) -> Path | None:
    """Return the folder that a text names; None where it names none, or is but a sign: "/", "."."""
    try:
        path = path_of(word) if re.search(r"\w", word) else None
        return path if path is not None and path.is_dir() else None
    except (OSError, ValueError, UserError):
        return None


def below(folder: Path, out: str | None) -> dict[str, str]:
    """Return the digests of the files in a folder, by their paths in it, sorted.

    A folder that was looked into under another path, to which a link leads, counts by that path. A link to a folder
    that it lies in leads in a circle, and is not followed.

    Args:
        folder: of a table, masks, volumes.
        out: folder of all runs: those in folders below count as well, also behind links, but for what lies there; None:
            they do not.
    """
    found: dict[Path, str] = {}
    looked: dict[Path, Path] = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        here, path = Path(place).resolve(), Path(place).relative_to(folder)
        circle = path.parts and Path(place).is_symlink() and Path(place).parent.resolve().is_relative_to(here)
        known = here in looked
        if out is not None and (here == Path(out).resolve() or circle or known):
            folders.clear()
            found |= {path: str(looked[here])} if known and not circle else {}
            continue
        looked[here] = path
        paths = [Path(place, name) for name in names]
        found |= {path / one.name: files.sha256(one) for one in paths if one.is_file() and os.access(one, os.R_OK)}
        if out is None:
            break
    return {str(path): digest for path, digest in sorted(found.items())}


def file_of(word: str) -> Path | None:
    """Return the file that a text names, FILE or FILE:part; None where it names none."""
    words = filter(None, (word, word.rpartition(":")[0]))
    try:
        return next((path for path in map(path_of, words) if path.is_file()), None)
    except (OSError, ValueError, UserError):
        return None


def code_of(file: Path, option: str, part: str) -> dict[str, str]:
    """Return the digests of a Python file of the user's own and of what it imports, of no installed package.

    Args:
        file: of a network or an experiment.
        option: that names it.
        part: `CODE` or `EXPERIMENT`.
    """
    ran = own_code.ran(option)
    compiled = {one.path: one.sha256 for one in ran.values()}
    found = {}
    for path, name in imported(file, {name: one.path for name, one in ran.items()}).items():
        found[_called(path, file, name, part)] = compiled.get(path.resolve()) or files.sha256(path)
    return dict(sorted((_as_run(file, part, ran) | found).items()))


def _as_run(file: Path, part: str, ran: dict[str, own_code.Ran]) -> dict[str, str]:
    return {_called(one.path, file, name, part): one.sha256 for name, one in ran.items()}


def _called(path: Path, file: Path, name: str, part: str) -> str:
    """Return how a file is called in an identity: by its path below the folder of the first one, or by its module."""
    folder = file.resolve().parent
    below = path.is_relative_to(folder)
    return f"{part} {path.relative_to(folder).as_posix()}" if below else f"{OUTSIDE[part]} {name}"


def imported(file: Path, ran: dict[str, Path] | None = None) -> dict[Path, str]:
    """Return the Python files of no installed package that one runs, itself too, and which module each is.

    They are found in the text of the files, wherever an import stands in it: in a function as well, which may be called
    when the run is under way.

    Args:
        file: of a network or an experiment.
        ran: those that were seen to run, by module, wherever they lie.
    """
    file = file.resolve()
    folder = file.parent
    found: dict[Path, str] = {}
    waiting = [*(ran or {}).items(), (file.stem, file)]
    while waiting:
        name, path = waiting.pop()
        if path not in found:
            found[path] = name
            for word in _imports(path, _package(name, path, folder)):
                waiting += [(word, one) for one in _modules(folder, word)]
                waiting += own_code.found(word, folder)
    return found


def _package(name: str, path: Path, folder: Path) -> tuple[str, ...]:
    """Return the package, in parts, from which a module imports what lies beside it."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).parent.parts
    parts = tuple(name.split("."))
    return parts if path.stem == "__init__" else parts[:-1]


def _imports(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Give the full names of all modules that a file may import, and of what it takes out of them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}".strip(".") for name in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0].value
            if called in ("import_module", "__import__") and isinstance(name, str):
                level = len(name) - len(name.lstrip("."))
                base = package[: len(package) - level + 1] if level else ()
                yield ".".join([*base, name[level:]]).strip(".")


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Give the files below a folder that are run where a module, or something in it, is imported by its full name."""
    place = folder
    for part in name.split("."):
        place = place / part
        for path in (place / "__init__.py", place.with_name(f"{part}.py")):
            if path.is_file():
                yield path.resolve() if path.resolve().is_relative_to(folder) else path
