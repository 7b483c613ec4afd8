"""Lesions of networks that give a class for every pixel: counts, intersection over union, and what lesions cost."""

import numpy as np
import pytest
import torch

import cnnprobe as package
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.methods.lesion.lesions import derangement
from cnnprobe.methods.lesion.pixels import Maps, mean_overlap
from cnnprobe.models import unet
from tests.support.networks.detectors import measured

SIDE = 16


def network(**options):
    torch.manual_seed(1)
    given = {"num_classes": 2, "input_size": SIDE, "channels": 3, "width": 2, "depth": 2, "padding": "same"}
    return unet.build(**given | {"rise": "transposed"} | options)


def images(count=6, target="mask", size=SIDE):
    given = {"split": "test", "seed": 0, "contrast": 0.15, "noise": 0.02}
    return shapes.build(size=size, count=count, target=target, **given)


def iou(predicted, true, classes=(1,)):
    """Count pixel by pixel over all images, mean over classes that are there."""
    found = []
    for one in classes:
        both = sum(int(p == one and t == one) for p, t in zip(predicted.flatten(), true.flatten()))
        either = sum(int(p == one or t == one) for p, t in zip(predicted.flatten(), true.flatten()))
        found += [both / either] if either else []
    return np.mean(found) if found else np.nan


def near_edges(found, true, reach=2):
    """Count by class the pixels within 2 px of another true class: decided rightly, and all; a loop over pixels."""
    counts = [[0, 0], [0, 0]]
    for image, y, x in np.ndindex(true.shape):
        window = true[image, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        if (window != true[image, y, x]).any():
            own = counts[true[image, y, x]]
            own[0], own[1] = own[0] + int(found[image, y, x] == true[image, y, x]), own[1] + 1
    return counts


@pytest.mark.parametrize("how", ["swap", "mean", "zero"])
def test_a_skip_taken_out_costs_what_a_hook_on_it_costs(how):
    model, dataset = network(), images()
    rows = measured(model, dataset, layer=["skip*", "rise*"], how=how, batch_size=4)
    pixels, true = dataset.load(range(6))[0], dataset.targets(range(6))[0].numpy()
    partner = derangement(6, 0)
    value = {
        "swap": lambda one: one[partner],
        "mean": lambda one: one.mean(0).expand_as(one),
        "zero": lambda one: 0 * one,
    }
    with torch.no_grad():
        intact = model(pixels)
        before = intact.argmax(1).numpy()
        for row, module in enumerate((model.skip[1], model.skip[0], model.rise[1], model.rise[0])):
            handle = module.register_forward_hook(lambda _, __, output: value[how](output))
            found = model(pixels)
            handle.remove()
            after = found.argmax(1).numpy()
            assert rows["lesions", "before"][row] == pytest.approx(iou(before, true))
            assert rows["lesions", "after"][row] == pytest.approx(iou(after, true), abs=1e-6)
            assert rows["lesions", "changed"][row] == pytest.approx((after != before).mean())
            each = [iou(one, mask) for one, mask in zip(after, true)]
            np.testing.assert_allclose(rows["images", "iou_after"][:, row], each, atol=1e-6)
            moved = (found - intact).square().flatten(1).sum(1).mean() / intact.flatten(1).var(0, correction=0).sum()
            assert rows["lesions", "unexplained"][row] == pytest.approx(float(moved), rel=1e-4, abs=1e-7)
            counts = [[int(((a == c) & (t == c)).sum()), int((t == c).sum()), int((a == c).sum())]
                      for c in (0, 1) for a, t in [(after, true)]]  # fmt: skip
            assert rows["lesions", "class_pixels"][row][:, :3].tolist() == counts
            for name, found in (("class_pixels", after), ("class_pixels_intact", before)):
                assert rows["lesions", name][row][:, 4:].tolist() == near_edges(found, true)


@pytest.mark.parametrize(("how", "padding", "side"), [("swap", "same", 16), ("zero", "valid", 44)])
def test_examples_have_the_maps_before_and_after(how, padding, side):
    """By a hook on the skip; of a network without padding they lie in the middle of the image."""
    model, dataset = network(padding=padding, input_size=side), images(size=side)
    rows = measured(model, dataset, layer=["skip1", "rise2"], how=how, batch_size=4)
    chosen = np.flatnonzero(rows["pictures", "image"] >= 0)
    assert len(chosen)
    modules = {"skip1": model.skip[0], "rise2": model.rise[1]}
    other = {"swap": lambda one: one.flip(0), "zero": torch.zeros_like}[how]
    partner, pixels = derangement(6, 0), dataset.load(range(6))[0]
    for row in chosen:
        lesion, image = rows["pictures", "lesion"][row], rows["pictures", "image"][row]
        pair = pixels[[image, partner[image]]]
        with torch.no_grad():
            intact = model(pair)[0].argmax(0)
            module = modules[rows["lesions", "layer"][lesion]]
            handle = module.register_forward_hook(lambda _, __, output: other(output))
            lesioned = model(pair)[0].argmax(0)
            handle.remove()
        margin = (side - len(intact)) // 2
        for name, expected in (("intact", intact), ("lesioned", lesioned)):
            whole = np.pad(expected, margin, constant_values=255)
            np.testing.assert_array_equal(rows["pictures", name][row], whole)
        true = dataset.targets([image])[0][0]
        np.testing.assert_array_equal(rows["pictures", "truth"][row], true)


def test_nothing_taken_out_costs_nothing_and_batches_do_not_matter():
    rows = measured(network(), images(), layer=["skip1", "rise1"], share=[0, 1], how=["swap", "zero"])
    none = rows["lesions", "share"] == 0
    assert none.sum() == 4
    for column in ("difference", "difference_low", "difference_high", "changed", "unexplained", "loss"):
        assert (rows["lesions", column][none] == 0).all()
    other = measured(network(), images(), layer=["skip1", "rise1"], share=[0, 1], how=["swap", "zero"], batch_size=1)
    for column in ("before", "after", "difference_low", "difference_high", "unexplained"):
        np.testing.assert_allclose(rows["lesions", column], other["lesions", column], atol=1e-5)


def test_a_network_without_padding_is_judged_by_the_middle_of_the_masks():
    model, dataset = network(padding="valid", input_size=60), images(2, size=60)
    rows = measured(model, dataset, layer="skip1", how="zero")
    with torch.no_grad():
        found = model(dataset.load(range(2))[0]).argmax(1).numpy()
    true = dataset.targets(range(2))[0].numpy()[:, 20:40, 20:40]
    assert found.shape == true.shape
    assert rows["lesions", "before"][0] == pytest.approx(iou(found, true))


def test_counts_and_means_by_hand():
    """Of a mask of 4 pixels, 2 are found and nothing else: 0.5; of a class that is nowhere there is none."""
    maps = Maps((3, 2, 4), ("background", "a", "b"), (1, 2), True)
    true = torch.tensor([[[1, 1, 1, 1], [0, 0, 0, 255]]])
    predicted = torch.tensor([[[1, 1, 0, 0], [0, 0, 0, 2]]])
    scores = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).flatten(1).float()
    intact = torch.nn.functional.one_hot(true.where(true != 255, 0), 3).movedim(-1, 1).flatten(1).float()
    counts = maps.counts(scores, intact, true.byte())
    assert counts.tolist() == [[[3, 3, 5, 0, 3, 3], [2, 4, 2, 2, 2, 4], [0] * 6]]
    assert mean_overlap(counts[0], (1, 2)) == 0.5
    assert np.isnan(mean_overlap(counts[0], (2,)))
    assert maps.counts(scores, intact, None)[0, 1].tolist() == [2, 4, 2, 2, 2, 4]


def test_without_masks_pixels_that_change_are_counted():
    rows = measured(network(), images(target="class"), layer="rise1", how="zero")
    assert np.isnan(rows["lesions", "before"]).all()
    assert rows["lesions", "loss"] == rows["lesions", "changed"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"measure": "accuracy"}, "measure=accuracy needs one class per image, .* say measure=iou"),
        ({"measure": "iou", "dataset": images(target="class")}, r"needs images with masks \(dataset.target=mask\)"),
        ({"dataset": images(target="classes")}, "masks of shapes have 9 x 16 x 16, the network gives 2 x 16 x 16"),
    ],
)
def test_a_mistake_is_one_line(options, words):
    dataset = options.pop("dataset", images())
    with pytest.raises(UserError, match=words):
        measured(network(), dataset, layer="skip1", **options)


def test_a_run_has_a_table_and_figures(cnnprobe):
    words = ["model=unet", "model.width=2", "model.depth=2", "model.input_size=16", "dataset=shapes"]
    words += ["dataset.target=mask", "dataset.count=8", "weights=random", "device.workers=0"]
    answer = cnnprobe("lesion", *words, "layer=[skip*,rise*]", "how=[swap,mean,zero]")
    assert answer.status == 0, answer.err
    assert "intersection over union (change, 95 % interval)" in answer.out
    run = package.open(answer.out.splitlines()[-1])
    assert run["lesions"].attributes["measure"] == "iou"
    assert len(run["lesions"]["target"]) == 12
