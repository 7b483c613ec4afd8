"""The bytes of HDF5 files as the library gets them: heaps that it would go through for ever are no heaps."""

import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnprobe.store.containers.hdf5_bytes import _Bytes, reading
from tests.support.files.stores import filled

ROOT = Path(__file__).parents[3]
WORDS = ["a", "bb" * 3000, "ccc", *"defg"]


def objects(data: bytes, heap: int) -> list[int]:
    """Return where the objects of a heap begin, the free space last."""
    end, at, found = heap + int.from_bytes(data[heap + 8 : heap + 16], "little"), heap + 16, []
    while at + 16 <= end:
        found.append(at)
        number, size = struct.unpack("<H6xQ", data[at : at + 16])
        at += size if number == 0 else 16 + -(-size // 8) * 8
    return found


def damaged(path: Path, how: str) -> None:
    """Change a size or a number in each heap of a file."""
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL")
    while heap >= 0:
        first, *_, last = objects(bytes(data), heap)
        if how == "free":
            data[last + 8 : last + 16] = bytes(8)
        elif how == "number":
            data[first : first + 16] = bytes(16)
        else:
            data[first + 8 : first + 16] = struct.pack("<Q", {"round": 2**64 - 16, "beyond": 2**40}[how])
        heap = data.find(b"GCOL", heap + 1)
    path.write_bytes(data)


def written(path: Path, sizes: tuple[int, int] = (8, 8), block: int = 0) -> Path:
    plan = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plan.set_sizes(*sizes)
    plan.set_userblock(block)
    with h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, plan)) as file:
        file["words"], file.attrs["word"], file["x"] = WORDS, "hello", np.arange(5)
    return path


@pytest.mark.parametrize("sizes", [(8, 8), (4, 4), (8, 2)])
@pytest.mark.parametrize("block", [0, 512, 2048])
def test_a_heap_that_has_an_end_is_handed_over(tmp_path, sizes, block):
    """Whatever the width of sizes in the file, and behind a block of the user's."""
    with reading(written(tmp_path / "a.h5", sizes, block)) as file:
        assert file["words"].asstr()[:].tolist() == WORDS and file.attrs["word"] == "hello"
        assert file["x"][1:4].tolist() == [1, 2, 3]


@pytest.mark.parametrize("how", ["free", "number", "round", "beyond"])
def test_a_heap_without_an_end_has_no_signature(tmp_path, how):
    """F71: one byte of its free space is enough."""
    path = written(tmp_path / "a.h5")
    begins = [at for at in range(path.stat().st_size) if path.read_bytes()[at : at + 4] == b"GCOL"]
    assert begins
    damaged(path, how)
    with _Bytes(path) as content:
        for begin in begins:
            content.seek(begin)
            first = bytearray(4096)
            assert content.readinto(first) == 4096 and first[:5] == b"\0\0\0\0\1"


def test_a_heap_of_more_objects_than_there_are_numbers_has_no_end(tmp_path):
    """F71: which would take as long as its file is large."""
    path = written(tmp_path / "a.h5")
    head = path.read_bytes()[:512]
    for count, kept in ((65536, b"GCOL"), (65537, bytes(4))):
        one = struct.pack("<H6xQ", 1, 0)
        path.write_bytes(head + struct.pack("<4sIQ", b"GCOL", 1, 16 + 16 * count) + one * count)
        with _Bytes(path) as content:
            content.seek(512)
            first = bytearray(4096)
            content.readinto(first)
            assert first[:4] == kept


def test_behind_the_end_are_zeros(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with _Bytes(tmp_path / "a") as content:
        content.seek(1)
        buffer = bytearray(b"x" * 5)
        assert content.readinto(buffer) == 5 and buffer == b"bc\0\0\0"


READ = """
import sys
from pathlib import Path
from cnnprobe.errors import UserError
from cnnprobe.store.containers.opening import opened
from cnnprobe.store.reader import Recording
for name in sys.argv[1:]:
    try:
        Recording(name) if "store" in name else opened(Path(name))
    except UserError as error:
        print(error)
"""


def test_a_file_whose_heap_has_no_end_is_refused(tmp_path):
    """F71: in a process of its own, for the library would never return, and heard no signal."""
    names = []
    for how in ("free", "round"):
        filled(tmp_path / f"store-{how}.h5").finish()
        written(tmp_path / f"other-{how}.h5")
        for name in (f"store-{how}.h5", f"other-{how}.h5"):
            damaged(tmp_path / name, how)
            names.append(str(tmp_path / name))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (4,))
        file.create_virtual_dataset("x", layout)
    damaged(tmp_path / "virtual.h5", "free")
    names.append(str(tmp_path / "virtual.h5"))
    words = [sys.executable, "-c", READ, *names]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stdout.splitlines() if "damaged" in line] == done.stdout.splitlines(), done.stdout
    assert len(done.stdout.splitlines()) == len(names)
