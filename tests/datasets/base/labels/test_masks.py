import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnprobe.datasets import folder
from cnnprobe.datasets.base.imageset import limited
from cnnprobe.datasets.base.labels.masks import Meaning
from cnnprobe.errors import UserError
from cnnprobe.preparation.identity import labels_of

OPTIONS = {"split": None, "classes": None, "labels": None, "size": 8, "resize": None, "strict": False}
SIDE = 12  # px of a tile of the chequered images
COLOURS = np.random.default_rng(5).integers(0, 256, (40, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    """Write grey pictures of 8 px and their masks; return a function that builds the dataset."""

    def pairs(**masks):
        for name, mask in masks.items():
            save(tmp_path / "images" / f"{name}.jpg", np.full((*np.shape(mask), 3), 90, np.uint8))
            save(tmp_path / "masks" / f"{name}.png", np.asarray(mask, np.uint8))
        return tmp_path

    pairs.build = lambda **options: built(tmp_path, **options)
    return pairs


def built(root, **options):
    given = OPTIONS | {"masks": str(root / "masks")} | options
    return folder.build(root=str(root / "images"), **given)


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **how)


def halves(value, side=8):
    """A mask whose right half has a value."""
    mask = np.zeros((side, side), np.uint8)
    mask[:, side // 2 :] = value
    return mask


def chequered(height, width):
    """A picture of tiles of one colour each, and the index of each pixel's colour."""
    y, x = np.mgrid[:height, :width] // SIDE
    mask = ((7 * y + 3 * x) % len(COLOURS)).astype(np.uint8)
    return COLOURS[mask], mask


SHAPES = [(60, 60), (61, 84), (97, 50), (48, 120), (33, 35)]
SHIFTS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
FITTED = [(24, None), (24, 40), (60, 60), (31, 33), (64, 100), (17, None)]


@pytest.mark.parametrize(("size", "resize"), FITTED)
def test_a_mask_lies_on_its_image_at_any_size_resize_and_crop(tmp_path, size, resize):
    """F90: where a fitted image shows the colour of a tile, its map has the index of that colour."""
    for number, shape in enumerate(SHAPES):
        image, mask = chequered(*shape)
        save(tmp_path / "images" / f"{number}.png", image)
        save(tmp_path / "masks" / f"{number}.png", mask)
    dataset = built(tmp_path, size=size, resize=resize)
    images, _ = dataset.load(range(len(SHAPES)))
    maps, known = dataset.targets(range(len(SHAPES)))
    assert known.all() and maps.shape == (len(SHAPES), size, size)
    for image, found in zip(images.numpy().transpose(0, 2, 3, 1).astype(int), maps.numpy()):
        apart = np.abs(image[:, :, None] - COLOURS.astype(int)).max(-1)  # (y, x, colour)
        pure = apart.min(-1) == 0
        assert pure.mean() > 0.15
        assert (apart.argmin(-1) == found)[pure].all()
        agreed = {shift: (apart.argmin(-1) == np.roll(found, shift, (0, 1))).sum() for shift in SHIFTS}
        assert max(agreed, key=agreed.get) == (0, 0)


def test_a_mask_lies_on_its_image_against_a_loop_over_pixels(tmp_path):
    """F90: each px shown has the class of the source px that its centre lies in."""
    image, mask = chequered(61, 84)
    save(tmp_path / "images/a.png", image)
    save(tmp_path / "masks/a.png", mask)
    found = built(tmp_path, size=24, resize=40).targets([0])[0][0].numpy()
    width = 40 * 84 // 61  # 55 px, of which 24 from the 16th on are kept; of 40 rows 24 from the 8th on
    for y in range(24):
        for x in range(24):
            row, column = int((8 + y + 0.5) * 61 / 40), int((round((width - 24) / 2) + x + 0.5) * 84 / width)
            assert found[y, x] == mask[row, column]


def test_that_masks_are_asked_for_may_be_said(write, tmp_path):
    """With a folder of them it means the same; without one, what is missing is said."""
    write(a=halves(1))
    plain, said = write.build(), write.build(target="mask")
    assert said.target == plain.target and np.array_equal(said.targets([0])[0], plain.targets([0])[0])
    with pytest.raises(UserError, match=r"^dataset.target=mask needs dataset.masks=FOLDER, with a PNG for each image"):
        built(tmp_path, masks=None, target="mask")
    with pytest.raises(UserError, match=r"dataset\.target=present stands beside dataset\.masks"):
        write.build(target="present")


def test_the_index_of_a_palette_counts_and_not_its_colour(write, tmp_path):
    """F90: as the masks of Pascal VOC; colours of the palette are those of other indices, and one is transparent."""
    mask = halves(3)
    mask[0] = 255
    write(a=mask)
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([255 - i for i in range(256) for _ in range(3)])
    save(tmp_path / "masks/a.png", image, transparency=3)
    dataset = write.build()
    assert dataset.target.names == ("background", "1", "2", "3") and dataset.target.kind == "map"
    assert np.array_equal(dataset.targets([0])[0][0], mask)
    assert dataset.target.judged == (1, 2, 3)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_and_palettes_of_few_bits_hold_indices(write, tmp_path, bits):
    """F90: Pillow spreads grey of 2 and 4 bits over 0 to 255."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    mask = np.arange(64).reshape(8, 8) % 2**bits
    write(a=mask)
    rows = np.unpackbits(mask.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(8, -1)
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    for kind in (0, 3):  # grey, palette
        palette = chunk(b"PLTE", bytes(range(3 * 2**bits))) if kind == 3 else b""
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
        (tmp_path / "masks/a.png").write_bytes(data)
        dataset = write.build()
        assert np.array_equal(dataset.targets([0])[0][0], mask)
        assert len(dataset.target.names) == 2**bits


@pytest.mark.parametrize(
    ("mode", "what"),
    [("RGB", "colours"), ("RGBA", "colours"), ("LA", "grey with transparency"), ("I;16", "16 bits a pixel")],
)
def test_masks_of_colours_are_refused_in_one_line(write, tmp_path, mode, what):
    """F90: also where they are those of another split."""
    write(**{"train/a": halves(1), "val/b": halves(1)})
    save(tmp_path / "masks/train/a.png", Image.new(mode, (8, 8)))
    with pytest.raises(UserError, match=rf"^dataset.masks=.*masks: train/a.png holds {what}; a mask has the index"):
        write.build(split="val")


def test_masks_of_0_and_255_alone_are_background_and_foreground(write, caplog):
    """F90: 255 would not count."""
    write(**{"train/a": halves(255), "train/c": halves(0), "val/b": halves(0)})
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset = write.build(split="train")
    assert "images: masks hold 0 and 255 alone, which are taken for background and foreground" in caplog.messages
    assert dataset.target.names == write.build(split="val").target.names == ("background", "foreground")
    assert dataset.targets([0, 1])[0].sum((1, 2)).tolist() == [32, 0]


def test_with_other_values_anywhere_255_does_not_count(write):
    write(**{"train/a": halves(255), "val/b": halves(2)})
    dataset = write.build(split="train")
    assert dataset.target.names == ("background", "1", "2")
    assert dataset.targets([0])[0].unique().tolist() == [0, 255]


def test_classes_are_those_of_all_splits_or_of_the_table(write, tmp_path):
    """F90: train and val agree though the largest index is in one alone."""
    write(**{"train/a": halves(4), "val/b": halves(2)})
    assert write.build(split="train").target == write.build(split="val").target
    (tmp_path / "classes.csv").write_text("0,Background\n1,cat\n4,dog\n255,void\n")
    named = write.build(classes=str(tmp_path / "classes.csv"))
    assert named.target.names == ("background", "cat", "2", "3", "dog") and named.classes == ()
    (tmp_path / "classes.csv").write_text("index,name\n0,sky\n1,sea\n")
    with pytest.raises(UserError, match=r"classes.csv names the classes 0 to 1, but masks hold 4$"):
        write.build(classes=str(tmp_path / "classes.csv"))


def used(*values):
    found = np.zeros(256, bool)
    found[list(values)] = True
    return found


def test_what_values_mean_with_and_without_a_table(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("0,sky\n255,sea\n")
    assert Meaning.of(used(0, 255), str(table)).names == ("sky", "sea")
    table.write_text("0,sky\n1,sea\n2,sand\n")
    kept = Meaning.of(used(0, 255), str(table))
    assert kept.names == ("sky", "sea", "sand") and kept.index[255] == 255 and "255 does not count" in kept.notes[0]
    assert Meaning.of(used(0), None).names == ("background",)
    assert "are they shades" in Meaning.of(used(0, 128, 7), None).notes[0]
    table.write_text("0,sky\n300,sea\n")
    with pytest.raises(UserError, match="has the index 300; masks hold classes 0 to 254"):
        Meaning.of(used(0, 1), str(table))


def test_a_mask_of_another_size_or_none_makes_an_image_unreadable(write, tmp_path):
    """F90: nothing is stretched over an image."""
    write(a=halves(1), b=halves(1), c=halves(1), d=halves(1))
    save(tmp_path / "masks/a.png", halves(1, 16))
    (tmp_path / "masks/b.png").unlink()
    (tmp_path / "masks/d.png").write_bytes((tmp_path / "images/d.jpg").read_bytes())
    dataset = write.build()
    maps, known = dataset.targets(range(4))
    assert known.tolist() == [False, False, True, False] and (maps[[0, 1, 3]] == 255).all()
    assert dataset.problems == {
        "a.jpg": "its mask has 16 x 16 px, the image 8 x 8 (height x width)",
        "b.jpg": "no b.png in the folder of masks",
        "d.jpg": "a JPEG file, not a PNG",
    }
    with pytest.raises(UserError, match=r"^a.jpg cannot be read \(its mask has 16 x 16 px"):
        write.build(strict=True).targets([0])


def test_photographs_are_turned_upright_before_their_masks_are_laid_on_them(tmp_path):
    """A photograph that lies has the mask of the picture as it is shown, or one that says it lies as well."""
    image, mask = chequered(48, 72)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    lying, upright = np.rot90(image), mask
    for name, kept in (("a", upright), ("b", np.rot90(mask)), ("c", np.rot90(mask))):
        save(tmp_path / f"images/{name}.jpg", np.ascontiguousarray(lying), quality=100, subsampling=0, exif=exif)
        save(tmp_path / f"masks/{name}.png", np.ascontiguousarray(kept), **({"exif": exif} if name == "b" else {}))
    dataset = built(tmp_path, size=48)
    maps, known = dataset.targets([0, 1, 2])
    assert known.tolist() == [True, True, False]
    assert dataset.problems["c.jpg"] == "its mask has 72 x 48 px, the image 48 x 72 (height x width)"
    assert np.array_equal(maps[0], mask[:, 12:60]) and np.array_equal(maps[1], maps[0])
    shown = dataset.load([0])[0][0].numpy().transpose(1, 2, 0).astype(int)
    assert (np.abs(shown - COLOURS[maps[0].numpy()]).max(-1) < 12).mean() > 0.9


def test_an_exchanged_mask_is_another_set_and_is_not_read(write, tmp_path):
    """F100, F36: the identity of a run holds the content of its masks."""
    write(a=halves(1), b=halves(1))
    dataset = write.build()
    before = labels_of(dataset)
    part = labels_of(limited(dataset, "first:1"))
    assert len({before, part}) == 2 and labels_of(write.build()) == before
    save(tmp_path / "masks/b.png", halves(1)[:, ::-1].copy())
    assert labels_of(write.build()) != before
    with pytest.raises(UserError, match=r"^b.png changed while it was being used"):
        dataset.targets([1])


def test_parts_carry_their_masks(write):
    write(a=halves(1), b=halves(2), c=halves(3))
    part = limited(write.build(), "first:2").part([1])
    assert part.target.names == ("background", "1", "2", "3")
    assert part.targets([0])[0].unique().tolist() == [0, 2]


def test_links_that_lead_out_are_followed_where_that_is_asked(write, tmp_path):
    """F35: a mask behind such a link is not there."""
    write(a=halves(1), b=halves(1))
    (tmp_path / "masks/b.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "masks/b.png").symlink_to(tmp_path / "elsewhere.png")
    dataset = write.build()
    assert dataset.targets([0, 1])[1].tolist() == [True, False]
    assert dataset.problems == {"b.jpg": "no b.png in the folder of masks"}
    assert write.build(links="all").targets([0, 1])[1].all()
    (tmp_path / "masks/train").symlink_to(Path(os.__file__).parent)
    with pytest.raises(UserError, match="holds links to folders elsewhere"):
        write.build()


def test_a_hostile_mask_is_not_decoded(write, tmp_path, monkeypatch):
    """F34: nor a pipe waited for."""
    from cnnprobe.datasets.base import decoding

    write(a=halves(1), b=halves(1))
    (tmp_path / "masks/b.png").unlink()
    os.mkfifo(tmp_path / "masks/b.png")
    save(tmp_path / "masks/c.png", halves(1, 100))
    save(tmp_path / "images/c.jpg", halves(1, 100))
    monkeypatch.setattr(decoding, "LARGEST_IMAGE", 5000)
    dataset = write.build()
    assert dataset.targets([0, 1, 2])[1].tolist() == [True, False, False]
    assert dataset.problems["c.jpg"].startswith("too large")


def test_where_no_folder_or_no_mask_is_there_it_is_told(write, tmp_path):
    write(a=halves(1))
    with pytest.raises(UserError, match=r"dataset.masks=nowhere is no folder$"):
        write.build(masks="nowhere")
    with pytest.raises(UserError, match=r"lies in dataset.root, so masks would be shown as images"):
        folder.build(root=str(tmp_path), **OPTIONS, masks=str(tmp_path / "masks"))
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/z.png")
    with pytest.raises(UserError, match=r"has a mask for none of 1 images, e.g. no a.png$"):
        write.build()
