"""Kill a command again and again at random times, resume it each time, and compare it with an undisturbed run.

A program of its own, since it forks: `python killing.py '{"words": ["record", …], "name": …, "kills": 20, "seed": 0}'`
in an empty folder. The fork is of a process that has imported everything and has one thread, so a start costs nothing.
It prints how many kills there were, how many batches were saved before one, and ends with an error where a batch that
was reported as saved is gone or was computed twice, or where the end is not byte for byte that of the undisturbed run.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from cnnprobe.cli.main import main
from cnnprobe.runs import prepare
from cnnprobe.store import run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Measurement
from cnnprobe.store.writer import Writer
from tests.support.faults.interrupting import same

REPORTS = Path("reports")
"""What a child counts as saved, a line after each batch: table and number of the batch."""
WORKING = "working 0"


def reporting():
    """Report every batch, after it is saved, and that the work begins; return the moments of it, for the parent."""
    write, compute = Writer.write, prepare.compute
    moments = []

    def report(line):
        with REPORTS.open("a") as target:
            target.write(f"{line}\n")

    def saving(writer, rows):
        batch = rows.start // writer.tables[rows.table].batch
        there = writer.done[rows.table][batch]
        write(writer, rows)
        if not there:
            report(f"{rows.table} {batch}")

    def computing(*given):
        made = compute(*given)
        report(WORKING)
        moments.append(time.monotonic())
        return Measurement(made.tables, made.events, made.total, made.counts, made.facts)

    Writer.write, prepare.compute = saving, computing
    return moments


def forked(words, seconds):
    """Run a command line in a child; kill it so many seconds after its work began, negative: after its start.

    Returns:
        whether it was killed; otherwise it ended well, before that or because `seconds` is None.
    """
    REPORTS.write_text("")
    pid = os.fork()
    if not pid:
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os._exit(main(words))
    ended = 0
    while seconds is not None and seconds >= 0 and not ended and WORKING not in REPORTS.read_text():
        time.sleep(0.002)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        if seconds is not None:
            time.sleep(abs(seconds))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, Path("said").read_text()
    return False


def kill_until(words, name, kills, seed):
    """Do it; return kills, runs that ended, and batches that were saved by a child before it was killed."""
    chance, moments = random.Random(seed), reporting()
    began = time.monotonic()
    assert main([*words, "out=calm"]) == 0
    preparing, working = moments[0] - began, time.monotonic() - moments[0]
    calm, place = Path("calm", words[0], name, "v001"), Path("outputs", words[0], name)
    killed = ended = saved = 0
    folder, reported = None, set()
    while killed < kills or folder is not None or not ended:
        seconds = None if killed >= kills else chance.uniform(0, working)
        if killed < kills and chance.random() < 0.2:
            seconds = -chance.uniform(0, preparing)
        alive = not forked([words[0], "--resume", str(folder)] if folder else words, seconds)
        killed += not alive
        lines = [line for line in REPORTS.read_text().splitlines() if line != WORKING]
        assert not reported & set(lines), "a batch that was reported as saved was computed again"
        reported |= set(lines)
        saved += 0 if alive else len(lines)
        newest = max(place.glob("v*"), default=None)
        folder = newest if newest and (newest / "config.yaml").exists() else None
        if folder and (folder / "store.h5").exists():
            recording = Recording(folder / "store.h5")
            for table, batch in (line.rsplit(" ", 1) for line in reported):
                assert recording[table].done[int(batch)], f"{table}, batch {batch}: reported as saved and gone"
        if folder and run_json.read(folder).get("status") == "complete":  # perhaps killed just after that
            same(folder, calm)
            ended, folder, reported = ended + 1, None, set()
    return killed, ended, saved


if __name__ == "__main__":
    print(*kill_until(**json.loads(sys.argv[1])))
