"""A look at the pickles of a .pt file before torch builds what they say: `weights_only` keeps code out and no more."""

import argparse
import pickle
import zipfile
from typing import Any, BinaryIO

import numpy as np

from cnnprobe.store.containers import archives
from cnnprobe.store.containers.pickle_steps import Oversized, look_through

LEGACY_PARTS = 5
"""Pickles that begin a file of torch before 1.6: three of its head, what was saved, and the keys of the storages."""
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16")
"""Kinds of NumPy's numbers that may stand beside weights."""


def look(file: BinaryIO) -> None:
    """Look through all pickles of a file that torch.save has written; nothing in them is built.

    Raises:
        Oversized: they ask for more than their bytes can stand for.
        pickle.UnpicklingError: they are none that torch reads.
        UserError: a file of the archive has the name of another one.
        zipfile.BadZipFile, OSError and others: it is damaged.
    """
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as archive:
            for member in archives.members(archive, "the archive", any_case=True):
                if member.compress_type != zipfile.ZIP_STORED:
                    raise Oversized(f"{member.filename[:60]!r} in it is compressed")
                if member.filename.casefold().endswith("data.pkl"):  # torch finds it in any case
                    look_through(archive.read(member))
        return
    file.seek(0)
    for _ in range(LEGACY_PARTS):
        look_through(file)


class _Kind:
    """Stands for a type of NumPy in a file: that of a number, and of nothing that is as large as the file says."""

    def __init__(self, code: str, *_: Any):
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"Unsupported type numpy.dtype({str(code)[:40]!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _Kind, data: bytes) -> np.generic:
    """Return a number of NumPy from its bytes."""
    return np.frombuffer(data, kind.dtype, 1)[0]


def plain_types() -> list[Any]:
    """Return what training programs keep beside weights and what is data: their arguments, NumPy's numbers."""
    scalars = [(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")]  # of NumPy 2, and 1
    return [argparse.Namespace, *scalars, (_Kind, "numpy.dtype")]
