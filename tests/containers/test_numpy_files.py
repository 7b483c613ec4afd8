"""Files of NumPy: values, texts, structured arrays; no pickle is opened."""

import numpy as np
import pytest

from cnnprobe.containers.opening import opened

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
