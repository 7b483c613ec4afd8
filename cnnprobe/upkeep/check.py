"""Is everything in a run as it was written? Every file against its checksum, every saved row against its own.

For each RUN, finished or stopped: the files that run.json lists against their sha256, every saved batch of the store
against its CRC-32, the store's layout, the weights of a training, run.json and config.yaml against the store, the
link `latest`, and files that a kill left half written. Damaged rows are named with their table. A RUN is a path,
COMMAND/NAME/v001, or v001 or latest where only one fits. Status 2 where something is damaged or missing.

    cnnprobe check topk/mousenet-avatar/v001
    cnnprobe check outputs/*/*/v*
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.config import untrusted_yaml
from cnnprobe.errors import UserError, listing, printable
from cnnprobe.machine import files
from cnnprobe.preparation import identity
from cnnprobe.store import folders, locks, run_json
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.upkeep.findings import Finding, told


def run(names: list[str], out: str) -> int:
    """Check runs, print what was found, and return 0.

    Args:
        names: RUNs as typed.
        out: folder of all runs.

    Raises:
        UserError: no RUN is given; or one of them is damaged, or is not there.
    """
    if not names:
        there = sorted(folders.short(path, out) for path in Path(out).glob("*/*/v*") if path.is_dir())
        raise UserError(f"needs a RUN; runs in {out}: {listing(there) or 'none'}")
    damaged = sum(told(_named(name, out)) > 0 for name in names)
    if damaged:
        raise UserError(f"{damaged} of {len(names)} runs not in order; see above")
    return 0


def _named(name: str, out: str) -> Iterator[Finding]:
    try:
        yield from inspected(folders.find(name, out))
    except UserError as error:
        yield Finding("error", name, str(error))
    except OSError as error:
        yield Finding("error", name, f"cannot be looked at: {error.strerror}")


def inspected(folder: Path) -> Iterator[Finding]:
    """Look at everything in a run folder; where all is well the one finding says so."""
    holder, about = locks.holder(folder), run_json.read(folder)
    found = [*_stated(folder, about, holder), *_left_over(folder, holder), *_latest(folder, about)]
    listed = about.get("files", {})
    found += _files(folder, about, listed)
    tables: list[TableView[Any]] = []
    begun = about.get("status") in ("running", "interrupted", "failed")
    anew = f"made once more by: {_again(folder, about, 'rerun')}"
    if begun and not os.path.lexists(folder / "store.h5"):
        reason = f" ({about['error'].partition('; resume with: ')[0]})" if about.get("error") else ""
        found += [] if holder else [Finding("warning", str(folder), f"stopped before its first row{reason}", anew)]
    else:
        try:
            recording = Recording(folder / "store.h5")
            tables = [table for table in map(recording.__getitem__, recording) if table.done is not None]
            found += [*_rows(folder, about, tables), *_agree(folder, about, recording)]
        except UserError as error:
            found.append(Finding("error", str(folder), str(error), anew))
    found += _weights(folder, about, listed)
    yield from found
    if not found:
        saved, rows = sum(len(table.rows) for table in tables), sum(table.row_count for table in tables)
        state = f"being written by {holder}" if holder else about["status"]
        counted = f", {len(listed)} files match their checksums" if listed else ""
        yield Finding("ok", str(folder), f"{state}; {saved} of {rows} rows in {len(tables)} tables{counted}")


def _again(folder: Path, about: dict[str, Any], flag: str) -> str:
    return folders.command_for(folder, about.get("command"), flag)


def _anew(folder: Path, about: dict[str, Any]) -> str:
    """Say how what is damaged is made once more."""
    if about.get("status") == "complete":
        return f"made once more by: {_again(folder, about, 'rerun')}"
    return f"done again by: {_again(folder, about, 'resume')}"


def _stated(folder: Path, about: dict[str, Any], holder: str | None) -> Iterator[Finding]:
    """Check run.json by itself: whether it is there, and whether a run that says it goes on does so."""
    status = about.get("status")
    if status not in ("running", "complete", "interrupted", "failed"):
        yield Finding(
            "error", str(folder), "run.json is missing or damaged", "put it back from a copy, or run once more"
        )
    elif strange := run_json.strange(folder):
        text = f"run.json holds values of the wrong type: {listing(strange)}"
        yield Finding("error", str(folder), text, "they count as absent")
    elif status == "running" and holder is None:
        go_on = f"resume with: {_again(folder, about, 'resume')}"
        yield Finding("warning", str(folder), "says it is running, and no process does: it was killed", go_on)


def _left_over(folder: Path, holder: str | None) -> Iterator[Finding]:
    """Name what a kill left half written; files of a run under way are its own."""
    names = [str(path.relative_to(folder)) for path in folders.left_over(folder)]
    if names and holder is None:
        yield Finding(
            "warning", str(folder), f"half written files of a process that is gone: {listing(names)}", "delete"
        )


def _latest(folder: Path, about: dict[str, Any]) -> Iterator[Finding]:
    """Check the link beside the runs: it is that of the newest complete one."""
    newest = folders.latest(folder.parent)
    pointer = folder.parent / "latest"
    if newest is None or not folders.VERSION.fullmatch(folder.name):
        return
    points = pointer.readlink().name if pointer.is_symlink() else "nothing"
    if points != newest.name and (folder == newest or points == folder.name or not pointer.exists()):
        text = f"latest points at {points}, the newest complete run is {newest.name}"
        yield Finding("warning", str(folder), text, f"ln -sfn {newest.name} {shlex.quote(str(pointer))}")


def _files(folder: Path, about: dict[str, Any], listed: dict[str, str]) -> Iterator[Finding]:
    """Compare every file that run.json lists with its sha256."""
    if about.get("status") == "complete" and "store.h5" not in listed:
        yield Finding("error", str(folder), "run.json lists no checksum of store.h5", _anew(folder, about))
    for name, expected in listed.items():
        path = folder / name
        drawn = name.startswith("figures/")
        remedy = f"drawn again by: {_again(folder, about, 'redraw')}" if drawn else _anew(folder, about)
        try:
            inside, there = path.resolve().is_relative_to(folder.resolve()), path.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, NUL in it, a link in a circle
            reason = getattr(error, "strerror", None) or error
            text = f"run.json lists {printable(name)}, no file that can be looked at"
            yield Finding("error", str(folder), text, str(reason))
            continue
        if not inside:
            yield Finding("error", str(folder), f"run.json lists a file outside of the run: {name}", "not looked at")
        elif not there:
            yield Finding("error", str(folder), f"{name} is missing", remedy)
        elif (reason := _differs(path, expected)) is not None:
            yield Finding("error", str(folder), f"{name} {reason}", remedy)


def _differs(path: Path, expected: str) -> str | None:
    """Say why a file is not the one with a sha256, None where it is."""
    try:
        return None if files.sha256(path) == expected else "changed since the run (checksum)"
    except OSError as error:  # a disk that fails, or no permission
        return f"cannot be read: {error.strerror}"


def _rows(folder: Path, about: dict[str, Any], tables: list[TableView[Any]]) -> Iterator[Finding]:
    """Compare every saved batch with its checksums, and what is saved with what run.json says."""
    for table in tables:
        for first, last in stretches(table.damaged()):
            rows = f"rows {first * table.batch} to {min(last * table.batch, table.row_count) - 1}"
            text = f"store.h5: {rows} of {table.name} damaged (checksum)"
            yield Finding("error", str(folder), text, _anew(folder, about))
    missing = [table.name for table in tables if table.leading < table.row_count]
    if about.get("status") == "complete" and missing:
        text = f"store.h5: complete, and rows of {listing(missing)} are not there"
        yield Finding("error", str(folder), text, _anew(folder, about))


def stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, one behind the last) of every stretch of true values, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2])]


def _agree(folder: Path, about: dict[str, Any], recording: Recording) -> Iterator[Finding]:
    """Compare what run.json and config.yaml say with what stands in the store."""
    own = recording.attributes
    weights, dataset = (part if isinstance(part, dict) else {} for part in (about.get("weights"), about.get("dataset")))
    stated = {"command": about.get("command"), "seed": about.get("seed")}
    stated |= {"weights_sha256": weights.get("sha256"), "dataset_fingerprint": dataset.get("fingerprint")}
    if "identity" in about and about["identity"] != identity.of_store(recording):
        yield Finding("error", str(folder), "run.json and store.h5 say different identities", "one is of another run")
    for key, value in stated.items() if about else ():
        if key in own and own[key] != value:
            text = f"run.json says {key} {str(value)[:16]}, store.h5 {str(own[key])[:16]}"
            yield Finding("error", str(folder), text, "one of them is of another run")
    if about and recording.complete != (about.get("status") == "complete"):
        if recording.complete:
            text, remedy = "every row is there, run.json was not closed", f"{_again(folder, about, 'resume')} closes it"
            yield Finding("warning", str(folder), text, remedy)
        else:
            yield Finding("error", str(folder), "run.json says complete, store.h5 does not", _anew(folder, about))
    try:
        config = files.read(folder / "config.yaml", untrusted_yaml.LARGEST).decode()
    except (OSError, ValueError, UserError):
        config = None
    if config is None:
        yield Finding("error", str(folder), "config.yaml is missing or cannot be read", "it is in store.h5 as well")
        return
    # where a run lies says nothing about its results; compared as text, so that nothing in it is built
    if re.sub(r"^out: .*\n(?: .*\n|\n)*", "", config, flags=re.MULTILINE) != own.get("config"):
        yield Finding("error", str(folder), "config.yaml is not the one of store.h5", "it is stored there, as `config`")


def _weights(folder: Path, about: dict[str, Any], listed: dict[str, str]) -> Iterator[Finding]:
    """Compare weights that run.json does not list (the training was stopped) with the checksum written beside them."""
    paths = [
        path for path in sorted((folder / "weights").glob("*.safetensors")) if f"weights/{path.name}" not in listed
    ]
    if not paths:
        return
    from cnnprobe.preparation import weights

    for path in paths:
        try:
            weights.read(path)
        except UserError as error:
            yield Finding("error", str(folder), f"weights/{error}", _anew(folder, about))
