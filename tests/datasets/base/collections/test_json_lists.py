import json
import tracemalloc

import pytest

from cnnprobe.datasets.base.collections import json_lists
from cnnprobe.errors import UserError

ABOUT = {
    "info": {"year": 2017, "of": ["a", "]"]},
    "images": [{"name": 'é "quoted" \\ 日本', "size": [1, -2.5e-3, 1e10]}, {}],
    "empty": [],
    "count": 12345,
    "annotations": [1, 2.25, "text", None, [[3]]],
    "done": True,
}
EXPECTED = [
    ("info", ABOUT["info"]),
    *(("images", element) for element in ABOUT["images"]),
    ("count", 12345),
    *(("annotations", element) for element in ABOUT["annotations"]),
    ("done", True),
]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
def test_elements_are_those_of_the_whole_file_however_it_is_cut(tmp_path, monkeypatch, piece, indent):
    monkeypatch.setattr(json_lists, "PIECE", piece)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ABOUT, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(json_lists.elements(path)) == EXPECTED


def test_a_file_cut_off_anywhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "PIECE", 5)
    path, text = tmp_path / "a.json", json.dumps(ABOUT).encode()
    for end in range(len(text)):
        path.write_bytes(text[:end])
        with pytest.raises(UserError, match=r"cannot read .*a\.json: "):
            list(json_lists.elements(path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1, 2]", "'{' expected, got '\\['"),
        ('{"a": [1 2]}', "',' expected, got '2'"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a": [1],}', "Expecting value"),
        ('{"a": [NaN]}', "NaN is no number"),
        ('{"a": [' + "[" * 100_000, "."),
        ('{"a": [1]"b": 2}', "',' expected"),
        (b'{"a": ["\xff"]}', "no JSON"),
        ("<html>", "'{' expected"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path, text, why):
    """F45: also lists nested a hundred thousand deep."""
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=why) as error:
        list(json_lists.elements(path))
    assert "\n" not in str(error.value)


def test_an_element_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "PIECE", 1000)
    monkeypatch.setattr(json_lists, "LARGEST", 20_000)
    path = tmp_path / "a.json"
    path.write_text('{"a": ["' + "x" * 10**6)
    tracemalloc.start()
    with pytest.raises(UserError):
        list(json_lists.elements(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "PIECE", 4096)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"number": i, "values": [0.5] * 20} for i in range(8000)]}))
    tracemalloc.start()
    count = sum(1 for _ in json_lists.elements(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 8000 and path.stat().st_size > 10**6 and peak < 10**5


def test_a_pipe_or_a_folder_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.json")
    for path in (tmp_path / "a.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(UserError, match="no file"):
            list(json_lists.elements(path))
