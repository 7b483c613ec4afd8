"""Volumes of a brain in NIfTI files: patterns of conditions, masks, and the maps that are written beside a run.

A stranger's file is data that may lie: only NIfTI is read, and nothing that claims to be larger than its file can hold.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnprobe.containers.nifti import ENDINGS, Scan, nibabel, scan, size
from cnnprobe.errors import UserError, path_of


@dataclass(frozen=True)
class Subject:
    """The patterns of one subject: a file of four axes, or one of three for each condition.

    Args:
        name: for people and tables.
        scans: in order of the conditions.
    """

    name: str
    scans: tuple[Scan, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return self.scans[0].shape[:3]

    @property
    def conditions(self) -> int:
        """How many patterns there are."""
        return len(self.scans) if len(self.scans[0].shape) == 3 else self.scans[0].shape[3]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), from voxels to mm."""
        return self.scans[0].affine

    @cached_property
    def voxel_size(self) -> tuple[float, float, float]:
        """Sides of a voxel along x, y, z, mm."""
        return tuple(float(side) for side in np.sqrt((self.affine[:3, :3] ** 2).sum(0)))

    def read(self) -> np.ndarray:
        """Read the patterns (x, y, z, condition), float32."""
        if len(self.scans[0].shape) == 4:
            return self.scans[0].read()
        return np.stack([scan.read() for scan in self.scans], -1)


def subjects(given: str | Sequence[str], conditions: int) -> list[Subject]:
    """Find the volumes of every subject; nothing but headers is read.

    Args:
        given: a file (x, y, z, condition), or a folder of files (x, y, z), one for each condition, sorted by name, or
            several of these, one for each subject; or a list of files (x, y, z), the conditions of one subject.
        conditions: how many patterns are expected, in order of the dataset's sorted file names.

    Raises:
        UserError: a file is missing or not NIfTI, has another number of conditions, or the subjects are not in one
            space.
    """
    paths = [path_of(one) for one in ([given] if isinstance(given, str) else given)]
    if not paths:
        raise UserError("a searchlight needs a NIfTI file, got an empty list")
    found = [_folder(path) if path.is_dir() else Subject(_name(path), (scan(path),)) for path in paths]
    flat = [one for one in found if len(one.scans) == 1 and len(one.scans[0].shape) == 3]
    if len(flat) == len(found) and (len(found) > 1 or conditions == 1):
        found = [Subject(_name(paths[0].resolve().parent), tuple(one.scans[0] for one in found))]
    for one in found:
        first = one.scans[0]
        if one.conditions != conditions or (len(one.scans) > 1 and len(first.shape) == 4):
            got = f"{len(one.scans)} volumes" if len(one.scans) > 1 else f"shape {size(first.shape)}"
            raise UserError(f"{_shown(first.path)} has {got}; needed are {conditions} conditions, one for each "
                            "stimulus, along the fourth axis or as a folder or list of volumes")  # fmt: skip
        for other in (*one.scans, found[0].scans[0]):
            same_space(first, other)
    return _distinct(found)


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
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*one.shape[:3], 1]
    apart = np.abs((one.affine - other.affine) @ corners.T).max()
    if apart > max(1e-3, 1e-6 * np.abs(other.affine @ corners.T).max()):
        raise UserError(f"the voxels of {_shown(one.path)} and {_shown(other.path)} lie up to {apart:.3g} mm apart; "
                        "bring them into one space")  # fmt: skip


def nifti(values: np.ndarray, affine: np.ndarray, about: str = "") -> bytes:
    """Return a compressed NIfTI-1 file of a map (x, y, z), float32, in mm; the same map gives the same bytes."""
    image = nibabel().Nifti1Image(np.asarray(values, np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = about.encode("ascii", "replace")[:79]
    return gzip.compress(image.to_bytes(), mtime=0)


def _folder(path: Path) -> Subject:
    files = sorted(one for one in path.iterdir() if one.name.endswith(ENDINGS[:3]) and one.name[0] != ".")
    if not files:
        raise UserError(f"no {' or '.join(ENDINGS[:2])} in {_shown(path, whole=True)}")
    return Subject(_name(path), tuple(scan(one) for one in files))


def _distinct(found: list[Subject]) -> list[Subject]:
    """Number subjects whose files have the same name."""
    names = [one.name for one in found]
    return [
        one if names.count(one.name) == 1 else Subject(f"{one.name}-{place + 1:02d}", one.scans)
        for place, one in enumerate(found)
    ]


def _name(path: Path) -> str:
    return next((path.name.removesuffix(end) for end in (".nii.gz", *ENDINGS) if path.name.endswith(end)), path.name)


def _shown(path: Path, whole: bool = False) -> str:
    """Return a stranger's file name as one printable line."""
    text = str(path) if whole else path.name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
