"""Volumes in NIfTI files: nothing that claims to be larger than its file can hold is read."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, one_line
from cnnprobe.store.containers.stored import Container, Stored, is_affordable, not_affordable

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img")
HEAD = 540
"""Bytes of the longer of the two headers, NIfTI-2."""
BEGINS = {348: (108, "f"), 540: (168, "q")}
"""By the length that a header says it has: where in it stands at which byte the values begin, and as what."""
MILLIMETRES = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class Scan:
    """One NIfTI file, of which the header has been read.

    Args:
        path: of the file.
        shape: (x, y, z) or (x, y, z, condition): axes of length 1 behind z are left out, as AFNI writes them.
        affine: (4, 4) from voxels to mm.
        step: seconds from one volume to the next, where the file says so.
        dtype: in which its values are read: float32 where that holds them all, else float64.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    step: float | None = None
    dtype: str = "float32"

    def read(self) -> np.ndarray:
        """Read the values, of its `dtype`, scaled as the header says.

        Raises:
            UserError: the file is damaged.
        """
        try:
            values = np.asarray(nibabel().load(self.path).dataobj, self.dtype)
        except Exception as error:  # readers of damaged files raise many types
            raise UserError(f"{one_line(self.path.name)} is damaged: {' '.join(str(error).split())[:80]}") from None
        return values.reshape(self.shape)

    def __call__(self, index: Any) -> np.ndarray:
        """Return the values at an index."""
        return self.read()[index]


def opened(path: Path) -> Container:
    """Return the one array of a file."""
    one = scan(path)
    found = Container(path, "NIfTI")
    axes = ("x", "y", "z", "time")[: len(one.shape)]
    about = {"rate": 1 / one.step} if one.step else {}
    found.add("", Stored(one.shape, np.dtype(one.dtype), one, axes=axes, about=about))
    return found


def scan(path: Path) -> Scan:
    """Read the header of a NIfTI file.

    Raises:
        UserError: there is no such file, it is no NIfTI file, or too short for what it claims.
    """
    library = nibabel()
    name = one_line(path.name)
    if not path.is_file():
        raise UserError(f"no file {one_line(str(path))}")
    _check_head(path, library)
    try:
        image = library.load(path)
    except Exception as error:
        words = " ".join(str(error).split())[:80]
        raise UserError(f"{name} is no NIfTI file ({', '.join(ENDINGS[:2])}): {words}") from None
    if not isinstance(image, library.Nifti1Pair):
        raise UserError(f"{name} is {type(image).__name__}, not NIfTI ({', '.join(ENDINGS[:2])})")
    dtype, whole = image.get_data_dtype(), tuple(int(side) for side in image.shape)
    behind = tuple(side for side in whole[3:] if side != 1)
    shape = (*whole[:3], *behind)
    if len(whole) < 3 or len(shape) > 4 or 0 in shape or dtype.kind not in "iuf":
        raise UserError(f"{name} has shape {size(whole)} of {dtype}; needed are three or four axes of numbers")
    data = Path(image.file_map["image"].filename)
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    held, packed = data.stat().st_size, data.suffix in (".gz", ".bz2", ".zst")
    read = _read_as(dtype, image.dataobj)
    if packed and not is_affordable(read.itemsize * claimed // dtype.itemsize, held):
        raise UserError(f"{name} {not_affordable(read.itemsize * claimed // dtype.itemsize, held)}")
    if not packed and claimed > held:
        raise UserError(f"{name} is cut off: {data.stat().st_size} bytes for {size(shape)} values of {dtype}")
    space, time = image.header.get_xyzt_units()
    affine = np.array(image.affine, float)
    affine[:3] *= MILLIMETRES[space]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UserError(f"{name} does not say how large its voxels are (affine {affine[:3, :3].tolist()})")
    zooms = image.header.get_zooms()
    step = float(zooms[3]) * SECONDS[time] if len(zooms) > 3 and time in SECONDS and zooms[3] > 0 else None
    return Scan(path, shape, affine, step, read.name)


def _read_as(dtype: np.dtype, data: Any) -> np.dtype:
    """Return the type in which values are read: float32 where it holds all that differ, also beside their offset."""
    factor, offset = abs(float(data.slope)), abs(float(data.inter))
    small = offset == 0 if dtype.kind == "f" else offset <= 2**16 * factor
    return np.dtype(np.float32 if small and np.can_cast(dtype, np.float32) else np.float64)


def _check_head(path: Path, library: Any) -> None:
    """Check how much stands between the header of a file and its values: nibabel reads it with the header.

    Raises:
        UserError: it is more than the file's bytes can stand for.
    """
    try:
        with library.openers.ImageOpener(path, "rb") as file:
            head = file.read(HEAD)
    except Exception:  # which nibabel tells, as it does of all that is damaged
        return
    places = {order: struct.unpack(f"{order}i", head[:4])[0] for order in "<>"} if len(head) == HEAD else {}
    for order, length in places.items():
        if length in BEGINS:
            at, kind = BEGINS[length]
            begins = struct.unpack_from(f"{order}{kind}", head, at)[0]
            held = path.stat().st_size
            if not begins <= held and not is_affordable(begins, held):
                raise UserError(f"{one_line(path.name)} {not_affordable(begins, held)}")


def nibabel() -> Any:
    """Return the library that reads NIfTI.

    Raises:
        UserError: it is not installed.
    """
    try:
        import nibabel as found
    except ImportError:
        raise UserError("NIfTI volumes need nibabel: pip install 'cnnprobe[brain]'") from None
    return found


def size(shape: Sequence[int]) -> str:
    """Return a shape for people: 64 x 64 x 30."""
    return " x ".join(map(str, shape))
