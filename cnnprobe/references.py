"""What `reference=` names: matrices in HDF5, MATLAB and NumPy files, tables of features, runs of rsa, and labels."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnprobe import runs
from cnnprobe.engine.conditions import conditions_of
from cnnprobe.engine.dissimilarity import dissimilarity_matrix, upper
from cnnprobe.engine.reference_matrices import PIXELS, Reference, categorical, counted, fitting, reference
from cnnprobe.errors import UserError, listing, nearest, path_of, unknown
from cnnprobe.reading import Recording

TABLES = (".csv", ".tsv")
HDF5 = (".h5", ".hdf5", ".hdf", ".mat")
FILES = (*HDF5, ".npy", ".npz", *TABLES)
NAMED_AXES = ("axes", "dims")
"""Attributes of an HDF5 dataset that say what its axes are."""


def load(
    words: str | Sequence[str],
    *,
    conditions: Sequence[str],
    labels: np.ndarray | None = None,
    axes: Sequence[str] | None = None,
    out: str = "outputs",
) -> list[Reference]:
    """Read the references that are named.

    Args:
        words: FILE, FILE:dataset, a run of rsa, "labels" or "pixels", or a list of them. A FILE stands for every matrix
            in it with as many conditions; a run for each of its layers.
        conditions: names of the conditions, in order.
        labels: (condition,) class of each, -1 where unknown; None where a condition is a class.
        axes: what the axes before the conditions are, see `reference_matrices.AXES`; None: what the file says.
        out: folder of runs.

    Raises:
        UserError: there is no such file, dataset or run, it cannot be read, or it has other conditions.
    """
    found: list[Reference] = []
    for word in dict.fromkeys([words] if isinstance(words, str) else words):
        for one in _named(word, list(conditions), labels, axes, out):
            same = sum(other.name.partition(" #")[0] == one.name for other in found)
            found.append(replace(one, name=f"{one.name} #{same + 1}") if same else one)
    return found


def of_run(config: dict[str, Any], dataset: Any) -> list[Reference]:
    """Read the references of a run of rsa, from its configuration."""
    method = config["method"]
    found = conditions_of(dataset, method["conditions"] == "class")
    given = {"axes": method["reference_axes"], "out": config["out"]}
    return load(method["reference"], conditions=found.names, labels=found.labels, **given)


def _named(
    word: str, conditions: list[str], labels: np.ndarray | None, axes: Sequence[str] | None, out: str
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
        return _run(word, conditions, out)
    if path.suffix.lower() in TABLES:
        return [_table(path, inside, conditions)]
    if path.suffix.lower() in HDF5 and _is_store(path):
        return _run(str(path.parent), conditions, out)
    return _matrices(path, inside, len(conditions), axes)


def _split(word: str) -> tuple[Path | None, str]:
    """Return the file and what stands behind the colon; None where it names no file."""
    for name, inside in ((word, ""), tuple(word.rpartition(":")[::2])):
        path = path_of(name)
        if name and path.suffix.lower() in FILES:
            if not path.is_file():
                raise UserError(f"there is no file {path}")
            return path, inside
    path = path_of(word)
    if path.is_file():
        raise UserError(f"{path} is no reference; a reference is a run or a file of {', '.join(FILES)}")
    return None, ""


# ---- files of matrices -----------------------------------------------------------------------------------------------


def _matrices(path: Path, inside: str, conditions: int, axes: Sequence[str] | None) -> list[Reference]:
    found, others = [], []
    for name, values, about in _arrays(path, inside):
        if not inside and fitting(values.shape, conditions) is None:
            others.append(f"{name} with {counted(values.shape)}")
            continue
        given = dict(about)
        own = given.pop("axes", None)
        if own is not None:
            tail = fitting(values.shape, conditions) or 0
            own = own[: len(own) - tail] if len(own) == values.ndim else own
        named = f"{path.stem}: {name}" if path.suffix == ".npz" else name
        found.append(reference(named, values, conditions, axes=axes or own, **given))
    if not found:
        there = f"; it has {listing(others, 6)}" if others else "; it has no array of numbers"
        raise UserError(f"{path} has no matrix of {conditions} conditions, as the dataset gives{there}")
    return found


def _arrays(path: Path, inside: str) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Give name, values and what is known of the axes of every array of numbers, or of the one inside."""
    try:
        if path.suffix.lower() in HDF5 and h5py.is_hdf5(path):
            yield from _in_hdf5(path, inside)
            return
        if path.suffix.lower() == ".mat":
            from scipy.io import loadmat

            arrays = {name: _matlab(values) for name, values in loadmat(path).items() if not name.startswith("__")}
        elif path.suffix.lower() in (".npy", ".npz"):
            read = np.load(path, allow_pickle=False)
            arrays = {path.stem: read} if isinstance(read, np.ndarray) else dict(read)
        else:
            raise ValueError("not HDF5")
    except UserError:
        raise
    except Exception as error:  # readers of damaged files raise what they like
        raise UserError(f"{path} cannot be read as {path.suffix[1:]} ({str(error).splitlines()[0][:80]})") from None
    arrays = {name: values for name, values in arrays.items() if _is_numbers(values)}
    if inside and inside not in arrays:
        raise unknown("dataset", inside, arrays, of=str(path))
    yield from ((name, values, {}) for name, values in arrays.items() if inside in ("", name))


def _in_hdf5(path: Path, inside: str) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    with h5py.File(path, "r", locking=False) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if _is_matrix(item) else None)  # follows no links
        if inside and inside.strip("/") not in names:
            raise unknown("dataset", inside, names, of=str(path))
        for name in names:
            if inside in ("", name) or inside.strip("/") == name:
                yield name, file[name][()], _about(file[name])


def _is_matrix(item: Any) -> bool:
    """Say whether an HDF5 item is an array of numbers that lies in its own file."""
    return isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and not item.external and not item.is_virtual


def _about(item: h5py.Dataset) -> dict[str, Any]:
    """Return what a dataset says of its axes: names; times with their unit and regions, as attributes or beside it."""
    found: dict[str, Any] = {}
    words = next((item.attrs[name] for name in NAMED_AXES if name in item.attrs), None)
    if words is not None:
        found["axes"] = re.split(r"[\s,]+", words) if isinstance(words, str) else [_text(word) for word in words]
    for key, names in (("times", ("times", "time")), ("regions", ("regions", "region"))):
        for name in names:
            if name in item.attrs:
                found[key] = np.atleast_1d(item.attrs[name])
            elif isinstance(item.parent.get(name), h5py.Dataset):
                found[key] = item.parent[name][()]
                if key == "times" and "unit" in item.parent[name].attrs:
                    found["time_unit"] = _text(item.parent[name].attrs["unit"])
    if "regions" in found:
        found["regions"] = tuple(map(_text, found["regions"]))
    if "time_unit" in item.attrs:
        found["time_unit"] = _text(item.attrs["time_unit"])
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _matlab(values: Any) -> Any:
    """Return an array with its axes as HDF5 has them: MATLAB keeps conditions in front and subjects behind."""
    turned = isinstance(values, np.ndarray) and values.ndim > 2 and values.shape[-1] != values.shape[-2]
    if isinstance(values, np.ndarray) and values.ndim == 2 and 1 in values.shape:
        return values.ravel()
    return values.T if turned else values


def _is_numbers(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and values.ndim >= 1


# ---- tables of features ----------------------------------------------------------------------------------------------


def _table(path: Path, column: str, conditions: list[str]) -> Reference:
    """Return the Euclidean distances between the rows of a table: name of a condition, then numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = list(csv.reader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table ({error})") from None
    head, *rows = [line for line in lines if line] or [[]]
    if any(len(row) != len(head) for row in rows):
        raise UserError(f"{path} is no table: not every row has {len(head)} columns, as the first has")
    wanted = [_plain(name) for name in conditions]
    names = next((place for place in range(len(head)) if set(wanted) <= {_plain(row[place]) for row in rows}), None)
    if names is None:
        best = max(
            (set(wanted) & {_plain(row[place]) for row in rows} for place in range(len(head))), key=len, default=set()
        )
        missing = [name for name in conditions if _plain(name) not in best]
        raise UserError(f"{path} has no column with the names of all conditions; missing: {listing(missing, 3)}")
    if column and column not in head:
        raise unknown("column", column, head[names + 1 :], of=str(path))
    chosen = [head.index(column)] if column else range(names + 1, len(head))
    by_name = {_plain(row[names]): row for row in rows}
    values = np.array([[_number(by_name[name][place]) for place in chosen] for name in wanted])
    values = values[:, ~np.isnan(values).all(0)]
    if not values.shape[1]:
        raise UserError(f"{path} has no numbers behind the column {head[names]!r}")
    pairs = upper(dissimilarity_matrix(values, "euclidean"))
    return Reference(column or path.stem, pairs[None, None, None], (), np.array([np.nan]))


def _plain(name: str) -> str:
    """Return a name without folders and ending."""
    return Path(name.strip()).stem


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


# ---- runs of rsa -----------------------------------------------------------------------------------------------------


def _is_store(path: Path) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file.attrs.get("format") == "cnnprobe"
    except OSError:
        return False


def _run(word: str, conditions: list[str], out: str) -> list[Reference]:
    """Return the layers of a run of rsa, its conditions brought into our order by their names."""
    try:
        folder = runs.find(word, out, "" if "/" in word else "rsa")
    except UserError as error:
        raise UserError(
            f"reference={word} is no file, labels or pixels{nearest(word, ['labels', 'pixels'])}; {error}"
        ) from None
    recording = Recording(folder / "store.h5")
    command, label = recording.attributes["command"], runs.short(folder, out)
    if command != "rsa":
        raise UserError(f"reference={word} is a run of {command}, not of rsa")
    if not recording.complete:
        raise UserError(f"{word} is not complete; go on with it first: cnnprobe rsa --resume {folder}")
    there = {name: place for place, name in enumerate(recording["conditions"]["name"])}
    missing = [name for name in conditions if name not in there]
    if missing:
        raise UserError(f"{label} has not the conditions {listing(missing, 3)}; use the dataset of that run")
    order = np.array([there[name] for name in conditions])
    table = recording["layers"]
    return [
        Reference(f"{label} {name}", upper(matrix[order][:, order])[None, None, None], (), np.array([np.nan]))
        for name, kind, matrix in zip(table["name"], table["kind"], table["rdm"])
        if kind == "layer"
    ]
