"""Stopping loses no work that is not a row yet: a run goes on from there, to the same bits."""

import numpy as np
import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.machine.version import __version__
from cnnprobe.store.tables import Advance, Measurement, Rows
from cnnprobe.store.unfinished import Unfinished, packed, put, unpacked
from tests.support.calling import called, joined, plain, same_rows
from tests.support.described import COMMANDS

EVERY = [name for name in COMMANDS if name not in ("train", "transfer", "layers", "record")]
"""Left out are those that save every batch by themselves, and those that end by themselves."""
AT_ONCE = 6
"""Steps of the work between two stops."""


def attempts(command, folder, **changes):
    """Stop a command after every few steps of its work until it is through; return its rows and how often it began."""
    done: dict[str, set[int]] = {}
    facts, found, began = {}, [], 0
    while began < 100:
        began += 1
        unfinished = Unfinished(folder)
        finished = {name: frozenset(starts) for name, starts in done.items()}
        given = {"finished": finished, "facts": facts, "unfinished": unfinished}
        measurement = called(command, **changes, **given)
        if not went_on(measurement, unfinished, done, found):
            return joined(Measurement(measurement.tables, found, 0)), began
    raise AssertionError(f"{command} does not come to its end")


def went_on(measurement, unfinished, done, found):
    """Work on for a few steps; return whether it was stopped."""
    left = AT_ONCE
    for event in measurement.events:
        if isinstance(event, Rows) and event.start not in done.setdefault(event.table, set()):
            done[event.table].add(event.start)
            found.append(event)
        left -= isinstance(event, Advance) and event.count > 0
        if left < 0 and unfinished.keep():
            measurement.close()
            return True
    return False


@pytest.mark.parametrize("command", EVERY)
def test_a_command_that_is_stopped_again_and_again_comes_to_its_end(command, tmp_path):
    """F96: stopped after every few steps, with no row saved in between, it ends, with the bits of a calm run."""
    changes = COMMANDS[command].stepwise
    rows, began = attempts(command, tmp_path, **changes)
    assert began > 1, f"{command} was through before it could be stopped: its description lacks options in `stepwise`"
    same_rows(rows, plain(command) if not changes else joined(called(command, **changes)))


def ranked(folder, images=None):
    """Rank 24 images in batches of 4; stop as if killed after so many, or at the end. Return what was counted."""
    unfinished = Unfinished(folder)
    counts = []
    for event in (measurement := called("topk", batch_size=4, unfinished=unfinished)).events:
        unfinished.keep_in_time()
        if isinstance(event, Advance):
            counts.append(event.count)
        if images is not None and sum(counts) >= images:
            break
    measurement.close()
    return counts


def test_a_killed_run_has_what_was_kept_last(tmp_path, monkeypatch):
    """F96: nobody was told to stop; every 20 s all there is is kept."""
    ranked(tmp_path / "early", images=12)
    assert not (tmp_path / "early").exists()
    monkeypatch.setattr("cnnprobe.store.unfinished.PERIOD", 0.0)
    monkeypatch.setattr("cnnprobe.store.unfinished.SHARE", 1e9)
    ranked(tmp_path / "now", images=12)
    assert ranked(tmp_path / "now")[0] == 12


def test_what_is_damaged_is_done_again_and_what_is_another_one_is_refused(tmp_path, caplog):
    """F96: a file that a failing disk has changed is never believed."""
    state = {"images": 4, "state": {"x": torch.arange(3.0), "y": [np.arange(2), None, "word"]}}
    (tmp_path / "packed").write_bytes(packed("a", False, state))
    found = unpacked(tmp_path / "packed")["state"]
    (tmp_path / "packed").unlink()
    assert found["images"] == 4 and found["state"]["y"][1:] == [None, "word"]
    assert np.array_equal(found["state"]["x"], [0, 1, 2]) and np.array_equal(found["state"]["y"][0], [0, 1])
    kept = Unfinished(tmp_path)
    values = {"x": np.arange(1000.0)}
    kept.begin("part", lambda: values, lambda state: None)
    kept.keep()
    (path,) = tmp_path.iterdir()
    other = {"x": np.zeros(3)}
    with pytest.raises(UserError, match=r"part.*\.npz is not what this run left of part .*delete it"):
        Unfinished(tmp_path).begin("part", lambda: other, lambda state: put(other, state))
    bytes_ = bytearray(path.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    path.write_bytes(bytes_)
    assert not Unfinished(tmp_path).begin("part", lambda: values, lambda state: put(values, state))
    assert "cannot be read; what the stopped run had of part is done again" in caplog.text
    assert np.array_equal(values["x"], np.arange(1000.0))


@pytest.mark.parametrize(
    "text",
    [
        '{"version": VERSION, "done": false, "state": {"map": []}}',
        '{"name": "part", "done": false, "state": {"map": []}}',
        '{"name": "part", "version": VERSION, "state": {"map": []}}',
        '{"name": "part", "version": VERSION, "done": "no", "state": {"map": []}}',
        '{"name": "part", "version": VERSION, "done": false, "state": DEEP}',
        '{"name": "part", "version": VERSION, "done": false}',
        '["name"]',
    ],
    ids=range(7),
)
def test_what_a_stranger_left_unfinished_is_done_again(tmp_path, caplog, text):
    """F102."""
    kept = Unfinished(tmp_path)
    kept.begin("part", dict, lambda state: None)
    kept.keep()
    (path,) = tmp_path.iterdir()
    text = text.replace("VERSION", f'"{__version__}"').replace("DEEP", "[" * 100_000 + "]" * 100_000)
    np.savez(path, about=np.frombuffer(text.encode(), np.uint8))
    assert not Unfinished(tmp_path).begin("part", dict, lambda state: None)
    assert "cannot be read; what the stopped run had of part is done again" in caplog.text


def test_a_number_that_no_array_takes_is_not_what_a_run_left(tmp_path):
    """F102."""
    values = {"count": 2**80}
    kept = Unfinished(tmp_path)
    kept.begin("part", lambda: values, lambda state: None)
    kept.keep()
    with pytest.raises(UserError, match=r"is not what this run left of part \(OverflowError\)"):
        Unfinished(tmp_path).begin("part", dict, lambda state: np.zeros(1, int).__setitem__(0, state["count"]))
