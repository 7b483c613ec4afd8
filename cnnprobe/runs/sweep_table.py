"""The table of a sweep, `runs.csv`: a row for each job, joined from the lines that the jobs leave.

It is written whenever a job begins or ends, so that there is one whatever becomes of the process that launched them.
"""

import csv
import io
import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, escaped
from cnnprobe.machine import files, terminal
from cnnprobe.store import folders, run_json
from cnnprobe.store.kinds import fits

NAME = "runs.csv"
FIXED = ("job", "overrides", "version", "weights", "status", "reason")
"""Columns beside what was swept and found."""
BLANK: dict[str, Any] = {"overrides": [], "version": "", "weights": "", "reason": "", "headline": {}}
"""What a job's line has, besides its number and status."""
NOTE = {"process": int, "born?": (int, None), "out": str, "command": str, "overrides": [str]}
"""What a job notes when it begins, see `store.kinds.fits`; `born`: see `machine.provenance.birth`."""
COMMAND = re.compile(r"[a-z0-9][a-z0-9-]*")
"""What a command is called; so is its folder, which no pattern and no way elsewhere can be."""
STOPPED = ("interrupted", "killed", "failed")
"""States of a job whose run can be gone on with."""
VERSION = re.compile(rf"[^/]+/[^/]+/{folders.VERSION.pattern}")
"""How a line names its run, below the folder of all runs."""
LARGEST, TOGETHER = 2**18, 2**25
"""Bytes of a note or line, and of all lines or notes of a sweep: what stands behind that is left out."""
COLUMNS = 100
"""Options, and figures, that have a column of their own: the lines of a stranger's sweep may name any number."""
OFTEN, SHARE = 5.0, 50
"""Seconds between two writings while jobs are at work, and how many times as long as a writing took at least."""


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return what the jobs of a sweep have left, in their order; a line that is none is left out.

    What a job that was stopped came to when it was gone on with stands in its run.
    """
    return sorted((line | _since(folder, line) for line in _left(folder)), key=lambda line: line["job"])


def _left(folder: Path) -> list[dict[str, Any]]:
    found = map(_read, _up_to_a_limit((folder / "jobs").glob("*.json")))
    return [line for line in found if line is not None]


def _since(folder: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Return what has become since of a job that left a line before its run was complete; {} where it is not."""
    run = run_of(folder, line) if line["status"] in STOPPED else None
    about = run_json.read(run) if run is not None else {}
    if about.get("status") != "complete":
        return {}
    return {"status": "complete", "reason": "", "folder": str(run), "bug": False} | found_by(about)


def found_by(about: dict[str, Any]) -> dict[str, Any]:
    """Return what the table says of a run beside its state: the label of its weights, and the figures it found."""
    return {"weights": about.get("weights", {}).get("label", ""), "headline": about.get("headline", {})}


def beside(folder: Path) -> list[Path]:
    """Return the folder of the command in which a sweep lies, as its path says and behind links."""
    return list(dict.fromkeys(path.parent.parent for path in (folder.absolute(), folder.resolve())))


def run_of(folder: Path, job: dict[str, Any], noted: bool = False) -> Path | None:
    """Return the folder of the run of a job, None where there is none.

    It is looked for beside the sweep, wherever that lies now, and then where a note says that its job writes: `out` may
    be swept over. The sweep may be a stranger's, and lead elsewhere: the run itself has to say that it is that job.

    Args:
        folder: of the sweep.
        job: its line, or its note.
        noted: whether that is a note: the job has left no line that names its run.
    """
    places, others = beside(folder), set()
    if noted:
        places += [Path(job["out"]) / job["command"]]
        others = {line["version"] for line in _left(folder)}
    elif not VERSION.fullmatch(job["version"]):
        return None
    with suppress(OSError, ValueError):  # no path can be that long, or hold what this one does
        for place in places:
            runs = sorted(place.glob("*/v*")) if noted else [place.joinpath(*job["version"].split("/")[1:])]
            for run in runs:
                about = run_json.read(run) if run.resolve() == place.resolve() / run.parent.name / run.name else {}
                same = (about.get("sweep"), about.get("overrides")) == (folder.name, job["overrides"])
                if same and (not noted or (_is_by(about, job) and version_of(job["command"], run) not in others)):
                    return run
    return None


def _is_by(about: dict[str, Any], note: dict[str, Any]) -> bool:
    """Tell whether a run is of the process of a job, or was gone on with by another one since."""
    return about.get("process") == note["process"] or bool(about.get("resumed"))


def version_of(command: str, run: Path) -> str:
    """Return how a line names a run of a command."""
    return f"{command}/{run.parent.name}/{run.name}"


def notes_of(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the notes of jobs that are at work or were killed at it, by number; a file that is none is left alone."""
    found = {path.stem: read_json(path) for path in _up_to_a_limit((folder / "jobs").glob("*.begun"))}
    known = {int(stem): note for stem, note in found.items() if stem.isdecimal() and fits(note, NOTE)}
    known = {number: note for number, note in known.items() if COMMAND.fullmatch(note["command"])}
    return {number: {"born": None} | known[number] for number in sorted(known)}


def begun(folder: Path) -> list[dict[str, Any]]:
    """Return a line for every job that is at work, or was killed at it."""
    return [
        {"job": number, "overrides": note["overrides"], "version": "", "status": "begun", "reason": ""}
        for number, note in notes_of(folder).items()
        if not (folder / "jobs" / f"{number}.json").exists()
    ]


def _up_to_a_limit(paths: Iterable[Path]) -> Iterator[Path]:
    """Give files until they have too many bytes together: those of a stranger's sweep may have any number."""
    left = TOGETHER
    for path in sorted(paths):
        with suppress(OSError):
            size = path.stat().st_size
            left -= size if size <= LARGEST else 0  # which are not read
        if left >= 0:
            yield path


def _read(path: Path) -> dict[str, Any] | None:
    line = read_json(path)
    if not isinstance(line, dict) or not isinstance(line.get("job"), int) or not isinstance(line.get("status"), str):
        return None
    own = {key: value for key, value in line.items() if key not in BLANK or isinstance(value, type(BLANK[key]))}
    line = BLANK | own
    return line | {"overrides": [str(word) for word in line["overrides"]]}


def read_json(path: Path) -> Any:
    """Return what a small file holds as JSON; None where there is none, or something else."""
    with suppress(OSError, ValueError, RecursionError, UserError):
        return json.loads(files.read(path, LARGEST).decode())
    return None


def write(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the table as it is now; returns its rows, and the columns that say what was swept."""
    lines = sorted([*lines_of(folder), *begun(folder)], key=lambda line: line["job"])
    figures = list(dict.fromkeys(key for line in lines for key in line.get("headline", {})))[:COLUMNS]
    asked = [dict(word.lstrip("+").partition("=")[::2] for word in line["overrides"]) for line in lines]
    swept = [key for key in dict.fromkeys(key for one in asked for key in one)
             if len({one.get(key) for one in asked}) > 1][:COLUMNS]  # fmt: skip
    named = {key: f"{key}=" if key in (*FIXED, *figures) else key for key in swept}
    weights = ["weights"] if any(line.get("weights") for line in lines) else []
    columns = ["job", *named.values(), "overrides", "version", *weights, "status", *figures, "reason"]
    rows = []
    for line, one in zip(lines, asked):
        values = {key: line.get("headline", {}).get(key, "") for key in figures}
        own = {key: line.get(key, "") for key in ("job", "version", "weights", "status", "reason")}
        own |= {column: one.get(key, "") for key, column in named.items()}
        rows.append(own | values | {"overrides": " ".join(line["overrides"])})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(_safe, columns))
    writer.writerows([_safe(row[column]) for column in columns] for row in rows)
    files.write(folder / NAME, text.getvalue().encode())
    return [dict.fromkeys(columns) | row for row in rows], swept


def write_in_time(folder: Path, now: bool = False) -> None:
    """Write the table if it is time to, or `now`; one that cannot be written is not worth a job."""
    with suppress(OSError):
        path, began = folder / NAME, time.time()
        age = began - path.stat().st_mtime if path.exists() else float("inf")
        if now or age > OFTEN + len(list((folder / "jobs").iterdir())) / SHARE:
            write(folder)


def summary(folder: Path) -> int:
    """Write the table, and show it on the terminal; return the exit status.

    Raises:
        UserError: the sweep had no jobs.
    """
    lines = lines_of(folder)
    if not lines and not begun(folder):
        raise UserError("the sweep has no jobs: a list of values is empty, or it was stopped before them")
    rows, swept = write(folder)
    columns = list(rows[0])
    done = sum(line["status"] == "complete" for line in lines)
    spared = {"overrides"} if swept else set()  # what is the same in all of them, and the swept ones once more
    spared |= {"weights"} if len({row.get("weights") for row in rows}) == 1 else set()
    shown = [column for column in columns if column not in spared and any(row[column] != "" for row in rows)]
    terminal.say(terminal.table({column: [_cell(row[column]) for row in rows] for column in shown}))
    terminal.say(f"sweep: {done} of {len(rows)} jobs done")
    terminal.say(str(folder))
    if any(line.get("bug") for line in lines):
        return 1
    return 0 if done == len(rows) else 2


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _safe(value: Any) -> Any:
    """Keep a spreadsheet from reading a text as a formula."""
    text = escaped(value) if isinstance(value, str) else value
    return f"'{text}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else text
