"""Small files that claim to be large: nothing that its bytes cannot stand for is unpacked."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.errors import UserError
from cnnprobe.store.containers import stored, tables
from cnnprobe.store.containers.opening import opened


@pytest.fixture
def small(monkeypatch):
    """A floor of 64 kB; the arrays have 8 MB."""
    monkeypatch.setattr(stored, "FLOOR", 2**16)
    return np.zeros((1024, 1024))


def test_an_archive_of_zeros_is_not_unpacked(tmp_path, small, monkeypatch):
    """F102: what lies beside it is read."""
    np.savez_compressed(tmp_path / "a.npz", x=small, y=np.arange(6.0))
    found = opened(tmp_path / "a.npz")
    assert list(found.arrays) == ["y"]
    assert "claims 0.00839 GB in 0.00" in found.passed["x"]


def test_chunks_that_are_zeros_or_not_there_are_not_unpacked(tmp_path, small):
    """F102."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("packed", data=small, compression="gzip")
        file.create_dataset("absent", shape=(1024, 1024), dtype="f8", chunks=(64, 64))
        file["plain"] = np.random.default_rng(0).random((64, 64))
        file.create_dataset("dense", data=np.random.default_rng(0).random((64, 64)), compression="gzip")
    found = opened(tmp_path / "a.h5")
    assert sorted(found.arrays) == ["dense", "plain"]
    assert all("store it uncompressed" in found.passed[name] for name in ("packed", "absent"))


def test_texts_characters_and_fields_are_not_unpacked(tmp_path, small):
    """F102: nor what has no place in the file at all, and chunks larger than what they hold."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("texts", (1000,), "S1000", chunks=(100,), compression="gzip")
        file.create_dataset("few", (3,), "S1000", chunks=(100,), maxshape=(None,), compression="gzip")
        file.create_dataset("chars", (10**5,), "u2", chunks=(1000,)).attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("rows", (0, 10**6), "u2").attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("fields", (1000,), np.dtype([("x", "f8", (16,))]), chunks=(100,))
        file.create_dataset("nowhere", (10**5,), "f8")
        sparse = file.create_group("sparse")
        sparse.attrs["MATLAB_sparse"] = np.uint64(3)
        for key, size in (("data", 10**5), ("ir", 10**5), ("jc", 4)):
            sparse.create_dataset(key, (size,), "u8", chunks=(4,))
    found = opened(tmp_path / "a.h5")
    assert not found.arrays and not found.texts
    names = ["texts", "few", "chars", "rows", "fields", "nowhere", "sparse"]
    assert sorted(found.passed) == sorted(names)
    assert all("claims" in reason and "at most 20 times its bytes" in reason for reason in found.passed.values())


def test_what_is_small_by_itself_is_counted_together(tmp_path, small):
    """F102: texts, and cells that refer to the same place; arrays are read one by one, when they are asked for."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(20):
            file.create_dataset(f"x{number}", (6000,), "f8", chunks=(1000,))
        place = file.create_dataset("word", data=np.full((1, 1500), 65, np.uint16))
        place.attrs["MATLAB_class"] = np.bytes_("char")
        cell = file.create_dataset("z", (1, 30), h5py.ref_dtype)
        cell.attrs["MATLAB_class"], cell[:] = np.bytes_("cell"), np.array([[place.ref] * 30], h5py.ref_dtype)
    found = opened(tmp_path / "a.h5")
    assert len(found.arrays) == 20
    assert "GB in 0.003 MB" in found.passed["z"]
    np.savez_compressed(tmp_path / "a.npz", **{f"x{number}": np.zeros(6000) for number in range(20)})
    assert len(opened(tmp_path / "a.npz").arrays) == 20
    np.savez_compressed(tmp_path / "b.npz", **{f"x{number}": np.full(500, "a") for number in range(20)})
    assert 0 < len(opened(tmp_path / "b.npz").texts) < 20


KEPT = {
    "texts": {"data": np.full(1, "a" * 10_000)},
    "beside a text": {"data": np.zeros(1, [("a", "U1"), ("b", "f4", (10_000,))])},
    "masks": {"data": np.zeros(30_000, np.int8), "mask": np.zeros(30_000, bool)},
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_kept_as_an_archive_is_opened_is_counted_together(tmp_path, small, kind):
    """F102: texts with their letters, what lies in one array with a text, and masks."""
    several = {f"x{number}_{key}": one for number in range(20) for key, one in KEPT[kind].items()}
    np.savez_compressed(tmp_path / "a.npz", **several)
    found = opened(tmp_path / "a.npz")
    assert 0 < len([name for name in (*found.arrays, *found.texts) if "data" in name]) < 20
    assert all("counted with what stands before it" in reason for reason in found.passed.values()) and found.passed


def test_a_shape_of_a_sparse_matrix_has_two_sides(tmp_path, small):
    """F102: what claims to be the shape of one is not read."""
    np.savez(tmp_path / "a.npz", format="csr", shape=np.zeros(5000, np.int8), data=np.ones(3))
    assert "is a sparse matrix" in opened(tmp_path / "a.npz").passed["data"]


def test_cells_of_matlab_are_counted(tmp_path, small):
    """F102: a cell is small, what it holds is not."""
    cells = np.empty((1, 1), object)
    cells[0, 0] = small
    savemat(tmp_path / "a.mat", {"c": cells}, do_compression=True)
    with pytest.raises(UserError, match=r"a\.mat: c claims 0\.00839 GB in"):
        opened(tmp_path / "a.mat")


def test_what_stands_behind_a_header_of_a_volume_is_not_unpacked(tmp_path, small):
    """F102: nibabel reads it with the header."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, bytes(10**6)))
    image.to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match=r"a\.nii\.gz claims 0\.001 GB in"):
        opened(tmp_path / "a.nii.gz")


def test_variables_of_matlab_together_are_bounded(tmp_path, small):
    """F102."""
    savemat(tmp_path / "a.mat", {f"x{number}": small for number in range(3)}, do_compression=True)
    with pytest.raises(UserError, match=r"a.mat: x0 claims 0.00839 GB in .* store it uncompressed"):
        opened(tmp_path / "a.mat")


def test_volumes_of_zeros_are_not_unpacked(tmp_path, small):
    """F102."""
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Image(np.zeros((64, 64, 64), np.float32), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match=r"a.nii.gz claims 0.00105 GB in .* store it uncompressed"):
        opened(tmp_path / "a.nii.gz")


def test_a_table_has_so_many_cells_at_most(tmp_path, monkeypatch):
    """F102."""
    monkeypatch.setattr(tables, "CELLS", 1000)
    (tmp_path / "a.csv").write_text("\n".join(["1,2,3,4"] * 251))
    with pytest.raises(UserError, match=r"has about 1e\+03 cells, and of a table 1e\+03 are read"):
        opened(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("\n".join(["1,2,3,4"] * 250))
    assert opened(tmp_path / "a.csv").arrays[""].shape == (250, 4)
