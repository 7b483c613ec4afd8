"""A run under way: its folder, its lock, what `run.json` says of it, and how it ends."""

import copy
import shlex
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnprobe import methods
from cnnprobe.config import catalogue
from cnnprobe.errors import escaped
from cnnprobe.machine import files, own_code, provenance, terminal
from cnnprobe.runs import resuming
from cnnprobe.runs.job import Job
from cnnprobe.store import folders, locks
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Measurement
from cnnprobe.store.unfinished import Unfinished

RESULTS = (".h5", ".png", ".safetensors", ".nii.gz")
"""Files of a run whose checksums are kept."""


@dataclass
class Run:
    """A run under way.

    Args:
        job: what is done.
        folder: of the run.
        lock: held by this process.
        about: what `run.json` says of it.
        remarks: what was warned of.
        unfinished: keeps work that has no row yet.
        measurement: the work, ready to be done.
        attributes: of the root of its store.
        under_way: how far work is that has no row yet, in words.
        seen: code of the user's own that it is known to run.
        started: on a clock that is never set.
    """

    job: Job
    folder: Path
    lock: locks.Lock
    about: dict[str, Any]
    remarks: terminal.Remarks
    unfinished: Unfinished
    measurement: Measurement
    attributes: dict[str, Any]
    under_way: str = ""
    seen: object = None
    started: float = field(default_factory=time.monotonic)

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        found = folders.command_for(self.folder, self.job.command)
        for group in ("model", "method"):
            file = self.job.config[group].get("file") if group == "model" or self.job.command in catalogue.OWN else None
            found += f" {shlex.quote(f'{group}.file={file}')}" if file else ""
        return found

    def save(self, **changes: Any) -> None:
        """Bring `run.json` up to date; what cannot be written there is not kept either, so that its end can be."""
        remarks = {"warnings": list(self.remarks.warnings), "skipped": list(self.remarks.skipped)}
        now = self.about | remarks | changes
        files.write_json(self.folder / "run.json", now)
        self.about = now

    def note(self, facts: dict[str, Any]) -> None:
        """Write down what was found out or left out before the rows that hold it are saved, or a kill would lose it.

        Raises:
            UserError: code of the user's own that is imported only now is another one than when the run was begun.
        """
        if (seen := own_code.seen()) != self.seen:
            later = resuming.run_later(self.folder, self.job.config, self.about, self.job.rerun)
            more = {"run_later": later, "versions": self.about.get("versions", {}) | own_code.versions()}
            if any(value and value != self.about.get(key) for key, value in more.items()):
                self.save(**more)
            self.seen = seen
        counts = len(self.about["warnings"]), len(self.about["skipped"])
        if facts != self.about["facts"] or counts != (len(self.remarks.warnings), len(self.remarks.skipped)):
            self.save(facts=copy.deepcopy(facts))

    def close(self, status: str, **changes: Any) -> None:
        """Write how it ended."""
        self.save(
            status=status,
            ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(self.about["seconds"] + time.monotonic() - self.started, 3),
            peak_memory_bytes=provenance.peak_memory(),
            **changes,
        )


def complete(run: Run) -> str:
    """Mark a run complete and return what to say: what it found and where it is.

    All that may fail comes before the mark, and it is printed when the run has been let go of: the reader may be gone.
    """
    sums = files.sums(run.folder, (path for path in run.folder.rglob("*") if path.name.endswith(RESULTS)))
    method = methods.module(run.job.command)
    recording = Recording(run.folder / "store.h5")
    headline = method.headline(recording) if hasattr(method, "headline") else {}
    listed = method.summary(recording) if hasattr(method, "summary") else {}
    summary = [terminal.table(listed)] if listed else []
    run.close("complete", headline=headline, files=sums)
    folders.mark_latest(run.folder)
    found = ", ".join(f"{key} {_figure(value)}" for key, value in headline.items())
    rate = _figure(float(run.about.get(f"{run.measurement.counts}_per_second", 0)))
    skipped = f"; {len(run.remarks.skipped)} skipped (see run.log)" if run.remarks.skipped else ""
    seconds = terminal.duration(run.about["seconds"])
    kind = "signals" if len(run.about["dataset"]["size"]) == 2 else "images"
    speed = f" ({rate} {kind}/s)" if run.measurement.counts == "images" and rate != "0" else ""
    expected = "weights" in catalogue.page(catalogue.yaml_path("method", run.job.command)).root
    weights = "" if expected else f"; weights: {run.about['weights']['label']}"
    part = f"; images: {run.about['dataset']['sample']}" if run.about["dataset"].get("sample") else ""
    last = f"{run.job.command}: {found or 'done'} in {seconds}{speed}{skipped}{weights}{part}"
    return "\n".join([*summary, *map(escaped, (last, str(run.folder)))])


def _figure(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def interrupted(run: Run) -> None:
    """Say what is kept and how to go on."""
    run.close("interrupted")
    kept = run.about.get("kept", "no rows kept") + run.under_way
    terminal.say(f"cnnprobe {run.job.command}: interrupted, {kept}; resume with: {run.again}", stream=sys.stderr)


def stopping(command: str, what: object) -> None:
    """Say what is finished before a run stops."""
    again = "a second Ctrl-C leaves at once"
    terminal.say(f"cnnprobe {command}: stopping when {what} has reached a point to go on from; {again}", sys.stderr)
