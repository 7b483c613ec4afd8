"""Trainings whose images ask more than one class: against a loop by hand, stopped at every batch, and refused."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.instruments.outputs.overlap import mean_overlap, pixel_confusion
from cnnprobe.methods.train.losses import Loss
from cnnprobe.methods.train.recipe import check
from cnnprobe.methods.train.training_images import Supply, order_of
from cnnprobe.store.tables import Rows
from tests.methods.train.test_loop import events, kept
from tests.support.images.asked import Masked, Several, Timed, courses, maps
from tests.support.images.blobs import Blobs, network, recipe

KINDS = {
    "map": (Masked, maps, {"augment": ["crop", "flip", "colour"], "loss": "auto"}),
    "dice": (Masked, maps, {"augment": ["flip"], "loss": "cross-entropy+dice", "preload": False}),
    "balanced": (Masked, maps, {"augment": ["crop"], "loss": "auto", "balance": "loss", "preload": False}),
    "present": (Several, network, {"loss": "auto"}),
    "course": (Timed, courses, {"loss": "auto", "augment": "none"}),
}


def told(stream):
    """Return the rows of all tables as plain values."""
    return [
        (row.table, row.start, {name: values.tolist() for name, values in row.columns.items()})
        for row in stream
        if isinstance(row, Rows)
    ]


def trained(kind, **given):
    images, made, changes = KINDS[kind]
    return list(events(made(), images(33, 0), images(20, 1), **changes | given))


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_any_batch_it_goes_on_to_the_same_bits(kind):
    whole = trained(kind)
    expected, weights = told(whole), kept(whole)["last"].weights
    for batches in range(1, 12):
        calls = iter(range(100))
        before = trained(kind, stop=lambda calls=calls, n=batches: next(calls) >= n)
        state = kept(before)["last"].resume if kept(before) else None
        done = [row for row in told(before) if row[0] == "epochs"]
        after = trained(kind, state=state, start=len(done))
        assert repr(done + told(after)) == repr(expected)  # NaN is NaN
        for name, tensor in kept(before + after)["last"].weights.items():
            assert torch.equal(tensor, weights[name]), (batches, name)


def test_maps_are_learned_as_in_a_loop_written_by_hand():
    """Plain SGD in the order the engine says; pixels of the border count nowhere; the last weights are judged."""
    data, held_out, hand = Masked(33, 0), Masked(20, 1), maps()
    hand[3].p = 0.0
    optimiser = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.0005)
    for epoch in range(2):
        hand.train()
        order = order_of(33, 0, epoch)
        for batch in (order[:16], order[16:]):
            optimiser.zero_grad()
            losses = [
                functional.cross_entropy(one[None], target[None].long(), ignore_index=255)
                for one, target in zip(hand(data.pixels[batch].float() / 255), data.targets(batch)[0])
            ]
            torch.stack(losses).mean().backward()
            optimiser.step()
    ours = maps()
    ours[3].p = 0.0
    stream = list(events(ours, data, held_out, augment="none", loss="auto", schedule="constant"))
    for name, tensor in hand.state_dict().items():
        assert torch.allclose(ours.state_dict()[name].float(), tensor.float(), atol=1e-5), name
    with torch.no_grad():
        said = hand.eval()(held_out.pixels.float() / 255).argmax(1)
    counts = pixel_confusion(said, held_out.targets(range(20))[0], 4).sum(0).numpy()
    last = [row for table, _, row in told(stream) if table == "epochs"][-1]
    assert last["val_iou"][0] == pytest.approx(mean_overlap(counts, (1, 2, 3)))


@pytest.mark.parametrize("preload", [True, False])
def test_maps_move_with_their_images(preload, monkeypatch):
    """F85: images that are their own maps stay so under crop and flip; what comes in from the border is not counted."""

    class Own(Masked):
        """Pixels of 0 come from the border alone: a map of 0 to 3 is shown as 1 to 4."""

        def load_source(self, indices):
            maps, readable = self.targets(indices)
            return (maps[:, None] + 1).expand(-1, 3, -1, -1).clone(), readable

        def targets(self, indices):
            maps, readable = super().targets(indices)
            return torch.where(maps == 255, 0, maps), readable

    seen, wanted, terms = [], [], Loss.terms
    model = maps()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)

    def told_of(self, outputs, targets):
        wanted.extend([targets] * outputs.requires_grad)
        return terms(self, outputs, targets)

    monkeypatch.setattr(Loss, "terms", told_of)
    given = {"augment": ["crop", "flip"], "crop_padding": 3, "loss": "auto", "preload": preload}
    list(events(model, Own(32, 0), Own(16, 1), **given))
    assert len(seen) == len(wanted) == 4
    for images, targets in zip(seen, wanted):
        shown = (images[:, 0] * 255).round().long()
        assert torch.equal(shown, torch.where(targets == 255, 0, targets.long() + 1))
        assert (targets == 255).any()


@pytest.mark.parametrize(
    ("kind", "column", "least"),
    [("map", "val_iou", 0.6), ("present", "val_average_precision", 0.8), ("course", "val_explained", 0.9)],
)
def test_each_kind_is_learned(kind, column, least):
    images, made, changes = KINDS[kind]
    how = {"epochs": 12, "lr": 0.3 if kind != "map" else 0.1, **changes}
    stream = list(events(made(), images(96, 0), images(40, 1), **how))
    epochs = [row for table, _, row in told(stream) if table == "epochs"]
    assert epochs[-1]["val_loss"][0] < epochs[0]["val_loss"][0]
    assert max(row[column][0] for row in epochs) > least
    about = kept(stream)["best"].about
    assert about[column] == max(row[column][0] for row in epochs)
    assert about["classes"] == list(images(4, 0).target.names)
    assert about.get("output") == ("existence" if kind == "present" else None)


def test_weights_of_pixels_are_inverse_to_their_number():
    data = Masked(33, 0, broken=5)
    for preload in (True, False):
        supply = Supply(data, device=torch.device("cpu"), workers=0, preload=preload)
        supply.fill(lambda: False)
        maps, known = data.targets(range(33))
        expected = np.bincount(maps[known].flatten(), minlength=256)[:4]
        assert supply.pixels().tolist() == expected.tolist()


def test_images_without_a_readable_map_are_left_out(caplog):
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    data, model, seen = Masked(32, 0, broken=4), maps(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])) if module.training else None)
    list(events(model, data, Masked(16, 1), loss="auto", augment="none", preload=False))
    assert sum(seen) == 2 * 24


class Odd(nn.Module):
    """Gives zeros of a shape for every image."""

    def __init__(self, *shape, output=None):
        super().__init__()
        self.shape, self.weight = shape, nn.Parameter(torch.zeros(1))
        if output:
            self.cnnprobe = About(output=output)

    def forward(self, images):
        return images.new_zeros(len(images), *self.shape) + self.weight


@pytest.mark.parametrize(
    ("images", "model", "changes", "words"),
    [
        (
            Blobs,
            Odd(3, 8, 8),
            {},
            "one output per class, 3; it gives maps .3 x 8 x 8., which learn from masks",
        ),
        (Blobs, Odd(3, 9), {}, "it gives courses"),
        (
            Masked,
            Odd(4),
            {},
            "needs a network that returns maps .4 x y x x., this one gives 4",
        ),
        (Masked, Odd(3, 8, 8), {}, "have 4 x 8 x 8, or the middle of that; the network gives 3 x 8 x 8"),
        (Masked, Odd(4, 7, 8), {}, "the network gives 4 x 7 x 8"),
        (Masked, Odd(4, 10, 10), {}, "the network gives 4 x 10 x 10"),
        (Timed, Odd(2, 4), {}, r"have 2 x 5 \(channel x time\); the network gives 2 x 4"),
        (Timed, Odd(2, 5), {"augment": ["crop"]}, "augment of images with courses is none"),
        (
            Masked,
            Odd(4, 8, 8),
            {"balance": "draw"},
            "balance=draw needs one class per image, .*; balance=loss weights",
        ),
        (Several, Odd(3), {"balance": "loss"}, "balance=loss needs one class per image or pixel"),
        (Timed, Odd(2, 5), {"balance": "draw", "augment": "none"}, "balance=draw needs one class per image"),
        (
            Masked,
            Odd(4, 8, 8),
            {"balance": "loss", "loss": "dice"},
            "cross-entropy of pixels, dice has none",
        ),
        (Masked, Odd(4, 8, 8), {"label_smoothing": 0.1, "loss": "dice"}, "label_smoothing spreads the target"),
        (Blobs, Odd(3), {"loss": "margin"}, "loss=margin needs a network of capsules"),
        (Blobs, Odd(3), {"loss": "dice"}, "loss=dice needs images with masks"),
    ],
)
def test_what_does_not_go_together_is_told_before_the_first_update(images, model, changes, words):
    """F84."""
    with pytest.raises(UserError, match=words):
        check(model, images(9, 0), images(9, 1), recipe(**{"loss": "auto", "augment": "none"} | changes), 4)


def test_a_held_out_set_of_other_masks_is_refused():
    with pytest.raises(UserError, match="the held-out set of blobs has other classes"):
        check(maps(), Masked(9, 0), Masked(9, 1, classes=2), recipe(loss="auto"), 4)


def test_capsules_learn_by_their_margins():
    check(Odd(3, output="existence"), Blobs(9, 0), Blobs(9, 1), recipe(loss="auto"), 4)
    stream = list(events(Odd(3, output="existence"), Blobs(16, 0), Blobs(8, 1), loss="auto", augment="none", lr=1e-9))
    (first, *_) = [row for table, _, row in told(stream) if table == "epochs"]
    assert first["val_loss"][0] == pytest.approx(0.4**2 + 2 * 0.5 * 0.4**2)  # all lengths are one half
