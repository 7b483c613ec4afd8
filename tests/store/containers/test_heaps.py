"""Texts of any length in HDF5 of which many refer to the same bytes."""

import struct

import h5py
import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.store.containers import heaps, stored
from cnnprobe.store.containers.heaps import at_most, longest
from cnnprobe.store.containers.opening import opened

LENGTH, COUNT = 30_000, 200


@pytest.fixture
def small(monkeypatch):
    """A floor of 64 kB."""
    monkeypatch.setattr(stored, "FLOOR", 2**16)


def all_to_the_first(path, count: int, length: int) -> None:
    """Make all texts that stand in a row refer to the bytes of the first."""
    data = bytearray(path.read_bytes())
    at = data.find(struct.pack("<I", length))
    while data[at + 16 : at + 20] != struct.pack("<I", 1):
        at = data.find(struct.pack("<I", length), at + 1)
        assert at > 0
    for place in range(1, count):
        data[at + 16 * place : at + 16 * place + 16] = data[at : at + 16]
    path.write_bytes(data)


def texts(path, where: str, **options):
    """Write texts, as a dataset, a field or an attribute."""
    values = np.array(["A" * LENGTH, *"b" * (COUNT - 1)], object)
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(6.0)
        if where == "attribute":
            file.attrs.create("words", values, dtype=h5py.string_dtype())
        elif where == "field":
            kind = np.dtype([("words", h5py.string_dtype())])
            file.create_dataset("names", data=np.array([(one,) for one in values], kind), dtype=kind)
        else:
            file.create_dataset("names", data=values, dtype=h5py.string_dtype(), **options)
    all_to_the_first(path, COUNT, LENGTH)


@pytest.mark.parametrize("where", ["dataset", "field"])
def test_what_many_texts_refer_to_is_counted_for_each(tmp_path, small, where):
    """F102: 200 references to one text of 30 kB are 6 MB."""
    texts(tmp_path / "a.h5", where)
    found = opened(tmp_path / "a.h5")
    assert list(found.arrays) == ["data"] and not found.texts
    assert "GB in 0.04" in next(iter(found.passed.values()))


def test_what_an_attribute_refers_to_is_counted(tmp_path, small):
    """F102."""
    texts(tmp_path / "a.h5", "attribute")
    with pytest.raises(UserError, match=r"a\.h5 has an attribute words that claims 0\.006"):
        opened(tmp_path / "a.h5")


def test_texts_in_pieces_are_all_there(tmp_path, monkeypatch):
    """One long text among many short ones makes the pieces small."""
    monkeypatch.setattr(stored, "FLOOR", 2**18)
    values = [str(number) for number in range(300)] + ["A" * 5000]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["names"], file["grid"] = values, np.array(values[:300], object).reshape(100, 3)
        file["one"] = "word"
        file["zipped"] = values[:5]
        kind = np.dtype([("words", h5py.string_dtype()), ("x", "f8")])
        file["rows"] = np.array([(one, 1.5) for one in values], kind)
    found = opened(tmp_path / "a.h5")
    assert found.texts["names"] == found.texts["rows/words"] == values
    assert found.texts["grid"] == values[:300] and found.texts["one"] == ["word"]
    np.testing.assert_array_equal(found.arrays["rows/x"].read(), np.full(301, 1.5))


def test_the_longest_is_that_of_the_largest_heap(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["names"] = ["A" * 100_000, "b"]
    assert 100_000 < longest(tmp_path / "a.h5") < 110_000
    assert at_most(tmp_path / "a.h5", heaps.FEW) == 0 and at_most(tmp_path / "a.h5", 1000) > 1e8
