"""Votes of capsules as class activation maps: they add up to what is gathered, and other networks have none."""

import numpy as np
import pytest
import torch

import cnnprobe
from cnnprobe.datasets import poses
from cnnprobe.errors import UserError
from cnnprobe.methods.cam.votes import votes_of
from cnnprobe.models.capsnet import CapsNet
from cnnprobe.models.foreign.network import adopt
from tests.methods.cam.test_method import tables
from tests.models.test_capsnet import build
from tests.support.networks.gap import Pooled

SHOWN = {"size": 20, "channels": 3, "count": 6, "split": "test", "seed": 0, "shift": 2.0, "turn": 0.0, "scale": 0.0}
SHOWN |= {"shear": 0.0, "noise": 0.0, "shapes": 1, "grid": None}


def test_the_sum_of_a_map_is_what_the_output_is_made_from():
    found = tables(cnnprobe.measure("cam", model=build(8), dataset=poses.build(**SHOWN), kind="votes", top_classes=3))
    maps = found["images"]["map"]
    assert maps.shape == (24, 6, 6) and np.isfinite(maps[found["images"]["class"] >= 0]).all()
    known = found["images"]["class"] >= 0
    gathered = maps[known].astype(float).sum((1, 2))
    assert np.allclose(2 * np.log(gathered), found["images"]["logit"][known], atol=1e-5)
    assert np.allclose(found["images"]["evidence"][known], gathered, rtol=1e-6)


def test_maps_do_not_depend_on_the_batch():
    dataset, model = poses.build(**SHOWN), build(8)
    one, all_ = (tables(cnnprobe.measure("cam", model=model, dataset=dataset, kind="votes", batch_size=size))
                 for size in (1, 64))  # fmt: skip
    assert np.allclose(one["images"]["map"], all_["images"]["map"], atol=1e-6, equal_nan=True)


def test_networks_without_capsules_and_layers_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"kind=votes needs a network of capsules.* Pooled has none: take kind=gradcam"):
        votes_of(Pooled())
    with pytest.raises(
        UserError, match="kind=votes maps the capsules that vote, 6 x 6: say layer=primary; conv1 has 16 x 16"
    ):
        cnnprobe.measure("cam", model=build(8), dataset=poses.build(**SHOWN), kind="votes", layer="conv1")
    assert torch.equal(votes_of(build(8))(torch.zeros(1, 3, 20, 20))[0], build(8)(torch.zeros(1, 3, 20, 20)))


class Reading(CapsNet):
    """Reads its images, and writes into them."""

    def _shown(self, images):
        if images.max() > 9:
            images = images / 9
        images *= 0.5
        return super()._shown(images)


@pytest.mark.parametrize(("reads", "normalised"), [(False, True), (True, True), (True, False)])
def test_votes_are_of_the_images_that_the_network_is_shown(reads, normalised):
    """F84: normalised, one by one where they have to be, and left as they are."""
    model, images = build(8), torch.rand(3, 3, 20, 20)
    plain, kept = build(8), images.clone()
    if reads:
        model.__class__ = Reading
    mean, deviation = ([0.5, 0.4, 0.3], [0.1, 0.2, 0.3]) if normalised else ([0.0] * 3, [1.0] * 3)
    model = adopt(model, mean, deviation) if normalised else adopt(model)
    taken = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    with torch.no_grad():
        logits, maps = votes_of(model)(images)
        expected = plain.votes(taken * (0.5 if reads else 1))
    assert torch.equal(images, kept)
    assert torch.allclose(logits, expected[0], atol=1e-5) and torch.allclose(maps, expected[1], atol=1e-5)
