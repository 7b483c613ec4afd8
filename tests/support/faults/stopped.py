"""Stop commands by any signal at any moment, resume them, and compare them with what was never stopped.

A program of its own, since it forks: `python stopped.py '{"trials": 50, "seed": 0}'` in an empty folder. Some of the
images are broken; there are loader processes, runs that are built from others, and sweeps. It ends with an error where
bytes, or what was left out, differ in the end, or where a stopped run does not end in order.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cnnprobe.cli.main import main
from cnnprobe.store import run_json
from tests.support.faults.interrupting import same

SHOWN = ["model=convnet", "weights=random", "dataset=folder", "dataset.root=images", "device.threads=1", "name=n"]
LAYERS = "layer=[conv1,conv2]"
COMMANDS = {
    "record": ["record", *SHOWN, LAYERS, "batch_size=2"],
    "topk": ["topk", *SHOWN, LAYERS, "batch_size=2", "k=3", "criterion=[max,area]"],
    "rf-map": ["rf-map", *SHOWN, "layer=conv1", "top_images=2", "effective=false", "source=topk/s/v001"],
    "gbp": ["gbp", *SHOWN, "layer=conv1", "top_images=2", "sanity=false", "source=topk/s/v001"],
    "cam": ["cam", *SHOWN, "batch_size=2", "layer=conv4"],
    "train": ["train", *(word for word in SHOWN if word != "weights=random"), "epochs=3", "batch_size=4"],
}
SWEEP = ["record", "-m", *SHOWN, "layer=conv1", "batch_size=2", "seed=0,1,2"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
PATIENCE = 60.0
"""Seconds in which what was stopped has to end."""


def pictures() -> None:
    """Write forty images in two classes, of which three cannot be read."""
    for number in range(40):
        path = Path(f"images/{'ab'[number // 20]}/{number:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if number in (3, 21, 38):
            path.write_bytes(path.read_bytes()[:300])


def begun(words: list[str]) -> int:
    """Run a command line in a child; returns its process."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever began the tests with nohup
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os._exit(main(words))
    return pid


def ended(pid: int, within: float = PATIENCE) -> int:
    """Wait for a child; returns its status, negative where a signal killed it. What does not end is a fault."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        own, how = os.waitpid(pid, os.WNOHANG)
        if own:
            return os.waitstatus_to_exitcode(how)
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"it did not end within {within:g} s: {Path('said').read_text()[-2000:]}")


def stopped(words: list[str], number: int, seconds: float) -> int:
    """Run a command, stop it so many seconds after it began, and return how it ended."""
    pid = begun(words)
    time.sleep(seconds)
    os.kill(pid, number)
    return ended(pid)


def left_out(folder: Path) -> dict:
    about = run_json.read(folder)
    told = [line for line in about["warnings"] if "was killed" not in line]
    return {"skipped": sorted(about.get("skipped", [])), "warnings": sorted(told)}


def trial(chance: random.Random, number: int) -> str:
    """Stop one command up to three times, and compare its end with that of the undisturbed one."""
    command, workers = chance.choice(sorted(COMMANDS)), chance.choice([0, 2])
    undisturbed, seconds = undisturbed_run(command, workers)
    out = f"out={number}"
    words = [*COMMANDS[command], f"device.workers={workers}", out]
    if any(word.startswith("source=") for word in words):
        shutil.copytree("0 workers/topk/s", f"{number}/topk/s", symlinks=True)
    place, note = Path(f"{number}/{command}/n"), command
    for _ in range(chance.randint(1, 3)):
        how, folder = chance.choice(SIGNALS), last(place)
        asked = [command, "--resume", str(folder), out] if run_json.read(folder) else words
        status = stopped(asked, how, chance.random() * seconds * 1.2)
        assert status in (0, -9, {signal.SIGINT: 130}.get(how, 143), -how), (status, how, Path("said").read_text())
        note += f" {how.name}"
        if status == 0:
            break
    for _ in range(3):
        folder = last(place)
        about = run_json.read(folder)
        if about.get("status") == "complete":
            break
        status = ended(begun([command, "--resume", str(folder), out] if about else words))
        assert status == 0, Path("said").read_text()
    folder = last(place)
    same(folder, undisturbed)
    assert left_out(folder) == left_out(undisturbed), (note, left_out(folder), left_out(undisturbed))
    return note


def last(place: Path) -> Path:
    """Return the last run of a name; one that was stopped between its folder and what stands in it is none."""
    return max((path for path in place.glob("v*") if run_json.read(path)), default=place / "v001")


@cache
def undisturbed_run(command: str, workers: int) -> tuple[Path, float]:
    """Run a command whole, and return its folder and how long it took."""
    out, began = f"{workers} workers", time.monotonic()
    assert ended(begun([*COMMANDS[command], f"device.workers={workers}", f"out={out}"])) == 0, Path("said").read_text()
    return Path(f"{out}/{command}/n/v001"), time.monotonic() - began


def sweep(chance: random.Random, number: int, seconds: float) -> str:
    """Stop a sweep, and ask for its table."""
    how = chance.choice(SIGNALS)
    stopped([*SWEEP, f"out={number}", "device.workers=0"], how, 0.1 + chance.random() * 3 * seconds)
    for folder in Path(str(number)).glob("record/n/sweep-*"):
        if not (folder / "multirun.yaml").exists():
            continue  # before Hydra had begun
        status = ended(begun(["status", str(folder)]))
        assert status in (0, 2), Path("said").read_text()
        assert "Traceback" not in Path("said").read_text()
        if status == 0:
            with (folder / "runs.csv").open() as table:
                rows = list(csv.DictReader(table))
            assert len(rows) == 3, rows
            assert {row["status"] for row in rows} <= {"complete", "interrupted", "killed", "not begun"}, rows
    return f"sweep {how.name}"


def run_all(asked: dict) -> None:
    """Make the undisturbed runs, then all trials."""
    pictures()
    ranked = ["topk", *(word for word in SHOWN if word != "name=n"), "name=s", LAYERS, "k=3", "device.workers=0"]
    for workers in (0, 2):
        assert ended(begun([*ranked, f"out={workers} workers"])) == 0, Path("said").read_text()
    notes = []
    for number in range(asked["seed"], asked["seed"] + asked["trials"]):
        chance = random.Random(number)
        swept = number % 10 == 9
        one = sweep(chance, number, undisturbed_run("record", 0)[1]) if swept else trial(chance, number)
        notes.append(one)
    print(json.dumps(notes))


if __name__ == "__main__":
    run_all(json.loads(sys.argv[1]))
