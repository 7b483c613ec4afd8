"""`run.json` as anyone may have written it."""

import json

import pytest

from cnnprobe.store import run_json

GOOD = {
    "command": "topk",
    "status": "complete",
    "seconds": 1,
    "resumed": 2,
    "ended": None,
    "dataset": {"name": "a", "images": 3, "fingerprint": "f", "size": [3, 8, 8]},
    "headline": {"units": 3, "share": 0.5, "best": "a", "whole": True, "mean": None},
    "facts": {"batch": 4, "judged": {"0": {"1": {"iou": [0.5, 1]}}}},
    "of a newer version": [{}],
}

THERE = {key: value for key, value in GOOD.items() if value is not None}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", "done"),
        ("status", ["complete"]),
        ("seconds", "1"),
        ("seconds", True),
        ("seconds", float("nan")),
        ("seconds", 10**400),
        ("resumed", 1.5),
        ("ended", "yesterday"),
        ("ended", "2026-11-29T22:00:00"),
        ("started", "2026-13-29T22:00:00+00:00"),
        ("dataset", {"name": "a", "images": "3", "fingerprint": "f"}),
        ("dataset", {"name": "a", "fingerprint": "f"}),
        ("dataset", {"name": "a", "images": 3, "fingerprint": "f", "size": 3}),
        ("headline", {"units": []}),
        ("overrides", "k=3"),
        ("warnings", [1]),
        ("facts", {"batch": "4"}),
        ("facts", {"judged": {"x": {}}}),
        ("facts", {"judged": {"0": {"1": {"iou": [None]}}}}),
    ],
)
def test_a_value_of_another_type_is_absent(tmp_path, key, value):
    """F102."""
    (tmp_path / "run.json").write_text(json.dumps(GOOD | {key: value}))
    assert run_json.read(tmp_path) == {name: one for name, one in THERE.items() if name != key}
    assert run_json.strange(tmp_path) == [key]


def test_what_is_as_it_should_be_is_read_as_it_stands(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(GOOD))
    assert run_json.read(tmp_path) == THERE
    assert run_json.strange(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\x00", '"x"'])
def test_what_is_no_json_says_nothing(tmp_path, text):
    """F102."""
    (tmp_path / "run.json").write_text(text)
    assert run_json.read(tmp_path) == {}
