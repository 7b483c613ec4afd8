import os

import pytest

from cnnprobe.machine import room

MACHINE = "MemTotal:       9000000 kB\nMemFree:         100000 kB\nMemAvailable:   4000000 kB\n"
FREE = 4_000_000 * 1024


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Files in place of the system's: of the machine, and of the limit, the use and the uses of its container."""

    def write(machine: str | None = MACHINE, **group: str) -> None:
        paths = {name: tmp_path / name for name in ("machine", "limit", "used", "uses")}
        for name, text in ({"machine": machine} | group).items():
            if text is not None:
                paths[name].write_text(text)
        monkeypatch.setattr(room, "MACHINE", paths["machine"])
        monkeypatch.setattr(room, "GROUPS", [tuple(str(paths[name]) for name in ("limit", "used", "uses"))])

    return write


def test_this_machine_says_what_it_has():
    assert 10 * 2**20 < room.available() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_files_that_were_read_do_not_count_as_used(written):
    """Free alone is 0.1 GB here: the rest of what is available holds files that were read."""
    written()
    assert room.available() == FREE


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"limit": "900000000\n", "used": "500000000\n"}, 400_000_000),
        ({"limit": "900000000\n", "used": "500000000\n", "uses": "anon 1\ninactive_file 300000000\n"}, 700_000_000),
        ({"limit": "9000\n", "used": "5000\n", "uses": "inactive_file 1\ntotal_inactive_file 2\n"}, 4002),
        ({"limit": "900000000\n", "used": "500000000\n", "uses": "in a new form\n"}, 400_000_000),
        ({"limit": "900\n", "used": "950\n"}, 0),
        ({"limit": "max\n", "used": "7\n"}, FREE),
        ({"limit": "9223372036854771712\n", "used": "7\n"}, FREE),
        ({"limit": "900\n"}, FREE),
        ({"limit": "what\n", "used": "5\n"}, FREE),
    ],
)
def test_the_limit_of_a_container_counts(written, group, expected):
    """F55."""
    written(**group)
    assert room.available() == expected


def test_a_system_without_these_files(written, monkeypatch):
    written(machine=None)
    pages = {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(room.os, "sysconf_names", pages)
    monkeypatch.setattr(room.os, "sysconf", pages.__getitem__)
    assert room.available() == 4096 * 1000
    monkeypatch.setattr(room.os, "sysconf_names", {})
    assert room.available() is None


def test_a_machine_that_says_something_else(written, monkeypatch):
    written(machine="MemAvailable: unknown\n")
    monkeypatch.setattr(room.os, "sysconf_names", {})
    assert room.available() is None
