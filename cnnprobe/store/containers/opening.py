"""Opening a file of any kind that can be read, known by its content.

A stranger's file is data that may lie. Plain numbers and texts are read and nothing else: no pickled objects, no links
out of the file, nothing that claims to be larger than what is there.
"""

import stat
from collections.abc import Callable
from pathlib import Path

from cnnprobe.errors import UserError, one_line
from cnnprobe.store.containers.stored import Container

HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", HDF5: "hdf5", b"MATLAB": "MATLAB 5"}
SCANS = (".nii", ".nii.gz", ".hdr", ".img")
TABLES = (".csv", ".tsv", ".txt")
FILES = (".h5", ".hdf5", ".hdf", ".nc", ".mat", ".npy", ".npz", *SCANS, *TABLES)
"""Endings of files that are read."""
ELSEWHERE = {
    ".pkl": "a pickle, which could run code; save the matrices as HDF5, .npz or .csv (rsatoolbox: "
    "rdms.save('rdms.hdf5', file_type='hdf5'))",
    ".fif": "a file of MNE; save its numbers with names beside them: np.savez('meg.npz', rdms=…, times=…, stimuli=…)",
    ".xlsx": "a workbook; save the sheet as .csv",
    ".rds": "a file of R; write it with rhdf5 or as .csv",
}
ELSEWHERE |= {".pickle": ELSEWHERE[".pkl"], ".xls": ELSEWHERE[".xlsx"], ".ods": ELSEWHERE[".xlsx"],
              ".rdata": ELSEWHERE[".rds"]}  # fmt: skip
"""Endings of files that are not read, and what to do."""


def opened(path: Path) -> Container:
    """Return what a file holds; of HDF5, NumPy and NIfTI nothing but headers and texts is read.

    Raises:
        UserError: there is no such file, it is of another kind or damaged.
    """
    name = one_line(path.name)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(
                f"{one_line(str(path))} is {'a folder' if path.is_dir() else 'no regular file'}, not an array"
            )
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise UserError(f"cannot read {one_line(str(path))}: {error.strerror}") from None
    kind = kind_of(path, head)
    if not kind:
        what = "empty" if not head else ELSEWHERE[".pkl"] if head[:1] == b"\x80" else "neither"
        what = ELSEWHERE.get(path.suffix.lower(), what)
        raise UserError(f"{name} must be an HDF5, MATLAB, .npy, .npz, NIfTI or .csv file; it is {what}")
    try:
        return _reader(kind)(path)
    except UserError:
        raise
    except Exception as error:  # readers of damaged files raise many types
        words = " ".join(str(error).split())[:100]
        raise UserError(f"{name} is damaged or no {kind} file: {words}") from None


def kind_of(path: Path, head: bytes) -> str:
    """Return the kind of a file from its first 520 bytes and its ending; "" where it is none that is read."""
    if head.startswith(b"MATLAB 7.3") or head[512:].startswith(HDF5):  # a block of the user's in front
        return "hdf5"
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if kind:
        return kind
    if head and path.name.lower().endswith(SCANS):
        return "NIfTI"
    if head and path.suffix.lower() == ".mat":
        return "MATLAB 5"  # or 4, which has no magic
    return "table" if head and path.suffix.lower() in TABLES else ""


def _reader(kind: str) -> Callable[[Path], Container]:
    """Return the function that opens a kind of file; what it needs is imported with it."""
    if kind == "hdf5":
        from cnnprobe.store.containers.hdf5 import opened as found
    elif kind == "MATLAB 5":
        from cnnprobe.store.containers.matlab import opened as found
    elif kind == "NIfTI":
        from cnnprobe.store.containers.nifti import opened as found
    elif kind == "table":
        from cnnprobe.store.containers.tables import opened as found
    else:
        from cnnprobe.store.containers.numpy_files import NPY_NPZ

        found = NPY_NPZ[kind]
    return found
