"""What stands beside an array: rates, times with their unit, names."""

import zipfile

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.store.containers.beside import channels_of, names_of, rate_of, times_of
from cnnprobe.store.containers.opening import opened


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


def test_names_are_looked_up_and_not_gone_through(tmp_path, monkeypatch):
    """F103: small letters are made of all names once, and archives opened once, however many arrays there are."""
    opens, wide = [], []
    np.savez(tmp_path / "a.npz", **{f"A{number}": np.zeros(2) for number in range(300)}, rate=100)
    found = opened(tmp_path / "a.npz")
    whole = zipfile.ZipFile.__init__
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda *given, **more: opens.append(1) or whole(*given, **more))
    monkeypatch.setattr(found, "texts", Counted(wide))
    assert [rate_of(found, f"A{number}") for number in range(300)] == [100.0] * 300
    assert [array.read().sum() for name, array in found.arrays.items() if name != "rate"] == [0] * 300
    assert len(opens) == 1 and len(wide) == 1


class Counted(dict):
    """A dict that notes how often somebody goes through it."""

    def __init__(self, noted: list):
        self.noted = noted

    def __iter__(self):
        self.noted.append(1)
        return super().__iter__()

    def keys(self):
        self.noted.append(1)
        return super().keys()
