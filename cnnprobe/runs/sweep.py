"""A sweep: every combination of the values given, one run each, and one table of them all.

Hydra expands the combinations and, with `hydra/launcher=joblib` or `submitit_slurm`, spreads them.
Each job is a run folder of its own and leaves a line in the sweep's folder; the parent joins the lines.
"""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cnnprobe.config import catalogue, compose, untrusted_yaml
from cnnprobe.config.words import Request
from cnnprobe.errors import UserError, one_line
from cnnprobe.machine import files, screen, terminal
from cnnprobe.machine.signals import EXIT_STATUS, Handler, a_library_is_imported, again, handled
from cnnprobe.runs import drawing, sweep_state, sweep_table
from cnnprobe.runs.job import Job
from cnnprobe.runs.sweep_job import PARENT, GoneError, settle, stop_jobs, task, typed
from cnnprobe.runs.sweep_table import lines_of
from cnnprobe.store import folders, locks, run_json

FULL = "HYDRA_FULL_ERROR"
"""Variable of the environment with which errors come as they are, instead of pages and the end of the process."""
SAFE = "PYTHONSAFEPATH"
"""The same for Python: a process that a launcher begins imports nothing from the folder one stands in."""
MOST = 10_000  # jobs; all of them are written down before the first begins
WORDS, LETTERS = 2**22, 2**24
"""Overrides of all jobs together, and their letters, that are written down of jobs that never began."""


def main(request: Request) -> int:
    """Run a sweep and return the worst exit status of its jobs."""
    words = compose.overrides(request)
    if (count := compose.jobs([*compose.swept_by_files(request, words), *words])) > MOST:
        raise UserError(f"this sweep would have {count} jobs, at most {MOST} are possible")
    first = Job(request.command, compose.first_job(request))
    try:
        folder = files.claim(Path(first.config["out"]) / request.command / first.name, "sweep-")
    except OSError as error:
        raise folders.unwritable(Path(first.config["out"]), error) from None
    (folder / "jobs").mkdir()
    with locks.Lock(folder) as lock, screen.lenient():
        stopped = launched(sweep_state.begin(folder), request, words)
        lock.check()
        settle(folder, jobs_of(folder, words))
        if stopped and not (lines_of(folder) or sweep_table.begun(folder)):
            terminal.say(f"cnnprobe {request.command}: stopped before the first job of the sweep", stream=sys.stderr)
            return stopped
        status = sweep_table.summary(folder)
        done = [line for line in lines_of(folder) if line["status"] == "complete" and line.get("folder")]
        drawing.compare(request.command, [(Path(line["folder"]), line["overrides"]) for line in done], folder)
    return max(stopped, status)


def launched(sweep: sweep_state.Sweep, request: Request, words: list[str]) -> int:
    """Let Hydra launch all jobs and wait for them; returns 130 or 143 where a signal came, else 0.

    Raises:
        UserError: Hydra cannot make jobs of the words, or has no such launcher; the folder is gone again.
    """
    place = compose.literal(str(sweep.folder))
    settings = [
        "hydra.output_subdir=null",
        "hydra.run.dir=.",
        "hydra.sweep.subdir=.",
        f"hydra.sweep.dir={place}",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f"+sweep={{folder:{place},id:{compose.literal(sweep.id)}}}",
    ]
    before = sys.argv
    sys.argv = ["cnnprobe", "--multirun", *settings, *compose.searchpath(request.config_dirs), *words]
    try:
        with _environment(), handled(dict.fromkeys(EXIT_STATUS, _ending(sweep))):
            hydra.main(version_base="1.3", config_path=str(catalogue.configs_dir()), config_name="config")(task)()
    except SystemExit as end:  # a signal came: the jobs behind this one are not begun
        if not isinstance(end, GoneError) and end.code not in EXIT_STATUS.values():
            raise
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except (HydraException, OmegaConfBaseException) as error:
        files.still_held(sweep.folder)
        if lines_of(sweep.folder):
            terminal.say(f"cnnprobe {request.command}: {_told(error)}", stream=sys.stderr)
        else:
            shutil.rmtree(sweep.folder)
            raise _told(error) from None
    except Exception as error:  # of the launcher; the jobs' own are in their lines
        told = one_line(f"the launcher failed: {type(error).__name__}: {error}")
        terminal.say(f"cnnprobe {request.command}: {told[:300]}", stream=sys.stderr)
    finally:
        sys.argv = before
    return sweep_state.about(sweep.folder)["stopped"] or 0  # a signal may come where nobody can catch what it raises


@contextmanager
def _environment() -> Iterator[None]:
    """Set what Hydra, the launcher and the jobs find in the environment, inside the block."""
    before = {name: os.environ.get(name) for name in (PARENT, FULL, SAFE)}
    os.environ |= {PARENT: str(os.getpid()), FULL: "1", SAFE: "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ending(sweep: sweep_state.Sweep) -> Handler:
    """Return what lets a signal that comes between jobs, or while others do them, end the sweep, its table written.

    A launcher kills its processes at once, so the jobs that they do end before; a second signal does not wait for them.
    """
    came, interrupted = [], signal.getsignal(signal.SIGINT)

    def end(number: int, frame: Any) -> None:
        if number != signal.SIGINT and a_library_is_imported():  # half of it would be left, and its C++ could abort
            again(number)
            return
        came.append(number)
        if len(came) == 1:
            stop_jobs(sweep, EXIT_STATUS[number])
        if number != signal.SIGINT:
            raise SystemExit(EXIT_STATUS[number])
        if not callable(interrupted):
            raise KeyboardInterrupt
        interrupted(number, frame)

    return end


def _told(error: Exception) -> UserError:
    """Return Hydra's words as one line."""
    missing = re.search(r"Could not find 'hydra/launcher/(.*?)'", str(error))
    if missing:
        return UserError(f"no hydra/launcher {missing[1]!r} here; pip install cnnprobe[launchers] has joblib, submitit")
    return UserError(compose.one_line(error))


def jobs_of(folder: Path, words: list[str] | None = None) -> list[list[str]]:
    """Return the overrides of every job of a sweep, in Hydra's order; [] where it cannot be said from here.

    Args:
        folder: of the sweep.
        words: as they were typed; None: as Hydra has written them down.
    """
    try:
        written = untrusted_yaml.read(folder / "multirun.yaml")["hydra"]  # plain: nothing in it is resolved
        params = (written.get("sweeper") or {}).get("params") or {}
        if words is None:
            words = [word for word in written["overrides"]["task"] if not word.startswith("+sweep=")]
        words = [*(f"{key}={value}" for key, value in params.items()), *words]
        if (count := compose.jobs(words)) > MOST or count * len(words) > WORDS:
            return []
        jobs = [typed(job) for job in BasicSweeper.split_arguments(compose.parsed(words), None)[0]]
        return jobs if sum(len(word) for job in jobs for word in job) <= LETTERS else []
    except (HydraException, UserError, OSError, LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return []


def draw_again(folder: Path) -> int:
    """Draw the figures of a sweep whose process is gone, where a run of it is newer than they; return how many.

    Raises:
        UserError: one of its stores cannot be read.
    """
    command = next((place.name for place in sweep_table.beside(folder) if place.name in catalogue.commands()), None)
    done = [line for line in lines_of(folder) if line["status"] == "complete"]
    found = ((sweep_table.run_of(folder, line), line["overrides"]) for line in done)
    runs = [(run, overrides) for run, overrides in found if run and run_json.read(run).get("status") == "complete"]
    drawn = [path.lstat().st_mtime_ns for path in (folder / drawing.FIGURES).glob("*.png")]
    if command is None or not any((run / "run.json").stat().st_mtime_ns > max(drawn, default=0)
                                                      for run, _ in runs):  # fmt: skip
        return 0
    return drawing.compare(command, runs, folder)
