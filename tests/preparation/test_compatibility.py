"""What a run is built from: images that changed since are told by name, at a resume and in a source."""

import json
import shutil

import pytest
from PIL import Image

from cnnprobe.cli.main import main
from cnnprobe.store import run_json
from cnnprobe.store.reader import Recording

RUN = "outputs/record/convnet-folder/v001"


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory, sketched):
    """A run over a copy of the pictures, the first 20 of them, both in one folder."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(pictures, place / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        images = ["dataset=folder", "dataset.root=images", "device.workers=0", "limit=first:20"]
        assert main(["record", "model=convnet", "weights=random", "keep=maps", *images]) == 0
    return place


@pytest.fixture
def begun(made, tmp_path):
    """A copy of them, in which the run says that it was stopped."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, symlinks=True)
    about = run_json.read(tmp_path / RUN)
    (tmp_path / RUN / "run.json").write_text(json.dumps(about | {"status": "interrupted", "files": None}))
    return tmp_path / RUN, tmp_path / "images"


def paint(path):
    Image.new("RGB", (32, 32), (1, 2, 3)).save(path)


CHANGES = [
    (lambda images: paint(images / "disc/03.png"), "20 images, was 20): disc/03.png changed since the run (checksum)"),
    (
        lambda images: (images / "disc/03.png").unlink(),
        "20 images, was 20): disc/03.png is gone, stripes/08.png is new",
    ),
    (lambda images: paint(images / "disc/00b.png"), "20 images, was 20): stripes/07.png is gone, disc/00b.png is new"),
    (lambda images: [path.unlink() for path in images.glob("stripes/*[13579].png")], "18 images, was 20): "),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=["content", "gone", "new", "fewer"])
def test_a_run_is_not_gone_on_with_over_other_images(cnnprobe, begun, change, told):
    """F36, F46: the run is left as it was."""
    folder, images = begun
    change(images)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    answer = cnnprobe("record", "--resume", str(folder))
    lines = [line for line in answer.err.splitlines() if not line.startswith("warning: ")]
    assert (answer.status, len(lines)) == (2, 1), answer.err
    assert "dataset changed since v001 (" in lines[0]
    assert told in lines[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_run_over_other_images_is_no_source(cnnprobe, begun):
    """F46: nothing is mixed."""
    _, images = begun
    paint(images / "disc/03.png")
    words = [
        "model=convnet",
        "layer=conv1",
        "weights=random",
        "dataset=folder",
        "dataset.root=images",
        "limit=first:20",
    ]
    answer = cnnprobe("topk", f"source={RUN}", *words)
    assert answer.status == 2
    assert "was made with other dataset (" in answer.err
    assert "disc/03.png changed since the run (checksum)" in answer.err


def test_the_same_images_elsewhere_in_the_folder_are_gone_on_with(cnnprobe, begun):
    """What lies behind `limit` may change."""
    folder, images = begun
    paint(images / "stripes/11.png")
    answer = cnnprobe("record", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert len(Recording(folder / "store.h5")["stimuli"]["checksum"]) == 20
