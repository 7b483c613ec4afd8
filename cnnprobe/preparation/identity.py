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
from cnnprobe.machine import files, python_files
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
    found = dict(_named(config))
    file = config["model"].get("file")
    if file:
        found |= code_of(path_of(file), made.code, CODE)
    if config["method"].get("name") in catalogue.OWN:
        found |= code_of(path_of(config["method"]["file"]), python_files.ran(own_experiment.OPTION), EXPERIMENT)
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
                paths = below(folder, config["out"] if own else None) if folder else files_of(word)
                if len(paths) == 1:
                    yield f"{group}.{key} {word}", files.sha256(paths[0])
                elif paths:
                    places = (path.relative_to(folder or path.parent) for path in paths)
                    several = "".join(f"{place} {files.sha256(path)} " for place, path in zip(places, paths))
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


def below(folder: Path, out: str | None) -> list[Path]:
    """Return the files in a folder, sorted.

    Args:
        folder: of a table, masks, volumes.
        out: folder of all runs: those in folders below count as well, but for what lies there; None: they do not.
    """
    found = []
    for place, folders, names in os.walk(folder):
        if out is not None and Path(place).absolute() == Path(out).absolute():
            folders.clear()
            continue
        paths = [Path(place, name) for name in names]
        found += [path for path in paths if path.is_file() and os.access(path, os.R_OK)]
        if out is None:
            break
    return sorted(found)


def file_of(word: str) -> Path | None:
    """Return the file that a text names, FILE or FILE:part; None where it names none."""
    words = filter(None, (word, word.rpartition(":")[0]))
    try:
        return next((path for path in map(path_of, words) if path.is_file()), None)
    except (OSError, ValueError, UserError):
        return None


def code_of(file: Path, ran: dict[str, python_files.Ran], part: str) -> dict[str, str]:
    """Return the digests of a Python file of the user's own and of what it imports, of no installed package.

    Args:
        file: of a network or an experiment.
        ran: files that were seen to run, by module.
        part: `CODE` or `EXPERIMENT`.
    """
    folder, paths = file.resolve().parent, {name: one.path for name, one in ran.items()}
    found = {f"{part} {name}": path for name, path in imported(file, paths.values()).items()}
    found |= {f"{OUTSIDE[part]} {name}": path for name, path in paths.items() if not path.is_relative_to(folder)}
    compiled = {one.path: one.sha256 for one in ran.values()}
    return {name: compiled.get(path.resolve()) or files.sha256(path) for name, path in found.items()}


def imported(file: Path, ran: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the Python files that one runs from its folder, itself first, by their path below it.

    They are found in the text of the files, wherever an import stands in it.

    Args:
        file: of a network.
        ran: those that were seen to run when it was built, wherever below the folder.
    """
    folder = file.resolve().parent
    found, waiting = {}, [*(path for path in ran if path.is_relative_to(folder)), file.resolve()]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name not in found:
            found[name] = path
            waiting += [one for word in _imports(path, folder) for one in _modules(folder, word)]
    first = file.resolve().relative_to(folder).as_posix()
    return {first: found.pop(first), **dict(sorted(found.items()))}


def _imports(path: Path, folder: Path) -> Iterator[str]:
    """Give the full names of all modules that a file may import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    package = path.relative_to(folder).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}".strip(".") for name in node.names)


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Give the files below a folder that are run where a module, or something in it, is imported by its full name."""
    place = folder
    for part in name.split("."):
        place = place / part
        for path in (place / "__init__.py", place.with_name(f"{part}.py")):
            if path.is_file():
                yield path.resolve() if path.resolve().is_relative_to(folder) else path
