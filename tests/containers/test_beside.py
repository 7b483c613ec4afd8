"""What stands beside an array: rates, times with their unit, names."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.containers.beside import channels_of, names_of, rate_of, times_of
from cnnprobe.containers.opening import opened


@pytest.mark.parametrize("word", ["rate", "fs", "sfreq", "Fs", "srate"])
def test_samples_per_second(tmp_path, word):
    """F91: the rate is an attribute or a number beside the data, in any container."""
    np.savez(tmp_path / "a.npz", data=np.zeros((2, 3, 4)), **{word: 250})
    savemat(tmp_path / "a.mat", {"data": np.zeros((2, 3, 4)), word: 250.0})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/data"] = np.zeros((2, 3, 4))
        file["x/data"].attrs[word] = 250
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x/data"], file[word] = np.zeros((2, 3, 4)), 250.0
    names = {"a.npz": "data", "a.mat": "data", "a.h5": "x/data", "b.h5": "x/data"}
    assert [rate_of(opened(tmp_path / file), name) for file, name in names.items()] == [250.0] * 4


def test_attributes_of_the_group_and_of_the_file_count_too(tmp_path):
    """F91: what is nearer counts first, a number beside the array before an attribute of its group."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for group in ("x", "y", "z"):
            file[f"{group}/data"] = np.zeros((2, 3, 4))
        file.attrs["SFREQ"], file["y"].attrs["fs"], file["z"].attrs["fs"] = 100, 200.0, 200.0
        file["z/rate"] = 300
    found = opened(tmp_path / "a.h5")
    assert [rate_of(found, f"{group}/data") for group in ("x", "y", "z")] == [100, 200, 300]


@pytest.mark.parametrize("given, unit", [
    ({"times": np.arange(4) / 10}, "unit unknown"), ({"times": np.arange(1, 5)}, "index"),
    ({"times_ms": np.arange(4)}, "ms"),
    ({"time": np.arange(4), "time_unit": "milliseconds"}, "ms"), ({"t": np.arange(4), "times_unit": "sec"}, "s"),
])  # fmt: skip
def test_times_and_their_unit(tmp_path, given, unit):
    """F91: times beside the data, with the unit the file gives."""
    np.savez(tmp_path / "a.npz", data=np.zeros((2, 4)), **given)
    values, said = times_of(opened(tmp_path / "a.npz"), "data")
    np.testing.assert_array_equal(values, next(iter(given.values())))
    assert said == unit


def test_names_belong_to_the_array_that_ends_as_they_do(tmp_path):
    """F89: each participant's names are those of the participant's matrix."""
    given = {"rdmutv_anna": np.arange(3.0), "rdmutv_bo": np.arange(3.0), "stimuli_anna": ["b", "a", "c"],
             "stimuli_bo": ["c", "b", "a"], "ch_names": ["Cz", "Oz"]}  # fmt: skip
    savemat(tmp_path / "a.mat", given)
    found = opened(tmp_path / "a.mat")
    assert names_of(found, "rdmutv_anna", ["stimuli"]) == ("stimuli_anna", ["b", "a", "c"])
    assert names_of(found, "rdmutv_bo", ["stimuli"], 3)[1] == ["c", "b", "a"]
    assert names_of(found, "rdmutv_bo", ["stimuli"], 4) is None and channels_of(found, "rdmutv_bo") == ["Cz", "Oz"]
