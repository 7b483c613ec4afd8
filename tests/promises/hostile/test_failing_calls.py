"""Whichever call to the file system fails, one line tells it, and the run can be gone on with to the same end."""

import copy
import errno
import os
from dataclasses import dataclass

import pytest

from cnnprobe import methods
from cnnprobe.config import compose
from cnnprobe.runs import drawing
from cnnprobe.store import run_json
from tests.runs.test_execute import contents, words

CALLS = ("pwrite", "fsync", "fdatasync", "replace", "posix_fallocate", "mkdir", "symlink")
COMMANDS = {
    "record": ["layer=conv1", "limit=8", "batch_size=2"],
    "topk": ["layer=conv2", "criterion=max", "limit=4", "units=[0,1]"],
    "train": ["epochs=1", "batch_size=12"],
}


class Failing:
    """The calls of `os` that change files, of which the n-th fails, once or from then on; the others are counted."""

    def __init__(self, monkeypatch):
        self.count, self.at, self.lasting, self.error = 0, 0, False, errno.ENOSPC
        for name in CALLS:
            monkeypatch.setattr(os, name, self.counting(getattr(os, name)))

    def counting(self, real):
        def call(*args, **more):
            self.count += 1
            if self.at and (self.count == self.at or (self.lasting and self.count > self.at)):
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **more)

        return call

    def plan(self, at, error=errno.ENOSPC, lasting=False):
        self.count, self.at, self.error, self.lasting = 0, at, error, lasting


@dataclass(frozen=True)
class Rendered:
    """A figure of which the file is known already."""

    file: bytes

    def savefig(self) -> bytes:
        """Return the file."""
        return self.file


@pytest.fixture
def remembered(monkeypatch, cnnprobe):
    """Compose a command line once, draw a store once: most of a run's time, and neither changes a file.

    After `cnnprobe`, which puts something in the place of `png` as well.
    """
    composed, drawn = {}, {}
    real, render = compose.compose, drawing.style.png

    def once(request, **given):
        asked = tuple(word for word in request.overrides if not word.startswith("out="))
        out = [("out", word.removeprefix("out=")) for word in request.overrides if word not in asked]
        what = request.command, asked, *given.items()
        if what not in composed:
            composed[what] = real(request, **given)
        return copy.deepcopy(composed[what]) | dict(out)

    def drawing_once(draw):
        def images(recording):
            key = str(contents(recording.path.parent))
            if key not in drawn:
                drawn[key] = [(name, Rendered(render(figure))) for name, figure in draw(recording)]
            return drawn[key]

        return images

    monkeypatch.setattr(compose, "compose", once)
    monkeypatch.setattr(drawing.style, "png", Rendered.savefig)
    monkeypatch.setattr(drawing.style, "mark", lambda image, words: None)
    for command in COMMANDS:
        monkeypatch.setattr(methods.module(command), "draw", drawing_once(methods.module(command).draw))


def one_line(answer, reason):
    lines = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert answer.status == 2, answer.err
    assert len(lines) == 1, answer.err
    assert reason in lines[0]
    assert "Traceback" not in answer.err


def try_all(cnnprobe, pictures, monkeypatch, tmp_path, command, points, error, lasting):
    """Fail one call after the other; each time go on and compare with a run that nothing disturbed."""
    asked = words(command, pictures, "device.workers=0", "weights=random" * (command != "train"), *COMMANDS[command])
    asked = [word for word in asked if word]
    failing = Failing(monkeypatch)
    assert cnnprobe(*asked, "out=whole").status == 0
    total = failing.count
    whole = contents(tmp_path / f"whole/{command}/convnet-folder/v001")
    told = 0
    for point in points(total):
        failing.plan(point, error, lasting)
        answer = cnnprobe(*asked, f"out={point}")
        failing.plan(0)
        folder = tmp_path / f"{point}/{command}/convnet-folder/v001"
        if answer.status:
            told += 1
            one_line(answer, os.strerror(error))
        # a link that cannot be made is no failure of a run, nor is what fails when all is written
        if run_json.read(folder).get("status") != "complete":
            assert answer.status == 2
            again = ["--resume", str(folder)] if (folder / "config.yaml").exists() else [*asked[1:], f"out={point}"]
            answer = cnnprobe(command, *again)
            assert answer.status == 0, (point, answer.err)
        assert contents(folder) == whole
        assert not list((tmp_path / str(point)).rglob("*.tmp.*"))
    return told, total


@pytest.mark.parametrize(
    ("error", "lasting"), [(errno.ENOSPC, True), pytest.param(errno.EIO, False, marks=pytest.mark.slow)]
)
def test_failing_calls_of_a_run_are_told_and_lose_nothing(cnnprobe, pictures, monkeypatch, tmp_path, error, lasting):
    """F61, F66: a few calls of a run of record; all of them, of more commands, below."""
    first = 1 + 10 * lasting
    told, total = try_all(
        cnnprobe,
        pictures,
        monkeypatch,
        tmp_path,
        "record",
        lambda count: (first, count // 2, count - 8, count - 5),
        error,
        lasting,
    )
    assert total > 30
    assert told >= 2


@pytest.mark.slow
@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("command", COMMANDS)
def test_any_failing_call_is_told_and_loses_nothing(cnnprobe, pictures, monkeypatch, tmp_path, command, error, lasting):
    """F61, F66."""
    told, total = try_all(
        cnnprobe, pictures, monkeypatch, tmp_path, command, lambda count: range(1, count + 1), error, lasting
    )
    assert told > total / 2
