"""What a run is built from: images that changed since are told by name, at a resume and in a source."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnnprobe.cli.main import main
from cnnprobe.errors import UserError
from cnnprobe.preparation import compatibility
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


def test_what_was_typed_beside_a_source_is_used_or_refused(cnnprobe, made):
    """F100: another model, and a seed, were dropped without a word."""
    images = ["dataset=folder", f"dataset.root={made}/images", "device.workers=0"]
    words = ["topk", "criterion=max", "layer=conv1", f"source={made / RUN}", *images]
    for typed, own in (("model=squeezenet", "model=convnet"), ("seed=7", "seed=0")):  # random weights are its seed's
        answer = cnnprobe(*words, "limit=first:20", typed)
        assert answer.status == 2
        assert f"{made / RUN} has {own}, asked for {typed}" in answer.err
    assert "asked for" not in cnnprobe(*words, "limit=first:20", "model=convnet", "seed=0").err


def test_a_seed_beside_a_source_counts_where_that_does_not_need_it(monkeypatch, made):
    """F100: it is of this method's noise; a limit draws the images of the source by its own."""
    stored = {"model": {"name": "convnet"}, "weights": "w.safetensors", "seed": 0}
    monkeypatch.setattr(compatibility, "_configuration", lambda *_: stored)
    config = {"method": {"name": "rf-map", "source": str(made / RUN)}, "weights": "auto", "seed": 7, "out": "outputs"}
    config |= {"model": {"name": "mousenet"}, "dataset": {"name": "folder"}}
    for limit, words, seed in ((None, ["seed=7"], 7), ("first:20", ["seed=7"], 7), (None, [], 0), (20, [], 0)):
        _, found = compatibility.open_source(config | {"limit": limit}, None, [], words)
        assert (found["seed"], found["model"], found["weights"]) == (seed, stored["model"], "w.safetensors")
    with pytest.raises(UserError, match=r"v001 has seed=0, asked for seed=7$"):
        compatibility.open_source(config | {"limit": 20}, None, [], ["seed=7"])


def test_images_of_one_name_are_compared_each_with_itself():
    """F36: two files of broken names can be shown alike; the second was taken for the first, changed."""

    def table(names, sums):
        return {"name": np.array(names, dtype=object), "checksum": np.array(sums)}

    def dataset(names, sums):
        return SimpleNamespace(names=names, checksums_of=lambda indices: np.array(sums)[list(indices)])

    before = {"stimuli": table(["b", "b", "c"], [1, 2, 3])}
    assert compatibility.changed(before, dataset(["b", "b", "c"], [1, 2, 3])) == []
    told = compatibility.changed(before, dataset(["b", "b", "c"], [2, 1, 3]))
    assert told == ["b changed since the run (checksum)"] * 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"sha256": "c" * 64}, "weights changed (train/a/v001@best, was aaaaaaaaaaaa, now cccccccccccc)"),
        ({"moments": {"copy@1": "b1", "copy@2": "b3"}}, "weights of the moments of train/a/v001@best changed"),
    ],
)
def test_weights_under_another_label_are_the_same_weights(tmp_path, monkeypatch, caplog, changes, told):
    """F94: a copy of a run, elsewhere, calls the run that it takes them from by another path."""
    monkeypatch.setattr(compatibility, "same_images", lambda *_: None)
    there = {"label": "train/a/v001@best", "sha256": "a" * 64, "moments": {"train@1": "b1", "train@2": "b2"}}
    here = {"label": "copy/train/a/v001@best", "sha256": "a" * 64, "moments": {"copy@1": "b1", "copy@2": "b2"}}
    (tmp_path / "run.json").write_text(json.dumps({"weights": there, "identity": {}}))
    compatibility.remark_repeated(tmp_path, None, {"weights": here | changes, "identity": {}})
    assert told in caplog.text and ("this is not the same run" in caplog.text) == bool(told)
