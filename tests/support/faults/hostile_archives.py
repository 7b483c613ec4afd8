"""Archives and arrays that reach out of their place, lie about their size, or would run code when they are read."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np

OUTSIDE = "OUTSIDE"
"""Name of the file that appears where something of an archive is written outside of its folder."""


class Harm:
    """Unpickling it would make a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def corpus(folder: Path, marker: Path) -> list[str]:
    """Write every such file into a folder; return their names.

    Args:
        marker: appears where code of one of them runs.
    """
    members = {
        "above.tar.gz": tarfile.TarInfo(f"../../{OUTSIDE}"),
        "absolute.tar.gz": tarfile.TarInfo(f"{folder.parent}/{OUTSIDE}"),
        "link.tar.gz": _member("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "/etc/hostname"),
        "hard.tar.gz": _member("cifar-10-batches-py/data_batch_1", tarfile.LNKTYPE, "/etc/hostname"),
        "device.tar.gz": _member("cifar-10-batches-py/data_batch_1", tarfile.CHRTYPE),
        "pipe.tar.gz": _member("cifar-10-batches-py/data_batch_1", tarfile.FIFOTYPE),
    }
    for name, member in members.items():
        with tarfile.open(folder / name, "w:gz") as archive:
            data = b"x" * 9 if member.isreg() else b""
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(folder / "above.npz", "w") as archive:
        archive.writestr(f"../{OUTSIDE}.npy", b"x")
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", _npy((1, 3, 8192, 8192)) + bytes(3 * 8192**2))
    (folder / "bomb.tar.gz").write_bytes(gzip.compress(bytes(300_000_000)))
    (folder / "lie.npy").write_bytes(_npy((2**20, 3, 2**10, 2**10)) + b"x" * 99)
    np.save(folder / "code.npy", np.array([[[Harm(marker)]]], dtype=object), allow_pickle=True)
    np.savez(folder / "code.npz", images=np.array([[[Harm(marker)]]], dtype=object))
    (folder / "bomb.json").write_text("[" * 100_000)
    (folder / "wide.csv").write_text("a," * 500_000)
    (folder / "alias.yaml").write_text("a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\nmodel: *b\n")
    (folder / "code.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {marker}']\n")
    (folder / "target.yaml").write_text("model:\n  _target_: os.system\n")
    return sorted(path.name for path in folder.iterdir())


def _member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def _npy(shape: tuple[int, ...]) -> bytes:
    """Return the header of an array of bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()
