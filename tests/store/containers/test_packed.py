"""Packed values: gaps, factors and offsets of netCDF, and sparse matrices, as NumPy and SciPy have them."""

import logging

import h5py
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix, save_npz

from cnnprobe.store.containers.opening import opened
from tests.support.files.matlab_files import Matlab

RANDOM = np.random.default_rng(0)
PACKED = RANDOM.integers(-3000, 3000, (4, 5, 6)).astype(np.int16)
PACKED[1, 2, 3] = PACKED[3, 0, 1] = -32768


def written(path, values, **attributes):
    with h5py.File(path, "w") as file:
        item = file.create_dataset("x", data=values)
        for name, value in attributes.items():
            item.attrs[name] = value
    return opened(path)


def test_gaps_factors_and_offsets_are_applied_whole_and_by_places(tmp_path, caplog):
    """F90: as the CF convention says, and told once."""
    log = logging.getLogger("cnnprobe")
    log.propagate = caplog.handler not in log.handlers  # where a run has been, pytest listens to it itself
    options = {"_FillValue": np.int16(-32768), "scale_factor": np.array([0.25]), "add_offset": 10.0}
    array = written(tmp_path / "a.nc", PACKED, **options).arrays["x"]
    expected = np.where(PACKED == -32768, np.nan, PACKED.astype(float) * 0.25 + 10)
    np.testing.assert_array_equal(array.read(), expected)
    for axis in range(3):
        np.testing.assert_array_equal(array.read(1, axis), expected.take(1, axis))
    assert array.dtype == np.float64 and len(caplog.messages) == 1
    assert "a.nc: x" in caplog.text and "multiplied by 0.25" in caplog.text and "10 is added" in caplog.text


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (np.array([[1.5, 1e20], [2, 3]], "f4"), {"missing_value": 1e20}, [[1.5, np.nan], [2, 3]]),
        (np.array([[1, -9], [2, -8]], "i4"), {"missing_value": [-9, -8]}, [[1, np.nan], [2, np.nan]]),
        (np.array([[1, -1], [2, 3]], ">i2"), {"_Unsigned": "true"}, [[1, 65535], [2, 3]]),
        (np.array([[1, 0], [2, 3]], "u1"), {"_FillValue": np.uint8(0)}, [[1, np.nan], [2, 3]]),
        (np.array([[1, -99], [2, 900]], "i2"), {"valid_range": [0, 500]}, [[1, np.nan], [2, np.nan]]),
        (np.array([[1.5, -9], [0, 900]], "f4"), {"valid_min": 0.0, "valid_max": 500}, [[1.5, np.nan], [0, np.nan]]),
        (np.array([[1, -9], [2, -8]], "i1"), {"_Unsigned": "true", "valid_max": np.int8(-9)}, [[1, 247], [2, np.nan]]),
    ],
)
def test_every_kind_of_gap(tmp_path, values, options, expected):
    """F90."""
    np.testing.assert_array_equal(written(tmp_path / "a.nc", values, **options).arrays["x"].read(), expected)


def test_what_says_nothing_changes_nothing_and_what_is_no_factor_is_passed_over(tmp_path):
    plain = written(tmp_path / "a.nc", np.ones((2, 2), "f4"), _FillValue=np.float32(np.nan), scale_factor=1.0)
    assert plain.arrays["x"].dtype == np.float32 and not plain.arrays["x"].note
    several = written(tmp_path / "b.nc", np.ones((2, 2), "i2"), scale_factor=[0.5, 2.0])
    assert several.passed == {"x": "has a scale_factor that is no finite number"}
    bound = written(tmp_path / "c.nc", np.ones((2, 2), "i2"), valid_range=[0.0, 1.0, 2.0])
    assert bound.passed == {"x": "has a valid_range that is not two finite numbers"}


def test_sparse_matrices_are_the_dense_ones_they_are(tmp_path):
    """F90: of MATLAB, compressed by columns, of AnnData, and of SciPy."""
    dense = np.where(RANDOM.random((7, 4)) < 0.4, RANDOM.normal(size=(7, 4)), 0)
    with Matlab(tmp_path / "a.mat") as file:
        for name, values in (("m", dense), ("none", np.zeros((3, 2)))):
            kept, group = csc_matrix(values), file.file.create_group(name)
            group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(len(values))
            group["jc"] = kept.indptr.astype(np.uint64)
            if kept.nnz:
                group["data"], group["ir"] = kept.data, kept.indices.astype(np.uint64)
    found = opened(tmp_path / "a.mat")
    assert list(found.arrays) == ["m", "none"]
    np.testing.assert_array_equal(found.arrays["m"].read(), dense)
    np.testing.assert_array_equal(found.arrays["m"].read(2, 1), dense[:, 2])
    np.testing.assert_array_equal(found.arrays["none"].read(), np.zeros((3, 2)))
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        for kind, kept in (("csr_matrix", csr_matrix(dense)), ("csc_matrix", csc_matrix(dense))):
            group = file.create_group(kind)
            group.attrs["encoding-type"], group.attrs["shape"] = kind, dense.shape
            group["data"], group["indices"], group["indptr"] = kept.data, kept.indices, kept.indptr
    for array in opened(tmp_path / "a.h5ad").arrays.values():
        np.testing.assert_array_equal(array.read(), dense)
    for kind in (csr_matrix, csc_matrix):
        save_npz(tmp_path / "a.npz", kind(dense))
        found = opened(tmp_path / "a.npz")
        assert list(found.arrays) == ["data"] and not found.texts
        np.testing.assert_array_equal(found.arrays["data"].read(), dense)
        np.testing.assert_array_equal(found.arrays["data"].read(2, 1), dense[:, 2])
    save_npz(tmp_path / "a.npz", csr_matrix(dense).tocoo())
    assert opened(tmp_path / "a.npz").passed == {"data": "is a sparse matrix of the kind coo; save it as .tocsr()"}


def test_sparse_matrices_that_lie_are_refused(tmp_path):
    """F90: too large, or with places outside."""
    with Matlab(tmp_path / "a.mat") as file:
        for name, rows in (("large", 2**40), ("wrong", 2)):
            group = file.file.create_group(name)
            group.attrs["MATLAB_sparse"] = np.uint64(rows)
            group["data"], group["ir"], group["jc"] = np.ones(2), np.array([0, 5]), np.array([0, 1, 2])
    found = opened(tmp_path / "a.mat")
    assert "more than" in found.passed["large"]
    with pytest.raises(ValueError, match="no sparse matrix"):
        found.arrays["wrong"].read()
