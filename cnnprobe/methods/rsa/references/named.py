"""References of `reference=`: matrices in HDF5, MATLAB and NumPy files, tables of features, runs of rsa, and labels."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing, nearest, one_line, path_of, several, unknown
from cnnprobe.instruments.statistics.dissimilarity import upper
from cnnprobe.methods.rsa.analysis import LayerColumn
from cnnprobe.methods.rsa.references import files, tables
from cnnprobe.methods.rsa.references.conditions import ConditionColumn, conditions_of
from cnnprobe.methods.rsa.references.given import PIXELS, Reference, categorical
from cnnprobe.preparation import compatibility
from cnnprobe.store import folders
from cnnprobe.store.containers.hdf5_bytes import reading
from cnnprobe.store.containers.opening import ELSEWHERE, FILES, TABLES
from cnnprobe.store.reader import Recording, TableView

LOG = logging.getLogger("cnnprobe")
HDF5 = (".h5", ".hdf5", ".hdf", ".mat")


def load(
    words: str | Sequence[str],
    *,
    conditions: Sequence[str],
    labels: np.ndarray | None = None,
    axes: Sequence[str] | None = None,
    order: str | None = None,
    out: str = "outputs",
) -> list[Reference]:
    """Read the references that are named.

    Args:
        words: FILE, FILE:dataset, a run of rsa, "labels" or "pixels", or a list of them. A FILE stands for every matrix
            in it with as many conditions; a run for each of its layers.
        conditions: names of the conditions, in order.
        labels: (condition,) class of each, -1 where unknown; None where a condition is a class.
        axes: what the axes beside the conditions are, or all axes, see `matrix_axes`; None: what the file says.
        order: of the rows of files without names, see `matching.rows_of`.
        out: folder of runs.

    Raises:
        UserError: there is no such file, dataset or run, it cannot be read, or it has other conditions.
    """
    found: list[Reference] = []
    for word in dict.fromkeys([words] if isinstance(words, str) else words):
        for one in _named(word, list(conditions), labels, axes, order, out):
            taken = {other.name for other in found}
            names = chain([one.name], (f"{one.name} #{number}" for number in count(2)))
            found.append(replace(one, name=next(name for name in names if name not in taken)))
    return found


def of_run(config: dict[str, Any], dataset: ImageSet) -> list[Reference]:
    """Read the references of a run of rsa, from its configuration."""
    method = config["method"]
    found = conditions_of(dataset, method["conditions"] == "class")
    given = {"axes": method["reference_axes"], "order": method["order"], "out": config["out"]}
    references = load(method["reference"], conditions=found.names, labels=found.labels, **given)
    for word in words_of(method["reference"]):
        _tell_other_images(word, dataset, config["out"])
    return references


def words_of(value: str | list[str] | None) -> list[str]:
    """Return the words of an option that takes one or several."""
    return [value] if isinstance(value, str) else list(value or ())


def _tell_other_images(word: str, dataset: ImageSet, out: str) -> None:
    """Warn where a run of rsa was shown other images under the names that its rows are matched by."""
    path = None
    with suppress(UserError):  # labels or pixels
        path = _store_of(_split(word)[0] or word, out)
    if path is None or not _is_store(path):
        return
    recording = Recording(path)
    if "stimuli" in recording:
        told = [words for words in compatibility.changed(recording, dataset) if words.endswith(compatibility.OTHER)]
        if told:
            names = listing([words.removesuffix(compatibility.OTHER) for words in told], 3)
            LOG.warning(f"{_label(path, out)} was shown other images under the same names ({names})")


def _named(
    word: str, conditions: list[str], labels: np.ndarray | None, axes: Sequence[str] | None, order: str | None, out: str
) -> list[Reference]:
    if word == "pixels":
        return [PIXELS]
    if word == "labels":
        if labels is None or len(np.unique(labels[labels >= 0])) < 2:
            why = "a condition is a class" if labels is None else "the dataset has fewer than two"
            raise UserError(f"reference=labels compares with the classes of the images; {why}")
        return [categorical(labels)]
    path, inside = _split(word)
    if path is None:
        return _run(_store_of(word, out), word, "", conditions, out)
    if path.suffix.lower() in TABLES:
        return _counted(path, [tables.table(path, inside, conditions, order)])
    if path.suffix.lower() in HDF5 and _is_store(path):
        return _run(_store_of(path, out), word, inside, conditions, out)
    try:
        return _counted(path, files.matrices(path, inside, conditions, axes, order))
    except files.NothingFitsError:
        rows = files.features(path, inside, conditions)
        if rows is None:
            raise
        return _counted(path, [tables.features(path, rows, "", conditions)])


def _counted(path: Path, found: list[Reference]) -> list[Reference]:
    """Return references; tell of those of which a matrix lacks the values of some pairs."""
    for one in found:
        known = np.isfinite(one.measured)
        some = known[known.any(-1)]
        if not some.all():
            name = path.name if len(found) == 1 else f"{path.name}: {one.name}"
            missing = f"{(~some).sum()} of {some.size} pairs have no value and are left out"
            LOG.warning(one_line(f"{name}: {missing}"))
    return found


def _split(word: str) -> tuple[Path | None, str]:
    """Return the file and what stands behind the colon; None where it names no file."""
    for name, inside in ((word, ""), tuple(word.rpartition(":")[::2])):
        path = path_of(name)
        if name and path.suffix.lower() in (*FILES, ".gz", *ELSEWHERE):
            if not path.is_file():
                raise UserError(f"there is no file {path}")
            return path, inside
    path = path_of(word)
    if path.is_file():
        raise UserError(f"{path} is no reference; a reference is a run or a file of {', '.join(FILES)}")
    return None, ""


# ---- runs of rsa -----------------------------------------------------------------------------------------------------


def _is_store(path: Path) -> bool:
    try:
        with reading(path) as file:
            return file.attrs.get("format") == "cnnprobe"
    except OSError:
        return False


def _store_of(word: str | Path, out: str) -> Path:
    """Return the store of the run of rsa that a word means; a file of any other name means itself."""
    if isinstance(word, Path) and word.name != "store.h5":
        return word
    word = str(word)
    try:
        return folders.find(word, out, "" if "/" in word else "rsa") / "store.h5"
    except UserError as error:
        raise UserError(
            f"reference={word} is no file, labels or pixels{nearest(word, ['labels', 'pixels'])}; {error}"
        ) from None


def _label(path: Path, out: str) -> str:
    """Return how a store is called in the figures: by its run, or by the file where that is called otherwise."""
    return folders.short(path.parent if path.name == "store.h5" else path, out)


def _run(path: Path, word: str, inside: str, conditions: list[str], out: str) -> list[Reference]:
    """Return the layers of a run of rsa, its conditions brought into our order by their names.

    Args:
        path: of its store, whatever that is called: a copy that was kept beside another one is read itself.
        word: as typed.
        inside: the one layer that is requested; "": all.
        conditions, out: see `load`.
    """
    recording = Recording(path)
    command, label = recording.attributes["command"], _label(path, out)
    if command != "rsa":
        raise UserError(f"reference={word} is a run of {command}, not of rsa")
    if not recording.complete:
        again = f"; resume it first: {folders.command_for(path.parent, command)}" if path.name == "store.h5" else ""
        raise UserError(f"{word} is not complete{again}")
    listed: TableView[ConditionColumn] = recording["conditions"]
    order, rows = _placed(conditions, list(listed["name"]), label)
    table: TableView[LayerColumn] = recording["layers"]
    layers = [name for name, kind in zip(table["name"], table["kind"]) if kind == "layer"]
    if inside and inside not in layers:
        raise unknown("layer", inside, layers, of=label)
    return [
        Reference(
            f"{label} {name}", upper(matrix[order][:, order])[None, None, None], (), np.array([np.nan]), rows=rows
        )
        for name, kind, matrix in zip(table["name"], table["kind"], table["rdm"])
        if kind == "layer" and name == (inside or name)
    ]


def _placed(conditions: list[str], theirs: list[str], label: str) -> tuple[np.ndarray, str]:
    """Return which condition of a run each of ours is, and how it was found: by its name.

    Where conditions share a name, as two classes called crane do, both lists must be the same, and the place decides.

    Raises:
        UserError: a condition is not there, or several have its name.
    """
    there = set(theirs)
    missing = [name for name in conditions if name not in there]
    if missing:
        raise UserError(f"{label} has not the conditions {listing(missing, 3)}; use the dataset of that run")
    if conditions == theirs and len(there) < len(theirs):
        return np.arange(len(theirs)), "in the order of both, as some share a name"
    for of, names in ((label, theirs), ("the dataset", conditions)):
        counts = Counter(names)
        name = next((name for name in conditions if counts[name] > 1), None)
        if name is not None:
            places = [place for place, one in enumerate(names) if one == name]
            instead = "use the dataset of that run, or give each a name of its own"
            raise several(name, places, "conditions", of=of, instead=instead)
    at = {name: place for place, name in enumerate(theirs)}
    return np.array([at[name] for name in conditions]), "by name"
