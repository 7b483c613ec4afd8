import inspect
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cnnprobe.errors import UserError
from cnnprobe.store import folders, locks, run_json


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
    with locks.Lock(tmp_path / "topk/b3/v001"):
        stopped.append(folders.unfinished(str(tmp_path), "topk"))
        with locks.Lock(tmp_path / "topk/a2/v001"):
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
