"""Figures of a run are made from its store, and from nothing else that lies about."""

from types import SimpleNamespace

import matplotlib
import pytest

from cnnprobe.errors import UserError
from cnnprobe.plots import style
from cnnprobe.runs import drawing
from tests.support.files.stores import filled


@pytest.mark.parametrize("drawn", ["draw", "draw_so_far", "compare"])
def test_whatever_is_drawn_has_the_defaults_of_matplotlib(tmp_path, monkeypatch, drawn):
    """F102: a `matplotlibrc` is somebody's file."""
    folder, seen = tmp_path / "v001", []
    folder.mkdir()
    writer = filled(folder / "store.h5", command="topk")
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
    asked = ("topk", [(folder, [])], tmp_path) if drawn == "compare" else (folder,)
    with matplotlib.rc_context({"font.size": 20, "savefig.facecolor": "red"}):
        getattr(drawing, drawn)(*asked)
    assert seen == [10.0, "auto"]


@pytest.mark.parametrize("name", ["../../paper/one", "/one", "..", "", "a\\b", "a\nb"])
@pytest.mark.parametrize("drawn", ["draw", "volumes", "draw_so_far", "compare"])
def test_what_names_a_figure_or_a_volume_is_no_path(tmp_path, monkeypatch, drawn, name):
    """F102: it is made of names that a stranger's store holds, or is what an own experiment yields."""
    folder = tmp_path / "given" / "v001"
    (folder / "figures").mkdir(parents=True)
    (tmp_path / "paper").mkdir()
    writer = filled(folder / "store.h5", command="topk")
    if drawn != "draw_so_far":
        writer.finish()
    writer.close()
    one = [(name, style.figure(1, 1))]
    offered = {"draw": lambda _: [], "volumes": lambda _: [], "compare": lambda *_: one}
    offered |= {"volumes": lambda _: [(f"{name}.nii.gz", b"x")]} if drawn == "volumes" else {"draw": lambda _: one}
    monkeypatch.setattr(drawing.methods, "module", lambda _: SimpleNamespace(**offered))
    monkeypatch.setattr(style, "png", lambda _: b"x")
    asked = ("topk", [(folder, [])], folder) if drawn == "compare" else (folder,)
    with pytest.raises(UserError, match="must be one name"):
        getattr(drawing, "draw" if drawn == "volumes" else drawn)(*asked)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["store.h5"]


@pytest.mark.parametrize(
    ("words", "labels", "told"),
    [
        ((["seed=0"], ["seed=1"]), ("train/a/v001@best", "train/a/v002@best"), True),
        ((["seed=0", "method.fraction=1"], ["seed=0", "fraction=0.5"]), ("train/a/v001@best",) * 2, True),
        (([], []), ("random (seed 0)", "train/a/v001@best"), True),
        ((["seed=0"], ["seed=1"]), ("random (seed 0)", "random (seed 1)"), False),
        ((["+weights=a"], ["+weights=b"]), ("train/a/v001@best", "train/a/v002@best"), False),
        ((["model.mask=none"], ["model.mask=all"]), ("train/a/v001@best", "train/a/v002@best"), False),
        ((["method.mode=full"], ["method.mode=scratch"]), ("train/a/v001@best", "random (seed 0)"), False),
    ],
    ids=["two runs", "one name", "untrained", "seeds", "weights", "model", "mode"],
)
def test_runs_of_different_weights_are_drawn_together_only_where_that_was_asked(
    tmp_path, monkeypatch, capsys, words, labels, told
):
    """F100: here no two runs have the same weights."""
    drawn = []
    monkeypatch.setattr(style, "png", lambda figure: drawn.append(figure) or b"")
    compare = SimpleNamespace(compare=lambda *_: iter([("one", style.figure(1, 1))]))
    monkeypatch.setattr(drawing.methods, "module", lambda _: compare)
    runs = []
    for number, label in enumerate(labels):
        folder = tmp_path / f"v00{number}"
        folder.mkdir()
        writer = filled(folder / "store.h5", weights=label, weights_sha256=f"{number}" * 64)
        writer.finish()
        writer.close()
        runs.append((folder, words[number]))
    assert drawing.compare("topk", runs, tmp_path) == len(drawn) == (0 if told else 1)
    err = capsys.readouterr().err
    named = f"{labels[0]} (sha256 000000000000) and {labels[1]} (sha256 111111111111)"
    assert ("no figures of all runs together: they began with different weights, " + named in err) == told


@pytest.mark.parametrize("draw", [drawing.draw, drawing.draw_so_far])
@pytest.mark.parametrize("command", ["conv1 conv2", "os", "__init__", "contract"])
def test_a_store_that_names_no_command_is_refused_in_one_line(tmp_path, draw, command):
    """F102: somebody has written it; no module of that name is imported."""
    writer = filled(tmp_path / "store.h5", command=command)
    if draw is drawing.draw:
        writer.finish()
    writer.close()
    with pytest.raises(UserError, match=f"names no command that draws it, got '{command}'"):
        draw(tmp_path)
