import hashlib
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine import files


def claim_some(folder: str) -> list[str]:
    return [files.claim(Path(folder), "v").name for _ in range(25)]


def test_processes_at_the_same_instant_never_share_a_folder(tmp_path):
    """F68: 8 processes x 25 claims give 200 folders and no gap."""
    with ProcessPoolExecutor(8) as pool:
        names = [name for part in pool.map(claim_some, [str(tmp_path)] * 8) for name in part]
    assert sorted(names) == [f"v{number:03d}" for number in range(1, 201)]


def test_numbers_go_on_behind_the_largest_there(tmp_path):
    (tmp_path / "v041").mkdir()
    (tmp_path / "vx").mkdir()
    assert files.claim(tmp_path, "v").name == "v042"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    """F61, F66."""
    path = tmp_path / "run.json"
    files.write_json(path, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    """F82."""
    files.write_json(tmp_path / "x.json", {"loss": math.nan, "all": [math.inf, 1.5]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"loss": None, "all": [None, 1.5]}


def test_what_a_terminal_would_obey_is_escaped_in_json(tmp_path):
    """F80: names of strangers' files in `run.json`; letters of every alphabet stay as they are."""
    names = ["\x9b31m", "a\u202egnp.exe", "\x1b", "\ud800", '日本 é\\ "', "\U000e0001"]
    files.write_json(tmp_path / "x.json", {"skipped": names})
    text = (tmp_path / "x.json").read_text()
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    assert "日本 é" in text and "\\u009b31m" in text and "\\udb40\\udc01" in text
    assert json.loads(text)["skipped"] == names


def test_a_link_is_replaced_in_one_step(tmp_path, monkeypatch):
    """F61: whichever call is the last one, there is a link."""
    for name in ("v001", "v002"):
        (tmp_path / name).mkdir()
        files.link(tmp_path / "latest", name)
    assert (tmp_path / "latest").readlink() == Path("v002")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for call in ("symlink", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, call, full)
            with pytest.raises(OSError, match="No space"):
                files.link(tmp_path / "latest", "v001")
        assert (tmp_path / "latest").readlink() == Path("v002")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "v001", "v002"]


def test_a_link_under_the_name_of_what_is_written_is_not_followed(tmp_path):
    """F102: a stranger knows the name, but for the number of the process."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f"run.json.tmp.{os.getpid()}").symlink_to(victim)
    files.write(tmp_path / "run.json", b"{}")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "run.json").is_symlink() and (tmp_path / "run.json").read_text() == "{}"
    (tmp_path / "new").symlink_to(victim)
    os.close(files.made(tmp_path / "new", os.O_RDWR))
    assert victim.read_text() == "mine" and not (tmp_path / "new").is_symlink()


def test_what_a_killed_process_left_is_found(tmp_path):
    """F61: below a run folder; names that merely look alike are not."""
    (tmp_path / "figures").mkdir()
    left = ["figures/units.png.tmp.12", ".latest.tmp.7", "store.h5.tmp.123"]
    for name in [*left, "notes.tmp.txt", "a.tmp.", "tmp.5"]:
        (tmp_path / name).write_text("x")
    assert [str(path.relative_to(tmp_path)) for path in files.left_over(tmp_path)] == sorted(left)


def test_folders_pipes_devices_and_links_have_no_checksum(tmp_path):
    """F103: among the figures of a run, one would be waited for, or read without end."""
    (tmp_path / "a.png").mkdir()
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").write_bytes(b"x")
    (tmp_path / "e.png").symlink_to("d.png")
    assert files.sums(tmp_path, tmp_path.glob("*.png")) == {"d.png": hashlib.sha256(b"x").hexdigest()}


def test_a_number_that_is_none_is_not_counted_on_from(tmp_path):
    """F102: one more than 254 nines is too long for a name; what follows 15 nines is found again."""
    (tmp_path / ("v" + "9" * 254)).mkdir()
    (tmp_path / "v\u0663").mkdir()
    assert files.claim(tmp_path, "v").name == "v001"
    (tmp_path / ("v" + "9" * files.DIGITS)).mkdir()
    assert [files.claim(tmp_path, "v").name for _ in range(2)] == ["v1000000000000000", "v1000000000000001"]


def test_a_folder_is_nothing_half_written(tmp_path):
    """F102."""
    (tmp_path / "x.tmp.1").mkdir()
    (tmp_path / "y.tmp.1").symlink_to("x.tmp.1")
    assert files.left_over(tmp_path) == [tmp_path / "y.tmp.1"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a\nb", "\0", "\x1b[31m", "a\x7f", "\x9b2"]
)
def test_a_name_that_is_a_path_names_no_file(tmp_path, name):
    """F102: who gave it may mean another folder."""
    assert not files.is_plain(name)
    with pytest.raises(UserError, match="must be one name") as told:
        files.named(tmp_path, name, ".png")
    assert str(told.value).isprintable()


@pytest.mark.parametrize("name", ["conv1", "...", "..a", "features.0", "epoch=003", "é 日本", "a b#2[1]", "-rf", "~"])
def test_a_name_of_any_letters_names_a_file(tmp_path, name):
    assert files.named(tmp_path, name, ".png") == tmp_path / f"{name}.png"
    assert files.plain(f"/{name}\n\\") == name
