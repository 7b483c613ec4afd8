"""What is shown, and what goes to others with a run: names of a stranger's, markup, permissions, private text."""

import json
import os
import stat

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.support.faults import hostile

CLASSES = (
    "$\\frac{1}{$",
    "_under_%s_{0}",
    "<img src=x onerror=alert(1)>",
    "[/foo] [b]x[b]",
    "\x1b[31mred\x07",
    "=cmd|' -C calc'!A1",
    "日本 é",
    "</script><script>alert(1)</script>".replace("/", "\u2215"),
    "x" * 200,
)
KINDS = {".h5", ".png", ".json", ".yaml", ".log", ".lock", ".safetensors", ""}
LOOK = ["record", "topk", "train"]


@pytest.fixture
def hard(tmp_path):
    """A folder with two images in each of several classes; classes and images have hard names."""
    random = np.random.default_rng(0)
    for number, kind in enumerate(CLASSES):
        (tmp_path / "hard" / kind).mkdir(parents=True)
        for name in (hostile.NAMES[number], hostile.NAMES[number + 4]):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "hard" / kind / name)
    return tmp_path / "hard"


def asked(command, *more):
    own = {"train": ["epochs=1", "precision=float32"]}
    own |= {"topk": ["layer=conv1", "k=2"], "record": ["layer=conv1"]}
    words = [command, "model=convnet", "dataset=folder", "dataset.root=hard", "batch_size=6", *own.get(command, [])]
    return [*words, *more]


def strictly(path):
    """Read JSON as every reader takes it: without NaN and Infinity."""

    def never(word):
        raise AssertionError(f"{word} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=never)


@pytest.mark.rendered
@pytest.mark.parametrize("command", LOOK)
def test_hard_names_are_shown_and_kept_as_text(cnnprobe, hard, tmp_path, command):
    """F77, F78, F80: drawn without a warning, nothing for a browser, no escape on the terminal or in the log."""
    answer = cnnprobe(*asked(command))
    assert answer.status == 0, answer.err
    folder = tmp_path / f"outputs/{command}/convnet-folder/v001"
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {path.suffix if path.name != ".lock" else "" for path in paths} <= KINDS
    assert any(path.suffix == ".png" for path in paths)
    texts = [answer.out, answer.err] + [path.read_text() for path in paths if path.suffix in (".json", ".log", ".yaml")]
    assert not [text for text in texts if "\x1b" in text or "\x07" in text]
    strictly(folder / "run.json")
    if command == "train":
        return
    with h5py.File(folder / "store.h5") as file:
        kept = file["stimuli/name"].asstr()[()].tolist()
    assert len(kept) == 2 * len(CLASSES)
    assert any("onerror" in name for name in kept)


def test_a_table_on_the_terminal_shows_markup_literally(capsys):
    """F80: what another library takes for markup, and escapes."""
    from cnnprobe.machine import terminal

    terminal.say(terminal.table({"name": ["[/foo]", "[b]x[b]", "\x1b[31mred", "a\nb"]}, title=""))
    shown = capsys.readouterr().out
    assert "[/foo]" in shown and "[b]x[b]" in shown and "\\x1b[31mred" in shown and "a\\nb" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_every_file_follows_the_umask(cnnprobe, tmp_path, umask):
    """F83: also those that are written under another name first."""
    before = os.umask(umask)
    try:
        answer = cnnprobe(
            "train", "model=convnet", "dataset=shapes", "dataset.count=12", "epochs=1", "precision=float32"
        )
    finally:
        os.umask(before)
    assert answer.status == 0, answer.err
    paths = [path for path in (tmp_path / "outputs").rglob("*") if not path.is_symlink()]
    assert len(paths) > 8
    for path in paths:
        most = 0o777 if path.is_dir() else 0o666
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(most & ~umask), path


@pytest.mark.rendered
def test_nothing_private_goes_with_a_run(cnnprobe, hard, tmp_path, monkeypatch):
    """F83: no variable of the environment, no path of the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    assert cnnprobe(*asked("train")).status == 0
    assert cnnprobe(*asked("topk", "weights=train/convnet-folder/v001")).status == 0
    for path in (tmp_path / "outputs").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"hunter2" not in data, path
            assert os.fsencode(tmp_path) not in data, path


def test_random_weights_are_said_wherever_one_looks(cnnprobe, hard, tmp_path, monkeypatch):
    """F30: on the terminal, in the title of the figures, in run.json and in the store."""
    titles, suptitle = [], Figure.suptitle
    monkeypatch.setattr(
        Figure, "suptitle", lambda self, text, **more: (titles.append(text), suptitle(self, text, **more))
    )
    answer = cnnprobe(*asked("topk"))
    assert "RANDOM WEIGHTS" in answer.err
    about = strictly(tmp_path / "outputs/topk/convnet-folder/v001/run.json")
    assert about["weights"]["label"] == "random (seed 0)"
    assert any("RANDOM WEIGHTS" in warning for warning in about["warnings"])
    assert titles and all("random" in title for title in titles), titles


def test_random_weights_that_were_asked_for_are_no_warning(cnnprobe, hard):
    assert "RANDOM" not in cnnprobe(*asked("topk", "weights=random")).err


def test_of_ones_own_network_its_file_may_have_loaded_them(cnnprobe, hard, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 4, 5)\n")
    words = [word for word in asked("topk") if not word.startswith("model")]
    answer = cnnprobe(*words, "model=custom", "model.file=net.py", "model.input_size=32", "layer=logits")
    assert "they are as net.py makes them, random unless it loads some" in answer.err, answer.err


def test_a_training_without_an_end_leaves_strict_json(cnnprobe, hard, tmp_path):
    """F82: NaN in the loss is null in run.json."""
    answer = cnnprobe(*asked("train", "lr=1e30", "clip=null"))
    assert answer.status == 2
    assert strictly(tmp_path / "outputs/train/convnet-folder/v001/run.json")["status"] == "failed"
