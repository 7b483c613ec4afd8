"""Networks that return courses: explained shares by formula, by group and image, and what cannot be."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.targets import Target
from cnnprobe.errors import UserError
from tests.support.calling import Labelled
from tests.support.networks.detectors import coloured, measured

NAMES = ("arm/lift", "hand/turn", "hand/grip")


class Followed(Labelled):
    """Images whose courses are their rows, each with the mean of one channel: what `Follower` returns, and noise."""

    names_of_channels: tuple[str, ...] = NAMES

    @property
    def target(self) -> Target:
        return Target("course", self.names_of_channels, (3, 5), rate=10.0, start=-0.2)

    def targets(self, indices) -> tuple[Tensor, np.ndarray]:
        chosen = np.asarray(indices)
        noise = 0.05 * torch.randn(len(self), 3, 5, generator=torch.Generator().manual_seed(2))
        return self.load(chosen)[0][:, :3].mean(3) + noise[chosen], np.ones(len(chosen), bool)


class Follower(nn.Module):
    """Channel k of the course is the mean of each row of channel k of the image, by unit k of the layer `conv1`."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3, 4)[:, :, None, None])

    def forward(self, given):
        return self.conv(given).mean(3)


def followed(count=40):
    whole = coloured(count)
    return Followed(whole.load(range(count))[0], whole.labels, 4)


def share(true, made):
    """1 - sum of squared errors over squared distances from the mean of each channel."""
    return 1 - float((true - made).square().sum() / (true - true.mean((0, 2), keepdim=True)).square().sum())


def test_explained_shares_of_all_channels_groups_and_images_are_the_formula():
    dataset, model = followed(), Follower().eval()
    rows = measured(model, dataset, layer="conv1", units="each", how="zero", batch_size=7)
    true = dataset.targets(range(40))[0].double()
    with torch.no_grad():
        made = model(dataset.load(range(40))[0]).double()
    groups = {0: [0], 1: [1, 2]}
    assert rows["lesions", "group_before"].shape == (3, 2)
    for unit in range(3):
        lost = made.clone()
        lost[:, unit] = 0
        row = {name: rows["lesions", name][unit] for name in ("before", "after", "difference", "loss")}
        assert row["before"] == pytest.approx(share(true, made), abs=1e-5)
        assert row["after"] == pytest.approx(share(true, lost), abs=1e-4)
        assert row["loss"] == pytest.approx(row["before"] - row["after"], rel=1e-5) == -row["difference"]
        for place, channels in groups.items():
            own = share(true[:, channels], lost[:, channels])
            assert rows["lesions", "group_after"][unit, place] == pytest.approx(own, rel=1e-4)
        for channel in range(3):
            own = share(true[:, [channel]], lost[:, [channel]])
            assert rows["lesions", "class_after"][unit, channel] == pytest.approx(own, rel=1e-4)
        alone = share(true[3:4], lost[3:4])
        assert rows["images", "explained_after"][3, unit] == pytest.approx(alone, rel=1e-4)
    low, high = (rows["lesions", f"difference_{end}"] for end in ("low", "high"))
    assert (low < rows["lesions", "difference"]).all() and (rows["lesions", "difference"] < high).all()
    assert np.isnan(rows["lesions", "changed"]).all()
    np.testing.assert_allclose(rows["courses", "truth"], true[:6], rtol=1e-5)
    np.testing.assert_allclose(rows["courses", "intact"], made[:6], rtol=1e-5)
    assert (rows["courses", "lesioned"][:, 1, 1] == 0).all()


def test_channels_without_groups_have_no_columns_of_them():
    dataset = followed()
    dataset.names_of_channels = ("lift", "turn", "hand/grip")
    rows = measured(Follower().eval(), dataset, layer="conv1")
    assert ("lesions", "group_after") not in rows and rows["lesions", "class_after"].shape == (1, 3)


def test_without_courses_the_outputs_are_compared_with_the_intact_ones():
    rows = measured(Follower().eval(), coloured(), layer="conv1", units="each", how="zero")
    assert np.isnan(rows["lesions", "after"]).all() and (rows["lesions", "unexplained"] > 0).all()
    assert (rows["lesions", "loss"] == rows["lesions", "unexplained"]).all()
    assert np.isnan(rows["courses", "truth"]).all() and np.isfinite(rows["courses", "lesioned"]).all()


@pytest.mark.parametrize(
    ("dataset", "measure", "words"),
    [
        (followed, "accuracy", "measure=accuracy needs classes, the network gives courses; say measure=explained"),
        (coloured, "explained", "measure=explained needs images with courses; say measure=unexplained"),
    ],
)
def test_measures_that_cannot_be_are_refused(dataset, measure, words):
    with pytest.raises(UserError, match=words):
        measured(Follower().eval(), dataset(), layer="conv1", measure=measure)


def test_courses_of_another_length_are_refused():
    class Shorter(Followed):
        @property
        def target(self):
            return Target("course", NAMES, (3, 4))

    whole = followed()
    with pytest.raises(UserError, match=r"courses of .* have 3 x 4 .*, the network gives 3 x 5"):
        measured(Follower().eval(), Shorter(whole.load(range(8))[0], whole.labels[:8], 4), layer="conv1")
