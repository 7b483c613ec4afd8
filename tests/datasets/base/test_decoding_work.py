"""Files that ask for more work than their bytes and pixels say are refused before it begins, and others are shown."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cnnprobe.datasets.base.decoding import Unreadable, decode, dimensions
from tests.support.faults.hostile import noise


def jpeg(**options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(24, 32)).save(file, "JPEG", **options)
    return file.getvalue()


def tiff(strips: int, rows: int = 8, order: str = "<", big: bool = False) -> bytes:
    """Return a grey picture of 8 x 8 px of so many strips with so many rows each, all of them the same bytes."""
    wide = "Q" if big else "I"
    begin = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    begin += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, None), (277, 1), (278, rows), (279, 8 * rows)]
    place = len(begin) + (8 if big else 2) + (20 if big else 12) * len(tags) + (8 if big else 4)
    data = begin + struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    for tag, value in tags:
        size = strips if value is None else 1
        data += struct.pack(f"{order}HH{wide}{wide}", tag, 16 if big else 4, size, place if value is None else value)
    return data + bytes(8 if big else 4) + struct.pack(f"{order}{wide}", place) * strips + bytes(64)


PROGRESSIVE = jpeg(progressive=True)
LAST = PROGRESSIVE[PROGRESSIVE.rfind(b"\xff\xda") : -2]
SCANS = PROGRESSIVE[:-2] + LAST * 150 + PROGRESSIVE[-2:]
HOSTILE = {
    "scans": (SCANS, "too many scans \\(limit 100\\)"),
    "scans behind no length": (PROGRESSIVE[:-2] + b"\xff\x02\x7f\xff" + LAST * 150 + b"\xff\xd9", "too many scans"),
    "segments": (PROGRESSIVE[:-2] + b"\xff\xfe\0\x02" * 3000 + PROGRESSIVE[-2:], "too many segments \\(limit 2000\\)"),
    "strips": (tiff(300_000, 1), "damaged TIFF: a tag of 300000 numbers \\(limit 262144\\)"),
    "strips, big": (tiff(300_000, 1, big=True), "damaged TIFF: a tag of 300000 numbers"),
    "strips, the other way round": (tiff(300_000, 1, ">"), "damaged TIFF: a tag of 300000 numbers"),
    "strips over each other": (tiff(1000, 4), "damaged TIFF: 1000 strips lie over each other"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_asks_for_too_much_work_is_not_decoded(tmp_path, kind):
    """F103."""
    data, words = HOSTILE[kind]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(Unreadable, match=words):
        decode(tmp_path / "a")


@pytest.mark.parametrize(
    "data",
    [
        jpeg(),
        jpeg(restart_marker_blocks=1),
        PROGRESSIVE,
        jpeg(progressive=True, exif=b"Exif\0\0" + bytes(1000), icc_profile=bytes(300_000), comment=LAST * 150),
        PROGRESSIVE + SCANS * 3,  # another picture, or a film, behind it
    ],
    ids=range(5),
)
def test_jpegs_of_all_kinds_are_shown(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert np.array_equal(decode(tmp_path / "a")[0], np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize(("strips", "rows"), [(1, 8), (2, 4), (8, 1)])
def test_tiffs_of_all_kinds_are_shown(tmp_path, strips, rows, order, big):
    (tmp_path / "a").write_bytes(tiff(strips, rows, order, big))
    assert dimensions(tmp_path / "a") == (8, 8)
    assert decode(tmp_path / "a")[0].shape == (8, 8, 3)


def test_a_header_that_leads_nowhere_is_told(tmp_path):
    for data in (b"II*\0" + b"\xff" * 20, b"II+\0\x08\0\0\0" + b"\xff" * 20, b"MM\0*" + bytes(12), b"II*\0"):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(Unreadable):
            decode(tmp_path / "a")
