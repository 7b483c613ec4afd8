"""Files are known by what is in them; what is not read is told with what to do."""

import nibabel
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.errors import UserError
from cnnprobe.store.containers.opening import opened


def test_the_content_counts_not_the_ending(tmp_path):
    savemat(tmp_path / "a.h5", {"a": np.eye(2)})
    np.save(tmp_path / "b", np.eye(2))
    (tmp_path / "b.npy").rename(tmp_path / "b.mat")
    assert [opened(tmp_path / name).kind for name in ("a.h5", "b.mat")] == ["MATLAB 5", "npy"]


def test_a_volume_of_five_axes(tmp_path):
    """F91: an axis of length 1 says nothing."""
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 1, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    stored = opened(tmp_path / "a.nii.gz").arrays[""]
    assert stored.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(stored.read(2, 3), values[..., 0, 2])


@pytest.mark.parametrize("name, word", [
    ("rdms.pkl", "a pickle, which could run code; save the matrices as HDF5"), ("meg.fif", "a file of MNE"),
    ("a.xlsx", "a workbook; save the sheet as .csv"), ("a.h5", "it is neither"),
])  # fmt: skip
def test_what_is_not_read_is_told_with_what_to_do(tmp_path, name, word):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UserError, match=word):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5", "a.mat", "a.npy", "a.npz", "a.nii", "a.nii.gz", "a.csv"])
def test_damaged_files_are_one_line(tmp_path, name):
    for head in (
        b"\x89HDF\r\n\x1a\n",
        b"MATLAB 5.0 MAT-file",
        b"MATLAB 7.3",
        b"\x93NUMPY",
        b"PK\x03\x04",
        b"\xff\xfe\x00",
        b"",
    ):
        (tmp_path / name).write_bytes(head + b"\xff\x00,\n" * 50 * bool(head))
        with pytest.raises(UserError) as told:
            opened(tmp_path / name)
        assert "\n" not in str(told.value) and name in str(told.value)
