"""Files that a few bytes on the disk make as large as one likes: a hole in them is read as zeros."""

import json
import os

import numpy as np
import pytest

from cnnprobe.datasets.base.labels import label_tables
from cnnprobe.datasets.published import places, tiny_imagenet
from cnnprobe.errors import UserError
from cnnprobe.machine import files, room
from cnnprobe.methods.rsa.references.matching import listed_names
from cnnprobe.runs import sweep_table
from cnnprobe.store import reader, run_json
from cnnprobe.store.containers.tables import cells
from cnnprobe.store.reader import Recording
from cnnprobe.store.unfinished import Unfinished, packed
from cnnprobe.upkeep.check import inspected
from tests.support.files.stores import filled

HOLE = 2**40


@pytest.fixture
def sparse(tmp_path):
    """A file of 1 TB without a byte on the disk."""
    path = tmp_path / "run.json"
    path.touch()
    os.truncate(path, HOLE)
    return path


def test_a_file_is_read_up_to_its_limit(tmp_path, sparse):
    """F102: and what is no file is not waited for."""
    (tmp_path / "small").write_bytes(b"12345")
    assert files.read(tmp_path / "small", 5) == b"12345"
    with pytest.raises(UserError, match=r"small is too large \(5e-06 MB; limit 4e-06 MB\)"):
        files.read(tmp_path / "small", 4)
    with pytest.raises(UserError, match=r"run.json is too large \(1.1e\+06 MB; limit 2.1 MB\)"):
        files.read(sparse, 2**21)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a file"):
        files.read(tmp_path / "pipe", 5)


@pytest.mark.parametrize(
    "read",
    [
        cells,
        lambda path: listed_names(str(path), 3, ["a", "b", "c"]),
        places._lines,
        tiny_imagenet._lines,
        lambda path: label_tables._lines(str(path)),
    ],
    ids=["table", "order", "places", "tiny-imagenet", "labels"],
)
def test_no_list_and_no_table_is_read_without_a_limit(sparse, read):
    """F102."""
    with pytest.raises(UserError, match=r"run.json is too large \(1.1e\+06 MB; limit "):
        read(sparse)


def test_what_is_said_of_a_run_is_read_up_to_a_limit(sparse):
    """F102: by `status`, `check` and whoever looks for a run."""
    assert run_json.as_written(sparse.parent) == {}
    assert sweep_table.read_json(sparse) is None
    store = filled(sparse.parent / "store.h5")
    store.finish()
    store.close()
    sparse.write_text(json.dumps({"command": "topk", "status": "complete", "seed": 3}))
    for size in (0, HOLE):
        (sparse.parent / "config.yaml").touch()
        os.truncate(sparse.parent / "config.yaml", size)
        told = "missing or cannot be read" if size else "not the one of store.h5"
        assert f"config.yaml is {told}" in "\n".join(map(str, inspected(sparse.parent)))


def archive_of_zeros(path, megabytes):
    """Write an array of zeros as a stopped run does; its place on the disk may be a hole."""
    path.write_bytes(packed("ranking", False, {"zeros": np.zeros(megabytes << 20, np.uint8)}))


def test_what_a_stopped_run_kept_is_compared_with_the_memory_there_is(tmp_path, monkeypatch, caplog):
    """F102: before a byte of its arrays is read; what is no archive is not read either."""
    kept = Unfinished(tmp_path)
    path = kept._path(tmp_path, "ranking")
    archive_of_zeros(path, 4)
    seen = []
    assert not kept.begin("ranking", dict, seen.append)
    assert seen[0]["zeros"].nbytes == 4 << 20
    monkeypatch.setattr(room, "available", lambda: 3 << 20)
    with pytest.raises(MemoryError):
        Unfinished(tmp_path).begin("ranking", dict, seen.append)
    os.truncate(path, HOLE)
    assert not Unfinished(tmp_path).begin("ranking", dict, seen.append)
    assert len(seen) == 1 and "cannot be read" in caplog.text


def test_a_column_is_compared_with_the_memory_there_is(tmp_path, monkeypatch):
    """F102: before it is read."""
    writer = filled(tmp_path / "store.h5")
    writer.finish()
    writer.close()
    table = Recording(tmp_path / "store.h5")["units/conv1"]
    monkeypatch.setattr(reader, "LARGE", 100)
    monkeypatch.setattr(room, "available", lambda: 110)
    assert table["unit"].nbytes == 80
    with pytest.raises(UserError, match="does not fit into memory"):
        table["response"]
    monkeypatch.setattr(room, "available", lambda: None)
    assert table["response"].nbytes == 10 * 3 * 4
