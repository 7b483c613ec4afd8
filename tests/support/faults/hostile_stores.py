"""Files in the place of store.h5 that are damaged, of someone else, or made to do harm."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from cnnprobe.store.layout import CHECKSUM, known_sum
from tests.support.files.stores import filled

FAR = 2**40  # elements that no file here holds
Change = Callable[[h5py.File, Path], None]
"""What is done to a good store, given the folder it lies in."""


def corpus(folder: Path) -> dict[str, str]:
    """Write every such file into a folder.

    Returns:
        what must be said of each, by name of the file: a regular expression.
    """
    whole = folder / "whole.h5"
    writer = filled(whole)
    writer.finish()
    writer.close()
    (folder / "secret").write_bytes(b"do not show")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.arange(11, dtype="u1")
    expected = {"other.h5": "no store of cnnprobe"}
    for name, (content, words) in _plain(whole.read_bytes()).items():
        (folder / name).write_bytes(content)
        expected[name] = words
    for name, (change, words) in CHANGES.items():
        shutil.copy(whole, folder / name)
        with h5py.File(folder / name, "r+") as file:
            change(file, folder)
        expected[name] = words
    _point_all_names_at_the_first(folder / "texts.h5")
    whole.unlink()
    return expected


def _plain(whole: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "empty.h5": (b"", "not an HDF5 file"),
        "text.h5": (b"hello", "not an HDF5 file"),
        "page.h5": (b"<html>404</html>", "not an HDF5 file"),
        "program.h5": (b"\x7fELF" + bytes(900), "not an HDF5 file"),
        "signature.h5": (whole[:8], "not an HDF5 file|is cut off"),
        "cut.h5": (whole[:-900], "is cut off"),
    }


def sealed(change: Change) -> Change:
    """Make a change, and then the checksums right again: what someone would do who means harm."""

    def both(file: h5py.File, folder: Path) -> None:
        change(file, folder)
        names = ["stimuli", "units/conv1"]
        for group in (file, file["stimuli"], file["units/conv1"]):
            group.attrs.modify(CHECKSUM, np.uint32(known_sum(group, names)))

    return both


def _attribute(where: str, name: str, value: object) -> Change:
    return sealed(lambda file, _: file[where].attrs.__setitem__(name, value))


def _dataset(name: str, **options: object) -> Change:
    def change(file: h5py.File, _: Path) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, **options)

    return change


def _external(file: h5py.File, folder: Path) -> None:
    file.create_dataset("units/conv1/extra", (11,), "u1", external=[(str(folder / "secret"), 0, 11)])


def _virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((11,), "u1")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "x", (11,))
    file.create_virtual_dataset("units/conv1/extra", layout)


def _long_name(file: h5py.File, _: Path) -> None:
    names = np.array(["x" * 60_000] + [""] * 19_999, dtype=object)
    del file["stimuli/name"]
    file["stimuli"].create_dataset("name", data=names, dtype=h5py.string_dtype())


def _point_all_names_at_the_first(path: Path) -> None:
    """Turn 20,000 names into the one long text in the file: 400 kB there, 1.2 GB once read."""
    with h5py.File(path) as file:
        offset, count = file["stimuli/name"].id.get_offset(), len(file["stimuli/name"])
    data = bytearray(path.read_bytes())
    data[offset : offset + 16 * count] = bytes(data[offset : offset + 16]) * count
    path.write_bytes(data)


def _crossing(file: h5py.File, _: Path) -> None:
    """Six levels of ten groups, each a name for the same one below: a million ways through a small file."""
    below = file.create_group("below")
    below["x"] = np.arange(3)
    for level in range(6):
        above = file.create_group(f"level{level}")
        for i in range(10):
            above[f"g{i}"] = below
        below = above


def _put(name: str, place: object, value: object) -> Change:
    return lambda file, _: file[name].__setitem__(place, value)


def _modify(where: str, name: str, value: object) -> Change:
    return lambda file, _: file[where].attrs.modify(name, value)


def _link(name: str, target: object) -> Change:
    return lambda file, _: file.__setitem__(name, target)


OUTSIDE = h5py.ExternalLink("other.h5", "/x")
DONE = "saved/units/conv1/done"
CHANGES: dict[str, tuple[Change, str]] = {
    "newer.h5": (_modify("/", "format_version", np.int64(99)), "has format 99; this cnnprobe reads up to format 2"),
    "ancient.h5": (_modify("/", "format_version", np.int64(0)), "is damaged"),
    "unversioned.h5": (lambda file, _: file.attrs.__delitem__("format_version"), "is damaged"),
    "wordy.h5": (_attribute("/", "format_version", "two"), "is damaged"),
    "undecided.h5": (_attribute("/", "complete", "yes"), "is damaged"),
    "label.h5": (_put("stimuli/label", 0, 7), "describes /stimuli does not match its checksum"),
    "module.h5": (_modify("units/conv1", "module", "features.9"), "describes /units/conv1 does not match"),
    "seed.h5": (_modify("/", "seed", np.int64(4)), "describes / does not match"),
    "batch.h5": (_attribute("units/conv1", "batch", 0), "which rows of units/conv1 are saved"),
    "batches.h5": (_attribute("units/conv1", "batch", 3), "which rows of units/conv1 are saved"),
    "written.h5": (_attribute("units/conv1", "written", "unit response gone"), "is damaged"),
    "unwritten.h5": (_attribute("units/conv1", "written", 5), "is damaged"),
    "half.h5": (_put(DONE, 1, 0), "which rows of units/conv1 are saved"),
    "two.h5": (_put(DONE, 1, 2), "which rows of units/conv1 are saved"),
    "unsaved.h5": (lambda file, _: file.__delitem__("saved/units/conv1"), "is damaged"),
    "rows.h5": (_put("units/conv1/response", (5, 1), 0.5), "rows 4 to 7 of units/conv1 damaged"),
    "external.h5": (_external, "points outside itself"),
    "virtual.h5": (_virtual, "points outside itself"),
    "link.h5": (_link("x", h5py.ExternalLink("other.h5", "/")), "points outside itself"),
    "soft.h5": (_link("x", h5py.SoftLink("/units/conv1")), "points outside itself"),
    "saved.h5": (_link("saved/x", OUTSIDE), "points outside itself"),
    "named.h5": (_link("units/" + "n" * 70_000, OUTSIDE), "points outside itself"),
    "escape.h5": (_link("\x1b[31m", OUTSIDE), "points outside itself"),
    "cycle.h5": (lambda file, _: file["units"].__setitem__("up", file["/"]), "no plain tree"),
    "crossing.h5": (_crossing, "no plain tree"),
    "deep.h5": (lambda file, _: file.create_group("/".join("abcdefghijklmn")), "no plain tree"),
    "above.h5": (lambda file, _: file["units"].create_group("..").__setitem__("x", [1]), "'units/..' in it is a path"),
    "huge.h5": (_dataset("units/conv1/response", shape=(FAR,), dtype="f4"), "claims more than it holds"),
    "pieces.h5": (_dataset("units/conv1/response", shape=(FAR,), dtype="f4", chunks=(2**20,)), "points outside"),
    "texts.h5": (_long_name, "claims more than it holds"),
    "pointers.h5": (_dataset("units/conv1/extra", shape=(2,), dtype=h5py.ref_dtype), "neither numbers nor text"),
}
