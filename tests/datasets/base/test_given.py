"""Images handed over as one array, of any type, byte order and strides; values that cannot be images are refused."""

import logging

import numpy as np
import pytest
import torch

from cnnprobe.datasets.base.given import given_images
from cnnprobe.errors import UserError


def test_an_array_of_images_may_hold_some_that_are_not_finite():
    """F48: they cannot be read; what was handed over stays as it was."""
    pixels = torch.rand(4, 1, 4, 4)
    pixels[1, 0, 2, 3], pixels[3, 0, 0, :2] = torch.nan, torch.inf
    dataset = given_images(pixels)
    images, readable = dataset.load([3, 2, 1, 0])
    assert readable.tolist() == [False, True, False, True]
    assert torch.equal(images[1], pixels[2]) and not images[0].any() and not images[2].any()
    assert dataset.problems == {"000001": "1 values are not finite", "000003": "2 values are not finite"}
    assert pixels[1, 0, 2, 3].isnan()
    assert given_images((pixels.nan_to_num(0, 1) * 255).byte()).load([1])[1].all()


BYTES = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)


BYTES[0, 0, 0, 0] = 255


TRUE = BYTES / np.float32(255)


@pytest.mark.parametrize(
    ("images", "expected", "words"),
    [
        (BYTES, TRUE, ""),
        (BYTES.astype(np.int64), TRUE, "divided by 255"),
        (torch.from_numpy(BYTES).short(), TRUE, "divided by 255"),
        (BYTES.astype(np.uint16) * 257, TRUE, "divided by 65535"),
        (BYTES.astype(">i4"), TRUE, "divided by 255"),
        (TRUE.astype(">f4"), TRUE, ""),
        (TRUE[:, ::-1], TRUE[:, ::-1], ""),
        (BYTES[..., ::-1], TRUE[..., ::-1], ""),
        (BYTES > 127, BYTES > 127, ""),
        (torch.from_numpy(TRUE).bfloat16(), torch.from_numpy(TRUE).bfloat16().float().numpy(), ""),
        (BYTES.astype(np.float32), BYTES, "values from 0 to 255; images are expected to be 0 to 1"),
        (TRUE - 1, TRUE - 1, "images are expected to be 0 to 1"),
        (BYTES[:, 0].astype(np.int64), BYTES[:, 0], ""),
    ],
)
def test_arrays_of_any_type_and_order_are_images_of_0_to_1_or_are_told(images, expected, words, caplog):
    """F90: what is divided, and by what, is said once; a fourth axis is missing in signals, which have any range."""
    logging.getLogger("cnnprobe").propagate = True
    found, readable = given_images(images).load([0, 3])
    found = found / 255 if found.dtype == torch.uint8 else found
    assert readable.all() and len(caplog.messages) == bool(words) and words in caplog.text
    np.testing.assert_allclose(found.numpy(), np.asarray(expected, np.float32)[[0, 3]], atol=1e-6)


def test_what_is_no_plain_number_is_refused():
    with pytest.raises(UserError, match="plain numbers, got complex128"):
        given_images(TRUE.astype(complex))


@pytest.mark.parametrize("made", [np.asarray, torch.from_numpy])
def test_signals_from_python_on_a_large_offset_are_refused(made):
    """F90: of doubles and of tensors alike; those that float32 holds are shown as they are."""
    signals = np.random.default_rng(0).standard_normal((20, 2, 100))
    with pytest.raises(UserError, match="dataset: its values lie on too large an offset"):
        given_images(made(signals + 1e9))
    assert np.array_equal(given_images(made(signals)).load(range(20))[0].numpy(), signals.astype(np.float32))
