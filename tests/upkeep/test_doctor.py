"""`cnnprobe doctor`: a machine that is in order, and one planted fault at a time."""

import errno
import os
import re
import signal
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from cnnprobe.machine import files, room, signals
from cnnprobe.plots import style
from cnnprobe.store import locks, writer
from cnnprobe.upkeep import doctor
from cnnprobe.upkeep.findings import Finding


def lines(answer):
    return {line.split(":")[0][9:]: line for line in answer.out.splitlines()}


def test_a_machine_in_order_is_said_to_be_and_nothing_is_left_behind(cnnprobe, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    answer = cnnprobe("doctor", "out=a/b")
    assert (answer.status, answer.err) == (0, "")
    told = lines(answer)
    assert {"cnnprobe", "packages", "threads", "torchvision", "memory", "disk", "store", "figures"} <= set(told)
    assert any(subject.startswith("device") for subject in told)
    assert {"extra dev", "extra launchers"} <= set(told)
    assert f"torch {metadata.version('torch')}" in told["packages"]
    assert f"torchvision {metadata.version('torchvision')} with torch {metadata.version('torch')} loads" in answer.out
    assert all(line.startswith(("ok ", "warning ")) for line in told.values())
    assert "written and read, locked in a/b" in told["store"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "topk").mkdir()
    assert [finding.level for finding in doctor.store(tmp_path)] == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["topk"]


def broken_torchvision(monkeypatch):
    """The trap of two builds that do not belong together: the import ends in a RuntimeError."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("torchvision"):
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def wrong_torchvision(monkeypatch):
    """An operator that loads and computes something else: all three boxes are kept."""
    import torch
    import torchvision.ops

    monkeypatch.setattr(torchvision.ops, "nms", lambda boxes, scores, threshold: torch.arange(len(boxes)))


def without_matplotlib(monkeypatch):
    monkeypatch.setattr(style, "png", lambda made: (_ for _ in ()).throw(ImportError("libfreetype.so.6")))


def without_room(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer.os, "posix_fallocate", full)


def forgetting(monkeypatch):
    """A disk that takes the rows and keeps zeros."""
    real, row = os.pwrite, 24

    def write(handle, data, place):
        return real(handle, bytes(row) if len(data) == row else data, place)

    monkeypatch.setattr(writer.os, "pwrite", write)


def without_locks(monkeypatch):
    monkeypatch.setattr(locks, "holder", lambda folder: None)


def without_links(monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files, "link", refused)


def without_letters(monkeypatch):
    monkeypatch.setattr(style, "png", lambda made: b"\x89PNG")


def without_rich(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)


def of_last_year(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.25.0" if name == "numpy" else real(name))


def uninstalled(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", version)


def in_a_small_container(monkeypatch):
    monkeypatch.setattr(room, "available", lambda: 5 * 10**8)


def on_a_full_disk(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**8}))


def compiling(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


FAULTS = [
    # fault, what was looked at, level, what was found, what to do
    (
        broken_torchvision,
        "torchvision",
        "error",
        "operator torchvision::nms does not exist",
        "--upgrade torch torchvision",
    ),
    (wrong_torchvision, "torchvision", "error", "gives wrong results", "--upgrade torch torchvision"),
    (without_matplotlib, "figures", "error", "libfreetype.so.6", "make setup"),
    (without_letters, "figures", "error", "figures are drawn without text", "make setup"),
    (without_room, "store", "error", "needs", "choose another out="),
    (forgetting, "store", "error", "rows 0 to 1 of units/probe damaged", "choose another out="),
    (without_locks, "store", "warning", "cannot be locked", "on a disk of this machine"),
    (without_links, "store", "warning", "no `latest`", "by their numbers"),
    (without_rich, "packages", "error", "rich: is not installed", "pip install 'rich>=13.7'"),
    (of_last_year, "packages", "warning", "numpy: 1.25.0, and cnnprobe was made for", "pip install 'numpy<3,>=1.26'"),
    (uninstalled, "packages", "warning", "without being installed", "make setup"),
    (in_a_small_container, "memory", "warning", "0.5 GB free", "batch_size=8"),
    (on_a_full_disk, "disk", "warning", "0.1 GB free", "make room"),
    (compiling, "own", "warning", "PYTHONDONTWRITEBYTECODE is set", "unset it"),
]


@pytest.mark.parametrize(("fault", "look", "level", "found", "remedy"), FAULTS, ids=[row[0].__name__ for row in FAULTS])
def test_a_planted_fault_is_told_with_what_to_do(tmp_path, monkeypatch, fault, look, level, found, remedy):
    """One fault, one line of its level; a look that fails does not hide the others."""
    looks = {"disk": lambda: doctor.disk(tmp_path), "store": lambda: doctor.store(tmp_path)}
    fault(monkeypatch)
    told = [
        finding for finding in doctor.each({look: looks.get(look) or getattr(doctor, look)}) if finding.level != "ok"
    ]
    assert [finding.level for finding in told] == [level]
    assert re.search(found, str(told[0]))
    assert remedy in told[0].remedy
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_the_exit_status_and_the_rest_is_looked_at(cnnprobe, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(doctor, "device", lambda: iter(()))
    answer = cnnprobe("doctor", "out=file")
    assert answer.status == 2
    assert answer.err == "cnnprobe doctor: 1 thing wrong; see above\n"
    assert "error    store: file is a file, not a folder; choose another out=" in answer.out
    assert answer.out.count("choose another out=") == 1  # the remedy is told once
    assert "ok       figures" in answer.out


def test_doctor_takes_a_place_and_nothing_else(cnnprobe):
    for words, told in ((("now",), "doctor takes no 'now'"), (("k=3",), "no option 'k' in doctor")):
        answer = cnnprobe("doctor", *words)
        assert (answer.status, answer.err.count("\n")) == (2, 1)
        assert told in answer.err


def test_a_home_folder_is_expanded(cnnprobe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "looked", lambda out: [doctor.Finding("ok", "disk", out)])
    assert str(Path(tmp_path / "home/results")) in cnnprobe("doctor", "out=~/results").out


def test_an_interrupt_waits_for_one_library_and_not_for_all(monkeypatch):
    """F62: each look imports some; inside an import an exception could end the process."""
    monkeypatch.setattr(signals, "a_library_is_imported", lambda: True)
    begun = []

    def look(name):
        begun.append(name)
        if name == "packages":
            os.kill(os.getpid(), signal.SIGINT)
        yield Finding("ok", name, "there")

    try:
        with signals.noted(), pytest.raises(KeyboardInterrupt):
            list(doctor.each({name: partial(look, name) for name in ("cnnprobe", "packages", "device")}))
        assert begun == ["cnnprobe", "packages"]
        assert signals._later.finished.is_set()  # it does not come once more
    finally:
        signals._later.cancel()
