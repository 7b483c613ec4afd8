"""Subfolders of a folder of images: which are splits, by the names in common use, and which are classes."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.listing import Listing
from cnnprobe.errors import UserError, listing

NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
FILLING = {"set", "data", "dataset", "split", "image", "images", "img", "imgs", "pictures", "photos"}
"""Words that may stand beside that of a split: `training_set`, `Test Images`, `val2017`."""


@dataclass(frozen=True)
class Part:
    """The images requested.

    Args:
        below: what their paths begin with.
        half: "kept" or "held out" where they are a part of those; None: they are all of them.
        splits: the folders of all splits; () where the folder has none.
        notes: what the user should know, one line each.
    """

    below: str
    half: str | None
    splits: tuple[str, ...]
    notes: tuple[str, ...]


def split_named(folder: str) -> str | None:
    """Return the split that a folder's name stands for: "train" for `Train`, `TRAINING_SET` or `train2017`."""
    words = [word for word in re.split(r"[\W\d_]+", folder.casefold()) if word not in ("", *FILLING)]
    joined = [word.removesuffix("set").removesuffix("data") for word in words]
    return NAMES.get(joined[0]) if len(joined) == 1 else None


def part_of(found: Listing, split: str | None) -> Part:
    """Choose the folder of a split.

    Known names in the first place of a path are splits where all folders are, where there are several, or where the
    one has folders in it, as classes lie in a split.

    Args:
        found: the folder's listing.
        split: train, val or test; None: val, else test, else all.

    Raises:
        UserError: train is requested and there is only val or test, or two folders stand for one split.
    """
    inside = _folders_in(found.folders)
    there: dict[str, str] = {}
    for name in sorted(inside, key=os.fsencode):
        key = split_named(name)
        if key in there:
            raise UserError(f"{shown(there[key])} and {shown(name)} both stand for the split {key}; rename one of them")
        if key:
            there[key] = name
    single = len(there) == 1 and len(inside) > 1 and not inside[next(iter(there.values()))]
    if not there or single:
        notes = [f"{shown(name)} is taken for a class: no folders lie in it, as in a split" for name in there.values()]
        half = split and ("kept" if split == "train" else "held out")
        return Part("", half, (), (*notes, *_doubts(inside)))
    others = [name for name in inside if name not in there.values()]
    left_out = tuple(
        f"folders beside {' and '.join(map(shown, there.values()))} are left out: {listing(map(shown, others))}; "
        "known splits are train, val and test"
        for _ in others[:1]
    )
    splits = tuple(there.values())
    if split is None:
        split = next(key for key in ("val", "test", "train") if key in there)
    if split != "train":
        other = there.get(split) or there.get("val") or there.get("test")
        below, half = (other, None) if other else (there["train"], "held out")
    elif "train" not in there:
        raise UserError(f"{shown(found.root)} has no train/; it has {', '.join(sorted(there.values()))}")
    else:
        below, half = there["train"], (None if len(there) > 1 else "kept")
    return Part(f"{below}/", half, splits, left_out)


def _folders_in(folders: Iterable[str]) -> dict[str, set[str]]:
    """Return the folders at the top, each with the names of those in it."""
    inside: dict[str, set[str]] = defaultdict(set)
    for name in folders:
        first, slash, rest = name.partition("/")
        inside[first].update([rest] if slash and "/" not in rest else [])
    return inside


def _doubts(inside: dict[str, set[str]]) -> list[str]:
    """Say where folders that are taken for classes look like splits, or like the folder that was meant."""
    notes = []
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for name, below in inside.items():
        if below:
            alike[frozenset(below)].append(name)
    for inner, names in alike.items():
        words = listing(sorted(map(shown, inner)), 4)
        if any(split_named(word) for word in inner):
            notes.append(
                f"{listing(map(shown, names), 4)}: folders in it are called {words}, but splits are looked for at the "
                f"top of dataset.root only; images of all of them are taken together"
            )
        elif len(names) > 1 and len(inner) > 1:
            notes.append(
                f"{listing(map(shown, names), 4)} are taken for classes though each has the same folders in it "
                f"({words}); if they are splits, call them train, val and test"
            )
        elif len(inside) == 1:
            notes.append(f"{shown(names[0])} is taken for the only class though folders lie in it ({words})")
    return notes
