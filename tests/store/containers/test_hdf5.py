"""HDF5 of MATLAB, Octave, netCDF and h5py: values, axes as their program shows them, texts, and what is passed over."""

import struct

import h5py
import numpy as np
import pytest

from cnnprobe.store.containers.opening import opened
from tests.support.files.matlab_files import Matlab

RANDOM = np.random.default_rng(0)
CUBE = RANDOM.normal(size=(2, 3, 4))


def test_axes_of_matlab_stand_as_matlab_shows_them(tmp_path):
    """F91: an array of three axes is turned, whole and by places along any axis; rows and columns are vectors."""
    with Matlab(tmp_path / "a.mat") as file:
        file.put("cube", CUBE)
        file.put("row", np.arange(5.0)[None])
        file.put("column", np.arange(5.0)[:, None])
        file.put("rate", np.array([[250.0]]))
        file.put("flags", np.array([[True, False, True], [False, False, True]]))
    found = opened(tmp_path / "a.mat")
    assert found.kind == "MATLAB 7.3" and found.arrays["cube"].shape == (2, 3, 4)
    np.testing.assert_array_equal(found.arrays["cube"].read(), CUBE)
    for axis in range(3):
        for place in range(CUBE.shape[axis]):
            np.testing.assert_array_equal(found.arrays["cube"].read(place, axis), CUBE.take(place, axis))
    for name in ("row", "column"):
        np.testing.assert_array_equal(found.arrays[name].read(), np.arange(5.0))
        assert found.arrays[name].read(3) == 3
    assert found.arrays["rate"].shape == () and found.arrays["rate"].read() == 250
    assert found.arrays["flags"].dtype == bool and found.arrays["flags"].read().tolist()[0] == [True, False, True]


def test_structs_and_cells_of_matlab_are_looked_into(tmp_path):
    """F91: elements have the names MATLAB gives them; a struct's own name is its title."""
    with Matlab(tmp_path / "a.mat") as file:
        file.put("one", {"RDM": CUBE[0], "name": "hIT"})
        file.put("RDMs", ({"RDM": CUBE[0], "name": "V1"}, {"RDM": CUBE[1], "name": "V4"}))
        file.put("rdms", [CUBE[0], CUBE[1]])
        file.put("stimuli", ["apple", "bus", "Grün"])
        file.put("word", "cat")
    found = opened(tmp_path / "a.mat")
    titles = {name: array.title for name, array in found.arrays.items()}
    assert titles == {"RDMs(1)/RDM": "V1", "RDMs(2)/RDM": "V4", "one/RDM": "hIT", "rdms{1}": "", "rdms{2}": ""}
    for name in ("RDMs(2)/RDM", "rdms{2}"):
        np.testing.assert_array_equal(found.arrays[name].read(), CUBE[1])
    assert found.texts["stimuli"] == ["apple", "bus", "Grün"] and found.texts["word"] == ["cat"]
    assert list(found.named("RDMs")) == ["RDMs(1)/RDM", "RDMs(2)/RDM"] and list(found.named("one.RDM")) == ["one/RDM"]


def test_a_matrix_of_characters_is_a_text_a_row(tmp_path):
    with Matlab(tmp_path / "a.mat") as file:
        codes = np.array([[ord(letter) for letter in word] for word in ("cat  ", "horse")], np.uint16)
        file.file.create_dataset("names", data=codes.T).attrs["MATLAB_class"] = np.bytes_("char")
    assert opened(tmp_path / "a.mat").texts["names"] == ["cat", "horse"]


def test_what_is_no_array_of_numbers_is_passed_over_with_its_reason(tmp_path):
    """F90: objects, complex numbers, links, empty and foreign storage each have a reason."""
    with Matlab(tmp_path / "a.mat") as file:
        item = file.file.create_dataset("names", data=np.zeros((1, 6), np.uint32))
        item.attrs["MATLAB_class"], item.attrs["MATLAB_object_decode"] = np.bytes_("string"), 3
        file.file.create_dataset("none", data=np.zeros(2)).attrs["MATLAB_empty"] = 1
        file.file["complex"] = np.zeros(3, complex)
        file.file["away"] = h5py.ExternalLink("other.h5", "x")
        file.file.create_dataset("far", (4,), "f8", external=[(str(tmp_path / "x.bin"), 0, 32)])
    passed = opened(tmp_path / "a.mat").passed
    assert passed["names"].startswith("is an object of MATLAB; save") and passed["none"] == "is empty"
    assert passed["away"] == "is a link to elsewhere" and passed["far"] == "keeps its values in other files; refused"
    assert "complex128" in passed["complex"]


@pytest.mark.parametrize("kind", ["S4", "chars", "fields", "virtual", "octave", "references"])
def test_what_lies_in_other_files_is_not_read(tmp_path, kind):
    """F102: whatever it is, numbers, texts, characters or fields."""
    (tmp_path / "secret").write_bytes(b"secret" * 20)
    away = {"external": [(str(tmp_path / "secret"), 0, 64)]}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "virtual":
            layout = h5py.VirtualLayout((4,), "S4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "b.h5"), "x", (4,))
            file.create_virtual_dataset("x", layout)
        elif kind == "octave":
            group = file.create_group("x")
            group.attrs["OCTAVE_NEW_FORMAT"], group["type"] = np.uint8(1), np.bytes_("string")
            group.create_dataset("value", (4, 1), "i1", **away)
        else:
            dtype = {"chars": "u1", "fields": np.dtype([("x", "u1", (4,))]), "references": h5py.ref_dtype}.get(
                kind, kind
            )
            item = file.create_dataset("x", (4,), dtype, **away)
            matlab = {"chars": "char", "references": "cell"}.get(kind)
            item.attrs["MATLAB_class"] = np.bytes_(matlab or "")
    found = opened(tmp_path / "a.h5")
    assert not found.arrays and not found.texts and found.passed == {"x": "keeps its values in other files; refused"}


def test_a_cell_array_that_holds_itself_ends(tmp_path):
    with h5py.File(tmp_path / "loop.mat", "w") as file:
        item = file.create_dataset("c", (8, 1), h5py.ref_dtype)
        item.attrs["MATLAB_class"] = np.bytes_("cell")
        item[:] = np.array([[item.ref]] * 8, h5py.ref_dtype)
    found = opened(tmp_path / "loop.mat")
    assert not found.arrays and set(found.passed.values()) == {"refers to what has been read"}


def test_octave_keeps_its_axes_reversed_too(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, kind, value in (("cube", "matrix", CUBE.T), ("word", "string", np.array([[99], [97]], np.int8))):
            group = file.create_group(name)
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["type"], group["value"] = np.bytes_(kind), value
    found = opened(tmp_path / "a.h5")
    np.testing.assert_array_equal(found.arrays["cube"].read(), CUBE)
    assert found.texts["word"] == ["ca"]


def test_attributes_and_scales_name_axes(tmp_path):
    """F91: axes by an attribute, and by the dimensions that netCDF4 and xarray write."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = CUBE
        file["cube"].attrs["dims"] = ["subject", "time", "pair"]
        file["cube"].attrs["rate"] = 250
        file["other"] = CUBE
        file["when"] = np.arange(3.0)
        file["when"].make_scale("when")
        file["other"].dims[1].attach_scale(file["when"])
        file["yes"] = np.array([True, False])
        file["names"] = ["a", "b"]
        file["fixed"] = np.array([b"x", b"y"])
    found = opened(tmp_path / "a.h5")
    assert found.arrays["cube"].axes == ("subject", "time", "pair") and found.arrays["other"].axes == ("", "when", "")
    assert found.arrays["cube"].about["rate"] == 250 and found.arrays["yes"].dtype == bool
    assert found.texts["names"] == ["a", "b"] and found.texts["fixed"] == ["x", "y"]
    np.testing.assert_array_equal(found.arrays["cube"].read(1, 1), CUBE[:, 1])


@pytest.mark.parametrize("damaged", [False, True])
def test_labels_of_dimensions_name_axes_and_crash_nothing(tmp_path, monkeypatch, damaged):
    """F71: HDF5's own function for them ends the process where they cannot be read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"], file["when"] = CUBE, np.arange(3.0)
        file["when"].make_scale()
        file["cube"].dims[1].attach_scale(file["when"])
        file["cube"].dims[0].label = "subject"
    content = (tmp_path / "a.h5").read_bytes()
    if damaged:  # the first byte of the reference to "subject": its length
        at = content.find(struct.pack("<IQ", 7, content.find(b"GCOL")))
        assert at > 0
        (tmp_path / "a.h5").write_bytes(content[:at] + b"\x08" + content[at + 1 :])
    monkeypatch.setattr(h5py.Dataset, "dims", None)
    assert opened(tmp_path / "a.h5").arrays["cube"].axes == ("" if damaged else "subject", "when", "")


def test_a_piece_that_is_shorter_than_its_checksum_is_not_read(tmp_path):
    """F71: HDF5 would sum up all the memory behind it."""
    values = np.arange(60.0).reshape(6, 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(2, 5), shuffle=True, fletcher32=True)
        size = file["x"].id.get_chunk_info(3).size
        assert size == 84
    np.testing.assert_array_equal(opened(tmp_path / "a.h5").arrays["x"].read(), values)
    content = (tmp_path / "a.h5").read_bytes()
    for length in (0, 3):  # of the fourth of six, in the list of them
        at = -1
        for _ in range(4):
            at = content.index(struct.pack("<II", size, 0), at + 1)
        (tmp_path / "b.h5").write_bytes(content[:at] + struct.pack("<I", length) + content[at + 4 :])
        assert opened(tmp_path / "b.h5").passed == {"x": "has a piece that is shorter than its checksum"}
