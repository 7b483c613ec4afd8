"""Runs that are interrupted on purpose, and what of a run folder has to be the same however it came about."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnnprobe.machine import files
from cnnprobe.runs import drawing, prepare
from cnnprobe.store import run_json
from cnnprobe.store.tables import Measurement
from cnnprobe.store.writer import Writer

WITH_TIMES = ("resume.safetensors",)
"""Files of weights that hold times."""
SAME = ("command", "seed", "device", "weights", "dataset", "held_out", "headline", "facts", "batch_size", "built_from")
"""What `run.json` has to say in the same words."""
DRAWN, AT_THE_END, COMPLETE = "before a figure is drawn", "before the store is complete", "after the store is complete"


class Interruptions:
    """Signals at chosen places of a run, within this process.

    A place is: between two events of the measurement, within it before any module of the network is run, before a
    batch is saved, half way through one of its writes, before a file is written, before the store is marked complete,
    after that, before a figure is drawn. Interrupted is where enough batches are saved and enough places were passed
    after them, or at one named place; before the store is complete at the latest.
    """

    def __init__(self):
        self.armed = False
        self.working = False
        self.saved = 0
        self.passed: Counter[int] = Counter()  # places, by how many batches were saved before them
        self.met: list[str] = []

    def aim(self, after: int = 0, skipped: int = 0, only: str = "") -> None:
        """Say where the next interruption happens.

        Args:
            after: how many batches are saved before it, over all attempts.
            skipped: how many places are passed after that.
            only: name of the place, where it is a certain one.
        """
        self.armed, self.after, self.left, self.only = True, after, skipped, only

    def place(self, name: str, polite: bool = False) -> None:
        """Pass a place, or be interrupted there: by one signal, after which the batch is finished, or by two."""
        self.passed[self.saved] += 1
        if not self.armed or self.only not in ("", name):
            return
        if not self.only and name != AT_THE_END:
            if self.saved < self.after:
                return
            self.left -= 1
            if self.left >= 0:
                return
        self.armed = False
        self.met.append(name)
        signal.raise_signal(signal.SIGTERM if len(self.met) % 2 else signal.SIGINT)
        if not polite:
            signal.raise_signal(signal.SIGINT)

    @contextmanager
    def planted(self, patch) -> Iterator["Interruptions"]:
        """Put the places into the program for as long as the block lasts."""
        write, put, finish = Writer.write, Writer._put, Writer.finish
        to_file, compute, png = files.write, prepare.compute, drawing.style.png

        def saving(writer, rows):
            self.place("before a batch is saved")
            there = writer.done[rows.table].copy()
            write(writer, rows)
            self.saved += int((writer.done[rows.table] & ~there).sum())

        def putting(writer, name, shift, data):
            put(writer, name, shift, bytes(data)[: len(data) // 2])
            self.place("half way through a write")
            put(writer, name, shift, data)

        def filing(path, data):
            self.place("before a file is written")
            to_file(path, data)

        def finishing(writer):
            self.place(AT_THE_END)
            finish(writer)
            self.place(COMPLETE)

        def rendering(figure):
            self.place(DRAWN)
            return png(figure)

        def computing(*given):
            made = compute(*given)
            return Measurement(made.tables, self._between(made.events), made.total, made.counts, made.facts)

        for owner, name, replaced in (
            (Writer, "write", saving),
            (Writer, "_put", putting),
            (Writer, "finish", finishing),
            (files, "write", filing),
            (prepare, "compute", computing),
            (drawing.style, "png", rendering),
        ):
            patch.setattr(owner, name, replaced)

        def running(*_):
            if self.working:
                self.place("inside the network")

        hook = torch.nn.modules.module.register_module_forward_pre_hook(running)
        try:
            yield self
        finally:
            hook.remove()

    def _between(self, events):
        self.working = True
        try:
            for event in events:
                self.place("between two events", polite=True)
                yield event
        finally:
            events.close()
            self.working = False


def left_by(folder):
    """Return what a run left: the bytes of its files by name, and what `run.json` says of what it found."""
    found = {"store.h5": (folder / "store.h5").read_bytes()}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name not in ("store.h5", "run.json", "run.log", ".lock"):
            found[name] = b"" if path.name in WITH_TIMES else path.read_bytes()
    lines = found["config.yaml"].splitlines()
    found["config.yaml"] = b"\n".join(line for line in lines if not line.startswith(b"out: "))  # where a run lies
    about = run_json.read(folder)
    about["facts"] = {key: value for key, value in about["facts"].items() if key != "epochs"}  # times
    return found | {f"run.json: {key}": json.dumps(about.get(key)).encode() for key in SAME}


def same(folder, undisturbed):
    """Compare two runs byte for byte; what differs is named."""
    one, other = left_by(folder), left_by(undisturbed)
    assert sorted(one) == sorted(other)
    differing = [name for name in one if one[name] != other[name]]
    assert not differing, differing
