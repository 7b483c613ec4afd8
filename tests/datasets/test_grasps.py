"""Objects to be grasped: what is held out, how the joints move, and mistakes."""

import numpy as np
import pytest

from cnnprobe.datasets import grasps
from cnnprobe.datasets.base.targets import groups_of
from cnnprobe.datasets.rendering.graspable import KINDS
from cnnprobe.errors import UserError

OPTIONS = {
    "size": None, "channels": None, "count": 60, "split": "train", "seed": 0, "hold_out": "sizes", "show": "objects",
    "courses": "velocity", "step": 0.02, "noise": 0.02,
}  # fmt: skip


def objects(**options):
    return grasps.build(**OPTIONS | options)


def test_images_are_the_same_alone_and_among_others_and_of_another_seed_others():
    one, other = objects(), objects(seed=1)
    many, _ = one.load([3, 5])
    assert (many[1] == one.load([5])[0][0]).all() and many.shape == (2, 3, 32, 32)
    assert (many[1] != other.load([5])[0][0]).any() and one.fingerprint != other.fingerprint
    assert len({objects(split=split).load([0])[0].numpy().tobytes() for split in grasps.SPLITS}) == 3


def test_size_and_angle_are_what_varies_and_cards_vary_in_nothing():
    dataset = objects()
    varied, bars = dataset.varied, dataset.labels == KINDS.index("bar")
    assert np.array_equal(varied.values["size"], dataset.objects[:, 0])
    assert np.array_equal(varied.values["angle"][bars], dataset.objects[bars, 1])
    assert bars.any() and np.isnan(varied.values["angle"][~bars]).all()
    assert objects(show="labels", hold_out=None).varied is None


@pytest.mark.parametrize("held", ["sizes", "kinds", "angles", None])
def test_what_is_held_out_is_in_the_test_split_alone(held):
    learned, tested = objects(hold_out=held, count=600), objects(hold_out=held, split="test", count=600)

    def there(dataset):
        sizes, angles = dataset.objects[:, 0], np.abs(dataset.objects[dataset.labels == KINDS.index("bar"), 1])
        return {"sizes": (sizes > 0.5) & (sizes < 0.7), "kinds": dataset.labels == KINDS.index("ring"),
                "angles": (angles > 20) & (angles < 40)}  # fmt: skip

    for name in ("sizes", "kinds", "angles"):
        share = [part.mean() if len(part) else 0 for part in (there(learned)[name], there(tested)[name])]
        assert share == [0, 1] if name == held else held in ("angles", "kinds") or all(0 < one < 1 for one in share)
    assert set(tested.labels) == set({"kinds": [2], "angles": [5]}.get(held, range(6)))
    assert learned.objects[:, 0].min() < 0.25 and learned.objects[:, 0].max() > 0.95


def test_positions_are_the_integrals_of_velocities_and_end_where_the_object_asks():
    fast, still = (objects(courses=kind, step=0.001, count=12) for kind in ("velocity", "position"))
    speed, place = (dataset.targets(range(12))[0].double().numpy() for dataset in (fast, still))
    np.testing.assert_allclose(np.cumsum(speed, 2) * 0.001, place, atol=5e-3)
    size, angle = fast.objects[:, 0], fast.objects[:, 1]
    assert fast.target.names == grasps.CHANNELS and speed.shape == (12, 8, 1100)
    np.testing.assert_allclose(place[:, 3, -1], size, atol=1e-6)
    np.testing.assert_allclose(place[:, 3].max(1), 0.3 + 0.8 * size, atol=1e-4)
    times = fast.target.start + np.arange(1100) / fast.target.rate
    assert times[place[0, 3].argmax()] == pytest.approx(0.08 + 0.7 * 0.5, abs=2e-3)
    turn = np.where(fast.labels == KINDS.index("lying"), 1, angle / 90)
    np.testing.assert_allclose(place[:, 2, -1], turn, atol=1e-6)
    assert (place[:, :2] == place[:1, :2]).all()  # the arm reaches for all alike
    assert (speed[:, :, times < 0.0795] == 0).all() and (np.abs(speed[:, :, times > 0.5805]) < 1e-9).all()
    assert times[-1] == pytest.approx(0.9)


def test_channels_are_named_in_groups():
    assert groups_of(grasps.CHANNELS) == {"reach": [0, 1], "hand": [2, 3, 4, 5, 6, 7]}


def test_what_is_known_about_an_object_is_told():
    dataset = objects()
    truth = dataset.truth(5)
    assert truth["size"] == dataset.objects[5, 0] and truth["angle"] == dataset.objects[5, 1] != 0
    assert truth["cue"].any() and (truth["course"] == dataset.targets([5])[0][0].numpy()).all()
    bright = dataset.load([5])[0][0].numpy().max(0)
    assert bright[truth["cue"]].min() > 0.1


def test_cards_of_one_kind_are_alike_and_of_two_are_not():
    images = objects(show="labels", noise=0.0, count=12).load(range(12))[0].numpy()
    assert (images[:6] == images[6:]).all()
    assert all((images[a] != images[b]).any() for a in range(6) for b in range(a))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"step": 0.03}, "dataset.step must divide 0.1 s, as 0.01, 0.02 and 0.05 do, got 0.03"),
     ({"show": "labels", "hold_out": "kinds", "split": "test"}, "hold_out=kinds keeps ring, that of the split test")],
)  # fmt: skip
def test_mistakes_are_one_line(options, words):
    with pytest.raises(UserError, match=words):
        objects(**options)
