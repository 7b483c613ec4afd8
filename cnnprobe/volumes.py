"""Volumes of a brain in NIfTI files: patterns of conditions, masks, and the maps that are written beside a run.

A stranger's file is data that may lie: only NIfTI is read, and nothing that claims to be larger than its file can hold.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, path_of

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img")
SHRINKS = 1032
"""Bytes that one byte of a gzip file can stand for at most."""
MILLIMETRES = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}


@dataclass(frozen=True)
class Scan:
    """One NIfTI file, of which the header has been read.

    Args:
        path: of the file.
        shape: (x, y, z) or (x, y, z, condition).
        affine: (4, 4) from voxels to mm.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray

    def read(self) -> np.ndarray:
        """Read the values, float32, scaled as the header says.

        Raises:
            UserError: the file is damaged.
        """
        try:
            values = np.asarray(_nibabel().load(self.path).dataobj, np.float32)
        except Exception as error:  # readers of damaged files raise many types
            raise UserError(f"{_shown(self.path)} is damaged: {' '.join(str(error).split())[:80]}") from None
        return values.reshape(self.shape)


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
            got = f"{len(one.scans)} volumes" if len(one.scans) > 1 else f"shape {_size(first.shape)}"
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
        raise UserError(f"{_shown(found.path)} has shape {_size(found.shape)}; a mask has three axes")
    same_space(found, like.scans[0])
    values = np.nan_to_num(found.read()) != 0
    if not values.any():
        raise UserError(f"{_shown(found.path)} is 0 everywhere; a mask is 1 inside")
    return values


def same_space(one: Scan, other: Scan) -> None:
    """Refuse two files whose voxels are not at the same places, to a thousandth of a mm."""
    if one.shape[:3] != other.shape[:3]:
        raise UserError(f"{_shown(one.path)} has {_size(one.shape[:3])} voxels, {_shown(other.path)} "
                        f"{_size(other.shape[:3])}; bring them into one space")  # fmt: skip
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*one.shape[:3], 1]
    apart = np.abs((one.affine - other.affine) @ corners.T).max()
    if apart > max(1e-3, 1e-6 * np.abs(other.affine @ corners.T).max()):
        raise UserError(f"the voxels of {_shown(one.path)} and {_shown(other.path)} lie up to {apart:.3g} mm apart; "
                        "bring them into one space")  # fmt: skip


def scan(path: Path) -> Scan:
    """Read the header of a NIfTI file.

    Raises:
        UserError: there is no such file, it is no NIfTI file, or too short for what it claims.
    """
    nibabel = _nibabel()
    if not path.is_file():
        raise UserError(f"no file {_shown(path, whole=True)}")
    try:
        image = nibabel.load(path)
    except Exception as error:
        words = " ".join(str(error).split())[:80]
        raise UserError(f"{_shown(path)} is no NIfTI file ({', '.join(ENDINGS[:2])}): {words}") from None
    if not isinstance(image, nibabel.Nifti1Pair):
        raise UserError(f"{_shown(path)} is {type(image).__name__}, not NIfTI ({', '.join(ENDINGS[:2])})")
    shape, dtype = image.shape, image.get_data_dtype()
    shape = shape[:3] if shape[3:] == (1,) else shape
    if len(shape) not in (3, 4) or 0 in shape or dtype.kind not in "iuf":
        raise UserError(f"{_shown(path)} has shape {_size(shape)} of {dtype}; needed are three or four axes of numbers")
    data = Path(image.file_map["image"].filename)
    claimed = int(np.prod([int(side) for side in shape], dtype=object)) * dtype.itemsize
    packed = SHRINKS if data.suffix in (".gz", ".bz2", ".zst") else 1
    if claimed > data.stat().st_size * packed:
        raise UserError(f"{_shown(path)} is cut off: {data.stat().st_size} bytes for {_size(shape)} values of {dtype}")
    affine = np.array(image.affine, float)
    affine[:3] *= MILLIMETRES[image.header.get_xyzt_units()[0]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UserError(f"{_shown(path)} does not say how large its voxels are (affine {affine[:3, :3].tolist()})")
    return Scan(path, tuple(int(side) for side in shape), affine)


def nifti(values: np.ndarray, affine: np.ndarray, about: str = "") -> bytes:
    """Return a compressed NIfTI-1 file of a map (x, y, z), float32, in mm; the same map gives the same bytes."""
    image = _nibabel().Nifti1Image(np.asarray(values, np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = about.encode("ascii", "replace")[:79]
    return gzip.compress(image.to_bytes(), mtime=0)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise UserError("NIfTI volumes need nibabel: pip install 'cnnprobe[brain]'") from None
    return nibabel


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


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _shown(path: Path, whole: bool = False) -> str:
    """Return a stranger's file name as one printable line."""
    text = str(path) if whole else path.name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
