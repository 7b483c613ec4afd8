"""Figures of trajectories: what is stored is drawn, a rotation never without its control."""

import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.methods.record import method, trajectories, trajectory_figure
from cnnprobe.plots.style import png
from tests.methods.record.test_trajectories import images, recording
from tests.support.networks.turning import InSequence, Turning


def drawn(made):
    return {name: one for name, one in method.draw(made) if name.startswith("trajectories")}


@pytest.mark.parametrize(("count", "panels", "words"), [
    (1, 1, "one condition: nothing is left without the mean"),
    (2, 3, "no rotations are fitted to 2 conditions"),
    (8, 5, "grey: with permuted"),
    (30, 5, "dark to light: conditions in their order, 000000 to 000029"),
])  # fmt: skip
def test_panels_are_those_that_have_something_to_show(tmp_path, count, panels, words):
    made = recording(tmp_path, Turning(planes=2), images(count))
    ((name, one),) = drawn(made).items()
    assert name == "trajectories" and len(one.axes) == panels
    assert words in one.get_supxlabel().replace("\n", " ")
    assert (one.legends != []) == (1 < count < 13)
    assert f"{count} image{'s' * (count > 1)} of" in one.get_suptitle()
    if panels == 5:
        plane, chance = one.axes[3:]
        assert "Hz" in plane.get_title() and len(plane.lines) == 2 * count
        _, grey, red = chance.lines
        assert grey.get_ydata().tolist() == made["rotations"]["permuted_skew_r2"][0].tolist()
        assert red.get_ydata()[0] == made["rotations"]["skew_r2"][0]
        assert "p = 0.0099" in chance.get_title()


def test_what_does_not_differ_or_turn_is_said(tmp_path):
    ((_, one),) = drawn(recording(tmp_path, InSequence(), images())).items()
    assert len(one.axes) == 1 and "conditions do not differ" in one.get_supxlabel()
    (tmp_path / "store.h5").unlink()
    ((_, one),) = drawn(recording(tmp_path, Turning(speed=0, decay=0.1), images())).items()
    assert [text.get_text() for axes in one.axes for text in axes.texts] == ["no component 3", "no rotation"]
    assert png(one)


class Several(nn.Module):
    """Six recurrences beside one another."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(Turning(planes=2, seed=one, steps=6) for one in range(6))
        self.cnnprobe = cnnprobe.About(time_step=0.1)

    def forward(self, values):
        return torch.cat([part(values) for part in self.parts], 1)


def test_many_layers_have_several_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(trajectories, "PERMUTATIONS", 3)
    monkeypatch.setattr(trajectory_figure, "ROWS", 4)
    made = recording(tmp_path, Several(), images(3), layer=[f"parts.{one}" for one in range(6)])
    found = drawn(made)
    assert {name: len(one.axes) for name, one in found.items()} == {"trajectories": 20, "trajectories_2": 10}
    assert found["trajectories_2"].axes[5].get_ylabel() == "parts.5\nactivation"


def test_a_network_without_time_has_none(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 3))
    made = recording(tmp_path, net, images(4), layer=["0", "2"])
    assert drawn(made) == {} and "rotations" not in made and "conditions" not in made
    assert method.summary(made) == {} and list(method.headline(made)) == ["images"]
