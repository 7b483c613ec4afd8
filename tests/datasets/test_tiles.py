import numpy as np
import pytest
import torch
from PIL import Image

from cnnprobe.datasets import folder, tiles
from cnnprobe.datasets.base import names
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from tests.support.faults.hostile import noise

OPTIONS = {"of": "ramp", "root": None, "split": None, "overlap": 0.0, "count": None, "seed": 0, "size": 8}


class Ramp(ImageSet):
    """Three images of 16 x 24 px whose pixels are unlike each other."""

    in_memory = True

    def __init__(self):
        super().__init__(
            name="ramp",
            names=["a", "b", "c"],
            labels=[2, 0, 1],
            classes=("x", "y", "z"),
            size=(3, 16, 24),
            source_size=(3, 16, 24),
        )
        self.images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 16, 24), dtype=np.uint8))
        self.fingerprint = "f" * 64

    def load_source(self, indices):
        return self.images[list(indices)], np.ones(len(indices), bool)


def build(source=None, **options):
    return tiles.build(source=source or Ramp(), **OPTIONS | options)


def test_tiles_cover_the_image_once_in_reading_order():
    dataset = build(sizes=8)
    assert len(dataset) == 3 * 6 and dataset.names[:2] == ["a y=0 x=0 side=8", "a y=0 x=8 side=8"]
    assert dataset.labels.tolist() == [2] * 6 + [0] * 6 + [1] * 6 and dataset.classes == ("x", "y", "z")
    images, readable = dataset.load(range(6))
    rows = [torch.cat(list(images[i : i + 3]), dim=2) for i in (0, 3)]
    torch.testing.assert_close(torch.cat(rows, dim=1), dataset.source.images[0] / 255)
    assert readable.all()


def test_every_name_says_which_pixels_are_shown():
    dataset = build(sizes=[4, 8, 16], overlap=0.5, size=16)
    assert len(dataset) == 3 * (7 * 11 + 3 * 5 + 1 * 2)
    for index in (0, 80, 100, len(dataset) - 1):
        image, y, x, side = dataset.names[index].split()
        y, x, side = (int(part.split("=")[1]) for part in (y, x, side))
        shown = dataset.source.images["abc".index(image)][:, y : y + side, x : x + side]
        assert torch.equal(dataset.original(index), shown) and dataset.original_size(index) == (side, side)
        expected = torch.nn.functional.interpolate(shown[None] / 255, (16, 16), mode="bilinear")
        torch.testing.assert_close(dataset.load([index])[0], expected, atol=1e-6, rtol=0)


def test_tiles_do_not_depend_on_their_batch():
    dataset = build(sizes=[4, 8])
    order = np.random.default_rng(0).permutation(len(dataset))
    together, _ = dataset.load(order)
    alone = torch.cat([dataset.load([index])[0] for index in order])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_a_count_draws_the_same_tiles_for_the_same_seed_only():
    some = build(sizes=[4, 8], count=20, seed=3)
    assert len(some) == 20 and some.names == build(sizes=[8, 4], count=20, seed=3).names
    assert some.names != build(sizes=[4, 8], count=20, seed=4).names
    everything = build(sizes=[4, 8]).names
    assert some.names == [name for name in everything if name in set(some.names)]
    assert some.fingerprint == build(sizes=[4, 8], count=20, seed=3).fingerprint
    assert some.fingerprint != build(sizes=[4, 8], count=20, seed=4).fingerprint


def test_sizes_that_do_not_fit_are_refused():
    assert {name.split("=")[-1] for name in build(sizes=[8, 99]).names} == {"8"}
    with pytest.raises(UserError, match="no image of ramp is large enough for a tile of 99 px"):
        build(sizes=[99])
    with pytest.raises(UserError, match="sides of 1 px or more, got"):
        build(sizes=[])


def test_images_of_different_sizes_and_unreadable_ones(tmp_path):
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    Image.fromarray(noise(9, 9)).save(tmp_path / "b.png")
    Image.fromarray(noise(40, 10)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"")
    options = {"split": None, "classes": None, "labels": None, "size": None, "resize": None, "strict": False}
    source = folder.build(root=str(tmp_path), **options)
    dataset = build(source, sizes=10, size=None)
    assert [name.split()[0] for name in dataset.names] == ["a.png"] * 6 + ["c.png"] * 4
    assert dataset.size == (3, 10, 10) and "d.png" in source.reported
    images, _ = dataset.load([1])
    assert np.array_equal((images[0] * 255).round().byte().permute(1, 2, 0), noise(20, 30)[:10, 10:20])
    (tmp_path / "a.png").unlink()
    images, readable = dataset.load([0, 9])
    assert readable.tolist() == [False, True] and not images[0].any()
    assert dataset.problems == {"a.png y=0 x=0 side=10": "gone"}


def test_more_tiles_than_a_run_has_names_for_are_refused_before_they_are_laid(monkeypatch):
    """F103: of one image alone, or of all together."""
    monkeypatch.setattr(names, "MOST", 17 * 9)
    monkeypatch.setattr(names.must_be_few, "__defaults__", (17 * 9,))
    with pytest.raises(UserError, match=r"dataset.sizes and dataset.overlap make 384 images; at most 153 are possible"):
        build(sizes=1)
    with pytest.raises(UserError, match=r"make 306 images"):  # two of the three images
        build(sizes=8, overlap=0.99)
    assert len(build(sizes=8)) == 18
