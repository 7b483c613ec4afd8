"""Figures of a run are made from its store, and from nothing else that lies about."""

from types import SimpleNamespace

import matplotlib
import pytest

from cnnprobe.plots import style
from cnnprobe.runs import drawing
from tests.support.files.stores import filled


@pytest.mark.parametrize("drawn", ["draw", "draw_so_far", "compare"])
def test_whatever_is_drawn_has_the_defaults_of_matplotlib(tmp_path, monkeypatch, drawn):
    """F102: a `matplotlibrc` is somebody's file."""
    folder, seen = tmp_path / "v001", []
    folder.mkdir()
    writer = filled(folder / "store.h5")
    if drawn != "draw_so_far":
        writer.finish()
    writer.close()

    def draw(*_):
        seen.append(matplotlib.rcParams["font.size"])
        yield "one", style.figure(1, 1)

    def png(_):
        seen.append(matplotlib.rcParams["savefig.facecolor"])
        return b""

    monkeypatch.setattr(style, "png", png)
    monkeypatch.setattr(drawing.methods, "module", lambda _: SimpleNamespace(draw=draw, compare=draw))
    asked = ("topk", [folder], [[]], tmp_path / "figures") if drawn == "compare" else (folder,)
    with matplotlib.rc_context({"font.size": 20, "savefig.facecolor": "red"}):
        getattr(drawing, drawn)(*asked)
    assert seen == [10.0, "auto"]
