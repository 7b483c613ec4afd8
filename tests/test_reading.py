"""Reading: what is not ours, newer or hostile is refused in one line."""

import h5py
import numpy as np
import pytest
from stores import ATTRIBUTES, filled, tables

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.reading import Recording
from cnnprobe.store import Writer


def test_a_text_an_empty_and_a_cut_off_file_are_told_apart_from_a_store(tmp_path):
    """F71, F72."""
    filled(tmp_path / "store.h5").finish()
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "empty.h5").write_text("")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "store.h5").read_bytes()[:-900])
    for name, words in (("text", "not an HDF5 file"), ("empty", "not an HDF5 file"), ("cut", "is cut off")):
        with pytest.raises(UserError, match=words):
            Recording(tmp_path / f"{name}.h5")
    with pytest.raises(UserError, match="there is no store"):
        Recording(tmp_path / "nothing.h5")


def test_another_programs_file_and_a_newer_format_are_refused(tmp_path):
    """F72."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(UserError, match="no store of cnnprobe"):
        Recording(tmp_path / "other.h5")
    filled(tmp_path / "new.h5").finish()
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(UserError, match="has format 99; this cnnprobe reads up to format 1"):
        Recording(tmp_path / "new.h5")


def test_a_store_that_points_outside_itself_is_refused(tmp_path):
    """F73."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"do not show")
    for kind in ("storage", "link"):
        path = tmp_path / f"{kind}.h5"
        Writer.create(path, tables(), ATTRIBUTES).close()
        with h5py.File(path, "r+") as file:
            if kind == "storage":
                file.create_dataset("x/y", (11,), "u1", external=[(str(secret), 0, 11)])
            else:
                file["x"] = h5py.ExternalLink("other.h5", "/")
        with pytest.raises(UserError, match="points outside itself"):
            Recording(path)


def test_an_unknown_table_or_column_is_told_with_those_there_are(tmp_path):
    filled(tmp_path / "store.h5").finish()
    recording = Recording(tmp_path / "store.h5")
    with pytest.raises(UserError, match="did you mean 'units/conv1'"):
        recording["units/conv2"]
    with pytest.raises(UserError, match="no column 'responses' in units/conv1; did you mean 'response'"):
        recording["units/conv1"]["responses"]


def test_a_run_opens_by_its_folder(tmp_path):
    folder = tmp_path / "topk" / "x-y" / "v001"
    folder.mkdir(parents=True)
    filled(folder / "store.h5").finish()
    assert cnnprobe.open(folder)["units/conv1"]["unit"][3] == 3
