"""Pickles that ask for more than their bytes can stand for are refused before anything is built."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.models.weights import checkpoints, extra_state, pickles
from cnnprobe.store.containers import pickle_steps


def written(path, steps: bytes):
    """Write a dict with one entry, "a", by the steps that make its value."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}X\x01\x00\x00\x00a" + steps + b"s.")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


def nested(inner: object, times: int, each: int) -> object:
    """Return lists in each other, each of which holds the one inside it so many times."""
    for _ in range(times):
        inner = [inner] * each
    return inner


HOSTILE = {
    "a bytearray": (b"cbuiltins\nbytearray\n\x8a\x04\0\0\0\x06\x85R", r"is refused: it makes a bytearray, of any size"),
    "a type": (b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x0a\x00\x00\x00V100000000\x85R\x85R",
               r"holds more than tensors \(numpy.dtype\('V100000000'\)\)"),
    "codes": (b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0hex\x86R", "it encodes texts otherwise than as latin1"),
    "codes by another": (b"c_codecs\nencode\n\x85", "it encodes texts otherwise than as latin1"),
    "laughs": (pickle.dumps(nested([1] * 10, 8, 10), 2)[2:-1],
               r"holds 1.11e\+07 values and letters in 0.\d+ kB; at most 1e\+07"),
    "laughs in tuples": (b"(tq\x00" + b"".join(b"(" + b"h%c" % n * 10 + b"tq%c" % (n + 1) for n in range(9)),
                         "values and letters in 0.2"),
    "depth": (b"]" * 3000 + b"a" * 2999, "holds things more than 1000 deep in each other"),
    "steps": (b"(" + b"N" * 10001 + b"t", "takes more than 10000 steps"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_takes_more_than_its_bytes_stand_for_is_refused(tmp_path, kind, monkeypatch):
    """F102: in one line, and nothing of it is built."""
    monkeypatch.setattr(pickle_steps, "MOST_STEPS", 10_000)
    steps, words = HOSTILE[kind]
    with pytest.raises(UserError, match=words) as told:
        checkpoints.tensors(written(tmp_path / "a.pt", steps))
    assert "\n" not in str(told.value)


def test_a_storage_that_nothing_fills_is_refused(tmp_path):
    """F102: torch would take it as it lies in memory."""
    path = written(tmp_path / "a.pt", b"ctorch\nFloatTensor\nJ\0\0\x00\x02\x85R")
    with pytest.raises(UserError, match=r"its tensors take 134 MB, the file 0\."):
        checkpoints.tensors(path)


def test_a_name_has_so_many_letters_at_most(tmp_path):
    """F102: names are joined, each with those of the dicts it lies in."""
    torch.save({"x" * 700: {"y" * 400: torch.zeros(1)}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt has a name of 1101 letters; at most 1000 are read"):
        checkpoints.tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_save_is_looked_through(zipped):
    circle = {"w": torch.zeros(3), "of": np.float64(1.5), "flag": np.bool_(True), "order": (1, "a", b"bytes", 2.5)}
    circle["itself"], circle["list"] = circle, nested(1, 3, 3)
    file = io.BytesIO()
    torch.save(circle, file, _use_new_zipfile_serialization=zipped)
    file.seek(0)
    pickles.look(file)


def test_extra_state_is_looked_at_before_it_is_shown_or_read(monkeypatch):
    """F102: lists that hold each other ten times over are never printed."""
    monkeypatch.setattr(extra_state, "LETTERS", 1000)
    state, looked = extra_state.encoded(nested([1] * 10, 3, 10), "a._extra_state"), []
    assert state.numpy().tobytes().startswith(extra_state.ARCHIVE)
    monkeypatch.setattr(pickles, "look", lambda file: looked.append(file.read(2)))
    assert extra_state.decoded(state, "a._extra_state") == nested([1] * 10, 3, 10) and looked == [b"PK"]
