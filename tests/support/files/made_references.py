"""Made files of dissimilarities: container x axes x dtype x names x order, and what each must be read as."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat
from scipy.spatial.distance import squareform

from tests.support.files.matlab_files import Matlab

CONTAINERS = ("npy", "npz", "h5", "mat5", "mat73", "csv", "tsv", "pairs")
LEADING = ((), ("subject",), ("subject", "session"), ("time",), ("time", "subject"), ("region", "time"),
           ("subject", "time", "region"))  # fmt: skip
SIZES = {"subject": 3, "session": 2, "time": 4, "region": 5}
DTYPES = (np.float64, np.float32, np.float16, np.int32, np.uint8, bool)
STYLES = {
    "path": lambda name: f"C:\\stimuli\\{name}", "name": str, "stem": lambda name: name.partition(".")[0],
    "other ending": lambda name: name.partition(".")[0] + ".jpeg", "case": str.upper,
    "prefix": lambda name: f"s1_{name.partition('.')[0]}_x", "none": None,
}  # fmt: skip
WORDS = ("stimuli", "names", "conditions", "image_names")
NAMES = [f"{word}.png" for word in ("apple", "bus", "cat", "dog", "egg", "fox", "gun", "hat")]


@dataclass
class Made:
    """One file.

    Args:
        path: of the file.
        about: for people.
        axes: to be asked for as reference_axes.
        order: to be asked for.
        expected: (subject, time, region, pair), in order of `NAMES`.
        tolerance: of its values.
    """

    path: Path
    about: str
    axes: list[str] | None
    order: str | None
    expected: np.ndarray
    tolerance: float


def made(folder: Path, seed: int) -> Made:
    """Write one file of those that the seed chooses."""
    rng = np.random.default_rng(seed)
    kind = CONTAINERS[seed % len(CONTAINERS)]
    table = kind in ("csv", "tsv", "pairs")
    leading = () if table else LEADING[rng.integers(len(LEADING))]
    dtype = DTYPES[0 if table else rng.integers(len(DTYPES))]
    style = str(rng.choice(list(STYLES)))
    style = "stem" if kind == "pairs" and style == "none" else "none" if kind == "npy" else style
    flat = bool(rng.integers(2)) and not table
    similar = bool(rng.integers(3) == 0) and not flat and dtype in (np.float64, np.float32) and kind != "pairs"
    count = len(NAMES)
    pairs = values_of(rng, (*(SIZES[axis] for axis in leading), count * (count - 1) // 2), dtype)
    shown = rng.permutation(count)
    listing = bool(style == "none" and rng.integers(2))  # a file beside it lists the rows
    shown = np.arange(count) if style == "none" and not listing else shown
    squares = np.array([squareform(one) for one in pairs.reshape(-1, pairs.shape[-1])])
    squares = squares.reshape(*pairs.shape[:-1], count, count)
    squares = (1 - squares if similar else squares)[..., shown[:, None], shown].astype(dtype)
    array = squares[(..., *np.triu_indices(count, 1))] if flat else squares
    words = [*leading, "pair"] if flat else [*leading, "stimulus", "stimulus"]
    turn = rng.permutation(array.ndim)  # the stimuli stand anywhere
    array, words = array.transpose(turn), [words[place] for place in turn]
    named = None if style == "none" else [STYLES[style](NAMES[place]) for place in shown]
    said = [word for word in words if word in SIZES]
    axes = (words if rng.integers(2) else said) if said not in ([], ["subject"], ["subject", "session"]) else None
    path = folder / f"made{seed}.{ {'mat5': 'mat', 'mat73': 'mat', 'pairs': 'csv'}.get(kind, kind) }"
    write(path, kind, array, named, str(rng.choice(WORDS)))
    order = None
    if listing:
        order = str(folder / f"order{seed}.txt")
        Path(order).write_text("\n".join(NAMES[place] for place in shown))
    about = f"{kind} {' '.join(words)} {np.dtype(dtype)} names: {style} {'similar' if similar else ''}"
    return Made(path, about, axes, order, expected_of(pairs, leading), 1e-3 if dtype == np.float16 else 1e-6)


def values_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return dissimilarities that the type holds."""
    if dtype is bool:
        return rng.integers(0, 2, shape).astype(float)
    return rng.integers(1, 200, shape).astype(float) if np.dtype(dtype).kind in "iu" else rng.uniform(0.1, 1, shape)


def expected_of(pairs: np.ndarray, leading: tuple[str, ...]) -> np.ndarray:
    """Return the mean over sessions, with axes subject, time, region."""
    if "session" in leading:
        pairs = pairs.mean(leading.index("session"))
        leading = tuple(axis for axis in leading if axis != "session")
    for axis in ("subject", "time", "region"):
        if axis not in leading:
            pairs, leading = pairs[..., None, :], (*leading, axis)
    return np.moveaxis(pairs, [leading.index(axis) for axis in ("subject", "time", "region")], [0, 1, 2])


def write(path: Path, kind: str, array: np.ndarray, names: list[str] | None, word: str) -> None:
    """Write an array, and names beside it, as one of the containers."""
    if kind == "npy":
        np.save(path, array)
    elif kind == "npz":
        np.savez(path, rdm=array, **({word: np.array(names)} if names else {}))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["group/rdm"] = array
            if names:
                file[f"group/{word}"] = names
    elif kind == "mat5":
        savemat(path, {"rdm": array} | ({word: np.array(names, object)[None]} if names else {}))
    elif kind == "mat73":
        with Matlab(path) as file:
            file.put("rdm", array[None] if array.ndim == 1 else array)
            if names:
                file.put(word, names)
    elif kind == "pairs":
        lines = [f"{names[a]},{names[b]},{array[a, b]}" for a in range(len(names)) for b in range(a)]
        path.write_text("\n".join(["one,other,distance", *lines]))
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        rows = [[*([names[place]] if names else []), *map(str, row)] for place, row in enumerate(array)]
        head = [["", *names]] if names else []
        path.write_text("\n".join(mark.join(row) for row in (*head, *rows)) + "\n")
