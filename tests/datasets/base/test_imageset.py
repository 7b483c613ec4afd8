import logging

import numpy as np
import pytest
import torch

from cnnprobe.datasets.base.given import given_images
from cnnprobe.datasets.base.imageset import ImageSet, Part, even_share, limited, sha256, shown
from cnnprobe.errors import UserError


class Grey(ImageSet):
    """Image i is grey level i; every third cannot be read."""

    def __init__(self, count=7, size=4, strict=False):
        names = [f"grey {i}" for i in range(count)]
        super().__init__(
            name="grey",
            names=names,
            labels=np.arange(count) % 2,
            classes=("even", "odd"),
            size=(1, size, size),
            source_size=(1, 4, 4),
            strict=strict,
        )
        self.fingerprint = "f" * 64

    def load_source(self, indices):
        readable = np.array([index % 3 != 2 for index in indices])
        images = torch.tensor([[[[int(i)]]] for i in indices], dtype=torch.uint8).expand(-1, 1, 4, 4).clone()
        for row, index in enumerate(indices):
            if not readable[row]:
                self.unreadable(int(index), "planted")
                images[row] = 0
        return images, readable


def test_loading_gives_images_at_the_size_and_says_which_are_readable():
    images, readable = Grey(size=8).load([0, 1, 2, 3])
    assert images.shape == (4, 1, 8, 8) and readable.tolist() == [True, True, False, True]
    assert torch.allclose(images[:, 0, 0, 0] * 255, torch.tensor([0.0, 1, 0, 3]))


def test_images_that_fit_are_not_touched():
    images = torch.rand(2, 1, 4, 4)
    assert Grey().fit(images) is images


def test_one_image_is_a_float_tensor_and_its_label():
    image, label = Grey()[-1]
    assert image.dtype == torch.float32 and image.shape == (1, 4, 4) and label == 0
    assert image.max() == pytest.approx(6 / 255)
    with pytest.raises(IndexError):
        Grey()[7]


def test_an_unreadable_image_is_a_mistake_of_the_user_only_when_asked_for():
    with pytest.raises(UserError, match=r"grey 2 cannot be read \(planted\)"):
        Grey()[2]
    with pytest.raises(UserError, match=r"grey 2 cannot be read \(planted\); dataset\.strict=false skips it"):
        Grey(strict=True).load([1, 2])


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


def test_names_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match="1 names but 2 labels"):
        ImageSet(name="x", names=["a"], labels=[0, 1], size=(3, 8, 8))


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((50, 50, 50), 30, [10, 10, 10]),
        ((60, 30, 10), 20, [12, 6, 2]),
        ((97, 2, 1), 10, [8, 1, 1]),  # one of each class, however rare
        ((2, 2), 4, [2, 2]),
    ],
)
def test_a_limit_takes_an_even_share_of_each_class(sizes, count, expected):
    """F95: the first of many images in class folders are the first classes alone."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    chosen = even_share(labels, count, seed=0)
    assert np.bincount(labels[chosen], minlength=len(sizes)).tolist() == expected
    assert np.array_equal(chosen, np.unique(chosen))  # rising, each once
    assert np.array_equal(chosen, even_share(labels, count, seed=0))
    if count < sum(sizes):
        assert not np.array_equal(chosen, even_share(labels, count, seed=1))


def test_fewer_images_than_classes_are_of_classes_drawn_by_seed():
    """F95."""
    labels = np.arange(10).repeat(4)
    drawn = {tuple(labels[even_share(labels, 3, seed)]) for seed in range(20)}
    assert len(drawn) > 5 and all(len(set(one)) == 3 for one in drawn)
    unlabelled = even_share(np.full(1000, -1), 200, 0)
    assert len(unlabelled) == 200 and unlabelled[0] < 50 and unlabelled[-1] > 950


def test_a_part_says_which_images_it_has():
    """F95: nobody mistakes a part for the whole."""
    whole = Grey()
    assert limited(whole, "first:1").sample == "the first 1 of 7, 1 of 2 classes"
    assert limited(whole, 3, 5).sample == "3 drawn in proportion to the classes (seed 5) of 7, 2 of 2 classes"
    assert whole.sample == limited(whole, None).sample == ""


def test_a_limit_keeps_the_first_images_with_their_indices():
    whole = Grey()
    part = limited(whole, "first:3")
    assert len(part) == 3 and part.names == whole.names[:3] and part.classes == whole.classes
    assert torch.equal(part.load([0, 1])[0], whole.load([0, 1])[0])
    assert torch.equal(part.original(1), whole.original(1)) and part.original_size(1) == (4, 4)
    assert part.truth(0) == {}
    assert limited(whole, None) is whole and limited(whole, 7) is whole


def test_a_part_may_reorder_and_shares_what_is_known_of_problems():
    whole = Grey()
    part = Part(whole, [5, 3, 0])
    assert part.load(np.array([0, 1]))[1].tolist() == [False, True]
    assert part.problems is whole.problems and "grey 5" in part.problems
    assert part.labels.tolist() == [1, 1, 0]


def test_fingerprints_of_parts_differ_by_content_and_order():
    whole = Grey()
    prints = {Part(whole, rows).fingerprint for rows in ([0, 1], [1, 0], [0], [0, 1, 2])}
    assert len(prints | {whole.fingerprint}) == 5
    assert Part(whole, [0, 1]).fingerprint == Part(Part(whole, [1, 0]), [1, 0]).fingerprint


def test_each_problem_is_warned_of_once(caplog):
    dataset = Grey()
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset.report({"a\x1b[31m": "cut\noff"}, {"frames": "first frame"})
        dataset.report({"a\x1b[31m": "cut\noff"}, {"frames": "another"})
    assert [record.getMessage() for record in caplog.records] == ["a\\x1b[31m: skipped (cut\\noff)", "first frame"]
    assert caplog.records[0].skipped == "a\x1b[31m"


def test_names_are_shown_as_one_printable_line():
    assert shown("a\nb\tc\x1b[0m\udcff日本 é.png") == "a\\nb\\tc\\x1b[0m\\udcff日本 é.png"


def test_checksums_do_not_confuse_where_one_part_ends():
    assert sha256("ab", "c") != sha256("a", "bc") != sha256("abc")
    assert sha256("é") == sha256("é".encode())


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
