"""Networks made of operations of many kinds: what is stored of them is what plain torch computes, or they are refused.

Nothing here is computed by the package but what is tested: activations come from a hook, gradients from autograd, and
discrepancies from a loop over occluded images.
"""

import warnings

import numpy as np
import pytest
import torch

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.store.tables import Rows
from tests.support.networks.operations import OPERATIONS, drawn

CLOSE = 1e-5
IMAGES = 5


def stored(measurement, table):
    """Return the columns and the attributes of a table."""
    (of,) = (one for one in measurement.tables if one.name == table)
    found = {name: column.values for name, column in of.columns.items() if column.values is not None}
    parts = {}
    for event in measurement.events:
        if isinstance(event, Rows) and event.table == table:
            for name, values in event.columns.items():
                parts.setdefault(name, []).append(values.copy())
    return found | {name: np.concatenate(values) for name, values in parts.items()}, of.attributes


def plain(model, images):
    """Return what the last convolution makes, one image at a time, by a hook."""
    kept = []
    handle = model.last.register_forward_hook(lambda *given: kept.append(given[-1]))
    try:
        for image in images:
            model(image[None].clone())
    finally:
        handle.remove()
    return torch.cat(kept)


def close(found, expected, what, scale=None):
    scale = float(np.abs(expected).max()) if scale is None else scale
    assert np.abs(found - expected).max() <= CLOSE * scale + 1e-9, what


def gradient(model, image, place):
    pixels = image[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(plain(model, pixels)[(0, *place)], pixels)
    return slope[0].numpy()


def field_of(model, size):
    """Check the row of the last convolution in `layers`; return it."""
    columns, _ = stored(cnnprobe.measure("layers", model=model, size=size, kind="all"), "layers")
    row = {name: values[columns["name"].tolist().index("last")] for name, values in columns.items()}
    assert row["field_note"] or row["field_stride"].all(), row  # what sees all of an axis has a reason
    images = torch.rand(2, *size, generator=torch.Generator().manual_seed(5))
    maps = plain(model, images)
    assert row["channels"] == maps.shape[1] and row["map_size"].tolist() == list(maps.shape[2:])
    for place in np.ndindex(2, 3):  # where a pixel moves, by a finite step
        y, x = ((size[1 + axis] - 1) * at // (1 + axis) for axis, at in enumerate(place))
        changed = images.clone()
        changed[:, :, y, x] = 1 - changed[:, :, y, x]
        moved = ((plain(model, changed) - maps).abs() > 1e-4 * maps.abs().max()).any(0).any(0).numpy()
        for position in np.argwhere(moved):
            first = row["field_start"] + position * row["field_stride"]
            last = first + row["field_size"] - 1
            inside = (np.floor(first + 1e-3) <= (y, x)) & ((y, x) <= np.ceil(last - 1e-3))
            assert inside.all(), (model, position, (y, x), row)
    return row


def check_topk(model, images):
    found, _ = stored(cnnprobe.measure("topk", model=model, dataset=images.numpy(), layer="last", k=3), "units/last")
    with torch.no_grad():
        maps = plain(model, images).numpy()
    peaks = maps.max((2, 3)).T
    close(found["response"], -np.sort(-peaks, 1)[:, :3], "response", np.abs(maps).max())
    for unit, rank in np.ndindex(found["image"].shape):
        image, position = found["image"][unit, rank], found["position"][unit, rank]
        close(found["response"][unit, rank], peaks[unit, image], "image", np.abs(maps).max())
        close(maps[(image, unit, *position)], peaks[unit, image], "position", np.abs(maps).max())


def check_gbp(model, images, row):
    how = {"rule": "gradient", "top_images": 2, "keep": 2, "units": [0, 3]}
    found, own = stored(cnnprobe.measure("gbp", model=model, dataset=images.numpy(), layer="last", **how), "units/last")
    for place, unit in enumerate((0, 3)):
        for rank in range(2):
            image, position = found["image"][place, rank], found["position"][place, rank]
            expected = gradient(model, images[image], (unit, *position))
            there = found["map"][place, rank]
            if own["recentred"]:  # the field's centre in the middle: laid back
                start, stride, size = (np.array(own[f"field_{name}"], float) for name in ("start", "stride", "size"))
                first = start + position * stride
                sides = np.array(there.shape[1:])
                corner = sides // 2 - np.floor((first + (first + size - 1)) / 2).astype(int)
                laid = np.zeros_like(expected)
                (top, left), (high, wide) = corner, expected.shape[1:]
                y0, x0 = max(0, -top), max(0, -left)
                y1, x1 = min(high, sides[0] - top), min(wide, sides[1] - left)
                laid[:, y0:y1, x0:x1] = there[:, y0 + top : y1 + top, x0 + left : x1 + left]
                there = laid
            close(there, expected, "gradient")


def check_rf_map(model, images):
    how = {"filling": "zero", "patch_size": 5, "stride": 5, "top_images": 2, "units": [1], "effective": False}
    measured = cnnprobe.measure("rf-map", model=model, dataset=images.numpy(), layer="last", **how)
    found, _ = stored(measured, "units/last")
    for rank in range(2):
        image, position = images[found["image"][0, rank]], (1, *found["position"][0, rank])
        with torch.no_grad():
            clean = plain(model, image[None])[(0, *position)]
            for row, column in np.ndindex(found["discrepancy"].shape[2:]):
                occluded = image.clone()
                occluded[:, row * 5 : row * 5 + 5, column * 5 : column * 5 + 5] = 0
                expected = clean - plain(model, occluded[None])[(0, *position)]
                scale = max(float(clean.abs()), float(plain(model, images).abs().max()))
                assert abs(found["discrepancy"][0, rank, row, column] - expected) <= CLOSE * scale, (row, column)


def check(seed):
    """Check one network; return what refused it, "" where nothing did."""
    model, size = drawn(seed)
    images = torch.rand(IMAGES, *size, generator=torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            row = field_of(model, size)
            check_topk(model, images)
            check_gbp(model, images, row)
            check_rf_map(model, images)
        except UserError as refusal:
            assert "\n" not in str(refusal)
            return str(refusal)
        except AssertionError as error:
            raise AssertionError(f"network {seed}: {model}: {error}") from error
    return ""


def test_there_are_many_kinds():
    assert len(OPERATIONS) >= 60


@pytest.mark.parametrize("seed", range(0, 200, 29))
def test_some_networks_drawn_at_random(seed):
    """F85."""
    assert check(seed) == ""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, 320))
def test_many_networks_drawn_at_random(seed):
    """F85: every operation is in at least two of them."""
    assert check(seed) == ""
