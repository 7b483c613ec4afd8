import os
import time

import pytest
from PIL import Image

from cnnprobe.datasets.listing import folder_at, listed
from cnnprobe.errors import UserError
from tests.hostile import corpus


def test_each_real_file_is_listed_once_sorted_by_bytes_and_strays_are_left_out(tmp_path):
    """F35, F40, F41: pipes, loops of links, links to the outside, hidden names."""
    expected = corpus(tmp_path)
    began = time.process_time()
    found = listed(tmp_path)
    assert time.process_time() - began < 1
    assert sorted(found.images) == sorted(expected)
    assert found.images == sorted(found.images, key=os.fsencode)
    assert found.folders == ["folder.png"] and found.others == ["Thumbs.db", "notes.txt"]
    assert sorted(found.notes) == [
        "links that lead out of the folder are left out: outside.png",
        "pipe.png is no file (pipe, socket or device), left out",
    ]


def test_links_are_followed_to_files_inside_only_and_to_each_once(tmp_path):
    """F35."""
    pool = tmp_path / "root" / ".pool"
    pool.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(pool / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png")
    root = tmp_path / "root"
    for name, target in [("1.png", ".pool/a.png"), ("2.png", ".pool/a.png"), ("3.png", "../other.png"), ("4", "..")]:
        (root / name).symlink_to(target)
    (root / "round.png").symlink_to("trip.png")
    (root / "trip.png").symlink_to("round.png")
    assert listed(root).images == ["1.png", "round.png", "trip.png"]


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
