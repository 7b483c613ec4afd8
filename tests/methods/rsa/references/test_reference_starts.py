"""Times that begin with a number of a file, and what is told of packed, sparse and one-sided matrices of references."""

import logging

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix
from scipy.spatial.distance import squareform

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load
from tests.support.files.made_references import NAMES
from tests.support.files.matlab_files import Matlab

COUNT = len(NAMES)
PAIRS = np.random.default_rng(0).uniform(0.1, 1, COUNT * (COUNT - 1) // 2)
SQUARE = squareform(PAIRS)
COURSE = np.random.default_rng(1).uniform(0.1, 1, (50, len(PAIRS)))


@pytest.fixture
def told(caplog):
    logging.getLogger("cnnprobe").propagate = True
    caplog.set_level("WARNING", "cnnprobe")
    return caplog


def read(path, **options):
    return load(str(path), conditions=NAMES, **options)[0]


@pytest.mark.parametrize(("start", "words"), [(-100.0, True), (-0.02, False), (0.04, False), (300.0, True)])
def test_a_start_that_is_no_second_is_told_with_both_readings(tmp_path, told, start, words):
    """F91."""
    savemat(tmp_path / "a.mat", {"rdm": COURSE, "fs": 1000.0, "tmin": start})
    made = read(tmp_path / "a.mat", axes=["time"])
    np.testing.assert_allclose(made.times, start + np.arange(50) / 1000)
    lines = [line for line in told.messages if "tmin" in line]
    assert len(lines) == words
    if words:
        assert f"{start:g} to {start + 0.049:g} s" in lines[0] and f"{start / 1000:g} to" in lines[0]


def test_a_start_with_a_unit_is_of_this_unit(tmp_path, told):
    """F91."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rdm"], file["sfreq"], file["tmin"] = COURSE, 1000.0, -100.0
        file["tmin"].attrs["units"] = "ms"
    made = read(tmp_path / "a.h5", axes=["time"])
    np.testing.assert_allclose(made.times, -0.1 + np.arange(50) / 1000)
    assert "tmin" not in told.text


def test_packed_dissimilarities_are_unpacked_and_told_once(tmp_path, told):
    """F90."""
    packed = np.round(SQUARE * 1000).astype(np.int16)
    packed[0, 1] = packed[1, 0] = -32768
    with h5py.File(tmp_path / "a.nc", "w") as file:
        item = file.create_dataset("rdm", data=packed)
        item.attrs["scale_factor"], item.attrs["_FillValue"] = 0.001, np.int16(-32768)
    pairs = read(tmp_path / "a.nc").matrices[0, 0, 0]
    assert np.isnan(pairs[0])
    np.testing.assert_allclose(pairs[1:], np.round(PAIRS * 1000)[1:] / 1000)
    assert len([line for line in told.messages if "scale_factor" in line]) == 1


@pytest.mark.parametrize("part", [np.triu, np.tril, np.asarray])
@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_sparse_matrix_of_matlab_is_the_matrix_it_is(tmp_path, told, part, version):
    """F90: of one triangle it is mirrored, which is said."""
    kept = csc_matrix(part(SQUARE))
    if version == "5":
        savemat(tmp_path / "a.mat", {"rdm": kept})
    else:
        with Matlab(tmp_path / "a.mat") as file:
            group = file.file.create_group("rdm")
            group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(COUNT)
            group["data"], group["ir"], group["jc"] = kept.data, kept.indices.astype("u8"), kept.indptr.astype("u8")
    found = load(str(tmp_path / "a.mat"), conditions=NAMES)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].matrices[0, 0, 0], PAIRS)
    assert ("mirrored" in told.text) == (part is not np.asarray)


@pytest.mark.parametrize("words", [("region", "time_bin_start", "stimulus_id", "stimulus_id_2"),
                                   ("neuroid", "time_bin", "presentation", "presentation_2")])  # fmt: skip
def test_dimensions_of_a_netcdf_are_axes_and_their_coordinates_times(tmp_path, words):
    """F91: region, time_bin_start and stimulus, with the times in ms along the second."""
    values = np.stack([squareform(one) for one in COURSE[:10]]).reshape(2, 5, COUNT, COUNT)
    path = tmp_path / "made.nc"
    with h5py.File(path, "w") as file:
        file["rdm"] = values
        for place, (word, along) in enumerate(zip(words, (["IT", "V4"], [70, 90, 110, 130, 150], NAMES, NAMES))):
            file[word] = along
            file[word].make_scale(word)
            file["rdm"].dims[place].attach_scale(file[word])
        file[words[1]].attrs["units"] = "ms"
    one = read(path)
    np.testing.assert_array_equal(one.matrices[0], COURSE[:10].reshape(2, 5, -1).transpose(1, 0, 2))
    assert one.taken == "region time stimulus stimulus" and one.regions == ("IT", "V4")
    assert one.times.tolist() == [70, 90, 110, 130, 150] and one.time_unit == "ms"
    with h5py.File(path, "r+") as file:
        file["rdm"].attrs["axes"] = ["region", "phase", "stimulus", "stimulus"]
    with pytest.raises(UserError, match=r"no axis 'phase'.*; say what each axis is, e.g. reference_axes=\[region,time"):
        read(path)
    assert read(path, axes=["region", "time"]).axes == ("region", "time")
