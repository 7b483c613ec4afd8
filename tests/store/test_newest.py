"""The newest run: what is damaged, a link, or newer than a sweep is passed over, and that is said."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine import terminal
from cnnprobe.store import folders, locks, newest

YEAR = "2026-01-01T00:00:00"


def run(out: Path, name: str, status: str = "complete", ended: str = YEAR, **more: object) -> Path:
    """Make a run folder with its files."""
    folder = out / name
    folder.mkdir(parents=True)
    about = {"status": status, "ended": f"{ended}+00:00"} | more
    (folder / "run.json").write_text(json.dumps(about))
    for file in ("store.h5", "config.yaml"):
        (folder / file).touch()
    return folder


def found(what, *words) -> tuple[str, list[str]]:
    """Return the run that is found, by its short name, and what is said."""
    with terminal.collected() as remarks:
        folder = what(*words)
    return folder and "/".join(folder.parts[-3:]), remarks.warnings


DAMAGES = {
    "cut": (lambda folder: (folder / "run.json").write_text('{"status": "comp'), "has no run.json that can be read"),
    "gone": (lambda folder: (folder / "run.json").unlink(), "has no run.json that can be read"),
    "state": (lambda folder: (folder / "run.json").write_text('{"status": 1}'), "has no run.json that can be read"),
    "store": (lambda folder: (folder / "store.h5").unlink(), "has lost its store.h5"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_passed_over_with_a_word_where_it_is_newer(tmp_path, damage):
    """F101: no warning names a damaged run that is older than the one taken."""
    do, why = DAMAGES[damage]
    for number in (1, 2, 3):
        run(tmp_path, f"topk/a/v00{number}")
    do(tmp_path / "topk/a/v001")
    assert found(folders.find, "latest", str(tmp_path), "topk", "a") == ("topk/a/v003", [])
    do(tmp_path / "topk/a/v003")
    told = f"topk/a/v003 {why}; topk/a/v002 is taken instead"  # once, though it is looked for again
    with terminal.collected() as remarks:
        assert len({folders.find("latest", str(tmp_path), "topk", "a") for _ in range(3)}) == 1
    assert remarks.warnings == [told]
    for name in ("latest", "topk/a/latest", str(tmp_path / "topk/a/latest")):
        assert found(folders.find, name, str(tmp_path), "topk", "a") == ("topk/a/v002", [told]), name
    do(tmp_path / "topk/a/v002")
    with terminal.collected() as remarks, pytest.raises(UserError, match="no run 'latest'"):
        folders.find("latest", str(tmp_path), "topk", "a")
    assert remarks.warnings == [f"topk/a/v00{number} {why}; it is passed over" for number in (3, 2, 1)]


def test_of_another_name_a_damaged_run_is_told_where_it_is_newer(tmp_path):
    """F101: by what it says, else by when it was written to."""
    for name, ended in (("a", YEAR), ("b", "2025-01-01T00:00:00"), ("c", "2027-01-01T00:00:00")):
        run(tmp_path, f"topk/{name}/v001", ended=ended)
    (tmp_path / "topk/b/v001/store.h5").unlink()
    (tmp_path / "topk/c/v001/store.h5").unlink()
    for name, year in (("d", 2025), ("e", 2027)):
        cut = run(tmp_path, f"topk/{name}/v001") / "run.json"
        cut.write_text("{")
        os.utime(cut, ((year - 1970) * 365.25 * 86400,) * 2)
    name, told = found(folders.newest_of, (tmp_path / "topk").glob("*/v*"), str(tmp_path))
    assert name == "topk/a/v001"
    assert [line.split()[0] for line in told] == ["topk/c/v001", "topk/e/v001"]


def test_what_is_under_way_or_was_stopped_is_passed_over_without_a_word(tmp_path):
    """F101: that is as it should be."""
    run(tmp_path, "topk/a/v001")
    for number, status in enumerate(("running", "interrupted", "failed"), 2):
        run(tmp_path, f"topk/a/v00{number}", status)
    (tmp_path / "topk/a/v005").mkdir()  # of a run that was begun this moment
    (run(tmp_path, "topk/a/v006") / "run.json").write_text("")
    with locks.Lock(tmp_path / "topk/a/v006"):
        assert found(folders.find, "latest", str(tmp_path), "topk", "a") == ("topk/a/v001", [])


def test_of_runs_that_were_stopped_a_damaged_one_is_passed_over_with_a_word(tmp_path):
    """F101."""
    for number in (1, 2):
        run(tmp_path, f"topk/a/v00{number}", "interrupted")
    run(tmp_path, "topk/a/v003")
    (tmp_path / "topk/a/v002/run.json").write_text("{")
    told = "topk/a/v002 has no run.json that can be read; topk/a/v001 is taken instead"
    assert found(folders.unfinished, str(tmp_path), "topk") == ("topk/a/v001", [told])


def test_a_link_is_no_run(tmp_path):
    """F101: it leads to an older one, here."""
    for number, status in enumerate(("complete", "complete", "interrupted", "interrupted"), 1):
        run(tmp_path, f"topk/a/v00{number}", status)
    (tmp_path / "topk/a/v008").symlink_to("v003")
    (tmp_path / "topk/a/v009").symlink_to("v001")
    assert found(folders.newest_of, (tmp_path / "topk/a").iterdir(), str(tmp_path)) == ("topk/a/v002", [])
    assert found(folders.unfinished, str(tmp_path), "topk") == ("topk/a/v004", [])
    assert folders.find("topk/a/v009", str(tmp_path)) == (tmp_path / "topk/a/v001").resolve()


def test_a_link_that_is_left_leads_to_no_run_that_is_not_complete(tmp_path):
    """F101: runs lie beside it, and none of them is."""
    run(tmp_path, "topk/a/v001", "interrupted")
    (tmp_path / "topk/a/latest").symlink_to("v001")
    with pytest.raises(UserError, match=r"no run 'topk/a/latest'; runs in .*: topk/a/v001"):
        folders.find("topk/a/latest", str(tmp_path))
    shutil.move(tmp_path / "topk/a/v001", tmp_path / "kept")
    (tmp_path / "topk/a/latest").unlink()
    (tmp_path / "topk/a/latest").symlink_to(tmp_path / "kept")  # of somebody's own
    assert folders.find("topk/a/latest", str(tmp_path)) == (tmp_path / "kept").resolve()


def test_in_a_sweep_the_newest_is_that_of_its_beginning(tmp_path):
    """F101: by the millisecond; its own runs are newer without a word; the link goes on."""
    sweep = tmp_path / "topk/a/sweep-001"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(f'{{"began": "{YEAR}.500+00:00"}}')
    run(tmp_path, "topk/a/v001", ended=f"{YEAR}.400")
    run(tmp_path, "topk/a/v002", ended=f"{YEAR}.600")
    run(tmp_path, "topk/a/v003", ended="2026-01-02T00:00:00", sweep="sweep-001")
    words = "latest", str(tmp_path), "topk", "a"
    told = "topk/a/v002 ended after this sweep began; topk/a/v001 is taken instead"
    with newest.as_of(sweep):
        assert found(folders.find, *words) == ("topk/a/v001", [told])
        assert found(folders.find, "topk/a/latest", str(tmp_path)) == ("topk/a/v001", [told])
        assert folders.find("v002", *words[1:]).name == "v002"  # which names no newest one
        folders.mark_latest(tmp_path / "topk/a/v003")
    assert (tmp_path / "topk/a/latest").readlink() == Path("v003")
    assert found(folders.find, *words) == ("topk/a/v003", [])
    (sweep / "sweep.json").write_text(f'{{"began": "{datetime.now(UTC).isoformat()}"}}')
    with newest.as_of(sweep):
        assert found(folders.find, *words) == ("topk/a/v003", [])


@pytest.mark.parametrize("text", ["", "[]", '{"began": 5}', '{"began": "2026-01-01"}', "\x00"])
def test_of_a_sweep_that_does_not_say_when_it_began_nothing_is_newer(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    run(tmp_path, "topk/a/v001", ended="2099-01-01T00:00:00")
    with newest.as_of(tmp_path):
        assert folders.find("latest", str(tmp_path), "topk", "a").name == "v001"


@pytest.mark.parametrize(("second", "in_order"), [("2026-01-02T00:00:00", True), ("2025-12-31T00:00:00", False)])
def test_a_clock_that_went_back_between_two_runs_is_noticed(second, in_order):
    """F74: where it did, a run that ended last need not have been the last one."""
    first, other = Path("topk/a/v001"), Path("topk/a/v002")
    elsewhere = Path("topk/b/v002")
    about = {first: {"started": "2026-01-01T00:00:00"}, other: {"started": second}}
    about[elsewhere] = {"started": "2020-01-01T00:00:00"}
    assert newest.are_in_order(first, about) == in_order
    assert newest.are_in_order(other, about)
    assert not newest.are_in_order(first, about | {other: {}})
