"""Arrays in the files of MATLAB up to version 7 (v4, v6, v7; `save` without -v7.3): variables, structs and cells."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.store.containers import matlab_tags
from cnnprobe.store.containers.packed import DENSE, Sparse
from cnnprobe.store.containers.stored import Container, Stored, told, vector

DEPTH = 20
"""Structs and cells within each other that are looked into."""


def opened(path: Path) -> Container:
    """Return the arrays and texts of a file.

    Raises:
        UserError: a variable claims to be larger than what is there, or holds too much.
        ValueError and others: it is damaged.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import matfile_version

    found = Container(path, "MATLAB 5")
    old = matfile_version(path)[0] == 0
    _check_room(found, matlab_tags.old_variables(path) if old else matlab_tags.variables(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of objects, which are named among what is passed over
        variables = loadmat(path, mat_dtype=True)
    for name, value in variables.items():
        if name is None or not name.startswith("__"):
            _take(found, _own_name(value) if name in (None, "None") else name, value, 0)
    return found.gather()


def _check_room(found: Container, parts: Iterable[tuple[str, int]]) -> None:
    """Check what variables claim, one after the other, before it is read.

    Raises:
        UserError: it is more than can be, or too deep.
    """
    held = found.path.stat().st_size
    try:
        for name, claimed in parts:
            if reason := found.no_room(claimed, held):
                raise UserError(f"{told(found.path, name)} {reason}")
    except matlab_tags.Refused as reason:
        raise UserError(told(found.path, str(reason))) from None


def _own_name(value: Any) -> str:
    """Return what an object of MATLAB is called: its place holds its name."""
    try:
        name = value["s0"].item()
    except (IndexError, KeyError, TypeError, ValueError):
        return "object"
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _take(found: Container, name: str, value: Any, depth: int, title: str = "") -> None:
    """Take in a variable, or each element of a struct or cell array."""
    kind = type(value).__name__
    if kind in ("MatlabOpaque", "MatlabFunction", "MatlabObject"):
        found.passed[name] = "is an object of MATLAB; save numbers as matrices and names as cellstr(…)"
    elif "sparse" in type(value).__module__ and len(value.shape) == 2 and np.prod(value.shape, dtype=object) <= DENSE:
        columns = value.tocsc()  # whose `toarray` would write wherever the places of values say
        dense = Sparse(lambda: (columns.data, columns.indices, columns.indptr), columns.shape, by_rows=False)
        _take(found, name, dense(...), depth, title)
    elif not isinstance(value, np.ndarray):
        found.passed[name] = "is sparse; save full(…)" if "sparse" in f"{type(value).__module__}" else f"is a {kind}"
    elif value.dtype.kind in "US":
        found.texts[name] = [str(one).rstrip() for one in value.ravel()]
    elif depth > DEPTH:
        found.passed[name] = "lies too deep"
    elif value.dtype.names:
        _struct(found, name, value, depth)
    elif value.dtype.hasobject:
        _cell(found, name, value, depth)
    else:
        array = np.asarray(value)
        found.add(
            name, Stored(vector(array.shape), array.dtype, _Held(array.reshape(vector(array.shape))), title=title)
        )


def _struct(found: Container, name: str, value: np.ndarray, depth: int) -> None:
    keys = value.dtype.names or ()
    for place, one in enumerate(value.ravel(order="F")):
        own = f"{name}({place + 1})" if value.size > 1 else name
        title = next((_word(one[key]) for key in keys if key.lower() in ("name", "label", "title")), "")
        for key in keys:
            _take(found, f"{own}/{key}", one[key], depth + 1, title)


def _cell(found: Container, name: str, value: np.ndarray, depth: int) -> None:
    inner = list(value.ravel(order="F"))
    if all(isinstance(one, np.ndarray) and one.dtype.kind in "US" and one.size <= 1 for one in inner):
        found.texts[name] = [_word(one) for one in inner]
        return
    for place, one in enumerate(inner):
        _take(found, f"{name}{{{place + 1}}}", one, depth + 1)


def _word(value: Any) -> str:
    """Return the one text of a value; "" where it is none."""
    is_one = isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.size == 1
    return str(value.ravel()[0]).rstrip() if is_one else ""


class _Held:
    """Gives an array that is in memory."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def __call__(self, index: Any) -> np.ndarray:
        return self.array[index]
