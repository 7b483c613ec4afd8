"""Every hostile file in every place where a file is read: told in one line or taken for what it is, and no harm done.

A place is an option that takes a file, or a file of a run that somebody hands over.
"""

import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnnprobe.cli.main import main
from tests.promises.hostile import test_hostile_weights
from tests.support.faults import hostile, hostile_archives, hostile_stores

SECONDS, BYTES = 300, 1_000_000_000
"""What a single call may take: far more than it does, far less than a file that harms would."""
ABOVE = "given/topk/convnet-folder"
RUN = f"{ABOVE}/v001"
COUNT = 120
ARCHIVES = "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"


def files(folder: Path, marker: Path) -> list[Path]:
    """Make every hostile file there is; the same names in the same order each time."""
    for name in ("images", "weights", "stores", "archives"):
        (folder / name).mkdir(parents=True)
    hostile.corpus(folder / "images")
    test_hostile_weights.corpus(folder / "weights")
    hostile_stores.corpus(folder / "stores")
    hostile_archives.corpus(folder / "archives", marker)
    return sorted(path for kind in folder.iterdir() for path in kind.iterdir())


OPTIONS = {
    "weights": ["topk", "model=convnet", "layer=conv1", "weights={}"],
    "source": ["topk", "model=convnet", "layer=conv1", "source={}"],
    "mapped": ["rf-map", "model=convnet", "layer=conv1", "patch_size=16", "stride=16", "top_images=1", "source={}"],
    "guided": ["gbp", "model=convnet", "layer=conv1", "top_images=1", "source={}"],
    "optimised": ["optimize", "model=convnet", "layer=conv1", "steps=1", "units=[0]", "source={}"],
    "maps": ["cam", "model=convnet", "layer=conv4", "source={}"],
    "direction": [
        "optimize", "model=convnet", "layer=conv1", "steps=1", "units=[0]", "objective=direction", "direction={}",
    ],
    "brain": ["optimize", "model=convnet", "layer=conv1", "steps=1", "objective=stretch", "brain={}"],
    "relearned": ["transfer", "model=convnet", "epochs=1", "weights={}"],
    "perturbed": ["perturb", "model=convnet", "layer=conv1", "draws=1", "weights={}"],
    "described": ["layers", "model=convnet", "weights={}"],
    "old": ["transfer", "model=convnet", "epochs=1", "mode=scratch", "old_task={}"],
    "reference": ["rsa", "model=convnet", "layer=conv1", "bootstrap=2", "permutations=2", "reference={}"],
    "volume": ["rsa", "model=convnet", "layer=conv1", "bootstrap=2", "permutations=2", "searchlight={}"],
    "cells": ["tuning", "model=convnet", "layer=conv1", "dataset.orientations=4", "dataset.phases=4", "cells={}"],
    "classes": ["record", "model=convnet", "dataset.classes={}"],
    "labels": ["record", "model=convnet", "dataset.labels={}"],
    "root": ["record", "model=convnet", "dataset.root={}"],
    "learned": ["train", "model=convnet", "epochs=1", "dataset.root={}"],
    "array": ["record", "model=convnet", "dataset=arrays", "dataset.root={}"],
    "own": ["record", "model=convnet", "--config-dir", "{}"],
}  # fmt: skip
"""Words of a command by the name of a place; {} is the file. Images are those of the folder where none are said."""
PLACED = {
    "redrawn": ("store.h5", ["topk", "--redraw", RUN]),
    "resumed": ("store.h5", ["topk", "--resume", RUN]),
    "checked": ("store.h5", ["check", RUN]),
    "configured": ("config.yaml", ["topk", "--rerun", RUN]),
    "told": ("run.json", ["topk", "--resume", RUN]),
    "drawn": ("run.json", ["topk", "--redraw", RUN]),
    "looked at": ("run.json", ["check", RUN]),
    "ranked": ("store.h5", ["gbp", "model=convnet", "layer=conv1", "top_images=1", f"source={RUN}"]),
    "locked": (".lock", ["topk", "--resume", RUN]),
    "logged": ("run.log", ["topk", "--resume", RUN]),
    "taught": ("weights/best.safetensors", ["topk", "model=convnet", "layer=conv1", f"weights={RUN}"]),
    "archive": (f"../{ARCHIVES[0]}", ["record", "model=convnet", "dataset=cifar10", f"dataset.root={ABOVE}"]),
    "binary": (f"../{ARCHIVES[1]}", ["record", "model=convnet", "dataset=cifar10", f"dataset.root={ABOVE}"]),
}
"""By the name of a place: which file of a run it stands for, and the words of a command that reads it."""
PLACES = [*OPTIONS, *PLACED]


def put(file: Path, target: Path) -> None:
    """Put a file in the place of another one, whatever kind of file it is."""
    target.unlink(missing_ok=True)
    target.parent.mkdir(exist_ok=True)
    if file.is_fifo():
        os.mkfifo(target)
    elif file.is_dir() and not file.is_symlink():
        target.mkdir()
    else:
        shutil.copy(file, target, follow_symlinks=False)


def asked(place: str, file: Path, pictures: Path) -> list[str]:
    """Return the words of a command that reads a file in a place; the file is put there."""
    if place in PLACED:
        name, words = PLACED[place]
        put(file, Path(RUN) / name)
        return [*words]
    words = [word.format(file) if "{" in word else word for word in OPTIONS[place]]
    if words[0] in ("tuning", "layers") or "dataset=arrays" in words:
        return words
    said = any(word.startswith("dataset.root=") for word in words)
    return [*words, "dataset=folder", *([] if said else [f"dataset.root={pictures}"])]


class Late(BaseException):
    """Not an Exception: nothing that is tested may take it for a fault of a file and go on."""


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Stop what takes too long, and refuse what takes too much memory."""

    def late(*_: object) -> None:
        raise Late(what)

    handler, before = signal.signal(signal.SIGALRM, late), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < BYTES, f"{what}: {grown / 1e9:.2g} GB more"


@pytest.fixture(scope="module")
def handed(tmp_path_factory, pictures):
    """A folder with every hostile file, in `bad`, and a run that was stopped, in `whole`; neither is ever changed."""
    root = tmp_path_factory.mktemp("handed")
    files(root / "bad", root / "PWNED")
    words = ["topk", "model=convnet", "layer=conv1", "k=2", "dataset=folder", f"dataset.root={pictures}"]
    assert main([*words, "weights=random", f"out={root}/whole"]) == 0
    about = root / "whole/topk/convnet-folder/v001/run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"status": "interrupted"}))
    return root


def listed(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


def test_there_are_enough_of_them(handed):
    assert len([path for kind in (handed / "bad").iterdir() for path in kind.iterdir()]) >= COUNT


@pytest.mark.parametrize(
    ("place", "every"),
    [
        *(pytest.param(place, 96, marks=pytest.mark.slow if number % 2 else ()) for number, place in enumerate(PLACES)),
        *(pytest.param(place, 1, marks=pytest.mark.slow) for place in PLACES),
    ],
)
def test_a_hostile_file_does_no_harm_wherever_it_is_read(cnnprobe, pictures, tmp_path, handed, place, every):
    """F09, F10, F12, F24, F25, F27, F34, F35, F40, F45, F72, F73: one in so many of all files and the pipe, or all."""
    bad = sorted(path for kind in (handed / "bad").iterdir() for path in kind.iterdir())
    before = listed(handed)
    for file in {*bad[41 * PLACES.index(place) % every :: every], *(path for path in bad if path.is_fifo())}:
        shutil.rmtree(tmp_path / "given", ignore_errors=True)
        shutil.copytree(handed / "whole", tmp_path / "given", symlinks=True)
        words = asked(place, file, pictures)
        with bounded(f"{place}: {file.name!r}"):
            answer = cnnprobe(*words)
        what = (place, file.name, answer.status, answer.err)
        assert answer.status in (0, 2), what
        assert "Traceback" not in answer.err, what
        assert "\x1b" not in answer.out + answer.err, what
        assert "do not show" not in answer.out + answer.err, what
        aside = "warning: ", "resuming ", f"{words[0]}: "  # the last one is progress
        lines = [line for line in answer.err.splitlines() if not line.startswith(aside)]
        assert len(lines) == (answer.status == 2), what
        assert {path.name for path in tmp_path.iterdir()} <= {"given", "outputs"}, what
        assert listed(handed) == before, what  # no marker of code that ran, no file out of an archive
        shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
