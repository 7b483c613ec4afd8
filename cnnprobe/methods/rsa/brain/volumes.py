"""Volumes of a brain in NIfTI files: patterns of conditions, masks, and the maps that are written beside a run.

A stranger's file is data that may lie: only NIfTI is read, and nothing that claims to be larger than its file can hold.
"""

import gzip
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnprobe.errors import UserError, escaped, listing, one_line, path_of
from cnnprobe.methods.rsa.references.matching import ORDERS, by_names, overlap, rows_of
from cnnprobe.store.containers.nifti import ENDINGS, Scan, nibabel, scan, size

LOG = logging.getLogger("cnnprobe")


@dataclass(frozen=True)
class Subject:
    """The patterns of one subject: a file of four axes, or one of three for each condition.

    Args:
        name: for people and tables.
        scans: in order of the conditions.
        rows: how they were matched with the conditions.
        order: which volume of a file of four axes belongs to each condition; None: as they stand.
    """

    name: str
    scans: tuple[Scan, ...]
    rows: str = ""
    order: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        x, y, z = self.scans[0].shape[:3]
        return x, y, z

    @property
    def conditions(self) -> int:
        """How many patterns there are."""
        if len(self.scans[0].shape) == 3:
            return len(self.scans)
        return self.scans[0].shape[3] if self.order is None else len(self.order)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), from voxels to mm."""
        return self.scans[0].affine

    @cached_property
    def voxel_size(self) -> tuple[float, float, float]:
        """Sides of a voxel along x, y, z, mm."""
        x, y, z = (float(side) for side in np.sqrt((self.affine[:3, :3] ** 2).sum(0)))
        return x, y, z

    def read(self) -> np.ndarray:
        """Read the patterns (x, y, z, condition), float32 or, where that does not hold them, float64."""
        if len(self.scans[0].shape) == 4:
            values = self.scans[0].read()
            return values if self.order is None else values[..., list(self.order)]
        return np.stack([scan.read() for scan in self.scans], -1)


def subjects(given: str | Sequence[str], conditions: Sequence[str], order: str | None = None) -> list[Subject]:
    """Find the volumes of every subject; nothing but headers is read.

    Args:
        given: a file (x, y, z, condition), or a folder of files (x, y, z), one for each condition, or of files
            (x, y, z, condition), one for each subject; or several of these; or a list of files (x, y, z), the
            conditions of one subject. Files of one condition are matched by their names.
        conditions: names of the conditions, in order of the dataset.
        order: of the volumes where no names decide, see `references.matching.rows_of`.

    Raises:
        UserError: a file is missing or not NIfTI, has another number of conditions, nothing decides their order, or the
            subjects are not in one space.
    """
    paths = [path_of(one) for one in ([given] if isinstance(given, str) else given)]
    if not paths:
        raise UserError("a searchlight needs a NIfTI file, got an empty list")
    found = [
        one for path in paths for one in (_folder(path) if path.is_dir() else [Subject(_name(path), (scan(path),))])
    ]
    flat = [one for one in found if len(one.scans) == 1 and len(one.scans[0].shape) == 3]
    listed = len(flat) == len(found) and (len(found) > 1 or len(conditions) == 1)
    if listed:
        found = [Subject(_name(paths[0].resolve().parent), tuple(one.scans[0] for one in found))]
    found = [_matched(one, conditions, order, listed) for one in found]
    for one in found:
        for other in (*one.scans, found[0].scans[0]):
            same_space(one.scans[0], other)
    return _distinct(found)


def _matched(one: Subject, conditions: Sequence[str], order: str | None, listed: bool) -> Subject:
    """Return a subject whose volumes are in the order of the conditions."""
    first, names = one.scans[0], None
    single = len(first.shape) == 3
    count = len(one.scans) if single else first.shape[3]
    if single and count > 1:
        names = [scan.path.name for scan in one.scans]
        if listed and order is None and by_names(conditions, names) is None and not overlap(conditions, names):
            names = None  # the order of the list is what was typed
    decided = (names is not None and by_names(conditions, names) is not None) or order not in (None, *ORDERS)
    if (count != len(conditions) and not decided) or (len(one.scans) > 1 and not single):
        got = f"{len(one.scans)} volumes" if len(one.scans) > 1 else f"shape {size(first.shape)}"
        file = first.path.parent if len(one.scans) > 1 else first.path
        raise UserError(f"{_shown(file)} has {got}; needed are {len(conditions)} conditions, one for each "
                        "stimulus, along the fourth axis or as a folder or list of volumes")  # fmt: skip
    rows = rows_of(conditions, count, names, order=order, file=_shown(first.path.parent if single else first.path))
    if rows.guessed:
        LOG.warning(rows.guessed)
    if len(rows.order) < count:
        left = [name for place, name in enumerate(names or []) if place not in set(rows.order.tolist())]
        LOG.warning(f"{one.name}: passed over {one_line(listing(left, 6)) or f'{count - len(rows.order)} volumes'}, "
                    "which no condition is called")  # fmt: skip
    if single:
        return Subject(one.name, tuple(one.scans[row] for row in rows.order), rows.how)
    return Subject(one.name, one.scans, rows.how, tuple(rows.order.tolist()))


def mask(path: str, like: Subject) -> np.ndarray:
    """Read a mask, bool (x, y, z): where the file is neither 0 nor NaN.

    Raises:
        UserError: the file is missing, not NIfTI, in another space, or empty.
    """
    found = scan(path_of(path))
    if len(found.shape) != 3:
        raise UserError(f"{_shown(found.path)} has shape {size(found.shape)}; a mask has three axes")
    same_space(found, like.scans[0])
    values = np.nan_to_num(found.read()) != 0
    if not values.any():
        raise UserError(f"{_shown(found.path)} is 0 everywhere; a mask is 1 inside")
    return values


def same_space(one: Scan, other: Scan) -> None:
    """Refuse two files whose voxels are not at the same places, to a thousandth of a mm."""
    if one.shape[:3] != other.shape[:3]:
        raise UserError(f"{_shown(one.path)} has {size(one.shape[:3])} voxels, {_shown(other.path)} "
                        f"{size(other.shape[:3])}; bring them into one space")  # fmt: skip
    last = [*(length - 1 for length in one.shape[:3]), 1]
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * last
    apart = np.linalg.norm(((one.affine - other.affine) @ corners.T)[:3], axis=0).max()
    if apart > max(1e-3, 1e-6 * np.abs(other.affine @ corners.T).max()):
        raise UserError(f"the voxels of {_shown(one.path)} and {_shown(other.path)} lie up to {apart:.3g} mm apart; "
                        "bring them into one space")  # fmt: skip


def nifti(values: np.ndarray, affine: np.ndarray, about: str = "") -> bytes:
    """Return a compressed NIfTI-1 file of a map (x, y, z), float32, in mm; the same map gives the same bytes."""
    image = nibabel().Nifti1Image(np.asarray(values, np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = about.encode("ascii", "replace")[:79]
    return gzip.compress(image.to_bytes(), mtime=0)


def _folder(path: Path) -> list[Subject]:
    """Return the subject of a folder of volumes, or those of a folder of files of four axes."""
    files = sorted(one for one in path.iterdir() if one.name.lower().endswith(ENDINGS[:3]) and one.name[0] != ".")
    if not files:
        raise UserError(f"no {' or '.join(ENDINGS[:2])} in {_shown(path, whole=True)}")
    scans = tuple(scan(one) for one in files)
    if len(scans) > 1 and all(len(one.shape) == 4 for one in scans):
        return [Subject(_name(one.path), (one,)) for one in scans]
    return [Subject(_name(path), scans)]


def _distinct(found: list[Subject]) -> list[Subject]:
    """Number subjects whose files have the same name."""
    names = [one.name for one in found]
    return [
        one if names.count(one.name) == 1 else replace(one, name=f"{one.name}-{place + 1:02d}")
        for place, one in enumerate(found)
    ]


def _name(path: Path) -> str:
    return next((path.name.removesuffix(end) for end in (".nii.gz", *ENDINGS) if path.name.endswith(end)), path.name)


def _shown(path: Path, whole: bool = False) -> str:
    """Return a stranger's file name as one printable line."""
    return escaped(path if whole else path.name)
