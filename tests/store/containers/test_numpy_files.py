"""Files of NumPy: values, texts, structured arrays; no pickle is opened."""

import numpy as np
import pytest

from cnnprobe.store.containers.opening import opened

CUBE = np.random.default_rng(0).normal(size=(2, 3, 4))


@pytest.mark.parametrize("order", "CF")
def test_npy_and_npz(tmp_path, order):
    np.save(tmp_path / "a.npy", np.asarray(CUBE, order=order))
    np.savez(tmp_path / "a.npz", cube=np.asarray(CUBE, order=order), yes=np.eye(2) > 0, names=["b", "ä"])
    for stored in (opened(tmp_path / "a.npy").arrays[""], opened(tmp_path / "a.npz").arrays["cube"]):
        np.testing.assert_array_equal(stored.read(), CUBE)
        np.testing.assert_array_equal(stored.read(2, 1), CUBE[:, 2])
    found = opened(tmp_path / "a.npz")
    assert found.texts == {"names": ["b", "ä"]} and found.arrays["yes"].dtype == bool


def test_fields_of_a_structured_array(tmp_path):
    given = np.zeros(3, [("name", "U5"), ("rdm", "f8", (3,))])
    given["name"], given["rdm"] = ["a", "b", "c"], np.eye(3)
    np.save(tmp_path / "a.npy", given)
    found = opened(tmp_path / "a.npy")
    assert found.texts["name"] == ["a", "b", "c"]
    np.testing.assert_array_equal(found.arrays["rdm"].read(1), np.eye(3)[1])


def test_pickles_are_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", bad=np.array([{}, None], object), good=np.eye(2))
    found = opened(tmp_path / "a.npz")
    assert list(found.arrays) == ["good"] and found.passed["bad"] == "holds pickled objects, which could run code"
    with pytest.raises(Exception, match=r"a.npz: bad holds pickled objects"):
        found.named("bad")
    np.save(tmp_path / "b.npy", np.array([{}], object))
    assert not opened(tmp_path / "b.npy").arrays


def test_a_file_that_is_cut_off_is_told(tmp_path):
    np.save(tmp_path / "a.npy", CUBE)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    with pytest.raises(Exception, match=r"a.npy is cut off"):
        opened(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize(("data", "mask"), [("data", "mask"), ("rdm_data", "rdm_mask")])
def test_what_a_mask_covers_is_missing(tmp_path, dtype, data, mask, caplog):
    """F90: a masked array of NumPy keeps any number under its mask."""
    given = np.ma.masked_greater(np.arange(12).reshape(3, 4).astype(dtype), 9)
    given.data[given.mask] = 99
    np.savez(tmp_path / "a.npz", **{data: given.data, mask: given.mask})
    found = opened(tmp_path / "a.npz")
    assert list(found.arrays) == [data]
    np.testing.assert_array_equal(found.arrays[data].read(), given.astype(float).filled(np.nan))
    np.testing.assert_array_equal(found.arrays[data].read(2, 1), [2, 6, np.nan])
    assert f"a.npz: {data}: 2 of 12 values are missing, as {mask} says" in caplog.text


def test_a_mask_that_covers_nothing_changes_nothing(tmp_path):
    """A mask of other numbers than true and false, or of another shape, belongs to something else."""
    given = np.arange(4, dtype="u1")
    for mask in (np.ma.nomask, np.zeros(4, bool)):
        np.savez(tmp_path / "a.npz", data=given, mask=mask)
        found = opened(tmp_path / "a.npz").arrays
        assert list(found) == ["data"] and found["data"].dtype == np.uint8
    for mask in (np.ones(3, bool), np.ones(4)):
        np.savez(tmp_path / "a.npz", data=given, mask=mask)
        found = opened(tmp_path / "a.npz").arrays
        assert list(found) == ["data", "mask"] and found["data"].read().tolist() == [0, 1, 2, 3]
