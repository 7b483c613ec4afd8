"""What a stopped run has left may be a stranger's: what claims too much or lacks a part is done again."""

import io
import json

import numpy as np
import pytest

from cnnprobe.store.unfinished import Unfinished, packed, unpacked


def test_what_is_kept_comes_back(tmp_path):
    state = {"order": [1, 2], "values": np.arange(3.0)}
    (tmp_path / "packed").write_bytes(packed("ranking", True, state))
    found = unpacked(tmp_path / "packed")
    assert found["name"] == "ranking" and found["done"] is True and found["state"]["order"] == [1, 2]
    np.testing.assert_array_equal(found["state"]["values"], state["values"])


@pytest.mark.parametrize("kind", ["compressed", "no name", "not done", "deep"])
def test_a_stranger_s_part_is_done_again(tmp_path, caplog, kind):
    """F102: 4 MB of zeros are 4 GB unpacked; what is kept is never compressed."""
    whole = Unfinished(tmp_path)
    about = {"name": "ranking", "version": "x", "done": False, "state": {"map": []}}
    about = {
        key: value for key, value in about.items() if (kind, key) not in (("no name", "name"), ("not done", "done"))
    }
    text = json.dumps(about) if kind != "deep" else '{"name":' + "[" * 100_000 + "]" * 100_000 + "}"
    target = io.BytesIO()
    save = np.savez_compressed if kind == "compressed" else np.savez
    save(target, about=np.frombuffer(text.encode(), np.uint8), zeros=np.zeros(1000))
    whole._path(tmp_path, "ranking").write_bytes(target.getvalue())
    assert not whole.begin("ranking", dict, lambda _: pytest.fail("it was taken"))
    assert "cannot be read; what the stopped run had of ranking is done again" in caplog.text
