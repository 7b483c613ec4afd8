"""One job of a sweep, in whatever process it was launched, and the line it leaves in the sweep's folder.

Where a launcher gives one process several jobs, each is done in a process of its own, so that one that is killed takes
no other with it. So is each that runs a Python file of the user's own, whatever the launcher: what such a file changes
in torch, in NumPy, in the process (a default, a class, a setting) ends with it. A job leaves a note when it begins and
its line when it ends: a note without a line is a job that was killed.
"""

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnprobe.config import catalogue, own_experiment, schema
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, provenance, screen, terminal
from cnnprobe.machine.signals import EXIT_STATUS, Stop, end_with_parent
from cnnprobe.preparation import build as preparation
from cnnprobe.runs import resource_errors, sweep_state
from cnnprobe.runs.execute import execute
from cnnprobe.runs.job import Job
from cnnprobe.runs.sweep_state import Sweep
from cnnprobe.runs.sweep_table import found_by, lines_of, notes_of, run_of, version_of, write_in_time
from cnnprobe.store import folders, locks, newest, run_json

SHARING = ("joblib",)
"""Launchers whose processes do one job after the other."""
PARENT = "CNNPROBE_SWEEP"
"""Variable of the environment with the number of the process that launched the sweep."""
PATIENCE = 60.0
"""Seconds that the jobs whose launcher died are waited for where they write no run."""
POLL = 0.2
"""Seconds between two looks whether jobs that were left alone have ended."""


class GoneError(SystemExit):
    """The folder of the sweep is not there any more: no job is begun, whatever the launcher does with errors."""


@dataclass(frozen=True)
class Asked:
    """A job as it was launched.

    Args:
        sweep: to which it belongs.
        number: of the job.
        words: the overrides, as typed.
        config: composed, not yet checked.
    """

    sweep: Sweep
    number: int
    words: list[str]
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Folder of the sweep."""
        return self.sweep.folder

    @property
    def command(self) -> str:
        """What is run."""
        return catalogue.command_name(self.config["method"]["name"])

    @property
    def runs_own_files(self) -> bool:
        """Whether Python files of the user's own are run for it."""
        blocks = (self.config.get(group) for group in ("model", "method"))
        return any(isinstance(block, dict) and block.get("file") for block in blocks)

    def line(self, status: str, **more: Any) -> dict[str, Any]:
        """Return what the table says of it."""
        return {"job": self.number, "overrides": self.words, "status": status, "version": "", "reason": ""} | more


def task(config: DictConfig) -> int:
    """Do one job of a sweep; never raises for a failed job, only where a signal ended it. Returns its exit status."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    about = HydraConfig.get()
    of = plain.pop("sweep")
    asked = Asked(Sweep(Path(of["folder"]), of["id"]), about.job.num, typed(about.overrides.task), plain)
    launcher = os.environ.get(PARENT)
    here = launcher == str(os.getpid())  # as the plain launcher does it, and joblib where it has one worker
    shared = about.runtime.choices.get("hydra/launcher") in SHARING and _can_fork()
    try:
        asked.sweep.check()
        if shared and not here:
            return _apart(asked) if _die_with_the(launcher) else _left_alone(asked)
        status = _apart(asked) if here and asked.runs_own_files and _can_fork() else do(asked)
    except UserError as error:
        if here:  # the sweep itself says so
            raise GoneError(2) from None
        _say(asked, error)
        return 2
    if status > 2:
        raise SystemExit(status)
    return status


def typed(words: Any) -> list[str]:
    """Return what a person has typed of the overrides of a job."""
    return [word for word in words if not word.startswith(("+sweep=", "method="))]


def do(asked: Asked) -> int:
    """Do a job here and leave its line; returns its exit status: that of a signal where one came meanwhile.

    Raises:
        UserError: the folder of the sweep is not there any more, or is that of another one.
    """
    note = {"process": os.getpid(), "born": provenance.birth(os.getpid()), "out": asked.config.get("out"),
            "command": asked.command, "overrides": asked.words}  # fmt: skip
    stop = Stop(passed_on=os.environ.get(PARENT) not in (None, str(os.getpid())))
    with files.holding(asked.folder, asked.sweep.check):
        if (stopped := sweep_state.about(asked.folder)["stopped"]) is not None:
            return int(stopped)
        files.write_json(asked.folder / "jobs" / f"{asked.number}.begun", note)
        (asked.folder / "jobs" / f"{asked.number}.json").unlink(missing_ok=True)  # that it was not begun
        write_in_time(asked.folder)
        try:
            status, line = _work(asked, stop)
            # one that failed may have had a folder before
            if not line["version"] and (path := run_of(asked.folder, note, noted=True)) is not None:
                line |= {"version": version_of(asked.command, path), "folder": str(path)}
        except (KeyboardInterrupt, SystemExit):
            files.write_json(
                asked.folder / "jobs" / f"{asked.number}.json", _broken_off(asked.folder, asked.number, note)
            )
            raise
        files.write_json(asked.folder / "jobs" / f"{asked.number}.json", line)
        write_in_time(asked.folder)
    return stop.exit_status if stop() else status


def _work(asked: Asked, stop: Stop) -> tuple[int, dict[str, Any]]:
    """Do a job, and return its exit status and line."""
    status, line = 2, asked.line("failed")
    try:
        preparation.load_torch()
        from cnnprobe.machine import precision

        own_experiment.again(asked.config["method"])
        job = Job(asked.command, schema.checked(asked.config, asked.command), tuple(asked.words),
                  sweep=asked.folder.name)  # fmt: skip
        with newest.as_of(asked.folder), precision.put_back():
            status, where = execute(job, stop)
        about = run_json.read(where)
        line |= {"status": about["status"], "version": version_of(asked.command, where), "folder": str(where)}
        line |= found_by(about)
        if about["status"] == "interrupted":
            line["reason"] = f"resume with: {folders.command_for(where, asked.command)}"
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and (stop() or error.code in EXIT_STATUS.values()):
            raise
        told = error if isinstance(error, UserError) else resource_errors.of_call(error)
        if told is not None:
            line["reason"] = str(told)
            _say(asked, told)
        else:
            status = 1
            line |= {"reason": f"{type(error).__name__}: {error}", "bug": True}
            terminal.say(traceback.format_exc(), stream=sys.stderr)
    return status, line


def _can_fork() -> bool:
    """Tell whether a process like this one can be made: not where a GPU was used already, which none can then."""
    used = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    return hasattr(os, "fork") and threading.current_thread() is threading.main_thread() and not used


def _apart(asked: Asked) -> int:
    """Do a job in a process of its own; returns its exit status, negative where a signal killed it."""
    preparation.load_torch()  # once for all jobs that this process is given
    screen.flush()
    parent, begun, ended = os.getpid(), threading.Event(), list[int]()

    def wait_for_it() -> None:
        """Begin the job and wait for it, in a thread that never computed.

        A process that is forked has the threads of none that did, and would wait for those of OpenMP for ever.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_STATUS)  # until the job can have its own handlers
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            child = os.fork()
        if child == 0:
            _only_child(asked, parent)
        begun.set()
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    waiting = threading.Thread(target=wait_for_it, daemon=True)
    waiting.start()
    begun.wait()
    if os.environ.get(PARENT) == str(parent):  # the sweep's own handlers end its jobs in order
        waiting.join()
        return ended[0]
    # a Ctrl-C reaches the job as well, and that is who ends in order
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        waiting.join()
    finally:
        signal.signal(signal.SIGINT, before)
    return ended[0]


def _die_with_the(parent: str | None) -> bool:
    """Have this process end by SIGTERM when the one that began it does; returns False where that is gone already."""
    return not end_with_parent(signal.SIGTERM) or parent is None or os.getppid() == int(parent)


def _left_alone(asked: Asked) -> NoReturn:
    """End a process whose sweep is gone before its job is begun."""
    _say(asked, "not begun: the process that launched the sweep is gone")
    _leave(1)


def _say(asked: Asked, told: object) -> None:
    terminal.say(f"cnnprobe {asked.command}: job {asked.number}: {told}", stream=sys.stderr)


def _leave(status: int) -> NoReturn:
    """End this process, and do nothing of what the one it was forked from does at its end."""
    screen.flush()
    os._exit(status)


def _only_child(asked: Asked, parent: int) -> NoReturn:
    """Do a job and end this process; a signal stops it in order when the one that waits for it dies."""
    status = 1
    try:
        _hear_signals()
        if not _die_with_the(str(parent)):
            _left_alone(asked)
        status = do(asked)
        if os.getppid() != parent:
            write_in_time(asked.folder, now=True)  # nobody else will
    except UserError as error:
        _say(asked, error)
        status = 2
    except KeyboardInterrupt:
        status = EXIT_STATUS[signal.SIGINT]
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        terminal.say(traceback.format_exc(), stream=sys.stderr)
    finally:
        _leave(status)


def _hear_signals() -> None:
    """Have signals end this process as they end any, until its job listens to them; those that came meanwhile too."""
    for number in EXIT_STATUS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_STATUS)


def settle(folder: Path, jobs: list[list[str]], wait: bool = True) -> None:
    """Write the line of every job that has left none: it was killed, or never begun.

    Args:
        folder: of the sweep.
        jobs: the overrides of every job there should be, by its number; fewer where that is not known.
        wait: for the jobs that are still at work; else they are left to themselves.

    Raises:
        UserError: a stranger's folder in which that would write somewhere else.
    """
    locks.no_detours(folder)
    end, told = time.monotonic() + PATIENCE, False
    for number, note in notes_of(folder).items():
        line = folder / "jobs" / f"{number}.json"
        while wait and not line.exists() and _at_work(folder, note, end):
            told = told or _waits(_noted(folder, lambda one: _at_work(folder, one, end)))
            time.sleep(POLL)
            files.still_held(folder)
        if not line.exists() and _at_work(folder, note, end):
            continue
        if not line.exists():
            _killed(folder, number, note)
        (folder / "jobs" / f"{number}.begun").unlink(missing_ok=True)
    there = {line["job"] for line in lines_of(folder)} | notes_of(folder).keys()
    for number in sorted(set(range(len(jobs))) - there):
        left = {"job": number, "overrides": jobs[number], "status": "not begun", "version": "", "reason": ""}
        line = folder / "jobs" / f"{number}.json"
        if not line.exists():
            files.write_json(line, left)


def stop_jobs(sweep: Sweep, status: int) -> None:
    """Have no further job begun, and those end in order that other processes of this machine do.

    They are waited for, `PATIENCE` seconds at most: a launcher kills its processes.
    """
    with suppress(UserError):  # the folder of the sweep is gone, and so are the notes of its jobs
        sweep.check()
        with suppress(OSError):
            sweep.stop(status)
        end, told = time.monotonic() + PATIENCE, set[int]()
        while (alive := _noted(sweep.folder, _lives)) and time.monotonic() < end:
            for note in alive.values():
                if note["process"] not in told:
                    with suppress(OSError):
                        os.kill(note["process"], signal.SIGTERM)
            if not told:
                _waits(alive)
            told |= {note["process"] for note in alive.values()}
            time.sleep(POLL)
            sweep.check()


def _noted(folder: Path, which: Callable[[dict[str, Any]], bool]) -> dict[int, dict[str, Any]]:
    """Return those notes of jobs of which something is true."""
    return {number: note for number, note in notes_of(folder).items() if which(note)}


def _waits(notes: dict[int, dict[str, Any]]) -> bool:
    """Say which jobs are waited for."""
    jobs, command = listing(map(str, notes)), next(iter(notes.values()))["command"]
    terminal.say(f"cnnprobe {command}: waiting for jobs to end: {jobs}; another Ctrl-C leaves at once", sys.stderr)
    return True


def _writes(folder: Path, note: dict[str, Any]) -> bool:
    """Tell whether a job that has left no line is still at work, its launcher gone."""
    path = run_of(folder, note, noted=True)
    return path is not None and locks.holder(path) is not None


def _lives(note: dict[str, Any]) -> bool:
    """Tell whether the process of a job is there; on another machine there is none to be seen from here."""
    return note["process"] != os.getpid() and provenance.birth(note["process"]) == note["born"] is not None


def _at_work(folder: Path, note: dict[str, Any], end: float) -> bool:
    """Tell whether a job that has left no line goes on; one that writes no run counts for so long only."""
    return _writes(folder, note) or (_lives(note) and time.monotonic() < end)


def _killed(folder: Path, number: int, note: dict[str, Any]) -> None:
    """Write the line of a job whose process is gone without a word."""
    stopped = sweep_state.about(folder)["stopped"] is not None
    line = _broken_off(folder, number, note, "when the sweep was stopped" if stopped else "(memory?)")
    files.write_json(folder / "jobs" / f"{number}.json", line)
    terminal.say(f"cnnprobe {note['command']}: job {number}: {line['reason']}", stream=sys.stderr)


def _broken_off(folder: Path, number: int, note: dict[str, Any], why: str = "") -> dict[str, Any]:
    """Return the line of a job that left at once, or was killed and `why`, with its run folder and how to resume it."""
    path, how = run_of(folder, note, noted=True), f"its process was killed {why}" if why else "it was stopped"
    line = {"job": number, "overrides": note["overrides"], "status": "killed" if why else "interrupted", "version": ""}
    if path is None:
        return line | {"reason": f"{how}, before it had a run folder"}
    resume = f"resume with: {folders.command_for(path, note['command'])}"
    about = {"version": version_of(note["command"], path), "folder": str(path)}
    return line | about | {"reason": f"{how}; {resume}" if why else resume}
