"""A run that is done once more is the same run, or says what is another."""

import shutil
from pathlib import Path

import pytest

from cnnprobe.machine import files
from cnnprobe.store import run_json

ASKED = ["record", "model=convnet", "weights=random", "layer=conv1", "device.workers=0", "dataset=folder"]


@pytest.fixture
def made(cnnprobe, pictures, tmp_path, monkeypatch):
    """A run in the folder `home`, of images that are called by a relative path, in a folder `out` elsewhere."""
    for place in ("home", "away"):
        shutil.copytree(pictures, tmp_path / place / "plain")
        for path in sorted((tmp_path / place / "plain").rglob("*.png"))[4:]:
            if path.parent.name == "disc" or path.name > "03.png":
                path.unlink()
    (tmp_path / "away/plain/disc/00.png").write_bytes((pictures / "disc/11.png").read_bytes())
    (tmp_path / "home/labels.csv").write_text("file,class\n" + "".join(f"disc/0{i}.png,a\n" for i in range(4)))
    monkeypatch.chdir(tmp_path / "home")
    answer = cnnprobe(*ASKED, "dataset.root=plain", "dataset.labels=labels.csv", f"out={tmp_path}/out")
    assert answer.status == 0, answer.err
    return tmp_path / "out/record/convnet-folder/v001"


def again(cnnprobe, folder, *more):
    answer = cnnprobe("record", "--rerun", folder, *more)
    assert answer.status == 0, answer.err
    return answer, run_json.read(Path(answer.out.splitlines()[-1]))


def test_once_more_from_elsewhere_are_the_same_images_in_the_same_out(cnnprobe, made, tmp_path, monkeypatch):
    """F94: a relative path means what it meant; the images of that name that lie here are others."""
    monkeypatch.chdir(tmp_path / "away")
    answer, about = again(cnnprobe, made)
    assert f"v001 was made in another working directory: its relative paths are taken from {made.parents[3]}/home" in (
        answer.err
    )
    assert "not the same run" not in answer.err
    assert answer.out.splitlines()[-1] == str(made.parent / "v002")
    assert about["dataset"] == run_json.read(made)["dataset"]
    assert Path.cwd() == tmp_path / "away"
    answer, _ = again(cnnprobe, made, "out=mine")
    assert answer.out.splitlines()[-1] == str(tmp_path / "away/mine/record/convnet-folder/v001")


def test_what_has_changed_is_said(cnnprobe, made, tmp_path):
    """F94: images, a file that the configuration names, versions, a working directory that is gone."""
    answer, _ = again(cnnprobe, made)
    assert "not the same run" not in answer.err
    (tmp_path / "home/plain/disc/03.png").unlink()
    (tmp_path / "home/labels.csv").write_text("file,class\ndisc/00.png,a\ndisc/01.png,a\ndisc/02.png,b\n")
    before = run_json.read(made)
    files.write_json(made / "run.json", before | {"versions": before["versions"] | {"torch": "1.0"}})
    answer, about = again(cnnprobe, made)
    for told in (
        "this is not the same run as v001: dataset changed since v001",
        "disc/03.png is gone",
        "dataset.labels labels.csv changed",
        ", was 1.0",
    ):
        assert told in answer.err, answer.err
    assert any("not the same run" in line for line in about["warnings"])
    files.write_json(made / "run.json", before | {"working_directory": str(tmp_path / "nowhere")})
    answer, _ = again(cnnprobe, made)
    assert f"made in another working directory, {tmp_path}/nowhere, which is not there" in answer.err


def test_a_stopped_run_does_not_go_on_with_another_file(cnnprobe, made, tmp_path):
    """F94: half of its rows would be of the one, half of the other."""
    files.write_json(made / "run.json", run_json.read(made) | {"status": "interrupted"})
    (tmp_path / "home/labels.csv").write_text("file,class\n" + "".join(f"disc/0{i}.png,b\n" for i in range(4)))
    answer = cnnprobe("record", "--resume", made)
    assert answer.status == 2
    assert "v001 cannot go on: dataset.labels labels.csv changed, labels changed since it was begun" in answer.err


def test_a_link_in_the_tree_of_a_run_that_was_handed_over_is_not_written_through(cnnprobe, made, tmp_path):
    """F102: where its configuration names the link, or the run lies behind it; not so where `out=` says it."""
    tree, own = made.parents[2], tmp_path / "own"
    own.mkdir()
    (tree / "record/b").symlink_to(own)
    config = made / "config.yaml"
    config.write_text(config.read_text().replace("\nname: null\n", "\nname: b\n"))
    answer = cnnprobe("record", "--rerun", made)
    told = f"{tree}/record/b is or lies behind a link that leads out of {tree}; if it is yours, add out={tree}\n"
    assert (answer.status, answer.err) == (2, f"cnnprobe record: {told}")
    assert not list(own.iterdir())
    answer = cnnprobe("record", "--rerun", made, f"out={tree}")
    assert (answer.status, answer.out.splitlines()[-1]) == (0, f"{tree}/record/b/v001"), answer.err
    for flag in ("--redraw", "--rerun", "--resume"):
        answer = cnnprobe("record", flag, tree / "record/b/v001")
        assert (answer.status, answer.err) == (2, f"cnnprobe record: {told}")
    assert sorted(path.name for path in own.iterdir()) == ["latest", "v001"]
    assert cnnprobe("record", "--redraw", "record/b/v001", f"out={tree}").status == 0
