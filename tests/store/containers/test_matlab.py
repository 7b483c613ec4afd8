"""Files of MATLAB before version 7.3, as SciPy writes them: variables, structs, cells, texts."""

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix, csr_matrix

from cnnprobe.errors import UserError
from cnnprobe.store.containers.opening import opened

CUBE = np.random.default_rng(0).normal(size=(2, 3, 4))


def test_variables_structs_and_cells(tmp_path):
    """F91: the same names and values as from -v7.3."""
    structs = np.zeros((1, 2), dtype=[("RDM", object), ("name", object)])
    cells = np.empty((1, 2), object)
    for place, name in enumerate(("V1", "V4")):
        structs[0, place] = (CUBE[place], name)
        cells[0, place] = CUBE[place]
    words = np.array([["apple", "bus"]], object)
    given = {
        "cube": CUBE,
        "row": np.arange(5.0),
        "RDMs": structs,
        "rdms": cells,
        "stimuli": words,
        "ascii": ["ab", "c"],
    }
    savemat(tmp_path / "a.mat", given | {"one": {"RDM": CUBE[1], "name": "hIT"}, "thin": csr_matrix(np.eye(3))})
    found = opened(tmp_path / "a.mat")
    titles = {name: array.title for name, array in found.arrays.items()}
    assert titles == {"cube": "", "row": "", "RDMs(1)/RDM": "V1", "RDMs(2)/RDM": "V4", "rdms{1}": "", "rdms{2}": "",
                      "one/RDM": "hIT", "thin": ""}  # fmt: skip
    np.testing.assert_array_equal(found.arrays["cube"].read(1, 2), CUBE[..., 1])
    np.testing.assert_array_equal(found.arrays["RDMs(2)/RDM"].read(), CUBE[1])
    np.testing.assert_array_equal(found.arrays["thin"].read(), np.eye(3))
    assert found.arrays["row"].shape == (5,) and found.texts["stimuli"] == ["apple", "bus"]
    assert found.texts["ascii"] == ["ab", "c"]


def test_doubles_of_whole_numbers_stay_doubles(tmp_path):
    """F90: MATLAB packs whole doubles as bytes; they are no bytes."""
    savemat(
        tmp_path / "a.mat", {"images": np.ones((2, 3, 4, 4)), "bytes": np.ones((2, 2), np.uint8), "yes": np.eye(3) > 0}
    )
    found = opened(tmp_path / "a.mat")
    assert [found.arrays[name].dtype.name for name in ("images", "bytes", "yes")] == ["float64", "uint8", "bool"]


def test_a_variable_that_claims_too_much_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"a": np.zeros((3, 5))})
    content = (tmp_path / "a.mat").read_bytes()
    lie = content.replace(b"\x05\x00\x00\x00\x08\x00\x00\x00\x03\x00\x00\x00\x05\x00\x00\x00",
                          b"\x05\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x40\x05\x00\x00\x00")  # fmt: skip
    assert lie != content
    (tmp_path / "a.mat").write_bytes(lie)
    with pytest.raises(Exception, match=r"a.mat: a claims 42.9 GB in .* of a compressed file; store it uncompressed"):
        opened(tmp_path / "a.mat")


@pytest.mark.parametrize("rows", [(2, 0, 3), (2, 0, -1), (3, 0, 1)])
@pytest.mark.parametrize("version", ["4", "5"])
def test_a_sparse_matrix_has_its_values_inside(tmp_path, version, rows):
    """F102: SciPy writes them wherever their places say."""
    savemat(tmp_path / "a.mat", {"x": csc_matrix((np.ones(3), (2, 0, 1), range(4)))}, format=version)
    content = (tmp_path / "a.mat").read_bytes()
    old, new = (np.add(one, version == "4").astype("i4" if version == "5" else "f8") for one in ((2, 0, 1), rows))
    assert old.tobytes() in content
    (tmp_path / "a.mat").write_bytes(content.replace(old.tobytes(), new.tobytes(), 1))
    with pytest.raises(UserError, match=r"a\.mat is damaged or no MATLAB 5 file"):
        opened(tmp_path / "a.mat")


@pytest.mark.parametrize("begins", [(0, 2, 1, 3), (1, 2, 3, 3), (0, 1, 2, 2**31 - 1), (0, 3, 3, 0)])
def test_columns_of_a_sparse_matrix_follow_each_other(tmp_path, begins):
    """F102: the last has no value at all, and SciPy would look for three."""
    savemat(tmp_path / "a.mat", {"x": csc_matrix((np.ones(3), (2, 0, 1), range(4)))})
    content = (tmp_path / "a.mat").read_bytes()
    old, new = (np.array(one, "i4").tobytes() for one in (range(4), begins))
    assert content.count(old) == 1
    (tmp_path / "a.mat").write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=r"a\.mat is damaged or no MATLAB 5 file"):
        opened(tmp_path / "a.mat")
