import os
import time

import pytest
from PIL import Image

from cnnprobe.datasets.base import listing
from cnnprobe.datasets.base.listing import folder_at, listed
from cnnprobe.errors import UserError
from tests.support.faults.hostile import corpus


def test_each_real_file_is_listed_once_sorted_by_bytes_and_strays_are_left_out(tmp_path):
    """F35, F40, F41: pipes, loops of links, links to the outside, hidden names."""
    expected = corpus(tmp_path)
    began = time.process_time()
    found = listed(tmp_path)
    assert time.process_time() - began < 1
    assert sorted(found.once()) == sorted(expected)
    assert found.images == sorted(found.images, key=os.fsencode)
    assert found.folders == ["folder.png"] and found.others == ["Thumbs.db", "notes.txt"]
    assert sorted(found.notes) == [
        "links that lead in a circle are left out: loop",
        "links that lead out of the folder are left out: outside.png → /etc/hostname",
        "links to images that are listed already are left out: twice.png",
        "pipe.png is no file (pipe, socket or device), left out",
    ]


def write(*paths):
    """Write a picture of its own at each path."""
    for level, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (level,) * 3).save(path)


def test_links_are_followed_to_files_inside_only_and_to_each_once(tmp_path):
    """F35, F92: and those to folders inside, but to none that one is in."""
    root = tmp_path / "root"
    write(root / ".pool/a.png", root / ".pool/deep/b.png", tmp_path / "other.png", tmp_path / "beside/c.png")
    links = {"1.png": ".pool/a.png", "2.png": ".pool/a.png", "3.png": "../other.png", "4": "..", "5": ".pool"}
    links |= {"6": "../beside", "round.png": "trip.png", "trip.png": "round.png", "gone": "nowhere"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = listed(root)
    assert found.images == ["1.png", "2.png", "5/a.png", "5/deep/b.png", "round.png", "trip.png"]
    assert found.once() == ["1.png", "5/deep/b.png", "round.png", "trip.png"] and found.folders == ["5", "5/deep"]
    assert found.outside == {"3.png": f"{tmp_path}/other.png"}
    assert found.outside_folders == {"4": str(tmp_path), "6": f"{tmp_path}/beside"}
    said = "\n".join(found.notes)
    assert "lead nowhere are left out: gone" in said and "listed already are left out: 2.png, 5/a.png" in said
    every = listed(root, outwards=True)
    assert every.once() == ["1.png", "3.png", "5/deep/b.png", "6/c.png", "round.png", "trip.png"]
    assert "lead in a circle are left out: 4" in "\n".join(every.notes)


def test_links_in_circles_and_in_great_number_end(tmp_path):
    """F35, F92: folders that hold links to each other and to the top; every class has each folder once."""
    for one in range(6):
        write(tmp_path / f"{one}/{one}.png")
        for other in [*(f"../{n}" for n in range(6)), "..", "."]:
            (tmp_path / str(one) / f"to{other.strip('./')}{len(other)}").symlink_to(other)
    began = time.process_time()
    found = listed(tmp_path)
    assert time.process_time() - began < 2
    assert found.once() == [f"{n}/{n}.png" for n in range(6)]


def test_links_that_lead_to_the_same_folders_time_and_again_are_refused(tmp_path, monkeypatch):
    """F103: among class folders each of which has links to all of them; one link to each is followed."""
    monkeypatch.setattr(listing, "MOST_AGAIN", 100)
    for one in range(8):
        (tmp_path / f"d{one}").mkdir()
        Image.new("L", (1, 1)).save(tmp_path / f"d{one}/0.png")
        (tmp_path / f"also{one}").symlink_to(f"d{one}")
    assert len(listed(tmp_path).images) == 16
    for one in range(64):
        (tmp_path / f"d{one // 8}/l{one % 8}").symlink_to(f"../d{one % 8}")
    with pytest.raises(UserError, match=r"links lead to the same folders times and again \(\d+ files and folders, 97 "):
        listed(tmp_path)


def test_a_link_without_ending_to_a_pipe_does_not_hang(tmp_path):
    """F35."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    assert listed(tmp_path).images == []


@pytest.mark.parametrize(
    ("root", "words"),
    [
        (None, "dataset folder needs dataset.root=FOLDER"),
        ("{}/pictuers", "no folder '.*/pictuers' for dataset folder; did you mean 'pictures'"),
        ("{}/file", "is a file, not a folder"),
        ("{}/no/where", "no folder '.*/no/where'"),
    ],
)
def test_a_folder_that_is_none_is_told_with_the_nearest_name(tmp_path, root, words):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=words):
        folder_at(root and root.format(tmp_path), "folder")
