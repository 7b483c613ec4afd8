"""Small files that claim to be large: nothing that its bytes cannot stand for is unpacked."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.containers import stored, tables
from cnnprobe.containers.opening import opened
from cnnprobe.errors import UserError


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
