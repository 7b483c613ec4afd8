import logging

import numpy as np
import pytest
import torch

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
