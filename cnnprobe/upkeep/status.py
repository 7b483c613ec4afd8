"""How far along are runs and sweeps? Each: under way, stopped or complete, how much of it is there, and how to go on.

Without a name, every run below `out` that is not complete. A RUN is a path, COMMAND/NAME/v001, or v001 or latest where
only one fits; a SWEEP is the path of its folder, or COMMAND/NAME/sweep-001. Of a sweep whose process is gone the table
`runs.csv` is written, with the jobs that were killed or never begun, and figures of all its runs are drawn again where
one was completed since.

    cnnprobe status
    cnnprobe status record/mousenet-avatar/v001
    cnnprobe status outputs/record/mousenet-avatar/sweep-001
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, path_of
from cnnprobe.runs import sweep_table
from cnnprobe.store import folders as runs
from cnnprobe.store import locks, run_json
from cnnprobe.store.reader import SoFar
from cnnprobe.upkeep.findings import Finding, told


def run(names: list[str], out: str) -> int:
    """Say how far runs and sweeps are, and return 0.

    Args:
        names: of runs and sweeps as typed; []: every run that is not complete.
        out: folder of all runs.

    Raises:
        UserError: there is no such run.
    """
    told(finding for name in names for finding in _named(name, out))
    if not names:
        folders = [path for path in sorted(Path(out).glob("*/*/v*")) if runs.VERSION.fullmatch(path.name)]
        states = [(folder, run_json.read(folder)) for folder in folders if not folder.is_symlink()]
        told(_of_run(folder, about) for folder, about in states if about.get("status") != "complete")
        done = sum(about.get("status") == "complete" for _, about in states)
        told([Finding("ok", out, f"{done} of {len(states)} runs complete")])
    return 0


def _named(name: str, out: str) -> Iterator[Finding]:
    for path in (path_of(name), Path(out) / name):
        if (path / "jobs").is_dir():
            yield _of_sweep(path)
            return
    folder = runs.find(name, out)
    yield _of_run(folder, run_json.read(folder))


def _of_run(folder: Path, about: dict[str, Any]) -> Finding:
    holder, state = locks.holder(folder), about.get("status", "run.json is missing or damaged")
    rows = _rows(folder)
    if holder:
        return Finding("ok", str(folder), f"being written by {holder}; {rows}")
    if state == "complete":
        return Finding("ok", str(folder), f"complete; {rows}")
    state = "was killed" if state == "running" else state
    reason = f" ({about['error'].partition('; resume with: ')[0]})" if "error" in about else ""  # said from here
    again = runs.command_for(folder, about.get("command"))
    return Finding("warning", str(folder), f"{state}{reason}; {rows}", f"resume with: {again}")


def _rows(folder: Path) -> str:
    if not (folder / "store.h5").is_file():
        return "no rows"
    try:
        return SoFar(folder / "store.h5").progress
    except UserError as error:
        return str(error)


def _of_sweep(folder: Path) -> Finding:
    """Show the table of a sweep; where nobody waits for its jobs any more, settle what became of them before."""
    holder, drawn = locks.holder(folder), ""
    if holder is None:
        from cnnprobe.runs import sweep  # with Hydra
        from cnnprobe.runs.sweep_job import settle

        settle(folder, sweep.jobs_of(folder), wait=False)
        try:
            count = sweep.draw_again(folder)
            drawn = f"; figures drawn: {count}" if count else ""
        except UserError as error:
            drawn = f"; no figures: {error}"
    sweep_table.summary(folder)
    lines = [*sweep_table.lines_of(folder), *sweep_table.begun(folder)]
    done = sum(line["status"] == "complete" for line in lines)
    under_way = f"; being written by {holder}" if holder else ""
    return Finding("ok" if holder or done == len(lines) else "warning", str(folder),
                   f"{done} of {len(lines)} jobs complete{under_way}{drawn}; {folder / sweep_table.NAME}")  # fmt: skip
