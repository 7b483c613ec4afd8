"""Tags of MATLAB files: what all parts claim, and how deep they go."""

import struct
import zlib
from itertools import islice

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from cnnprobe.errors import UserError
from cnnprobe.store.containers import matlab_tags, stored
from cnnprobe.store.containers.opening import opened


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, sides: tuple[int, ...], name: bytes, *parts: bytes, order: str = "<") -> bytes:
    """Return a matrix as bytes, with its tag."""
    head = element(6, struct.pack(f"{order}II", kind, 0), order)
    head += element(5, struct.pack(f"{order}{len(sides)}i", *sides), order) + element(1, name, order)
    return element(14, head + b"".join(parts), order)


def written(path, *variables: bytes, order: str = "<"):
    words = struct.pack(f"{order}HH", 0x100, 0x4D49)  # the version, and MI as the order of the bytes has it
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + words + b"".join(variables))
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
    with pytest.raises(UserError, match=r"a\.mat: c claims (0\.8|7\.2) GB in 0\.00"):
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
    claimed = {name: each - matlab_tags.EACH for name, each in claimed.items()}
    assert claimed["a"] == 2400 and claimed["z"] == 64 and 5 * 5 * 8 <= claimed["thin"] < 400
    assert claimed["s"] >= 2 * 2 * 8 + 2 * 48 and claimed["word"] >= 40


def test_small_matrices_are_counted_each(tmp_path, monkeypatch):
    """F102: a cell of empty matrices, of which SciPy makes an array each, and a column of letters, each a text."""
    monkeypatch.setattr(stored, "FLOOR", 2**16)
    empty = matrix(1, (1, 5000), b"c") + element(14, b"") * 5000
    column = matrix(4, (5000, 1), b"t", element(1, b"a" * 5000))
    for name, variable in (("c", empty), ("t", column)):
        packed = zlib.compress(variable)
        path = written(tmp_path / f"{name}.mat", struct.pack("<II", 15, len(packed)) + packed)
        with pytest.raises(UserError, match=rf"\.mat: {name} claims .* GB in 0\.000"):
            opened(path)


WRONG = (0, 8, 10, 11, 14, 19, 20, 73, 255)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [4, 5, 6])
def test_types_that_there_are_not_are_refused(tmp_path, kind, order, within):
    """F102: SciPy looks in its memory at the place that the number of a type says, and the process ends."""
    for number in (*matlab_tags.WIDTHS, *WRONG):
        parts = [element(number, bytes(8), order)] * (3 if kind == 5 else 1)
        inner = matrix(kind, (2, 2), b"" if within else b"x", *parts, order=order)
        variable = matrix(1, (1, 1), b"x", inner, order=order) if within else inner
        path = written(tmp_path / "a.mat", variable, order=order)
        if number in WRONG:
            with pytest.raises(ValueError, match=f"x has values of type {number}, which is none"):
                list(matlab_tags.variables(path))
            with pytest.raises(UserError, match=r"a\.mat is damaged or no MATLAB 5 file"):
                opened(path)
        else:
            assert [name for name, _ in matlab_tags.variables(path)]
    variable = matrix(4, (0, 0), b"x", element(0, b"", order), order=order)  # as some programs write it
    assert opened(written(tmp_path / "a.mat", variable, order=order)).texts == {"x": []}


@pytest.mark.parametrize("sides", [(), (3,), (-1, 2), (-1, -1)])
def test_sides_that_a_matrix_cannot_have_are_refused(tmp_path, sides):
    """F102: SciPy reads two sides of a sparse matrix, whether there are two or not."""
    path = written(tmp_path / "a.mat", matrix(5, sides, b"x", *[element(5, bytes(8))] * 3))
    with pytest.raises(ValueError, match="sides of"):
        list(matlab_tags.variables(path))
    with pytest.raises(UserError, match=r"a\.mat is damaged or no MATLAB 5 file"):
        opened(path)


def struct_of(names: bytes, width: int) -> bytes:
    return matrix(2, (1, 0), b"s", element(5, struct.pack("<i", width)), element(1, names))


def test_a_struct_has_so_many_fields_at_most(tmp_path):
    """F102: SciPy compares each name with all before it, and reads on to the next zero."""
    names = b"".join(f"f{number}".encode().ljust(6, b"\0") for number in range(matlab_tags.FIELDS + 1))
    assert opened(written(tmp_path / "a.mat", struct_of(names[:-6], 6))).contents() == "nothing"
    with pytest.raises(UserError, match=r"a\.mat: s has a struct of 4097 fields; at most 4096 are read"):
        opened(written(tmp_path / "a.mat", struct_of(names, 6)))
    for width in (0, -6, 1):
        with pytest.raises(UserError, match=f"a.mat is damaged or no MATLAB 5 file: names of {width} letters"):
            opened(written(tmp_path / "a.mat", struct_of(names[:60], width)))


def test_variables_of_version_4(tmp_path):
    """F102: nothing leads back in the file, for ever; what there is is counted."""
    given = {"x": np.zeros((3, 100)), "z": np.ones((2, 2)) * 1j, "thin": csc_matrix(np.eye(50, 40)), "word": "hello"}
    savemat(tmp_path / "a.mat", given, format="4")
    claimed: dict[str, int] = {}
    for name, each in matlab_tags.old_variables(tmp_path / "a.mat"):
        claimed[name] = claimed.get(name, 0) + each - matlab_tags.EACH
    assert list(claimed) == list(given)
    assert claimed["x"] == 2400 and claimed["z"] == 64 and claimed["thin"] >= 16000 and claimed["word"] >= 40 + 64
    found = opened(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.arrays["thin"].read(), np.eye(50, 40))
    for sides in ((-1, 3), (-22, 1)):  # the second is the way back to the beginning
        (tmp_path / "b.mat").write_bytes(struct.pack("<5i", 50, *sides, 0, 2) + b"x\0" + bytes(4))
        with pytest.raises(ValueError, match="no head of a variable"):
            list(islice(matlab_tags.old_variables(tmp_path / "b.mat"), 9))
        with pytest.raises(UserError, match=r"b\.mat is damaged"):
            opened(tmp_path / "b.mat")
