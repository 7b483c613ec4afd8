"""Tags of MATLAB files: what all parts claim, and how deep they go."""

import struct

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from cnnprobe.errors import UserError
from cnnprobe.store.containers import matlab_tags
from cnnprobe.store.containers.opening import opened


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, sides: tuple[int, ...], name: bytes, *parts: bytes) -> bytes:
    """Return a matrix as bytes, with its tag."""
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(sides)}i", *sides))
    return element(14, head + element(1, name) + b"".join(parts))


def written(path, *variables: bytes):
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM" + b"".join(variables))
    return path


def deep(times: int) -> bytes:
    """Return cells in each other, whose tags say that they hold nothing, which SciPy does not mind."""
    number = matrix(6, (1, 1), b"", element(9, struct.pack("<d", 1)))
    return matrix(1, (1, 1), b"c") + matrix(1, (1, 1), b"") * (times - 1) + number


def test_cells_in_each_other_have_a_bound(tmp_path):
    """F102: SciPy reads them by calls in calls until the process ends."""
    assert opened(written(tmp_path / "a.mat", deep(15))).arrays
    with pytest.raises(UserError, match=r"a\.mat: c holds cells or structs more than 100 deep in each other"):
        opened(written(tmp_path / "a.mat", deep(200)))


@pytest.mark.parametrize("kind, parts", [
    (1, []), (2, [element(5, struct.pack("<i", 8)), element(1, b"a".ljust(8, b"\0") * 100)]), (4, [element(1, b"")]),
    (6, [element(9, b"")]),
])  # fmt: skip
def test_sides_are_counted_inside_cells(tmp_path, kind, parts):
    """F102: SciPy makes room for what the sides of a cell, struct or text say before it looks for more."""
    inner = matrix(kind, (10**8, 1), b"", *parts)
    with pytest.raises(UserError, match=r"a\.mat: c claims 0\.8 GB in 0\.00"):
        opened(written(tmp_path / "a.mat", matrix(1, (1, 1), b"c", inner)))


@pytest.mark.parametrize("compressed", [True, False])
def test_every_part_of_what_scipy_writes_is_found(tmp_path, compressed):
    structs = np.zeros((1, 2), dtype=[("RDM", object), ("name", object)])
    cells = np.empty((2, 2), object)
    for place in range(2):
        structs[0, place] = (np.zeros((2, 3)), "V1")
        cells[place] = [np.zeros(0), "a text"]
    given = {"a": np.zeros((3, 100)), "z": np.ones(4) * 1j, "s": structs, "c": cells, "thin": csc_matrix(np.eye(5)),
             "word": "hello", "flags": np.eye(2) > 0, "small": np.int8(3)}  # fmt: skip
    savemat(tmp_path / "a.mat", given, do_compression=compressed)
    claimed: dict[str, int] = {}
    for name, each in matlab_tags.variables(tmp_path / "a.mat"):
        claimed[name] = claimed.get(name, 0) + each
    assert list(claimed) == list(given)
    assert claimed["a"] == 2400 and claimed["z"] == 64 and 5 * 5 * 8 <= claimed["thin"] < 400
    assert claimed["s"] >= 2 * 2 * 8 + 2 * 48 and claimed["word"] >= 40
