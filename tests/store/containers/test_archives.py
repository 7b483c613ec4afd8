"""Archives in which two files have one name, in every place where an archive is opened."""

import io
import json
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.machine.version import __version__
from cnnprobe.models.weights import checkpoints, extra_state, pickles
from cnnprobe.store import unfinished
from cnnprobe.store.containers.archives import members
from cnnprobe.store.containers.opening import opened


def array(values) -> bytes:
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def add(path, name, data):
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data)


@pytest.mark.parametrize("name", ["x.npy", "x"])
def test_an_array_that_is_there_twice_is_refused(tmp_path, name):
    """F102: the first was looked at, the second, of any size, was read."""
    np.savez(tmp_path / "a.npz", x=np.ones(3), X=np.ones(2))
    assert sorted(opened(tmp_path / "a.npz").arrays) == ["X", "x"]
    add(tmp_path / "a.npz", name, array(np.zeros(10**5)))
    with pytest.raises(UserError, match=f"a.npz holds '{name}' twice; refused"):
        opened(tmp_path / "a.npz")


def test_slashes_and_capitals_are_the_same_to_some_programs(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a/data.pkl", "a/DATA.pkl", "b"):
            archive.writestr(name, b"")
        assert len(members(archive, "it")) == 3
        with pytest.raises(UserError, match=r"it holds 'a/DATA.pkl' twice"):
            members(archive, "it", any_case=True)
        archive.writestr("a\\data.pkl", b"")
        with pytest.raises(UserError, match="twice"):
            members(archive, "it")


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL", "data/0"])
def test_weights_that_are_there_twice_are_refused(tmp_path, name):
    """F102: torch finds a file whatever its capitals, and takes one of the two."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    add(tmp_path / "a.pt", f"a/{name}", b"x")
    with pytest.raises(UserError, match=f"a.pt holds 'a/{name}' twice; refused"):
        checkpoints.tensors(tmp_path / "a.pt")
    with (tmp_path / "a.pt").open("rb") as file, pytest.raises(UserError, match="twice"):
        pickles.look(file)
    with pytest.raises(UserError, match="cannot be read"):
        extra_state.decoded(torch.from_numpy(np.fromfile(tmp_path / "a.pt", np.uint8)), "state")


def test_a_pickle_is_looked_through_whatever_its_capitals(tmp_path):
    """F102: torch reads it all the same."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for name in source.namelist():
            target.writestr(name.replace("data.pkl", "DATA.PKL"), source.read(name))
    assert torch.load(tmp_path / "b.pt", weights_only=True)["w"].tolist() == [1, 1]
    looked = []
    with pytest.MonkeyPatch.context() as patch, (tmp_path / "b.pt").open("rb") as file:
        patch.setattr(pickles, "look_through", looked.append)
        pickles.look(file)
    assert len(looked) == 1


def test_a_state_that_is_there_twice_is_done_again(tmp_path):
    """F102."""
    about = {"name": "part", "version": __version__, "done": False, "state": {"map": []}}
    np.savez(tmp_path / "a.npz", about=np.frombuffer(json.dumps(about).encode(), np.uint8))
    assert unfinished.unpacked(tmp_path / "a.npz")["name"] == "part"
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    add(tmp_path / "b.npz", "about", array(np.zeros(3)))
    with pytest.raises(UserError, match=r"b.npz holds 'about' twice"):
        unfinished.unpacked(tmp_path / "b.npz")
