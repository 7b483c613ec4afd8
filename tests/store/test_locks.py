"""The lock of a run folder: one writer, no detours, and looks that disturb nobody."""

import fcntl
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine import files
from cnnprobe.store import locks
from tests.store.test_folders import make


def test_a_folder_has_one_writer(tmp_path):
    """F68: a second one is told who holds it; once it is released, another may take it."""
    lock = locks.Lock(tmp_path)
    with pytest.raises(UserError, match=r"is being written by process .* on host"):
        locks.Lock(tmp_path)
    lock.release()
    locks.Lock(tmp_path).release()


def test_a_process_that_was_forked_holds_no_folder_and_may_write_in_one(tmp_path):
    """F104: jobs of a sweep leave their lines in its folder."""
    folder = make(tmp_path, "topk/a-b/v001")
    with locks.Lock(folder):
        child = os.fork()
        if child == 0:
            try:
                files.write(folder / "line.json", b"{}")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert (folder / "line.json").read_bytes() == b"{}"


def test_what_is_held_is_the_folder_and_not_its_name(tmp_path):
    """F104: of one that was deleted, moved, or made anew by another run; one that was never touched is written."""
    folder = make(tmp_path, "topk/a-b/v001")
    lock = locks.Lock(folder)
    files.write(folder / "weights.bin", b"first")
    folder.rename(tmp_path / "elsewhere")
    for again in (False, True):
        if again:
            make(tmp_path, "topk/a-b/v001")
            (folder / ".lock").write_text("of the second")
        with pytest.raises(UserError, match=r"v001 was deleted, moved or replaced while it was being written"):
            files.write(folder / "weights.bin", b"first")
        assert sorted(path.name for path in folder.glob("*")) == ([".lock", "run.json"] if again else [])
    lock.release()
    files.write(folder / "weights.bin", b"second")


def test_what_is_held_is_the_folder_by_whatever_way(tmp_path, monkeypatch):
    """F104: a folder that is named from here, and what is written there by its whole path, or the other way round."""
    monkeypatch.chdir(tmp_path)
    whole = make(tmp_path, "topk/a-b/v001")
    short = whole.relative_to(tmp_path)
    for held, written in ((short, whole), (whole, short)):
        with locks.Lock(held):
            (whole / ".lock").unlink()
            with pytest.raises(UserError, match="v001 was deleted, moved or replaced"):
                files.write(written / "weights.bin", b"first")
        files.write(written / "weights.bin", b"second")


@pytest.mark.parametrize("name", [".lock", "run.log", "store.h5", "figures", "weights", "maps", "jobs"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "other"])
def test_nothing_is_written_by_way_of_a_link(tmp_path, name, kind):
    """F73: in a run that somebody handed over, it would lead to a file of the reader's."""
    folder, own = tmp_path / "v001", tmp_path / "own"
    folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "other":
        (folder / name).mkdir() if name in locks.IN_PLACE else (folder / name).write_text("")
    else:
        if kind == "link":
            own.mkdir() if name in locks.INTO else own.write_text("mine")
        (folder / name).symlink_to(own)
    with pytest.raises(UserError, match=rf"{name} is not a plain (file|folder); nothing is written there"):
        locks.Lock(folder)
    assert own.exists() == (kind == "link")
    assert own.is_dir() or kind != "link" or own.read_text() == "mine"


def test_a_backup_of_hard_links_stays_as_it_is(tmp_path):
    """F104: `cp -al`; what is written in place has no other name any more, and has what it had."""
    backup = tmp_path / "backup"
    folder = make(tmp_path, "topk/a-b/v001")
    for name in locks.IN_PLACE:
        (folder / name).write_text(f"{name} of before")
    shutil.copytree(folder, backup, copy_function=os.link)
    before = (folder / "store.h5").stat().st_ino
    with locks.Lock(folder):
        assert locks.holder(folder).startswith("process ") and locks.holder(backup) is None
        files.append(folder / "run.log", ["\nmore"])
        with (folder / "store.h5").open("r+") as store:
            store.write("rows")
        with locks.Lock(backup):
            pass
    assert (folder / "store.h5").read_text() == "rowse.h5 of before"
    assert (folder / "run.log").read_text() == "run.log of before\nmore"
    assert [(backup / name).read_text() for name in ("run.log", "store.h5")] == [
        "run.log of before",
        "store.h5 of before",
    ]
    own = (folder / "store.h5").stat().st_ino
    with locks.Lock(folder):  # a large store is copied once
        assert (folder / "store.h5").stat().st_ino == own != before
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "run.json", "run.log", "store.h5"]


def test_a_foreign_file_under_the_name_of_a_lock_is_not_written(tmp_path):
    """F102: a second name of a file of the reader's, in a run that somebody handed over."""
    folder, own = make(tmp_path, "topk/a-b/v001"), tmp_path / "own"
    own.write_text("mine")
    os.link(own, folder / ".lock")
    with locks.Lock(folder), pytest.raises(UserError, match="is being written by process"):
        locks.Lock(folder)
    assert own.read_text() == "mine"


def test_a_store_that_cannot_be_copied_is_told(tmp_path, monkeypatch):
    """F66: nothing is left half written, and nothing is held."""
    folder = make(tmp_path, "topk/a-b/v001")
    (folder / "store.h5").write_text("rows")
    os.link(folder / "store.h5", tmp_path / "backup.h5")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "copyfileobj", full)
        with pytest.raises(UserError, match=r"store.h5 has other names \(hard links\).*: No space left on device"):
            locks.Lock(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "run.json", "store.h5"]
    locks.Lock(folder).release()


@pytest.mark.parametrize("name", ["figures/one.png", "figures/so-far/one.png", "weights/last.safetensors", "run.log"])
def test_what_becomes_a_link_while_a_run_works_is_not_followed(tmp_path, name):
    """F102: somebody else may write in its folder."""
    folder, own = make(tmp_path, "topk/a-b/v001"), tmp_path / "own"
    (own / "so-far").mkdir(parents=True)
    for path in (own / Path(name).name, own / "so-far/one.png"):
        path.write_text("mine")
    with locks.Lock(folder):
        if name == "run.log":
            (folder / name).symlink_to(own / name)
            with pytest.raises(OSError, match="symbolic links"):
                files.append(folder / name, ["more"])
        else:
            (folder / name.split("/")[0]).symlink_to(own)
            with pytest.raises(UserError, match=f"{name.split('/')[0]} was deleted, moved or replaced"):
                files.write(folder / name, b"more")
    assert {path.read_text() for path in own.rglob("*.*")} == {"mine"}


def test_who_writes_a_folder_is_known_without_disturbing_it(tmp_path):
    assert locks.holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    lock = locks.Lock(tmp_path)
    assert locks.holder(tmp_path).startswith("process ")
    with pytest.raises(UserError, match="is being written by process"):
        locks.Lock(tmp_path)
    lock.release()
    assert locks.holder(tmp_path) is None


def test_a_lock_is_not_held_by_what_was_forked(tmp_path):
    """F103: loaders live on for some seconds where their parent was killed."""
    folder = make(tmp_path, "topk/a-b/v001")
    holder = os.fork()
    if holder == 0:
        locks.Lock(folder)
        if os.fork() == 0:
            time.sleep(20)
        (folder / "held").touch()
        time.sleep(20)
        os._exit(0)
    while not (folder / "held").exists():
        time.sleep(0.01)
    assert locks.holder(folder) is not None
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert locks.holder(folder) is None


def test_a_look_at_a_run_keeps_nobody_from_writing_it(tmp_path):
    """F104: `status` asks who holds it by holding it for a moment."""
    (tmp_path / ".lock").touch()
    looking = (tmp_path / ".lock").open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, looking.close).start()
    locks.Lock(tmp_path).release()


def test_one_who_writes_is_told_at_once(tmp_path, monkeypatch):
    """F104: only those who look are waited for."""
    monkeypatch.setattr(locks, "GLANCE", 1.5)
    with locks.Lock(tmp_path):
        began = time.monotonic()
        with pytest.raises(UserError, match="is being written by process"):
            locks.Lock(tmp_path)
    assert time.monotonic() - began < 1
