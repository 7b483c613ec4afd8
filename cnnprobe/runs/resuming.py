"""The remains of a stopped run: rows, the state of a training, work that has no row yet."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, listing
from cnnprobe.methods.contract import Resumed
from cnnprobe.preparation import identity
from cnnprobe.runs import checkpoints
from cnnprobe.store import origin, run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.unfinished import FOLDER, Unfinished

LOG = logging.getLogger("cnnprobe")


def must_say_what_it_found(folder: Path) -> None:
    """Refuse to go on with rows whose `run.json` is gone: what was found out, left out and warned of stood there.

    Raises:
        UserError: it is missing or damaged, or some of that is none of ours.
    """
    if not (folder / "store.h5").exists():
        return
    strange = [key for key in run_json.strange(folder) if key in ("facts", "skipped", "warnings")]
    if strange or "status" not in run_json.read(folder):
        of = f" ({listing(strange)})" if strange else ""
        raise UserError(f"{folder.name} cannot go on: its run.json is missing or damaged{of}; put it back from a copy, "
                        "or begin a new run")  # fmt: skip


def left_by(folder: Path | None) -> Resumed:
    """Return what a stopped run has left to go on from; of a new run (None) there is nothing yet."""
    facts = {} if folder is None else run_json.read(folder).get("facts", {})
    if folder is None or not (folder / "store.h5").exists():
        return Resumed(facts=facts, unfinished=Unfinished())
    path, kept = folder / "store.h5", folder / FOLDER
    return Resumed(
        start=whole_rows(path),
        finished=finished_batches(path),
        facts=facts,
        state=checkpoints.read(folder / "weights"),
        # where rows are damaged, which were finished before it, nothing that came after them is trusted
        unfinished=Unfinished(kept if kept.is_dir() and is_whole(path) else None, origin.recorded(path)),
    )


def finished_batches(path: Path) -> dict[str, frozenset[int]]:
    """Return by table of a store the first row of every batch that is saved whole."""
    recording = Recording(path)
    tables = [table for table in map(recording.__getitem__, recording.tables()) if table.done is not None]
    return {
        table.name: frozenset(int(batch) * table.batch for batch in np.flatnonzero(table.done & ~table.damaged()))
        for table in tables
    }


def whole_rows(path: Path) -> int:
    """Return how many rows of a store are finished, in whole batches from the first on.

    A table that is all there (the few pictures beside many images) does not hold the others back.
    """
    recording = Recording(path)
    written = [table for table in map(recording.__getitem__, recording.tables()) if table.done is not None]
    begun = [table.leading // table.batch * table.batch for table in written if table.leading < table.row_count]
    whole = max((table.leading // table.batch * table.batch for table in written), default=0)
    return min(begun, default=whole)


def is_whole(path: Path) -> bool:
    """Say whether every batch of a store that counts as saved matches its checksums."""
    recording = Recording(path)
    tables = [recording[name] for name in recording.tables()]
    return not any(table.done is not None and table.damaged().any() for table in tables)


def run_later(folder: Path, config: dict[str, Any], about: dict[str, Any], repeated: Path | None) -> dict[str, str]:
    """Return the digests of code of the user's own that is in no identity: only the measurement imports it.

    Args:
        folder: of the run.
        config: checked.
        about: its `run.json`.
        repeated: the run that it repeats; code that differs from what ran there is warned of.

    Raises:
        UserError: some of the code that has run by now is another one than when the run was begun.
    """
    known, ran = about.get("run_later", {}) | about.get("identity", {}), identity.ran_so_far(config)
    if found := [f"{part} changed" for part, digest in ran.items() if known.get(part, digest) != digest]:
        raise UserError(f"{folder.name} cannot go on: {listing(found, 3)} since it was begun; begin a new run")
    later = {part: digest for part, digest in ran.items() if part not in known}
    before = run_json.read(repeated).get("run_later", {}) if repeated is not None else {}
    found = [f"{part} changed" for part, digest in later.items() if before.get(part, digest) != digest]
    if found and repeated is not None:
        LOG.warning(f"this is not the same run as {repeated.name}: {listing(found, 3)}")
    return about.get("run_later", {}) | later
