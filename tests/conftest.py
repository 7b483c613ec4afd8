"""What many tests need: a command line without a process, a folder of images, a small trained run."""

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: two processes test beside each other

import numpy as np
import pytest
from PIL import Image

from cnnprobe.cli.main import main
from cnnprobe.machine import devices
from cnnprobe.plots import style
from tests.support.device import ASKED, missing
from tests.support.sketches import sketch


@dataclass(frozen=True)
class Answer:
    """What a command line answered: its exit status, and what it printed."""

    status: int
    out: str
    err: str


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is imported, and come more seldom: the tests take less time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def on_the_device_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CNNPROBE_TEST_DEVICE names a device, what leaves it open is measured there, but for `here` tests."""
    if not ASKED or request.node.get_closest_marker("here"):
        return
    if missing():
        pytest.skip(missing())
    here = devices.chosen
    monkeypatch.setattr(devices, "chosen", lambda name: ASKED if name == "auto" else here(name))


@pytest.fixture(scope="module")
def sketched() -> Iterator[None]:
    """Sketch the figures of all command lines of a file, those of its own fixtures too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "png", sketch)
        yield


@pytest.fixture
def cnnprobe(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Answer]:
    """Run a command line in this process, in an empty folder; figures are sketched, unless the test is `rendered`."""
    monkeypatch.chdir(tmp_path)
    if not request.node.get_closest_marker("rendered"):
        monkeypatch.setattr(style, "png", sketch)

    def run(*words: str) -> Answer:
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return Answer(status, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 images of 32 px in two classes: bright discs on dark, and stripes."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for kind in ("disc", "stripes"):
        (root / kind).mkdir()
        for i in range(12):
            shape = np.hypot(y - random.integers(8, 24), x - random.integers(8, 24)) < 6
            pattern = shape if kind == "disc" else (x + i) // 4 % 2 == 0
            pixels = pattern[..., None] * random.integers(120, 255, 3) + random.integers(0, 40, (32, 32, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / kind / f"{i:02d}.png")
    return root
