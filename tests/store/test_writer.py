"""The store: what is reported as saved is there, whatever happened to its writer."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.store import layout as store_layout
from cnnprobe.store import writer as store
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Column, Rows, Table
from cnnprobe.store.writer import Writer
from tests.support.files.stores import ATTRIBUTES, batch_of, filled, tables


def test_rows_attributes_and_texts_come_back_as_they_went_in(tmp_path):
    writer = filled(tmp_path / "store.h5")
    writer.finish()
    recording = Recording(tmp_path / "store.h5")
    table = recording["units/conv1"]
    assert recording.complete
    assert recording.tables() == ["stimuli", "units/conv1"]
    assert recording.attributes["config"] == "a: 1\n"
    assert table.attributes["field_size"] == [3, 3]
    assert table["unit"].tolist() == list(range(10))
    assert table["dead"].dtype == bool
    assert recording["stimuli"]["name"].tolist() == ["a", "é 日本", "c"]


def test_another_file_under_the_name_of_the_store_is_not_marked_complete(tmp_path):
    """F104."""
    path = tmp_path / "store.h5"
    writer = filled(path)
    path.unlink()
    filled(path, only=[0])
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"store\.h5 was deleted, moved or replaced while it was being written"):
        writer.finish()
    assert path.read_bytes() == before


def test_other_programs_read_it_with_plain_hdf5(tmp_path):
    filled(tmp_path / "store.h5").finish()
    with h5py.File(tmp_path / "store.h5") as file:
        column = file["units/conv1/response"]
        assert column[2].tolist() == [2.25, 2.5, 2.75]
        assert (column.attrs["axes"], column.attrs["unit"]) == ("unit k", "activation")
        assert bool(file.attrs["complete"])


def test_rows_that_are_not_there_are_hidden_and_marked_as_gaps(tmp_path):
    """F69."""
    filled(tmp_path / "store.h5", only=[0, 8])
    recording = Recording(tmp_path / "store.h5")
    assert not recording.complete
    assert recording["units/conv1"]["unit"].tolist() == [0, 1, 2, 3, 8, 9]
    assert recording["units/conv1"].rows.tolist() == [0, 1, 2, 3, 8, 9]
    with h5py.File(tmp_path / "store.h5") as file:
        assert np.isnan(file["units/conv1/response"][4:8]).all()


def test_a_resumed_file_equals_one_written_in_one_go_byte_for_byte(tmp_path):
    """F60."""
    filled(tmp_path / "a.h5").finish()
    filled(tmp_path / "b.h5", only=[4]).close()
    laid = tables()
    writer = Writer.resume(tmp_path / "b.h5", laid, ATTRIBUTES)
    for start in (0, 8):
        writer.write(batch_of(start, laid[0]))
    writer.finish()
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_what_was_made_for_other_options_is_not_gone_on_with(tmp_path):
    """F70."""
    filled(tmp_path / "store.h5", only=[0]).close()
    with pytest.raises(UserError, match="its seed was 3, now 4"):
        Writer.resume(tmp_path / "store.h5", tables(), ATTRIBUTES | {"seed": 4})


def other(attributes=None, **columns):
    """Return the tables with one that is laid out otherwise."""
    units, stimuli = tables()
    own = units.attributes | (attributes or {})
    return [replace(units, columns=units.columns | columns, attributes=own), stimuli]


@pytest.mark.parametrize(
    ("laid", "told"),
    [
        (tables(rows=11), "rows of units/conv1 was '10', now '11'"),
        (tables(batch=5), "rows saved together of units/conv1 was '4', now '5'"),
        (other(response=Column("other", "k", (4,))), "response of units/conv1 was"),
        (other(dead=Column("other", dtype="int8")), "dead of units/conv1 was"),
        (other({"field_size": [3, 5]}), "field_size of units/conv1 was '[3, 3]', now '[3, 5]'"),
        (other({"module": "features.1"}), "module of units/conv1 was 'features.0', now 'features.1'"),
        ([tables()[0], replace(tables()[1], columns=tables()[1].columns | {
            "label": Column("class", dtype="int64", values=np.array([0, 1, 1]))})], "label of stimuli was"),
    ],
)  # fmt: skip
def test_rows_are_not_written_into_tables_that_were_laid_out_for_others(tmp_path, laid, told):
    """F100."""
    filled(tmp_path / "store.h5", only=[0]).close()
    with pytest.raises(UserError, match="cannot go on: ") as error:
        Writer.resume(tmp_path / "store.h5", laid, ATTRIBUTES)
    assert told in str(error.value)


def test_what_a_table_did_not_store_yet_and_where_a_run_lies_are_not_compared(tmp_path):
    """F100: and a number may be rounded as another processor does."""
    units, stimuli = other({"run": "a/b/v001", "share": 0.1})
    Writer.create(tmp_path / "store.h5", [units, stimuli], ATTRIBUTES).close()
    moved = other({"run": "c/b/v001", "share": 0.1000001, "newer": "yes"})
    assert Writer.resume(tmp_path / "store.h5", moved, ATTRIBUTES).done


def test_a_damaged_batch_is_done_again_and_never_shown(tmp_path):
    """F71."""
    path = tmp_path / "store.h5"
    filled(path).finish()
    with h5py.File(path) as file:
        place = file["units/conv1/response"].id.get_offset() + 4 * 12
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"rows 4 to 7 of units/conv1 damaged \(checksum\)"):
        Recording(path)["units/conv1"]["response"]
    assert Recording(path)["units/conv1"]["unit"].tolist() == list(range(10))
    assert Writer.resume(path, tables(), ATTRIBUTES).done["units/conv1"].tolist() == [True, False, True]


def test_a_column_that_was_not_declared_is_our_bug(tmp_path):
    writer = filled(tmp_path / "store.h5", only=[])
    with pytest.raises(ValueError, match=r"rows of units/conv9: the tables laid out are units/conv1, stimuli$"):
        writer.write(Rows("units/conv9", 0, {}))
    few = {name: values[:2] for name, values in batch_of(0, tables()[0]).columns.items()}
    with pytest.raises(
        ValueError, match=r"must be \(4,.* got \(2,.*; Table\(batch=4\) says how many rows are saved at once$"
    ):
        writer.write(Rows("units/conv1", 0, few))
    with pytest.raises(ValueError, match="has columns"):
        writer.write(Rows("units/conv1", 0, {"unit": np.arange(4)}))
    with pytest.raises(ValueError, match="must be"):
        rows = batch_of(0, tables()[0])
        writer.write(Rows("units/conv1", 0, rows.columns | {"response": np.zeros((4, 2))}))


def test_a_huge_store_is_laid_out_in_little_memory():
    """50 GB of rows are a few pages until they are written."""
    huge = Table("activations/conv1", "image", 10**6, {"maps": Column("m", "y x", (112, 112))}, batch=64)
    blank = store_layout.layout([huge], {})
    assert blank.size > 50e9
    assert len(blank.pages) * blank.PAGE < 3e5


def test_a_disk_that_is_full_from_the_start_is_told_before_any_work(tmp_path, monkeypatch):
    """F65: the whole size is taken at once; nothing half done is left."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"needs .* for store.h5, .* free"):
        filled(tmp_path / "store.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_whichever_write_fails_a_resume_finishes_with_the_same_bytes(tmp_path, monkeypatch, error):
    """F66: fail the n-th write for n = 1, 2, … until none is reached; each time go on afterwards."""
    filled(tmp_path / "whole.h5").finish()
    whole = (tmp_path / "whole.h5").read_bytes()
    real, laid = os.pwrite, tables()
    for n in range(1, 100):
        path = tmp_path / f"{n}.h5"
        writer = Writer.create(path, laid, ATTRIBUTES)
        calls = iter(range(1, 10**6))

        def failing(*args, calls=calls, n=n):
            if next(calls) == n:
                raise OSError(error, os.strerror(error))
            return real(*args)

        monkeypatch.setattr(store.os, "pwrite", failing)
        reached = False
        try:
            for start in (0, 4, 8):
                writer.write(batch_of(start, laid[0]))
        except UserError as told:
            reached = True
            assert "rows kept" in str(told)
        monkeypatch.setattr(store.os, "pwrite", real)
        writer.close()
        again = Writer.resume(path, laid, ATTRIBUTES)
        for start in (0, 4, 8):
            again.write(batch_of(start, laid[0]))
        again.finish()
        assert path.read_bytes() == whole
        if not reached:
            break
    assert n > 10


def test_cut_after_any_write_the_file_opens_and_shows_no_wrong_row(tmp_path, monkeypatch):
    """F60, F64: every prefix of the recorded writes, and the last one torn, is a store without a wrong row."""
    laid = tables()
    path = tmp_path / "store.h5"
    writer = Writer.create(path, laid, ATTRIBUTES)
    empty, writes, real = path.read_bytes(), [], os.pwrite

    def noting(handle, data, position):
        writes.append((bytes(data), position))
        return real(handle, data, position)

    monkeypatch.setattr(store.os, "pwrite", noting)
    for start in (0, 4, 8):
        writer.write(batch_of(start, laid[0]))
    monkeypatch.setattr(store.os, "pwrite", real)
    checked = 0
    for cut in range(len(writes) + 1):
        for torn in (False, True):
            image = bytearray(empty)
            for data, position in writes[:cut]:
                image[position : position + len(data)] = data
            if torn and cut < len(writes):
                data, position = writes[cut]
                half = data[: len(data) // 2]
                image[position : position + len(half)] = half
            path.write_bytes(image)
            table = Recording(path)["units/conv1"]
            rows = table.rows
            assert table["unit"].tolist() == rows.tolist()
            assert np.array_equal(table["response"][:, 0], rows + 0.25)
            checked += 1
    assert checked > 20


def power_cut(path, empty, writes, chance):
    """Write what a disk may hold after a power cut: all up to a moment it was synced at, of the rest any part."""
    image = bytearray(empty)
    cut = chance.randrange(len(writes) + 1)
    synced = max((n for n, write in enumerate(writes[:cut]) if write is None), default=0)
    for number, write in enumerate(writes[:cut]):
        if write is None or (number > synced and chance.random() < 0.5):
            continue
        data, position = write
        kept = data if number < synced or chance.random() < 0.7 else data[: chance.randrange(len(data) + 1)]
        image[position : position + len(kept)] = kept
    path.write_bytes(image)
    return [write for write in writes[:synced] if write is not None]


@pytest.mark.parametrize("cuts", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_after_a_power_cut_no_row_is_wrong_and_none_that_was_synced_is_gone(tmp_path, monkeypatch, cuts):
    """F64: random parts of what was written since the last sync; a row is right, or told as damaged, and done again."""
    laid, path, chance = tables(rows=24), tmp_path / "store.h5", random.Random(0)
    writer = Writer.create(path, laid, ATTRIBUTES)
    empty, writes, put, sync = path.read_bytes(), [], os.pwrite, os.fdatasync

    def noting(handle, data, position):
        writes.append((bytes(data), position))
        return put(handle, data, position)

    def syncing(handle):
        writes.append(None)
        return sync(handle)

    monkeypatch.setattr(store.os, "pwrite", noting)
    monkeypatch.setattr(store.os, "fdatasync", syncing)
    for start in range(0, 24, 4):
        writer.write(batch_of(start, laid[0]))
        if start % 8 == 4:
            writer.sync()
    monkeypatch.undo()
    writer.close()
    flags = len([write for write in writes if write is not None]) // 6  # writes of a batch, the last is its flag
    told = 0
    for _ in range(cuts):
        synced = len(power_cut(path, empty, writes, chance)) // flags
        table = Recording(path)["units/conv1"]
        try:
            response, unit = table["response"], table["unit"]
        except UserError:
            told += 1
        else:
            assert unit.tolist() == table.rows.tolist()
            assert np.array_equal(response[:, 0], table.rows + 0.25)
        again = Writer.resume(path, laid, ATTRIBUTES)
        assert again.done["units/conv1"][:synced].all()
        for start in range(0, 24, 4):
            again.write(batch_of(start, laid[0]))
        again.close()
        assert np.array_equal(Recording(path)["units/conv1"]["response"][:, 0], np.arange(24) + 0.25)
    assert 0 < told < cuts


def test_what_was_written_is_synced_every_half_minute_and_before_it_counts_as_complete(tmp_path, monkeypatch):
    """F64: so that no more than that is to do again, and what says it is complete is so."""
    laid, now, marked = tables(rows=24), [0.0], []
    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: now[0]))
    writer, sync = Writer.create(tmp_path / "store.h5", laid, ATTRIBUTES), os.fdatasync

    def syncing(handle):
        marked.append((now[0], Recording(tmp_path / "store.h5").complete))
        return sync(handle)

    monkeypatch.setattr(store.os, "fdatasync", syncing)
    for start in range(0, 24, 4):
        now[0] += 12
        writer.write(batch_of(start, laid[0]))
    writer.finish()
    writer.close()
    assert marked == [(36.0, False), (72.0, False), (72.0, False), (72.0, True)]


CHILD = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.files import stores as t
from cnnprobe.store.writer import Writer
path, laid = Path(sys.argv[1]), t.tables(rows=400, batch=4)
make = Writer.resume if path.exists() else Writer.create
writer = make(path, laid, t.ATTRIBUTES)
for start in range(0, 400, 4):
    if not writer.done["units/conv1"][start // 4]:
        writer.write(t.batch_of(start, laid[0]))
        print(start, flush=True)
        time.sleep(0.002)
writer.finish()
print("done", flush=True)
"""


def kill_until_done(path, script, kills, seed):
    """Start a writer, kill it after a random time, again and again; return the batches it reported as saved."""
    reported, killed = set(), 0
    times = random.Random(seed)
    while True:
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        if killed < kills:
            line = child.stdout.readline()  # it is writing now
            time.sleep(times.uniform(0, 0.015))
            child.send_signal(signal.SIGKILL)
            killed += 1
            lines = [line, *child.stdout.read().splitlines()]
        else:
            lines = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        new = {int(line) for line in lines if line.strip().isdigit()}
        assert not new & reported, "a batch reported as saved was done again"
        reported |= new
        if path.exists():
            saved = set((np.flatnonzero(Recording(path)["units/conv1"].done) * 4).tolist())
            assert reported <= saved, "a batch reported as saved is gone"
        if any("done" in line for line in lines):
            return killed


def test_twenty_kills_lose_no_row(tmp_path):
    """F60: after 20 SIGKILLs the file has every row and is byte for byte that of a writer nobody disturbed."""
    script = textwrap.dedent(CHILD).format(root=str(Path(__file__).parents[2]))
    assert kill_until_done(tmp_path / "killed.h5", script, kills=20, seed=1) == 20
    filled(tmp_path / "calm.h5", rows=400).finish()
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "calm.h5").read_bytes()


@pytest.mark.slow
def test_two_hundred_kills_lose_no_row(tmp_path):
    """F60."""
    script = textwrap.dedent(CHILD).format(root=str(Path(__file__).parents[2]))
    for seed in range(10):
        path = tmp_path / f"{seed}.h5"
        kill_until_done(path, script, kills=20, seed=seed)
        assert Recording(path).complete


def test_rows_kept_are_those_of_all_layers(tmp_path):
    """What is not about layers (which images were shown) does not count."""
    laid = tables(10, 4)
    other = Table("units/conv2", "unit", 6, laid[0].columns, 4)
    writer = Writer.create(tmp_path / "store.h5", [laid[0], other, laid[1]], ATTRIBUTES)
    assert writer.kept() == "0 of 16 rows kept"
    writer.write(batch_of(8, laid[0]))
    writer.write(batch_of(0, other))
    assert writer.kept() == "6 of 16 rows kept"
    writer.close()
