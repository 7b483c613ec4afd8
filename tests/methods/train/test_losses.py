"""Losses against their formulas, gradients against differences, and which of them go together with what."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnprobe.datasets.base.targets import one_hot
from cnnprobe.errors import UserError
from cnnprobe.methods.train.losses import FITTING, Loss, chosen

OUTPUTS = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
LABELS = torch.tensor([1, 0])


def test_cross_entropy_is_minus_the_logarithm_of_the_probability():
    expected = [-np.log(np.exp(2) / np.exp([1, 2, -1]).sum()), -np.log(np.exp(0.5) / np.exp([0.5, 0, 3]).sum())]
    assert Loss("cross-entropy").terms(OUTPUTS, LABELS).tolist() == pytest.approx(expected, rel=1e-6)


def test_squared_error_is_half_the_squared_distance_from_the_target():
    assert Loss("squared-error").terms(OUTPUTS, LABELS).tolist() == pytest.approx([(1 + 1 + 1) / 2, (0.25 + 9) / 2])
    smooth = Loss("squared-error", smoothing=0.3).terms(OUTPUTS, LABELS)
    assert float(smooth[0]) == pytest.approx(((1 - 0.1) ** 2 + (2 - 0.8) ** 2 + (-1 - 0.1) ** 2) / 2)


def test_smoothing_mixes_the_target_with_all_classes():
    plain, even = Loss("cross-entropy").terms(OUTPUTS, LABELS), -OUTPUTS.log_softmax(1).mean(1)
    assert torch.allclose(Loss("cross-entropy", smoothing=0.2).terms(OUTPUTS, LABELS), 0.8 * plain + 0.2 * even)


def test_weights_of_classes_multiply_the_loss_of_their_images():
    weighed = Loss("cross-entropy", weights=torch.tensor([2.0, 0.5, 1.0])).terms(OUTPUTS, LABELS)
    assert torch.allclose(weighed, Loss("cross-entropy").terms(OUTPUTS, LABELS) * torch.tensor([0.5, 2.0]))


LENGTHS = torch.tensor([[0.0] * 8, [0.5] * 8, [0.9] + [0.1] * 7])
CAPSULES = LENGTHS.clamp(1e-12, 1).logit()


@pytest.mark.parametrize(("row", "expected"), [(0, 0.81), (1, 0.72), (2, 0.0)])
def test_margin_loss_of_eight_classes(row, expected):
    """Of lengths 0 what is missing counts alone; of 0.5 also the 7 others, half; 0.9 and 0.1 are far enough."""
    loss = Loss("margin", ("existence", "class")).terms(CAPSULES[row : row + 1], torch.tensor([0]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    several = Loss("margin", ("existence", "present"))
    assert torch.equal(several.terms(CAPSULES[row : row + 1], one_hot(torch.tensor([0]), 8)), loss)


def test_of_ten_classes_at_one_half_it_is_0_88():
    assert float(Loss("margin", ("existence", "class")).terms(torch.zeros(1, 10), torch.tensor([3]))) == pytest.approx(
        0.88
    )


def test_binary_cross_entropy_is_the_mean_over_classes():
    present = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    p = torch.sigmoid(OUTPUTS)
    expected = -(present * p.log() + (1 - present.float()) * (1 - p).log()).mean(1)
    for form in ("classes", "existence"):
        assert torch.allclose(Loss("cross-entropy", (form, "present")).terms(OUTPUTS, present), expected)
    smooth = Loss("cross-entropy", ("classes", "present"), smoothing=0.2).terms(OUTPUTS, present)
    assert torch.allclose(smooth, -((0.1 + 0.8 * present) * p.log() + (0.9 - 0.8 * present) * (1 - p).log()).mean(1))


MAPS = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.randint(0, 4, (3, 5, 6), generator=torch.Generator().manual_seed(1)).byte()
CLASSES[0, :2] = 255


def test_cross_entropy_of_maps_is_the_mean_over_the_pixels_that_count():
    found = Loss("cross-entropy", ("map", "map")).terms(MAPS, CLASSES)
    for one, target, loss in zip(MAPS, CLASSES, found):
        pixels = [
            -one[:, y, x].log_softmax(0)[target[y, x].long()] for y, x in np.ndindex(5, 6) if int(target[y, x]) != 255
        ]
        assert float(loss) == pytest.approx(float(torch.stack(pixels).mean()))
    even = Loss("cross-entropy", ("map", "map")).terms(torch.zeros(1, 4, 5, 6), CLASSES[:1])
    assert float(even) == pytest.approx(np.log(4))


@pytest.mark.parametrize("kind", FITTING["map", "map"])
@pytest.mark.parametrize("given", [{}, {"weights": torch.tensor([0.5, 2, 1, 1], dtype=torch.float64)}])
def test_pixels_that_do_not_count_change_no_bit(kind, given):
    loss = Loss(kind, ("map", "map"), judged=(1, 2, 3), **given)
    other = MAPS.clone()
    other[0, :, :2] = torch.randn(4, 2, 6, dtype=torch.float64) * 9
    assert torch.equal(loss.terms(MAPS, CLASSES), loss.terms(other, CLASSES))
    nothing = torch.full((1, 5, 6), 255, dtype=torch.uint8)
    assert loss.terms(MAPS[:1], nothing).isfinite().all()


def test_dice_is_of_all_pixels_of_all_images_whatever_the_batches():
    loss = Loss("dice", ("map", "map"), judged=(1, 2, 3))
    counted = (CLASSES != 255)[:, None]
    p, g = MAPS.softmax(1) * counted, functional.one_hot(CLASSES.long() % 255, 4).permute(0, 3, 1, 2) * counted
    ratios = [(2 * (p[:, k] * g[:, k]).sum() + 1) / (p[:, k].sum() + g[:, k].sum() + 1) for k in (1, 2, 3)]
    expected = 1 - float(torch.stack(ratios).mean())
    assert float(loss.total(loss.terms(MAPS, CLASSES))) == pytest.approx(expected)
    parts = torch.cat([loss.terms(MAPS[:1], CLASSES[:1]), loss.terms(MAPS[1:], CLASSES[1:])])
    assert float(loss.total(parts)) == pytest.approx(expected)
    both, entropy = (Loss(kind, ("map", "map"), judged=(1, 2, 3)) for kind in ("cross-entropy+dice", "cross-entropy"))
    added = expected + float(entropy.total(entropy.terms(MAPS, CLASSES)))
    assert float(both.total(both.terms(MAPS, CLASSES))) == pytest.approx(added)


def test_a_perfect_map_has_no_dice_loss():
    certain = functional.one_hot(CLASSES[1:].long(), 4).permute(0, 3, 1, 2) * 200.0
    loss = Loss("dice", ("map", "map"), judged=(1, 2, 3))
    assert float(loss.total(loss.terms(certain, CLASSES[1:]))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", FITTING["map", "map"])
def test_gradients_of_maps_are_those_of_differences(kind):
    loss = Loss(kind, ("map", "map"), judged=(1, 2, 3))
    small = MAPS[:2, :, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda outputs: loss.total(loss.terms(outputs, CLASSES[:2, :3, :3])), small)


def test_courses_have_the_mean_squared_difference():
    made, true = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    found = Loss("squared-error", ("course", "course")).terms(made, true)
    assert torch.allclose(found, ((made - true) ** 2).mean((1, 2)))


def test_auto_is_what_goes_with_output_and_images():
    expected = {
        ("classes", "class"): "cross-entropy",
        ("existence", "class"): "margin",
        ("classes", "present"): "cross-entropy",
        ("map", "map"): "cross-entropy",
        ("course", "course"): "squared-error",
    }
    assert {pair: chosen("auto", *pair, "x") for pair in expected} == expected


@pytest.mark.parametrize(
    ("loss", "pair", "words"),
    [
        ("margin", ("classes", "class"), "loss=margin needs a network of capsules, .*, this one gives classes"),
        (
            "dice",
            ("classes", "class"),
            r"loss=dice needs images with masks \(.*, cats has one class",
        ),
        (
            "squared-error",
            ("map", "map"),
            "learns a class for every pixel of cats; possible: loss=cross-entropy or",
        ),
        ("cross-entropy", ("course", "course"), "loss=cross-entropy needs classes, this one learns courses of cats"),
        ("margin", ("map", "map"), "possible: loss=cross-entropy or loss=dice or loss=cross-entropy"),
    ],
)
def test_a_loss_that_does_not_fit_is_told_with_those_that_do(loss, pair, words):
    with pytest.raises(UserError, match=words):
        chosen(loss, *pair, "cats")
