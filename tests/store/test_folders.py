import fcntl
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine import files
from cnnprobe.store import folders, run_json


def make(out, name):
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "complete"}))
    return folder


def test_a_run_is_found_by_path_long_and_short_name(tmp_path):
    folder = make(tmp_path, "topk/a-b/v001")
    out = str(tmp_path)
    assert folders.find(str(folder), "elsewhere") == folder
    assert folders.find("topk/a-b/v001", out) == folder
    assert folders.find("v001", out, "topk", "a-b") == folder
    assert folders.find("v001", out, "topk", "other") == folder


def test_a_run_has_one_short_name_however_its_path_is_written(tmp_path, monkeypatch):
    folder = make(tmp_path, "outputs/topk/a-b/v001")
    (folder.parent / "latest").symlink_to("v001")
    monkeypatch.chdir(tmp_path)
    for out in ("outputs", tmp_path / "outputs", "./topk/../outputs"):
        for path in (folder, Path("outputs/topk/a-b/v001"), Path("outputs/topk/a-b/latest")):
            assert folders.short(path, out) == "topk/a-b/v001"
    assert folders.short(folder, tmp_path / "elsewhere") == str(folder)


def complete(folder: Path, name: str) -> Path:
    run = make(folder, name)
    (run / "run.json").write_text('{"status": "complete"}')
    (run / "store.h5").touch()
    return run


def whichever(run: Path) -> None:
    """Take a run whatever its state is."""


def test_latest_is_the_newest_complete_run_by_number(tmp_path):
    """F74."""
    for number in (1, 3, 2):
        folders.mark_latest(complete(tmp_path, f"topk/a-b/v00{number}"))
    assert folders.find("latest", str(tmp_path), "topk", "a-b").name == "v003"


def test_what_is_gone_or_not_complete_is_never_the_latest(tmp_path):
    """F101."""
    place = tmp_path / "topk/a-b"
    one, two, three = (complete(tmp_path, f"topk/a-b/v00{number}") for number in (1, 2, 3))
    folders.mark_latest(three)
    for gone in (two, three):
        shutil.rmtree(gone)
    for name in ("latest", "topk/a-b/latest", str(place / "latest"), str(place / "latest/store.h5")):
        assert folders.find(name, str(tmp_path), "topk", "a-b") == one, name
    again = complete(tmp_path, "topk/a-b/v002")
    folders.mark_latest(again)
    assert (place / "latest").readlink() == Path("v002")
    (again / "run.json").write_text('{"status": "interrupted"}')  # where an older link leads
    assert folders.find("topk/a-b/latest", str(tmp_path)) == one
    (one / "store.h5").unlink()
    with pytest.raises(UserError, match="no run 'latest'"):
        folders.find("latest", str(tmp_path), "topk", "a-b")


def test_of_runs_that_were_stopped_the_newest_that_nobody_writes_is_gone_on_with(tmp_path):
    """F101: one that is under way is not, nor one of another command that was copied here."""
    for number, about in enumerate(({}, {}, {"ended": 5}, {"command": "rsa"}), 1):
        run = make(tmp_path, f"topk/{'ab'[number > 2]}{number}/v001")
        began = {"status": "interrupted", "started": f"2026-0{number}-01T00:00:00+00:00"}
        (run / "run.json").write_text(json.dumps(began | about))
    stopped = [folders.unfinished(str(tmp_path), "topk")]
    with folders.Lock(tmp_path / "topk/b3/v001"):
        stopped.append(folders.unfinished(str(tmp_path), "topk"))
        with folders.Lock(tmp_path / "topk/a2/v001"):
            stopped.append(folders.unfinished(str(tmp_path), "topk"))
    assert [path.parent.name for path in stopped] == ["b3", "a2", "a1"]


def stopped(root, run, began, ended, killed):
    """Make a run that began and ended at some hours of a day, and says so unless it was killed."""
    folder = make(root, run)
    hours = [f"2026-01-01T{hour:02d}:00:00+00:00" for hour in (began, ended)]
    about = {"status": "running", "ended": None} if killed else {"status": "interrupted", "ended": hours[1]}
    (folder / "run.json").write_text(json.dumps(about | {"started": hours[0]}))
    (folder / "store.h5").touch()
    for path, hour in ((folder / "run.json", began), (folder / "store.h5", ended)):
        moment = datetime(2026, 1, 1, hour, tzinfo=UTC).timestamp()
        os.utime(path, (moment, moment))


@pytest.mark.parametrize("other", ["topk/a/v002", "topk/b/v001"])
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize(("ended", "last"), [(11, 1), (13, 0)])
def test_of_runs_side_by_side_the_one_that_ended_last_was_stopped_last(tmp_path, other, killed, ended, last):
    """F101: a killed one ended when it last wrote something; it went by its beginning."""
    runs = "topk/a/v001", other
    stopped(tmp_path, runs[0], 9, ended, killed)
    stopped(tmp_path, runs[1], 10, 12, killed=False)
    assert folders.unfinished(str(tmp_path), "topk") == tmp_path / runs[last]


def test_a_run_that_was_gone_on_with_and_stopped_again_was_stopped_last(tmp_path):
    """F101: whatever its number; of runs that do not say when they began the number counts, not the clock."""
    for number, about in enumerate(({"resumed": 1}, {}, {}), 1):
        run = make(tmp_path, f"topk/a/v00{number}")
        ended = {"status": "interrupted", "ended": f"2026-01-0{9 - number}T00:00:00+00:00"}
        (run / "run.json").write_text(json.dumps(ended | about))
    assert folders.unfinished(str(tmp_path), "topk").name == "v001"
    shutil.rmtree(tmp_path / "topk/a/v001")
    assert folders.unfinished(str(tmp_path), "topk").name == "v003"
    (tmp_path / "topk/a/v003").rename(tmp_path / "topk/a/v003-kept")
    assert folders.unfinished(str(tmp_path), "topk").name == "v002"
    assert folders.unfinished(str(tmp_path), "topk", "b") is None


@pytest.mark.parametrize(
    ("ended", "last"),
    [
        ("2026-02-01T00:00:00+00:00", "b"),
        ("2026-03-02T00:00:00+00:00", "a"),
        ("2026-02-28T23:30:00-01:00", "a"),
        ("yesterday", "b"),
        ("zzz", "b"),
        ("9999", "b"),
        (None, "b"),
    ],
)
def test_the_newest_is_that_which_ended_last_by_a_moment_that_is_one(tmp_path, ended, last):
    """F101: any other value counts as absent, so that the run counts from its start, before the other."""
    for name, moment in (("a", ended), ("b", "2026-03-01T00:00:00+00:00")):
        run = complete(tmp_path, f"train/{name}/v001")
        (run / "run.json").write_text(json.dumps({"started": "2026-01-01T00:00:00+00:00", "ended": moment}))
    assert folders.newest_of(tmp_path.glob("*/*/v001"), str(tmp_path), whichever).parent.name == last


@pytest.mark.parametrize("name", ["a; touch X", "$(id)", "it's", "a b"])
def test_a_line_to_be_pasted_names_a_run_and_does_nothing_else(tmp_path, name):
    """F102: the folder and what its run.json says of a command are a stranger's."""
    line = folders.command_for(tmp_path / name, name)
    said = subprocess.run(["bash", "-c", f"cnnprobe() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True,
                          text=True, check=True, cwd=tmp_path).stdout  # fmt: skip
    assert said.split("\0")[:-1] == [name, "--resume", str(tmp_path / name)]
    assert not list(tmp_path.iterdir())


def test_folders_too_deep_in_each_other_are_told(tmp_path):
    """F102: 1500 in each other, here of a stack so much smaller."""
    (tmp_path / ("a/" * 150)).mkdir(parents=True)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        with pytest.raises(UserError, match=r"holds folders in each other, too deep to be looked through \(about \d+"):
            folders.tidy(tmp_path)
    finally:
        sys.setrecursionlimit(before)


def test_a_copy_beside_the_runs_is_no_run(tmp_path):
    """F76: whoever keeps one calls it as they like."""
    for name in ("v001", "v002", "v002-old", "v00x", "video", "v\u00b2\u00b2\u00b2", "v"):
        make(tmp_path, f"topk/a-b/{name}")
    assert folders.newest_of((tmp_path / "topk/a-b").iterdir(), str(tmp_path), whichever).name == "v002"
    assert folders.claim(str(tmp_path), "topk", "a-b").name == "v003"


def test_what_is_there_and_no_run_is_told_so(tmp_path):
    make(tmp_path, "topk/a-b/v001")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes\.txt is no run: no run\.json and no store\.h5 in it; runs in "):
        folders.find(str(tmp_path / "notes.txt"), str(tmp_path))


def test_several_that_fit_are_listed(tmp_path):
    make(tmp_path, "topk/a-b/v001")
    make(tmp_path, "topk/a-c/v001")
    with pytest.raises(UserError, match=r"several runs are called v001: topk/a-b/v001, topk/a-c/v001"):
        folders.find("v001", str(tmp_path), "topk", "x-y")


def test_none_that_fits_is_told_with_those_there_are(tmp_path):
    make(tmp_path, "topk/a-b/v001")
    with pytest.raises(UserError, match=r"no run 'v009'; runs in .*: topk/a-b/v001"):
        folders.find("v009", str(tmp_path), "topk", "a-b")


def test_a_folder_has_one_writer(tmp_path):
    """F68: the second one is told who holds it; afterwards it is free again."""
    lock = folders.Lock(tmp_path)
    with pytest.raises(UserError, match=r"is being written by process .* on host"):
        folders.Lock(tmp_path)
    lock.release()
    folders.Lock(tmp_path).release()


def test_a_process_that_was_forked_holds_no_folder_and_may_write_in_one(tmp_path):
    """F104: jobs of a sweep leave their lines in its folder."""
    folder = make(tmp_path, "topk/a-b/v001")
    with folders.Lock(folder):
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
    lock = folders.Lock(folder)
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
        with folders.Lock(held):
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
        (folder / name).mkdir() if name in folders.IN_PLACE else (folder / name).write_text("")
    else:
        if kind == "link":
            own.mkdir() if name in folders.INTO else own.write_text("mine")
        (folder / name).symlink_to(own)
    with pytest.raises(UserError, match=rf"{name} is not a plain (file|folder); nothing is written there"):
        folders.Lock(folder)
    assert own.exists() == (kind == "link")
    assert own.is_dir() or kind != "link" or own.read_text() == "mine"


def test_a_backup_of_hard_links_stays_as_it_is(tmp_path):
    """F104: `cp -al`; what is written in place has no other name any more, and has what it had."""
    backup = tmp_path / "backup"
    folder = make(tmp_path, "topk/a-b/v001")
    for name in folders.IN_PLACE:
        (folder / name).write_text(f"{name} of before")
    shutil.copytree(folder, backup, copy_function=os.link)
    before = (folder / "store.h5").stat().st_ino
    with folders.Lock(folder):
        assert folders.holder(folder).startswith("process ") and folders.holder(backup) is None
        files.append(folder / "run.log", ["\nmore"])
        with (folder / "store.h5").open("r+") as store:
            store.write("rows")
        with folders.Lock(backup):
            pass
    assert (folder / "store.h5").read_text() == "rowse.h5 of before"
    assert (folder / "run.log").read_text() == "run.log of before\nmore"
    assert [(backup / name).read_text() for name in ("run.log", "store.h5")] == [
        "run.log of before",
        "store.h5 of before",
    ]
    own = (folder / "store.h5").stat().st_ino
    with folders.Lock(folder):  # a large store is copied once
        assert (folder / "store.h5").stat().st_ino == own != before
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "run.json", "run.log", "store.h5"]


def test_a_foreign_file_under_the_name_of_a_lock_is_not_written(tmp_path):
    """F102: a second name of a file of the reader's, in a run that somebody handed over."""
    folder, own = make(tmp_path, "topk/a-b/v001"), tmp_path / "own"
    own.write_text("mine")
    os.link(own, folder / ".lock")
    with folders.Lock(folder), pytest.raises(UserError, match="is being written by process"):
        folders.Lock(folder)
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
            folders.Lock(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "run.json", "store.h5"]
    folders.Lock(folder).release()


@pytest.mark.parametrize("name", ["figures/one.png", "figures/so-far/one.png", "weights/last.safetensors", "run.log"])
def test_what_becomes_a_link_while_a_run_works_is_not_followed(tmp_path, name):
    """F102: somebody else may write in its folder."""
    folder, own = make(tmp_path, "topk/a-b/v001"), tmp_path / "own"
    (own / "so-far").mkdir(parents=True)
    for path in (own / Path(name).name, own / "so-far/one.png"):
        path.write_text("mine")
    with folders.Lock(folder):
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
    assert folders.holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    lock = folders.Lock(tmp_path)
    assert folders.holder(tmp_path).startswith("process ")
    with pytest.raises(UserError, match="is being written by process"):
        folders.Lock(tmp_path)
    lock.release()
    assert folders.holder(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[1]", "5", "[" * 100_000, "\udcff"], ids=range(5))
def test_a_run_json_that_holds_something_else_says_nothing(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run_json.read(tmp_path) == {}


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    """F67."""
    (tmp_path / "outputs").write_text("x")
    with pytest.raises(UserError, match=r"outputs is a file, not a folder"):
        folders.claim(str(tmp_path / "outputs"), "topk", "a-b")


class Images(list):
    """What a run says of a dataset."""

    def __init__(self, count, fingerprint, size=(3, 8, 8)):
        super().__init__(range(count))
        self.name, self.fingerprint, self.size = "folder", fingerprint, size


def test_images_that_have_changed_since_a_run_are_told():
    """F46."""
    before = folders.images_of(Images(5000, "a"))
    folders.same_images(Images(5000, "a"), before, "v003")
    with pytest.raises(UserError, match=r"^dataset changed since v003 \(5001 images, was 5000\)$"):
        folders.same_images(Images(5001, "b"), before, "v003")
    with pytest.raises(UserError, match=r"^dataset changed since v003 \(5000 images, was 5000\): not the same ones$"):
        folders.same_images(Images(5000, "b"), before, "v003")


def test_at_another_size_and_of_older_runs_only_so_much_is_known():
    """F46."""
    before = folders.images_of(Images(10, "a"))
    other = Images(10, "b", (3, 9, 9))
    folders.same_images(other, before, "v001")
    other.at_any_size = True  # files, which are the same ones whatever the size
    with pytest.raises(UserError, match="not the same ones"):
        folders.same_images(other, before, "v001")
    folders.same_images(Images(10, "b"), None, "v001")
    older = {key: value for key, value in before.items() if key != "size"}
    folders.same_images(Images(10, "b"), older, "v001")
    with pytest.raises(UserError, match="11 images, was 10"):
        folders.same_images(Images(11, "a"), older, "v001")


def test_a_lock_is_not_held_by_what_was_forked(tmp_path):
    """F103: loaders live on for some seconds where their parent was killed."""
    folder = make(tmp_path, "topk/a-b/v001")
    holder = os.fork()
    if holder == 0:
        folders.Lock(folder)
        if os.fork() == 0:
            time.sleep(20)
        (folder / "held").touch()
        time.sleep(20)
        os._exit(0)
    while not (folder / "held").exists():
        time.sleep(0.01)
    assert folders.holder(folder) is not None
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert folders.holder(folder) is None


def test_what_is_made_after_the_largest_number_is_a_run():
    """F102: and no name with more digits is."""
    assert folders.VERSION.fullmatch("v1000000000000000")
    assert not folders.VERSION.fullmatch("v" + "9" * 254)


def test_folders_are_left_alone_where_half_written_files_are_tidied_away(tmp_path):
    """F102: nor do they stand in the way."""
    folder = make(tmp_path, "topk/a-b/v001")
    for path in (folder / "x.tmp.1", folder.parent / ".latest.tmp.2"):
        path.mkdir()
    folders.tidy(folder)
    assert (folder / "x.tmp.1").is_dir() and (folder.parent / ".latest.tmp.2").is_dir()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    """F102: another out= would not help."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        (make(tmp_path, "topk/a-b/v001") / "run.json").replace(tmp_path / "run.json")
    told = f"{tmp_path / 'run.json'} is a folder where a file should be; move it elsewhere"
    assert str(folders.unwritable(tmp_path, caught.value)) == told


def test_a_look_at_a_run_keeps_nobody_from_writing_it(tmp_path):
    """F104: `status` asks who holds it by holding it for a moment."""
    (tmp_path / ".lock").touch()
    looking = (tmp_path / ".lock").open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, looking.close).start()
    folders.Lock(tmp_path).release()


def test_one_who_writes_is_told_at_once(tmp_path, monkeypatch):
    """F104: only those who look are waited for."""
    monkeypatch.setattr(folders, "GLANCE", 1.5)
    with folders.Lock(tmp_path):
        began = time.monotonic()
        with pytest.raises(UserError, match="is being written by process"):
            folders.Lock(tmp_path)
    assert time.monotonic() - began < 1
