"""The work of decoding an image file, beyond its bytes and pixels: scans of a JPEG, strips of a TIFF.

An empty scan takes ten bytes and goes through all pixels; a strip takes four bytes and may be all of the picture.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

MOST_SCANS = 100
"""Of a JPEG; progressive ones have about ten."""
MOST_SEGMENTS = 2000
"""Of a JPEG: scans, tables, and pieces of 64 kB of what is said about it."""
MOST_NUMBERS = 2**18
"""In one tag of a TIFF: a palette of 16 bits has 196,608, a picture of our largest size 250,000 tiles of 16 x 16 px."""
LAYERS = 8
"""How many times the strips of a TIFF may cover it: those with a plane for each colour do so up to five times."""
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
SCAN, END = 0xDA, 0xD9
NO_LENGTH = (*range(0xC0), 0xD8)
"""Bytes behind 0xFF in a JPEG that no length follows: markers that stand alone, and values that are no marker."""
TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
LETTERS = (1, 2, 6, 7)
"""Types of TIFF that are bytes or letters, and stay together."""


def of_header(path: Path) -> str:
    """Say why the header of an image file is not read; "" where it may be, or is none."""
    with path.open("rb") as file:
        head = file.read(16)
        if not head.startswith(TIFF) or len(head) < 16:
            return ""
        order, big = "<" if head.startswith(b"I") else ">", b"+" in head[:4]
        at, wide = (8, f"{order}u8") if big else (4, f"{order}u4")
        file.seek(int(np.frombuffer(head, wide, 1, at)[0]))
        count = np.fromfile(file, wide if big else f"{order}u2", 1)
        entry = np.dtype([("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", wide), ("value", wide)])
        tags = np.fromfile(file, entry, int(min(count[0], 2**16)) if len(count) else 0)
    largest = int(tags["count"][~np.isin(tags["type"], LETTERS)].max(initial=0))
    return f"damaged TIFF: a tag of {largest} numbers (limit {MOST_NUMBERS})" if largest > MOST_NUMBERS else ""


def of_pixels(path: Path, image: Image.Image) -> str:
    """Say why the pixels of an image whose header was read are not; "" where they may be."""
    places = [tile[1] or (0, 0, *image.size) for tile in image.tile]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in places)
    if covered > LAYERS * image.width * image.height:
        return f"damaged {image.format}: {len(image.tile)} strips lie over each other"
    if image.format not in ("JPEG", "MPO"):
        return ""
    scans, segments = _scans(path.read_bytes())
    if scans > MOST_SCANS:
        return f"too many scans (limit {MOST_SCANS})"
    return f"too many segments (limit {MOST_SEGMENTS})" if segments > MOST_SEGMENTS else ""


def _scans(data: bytes) -> tuple[int, int]:
    """Count the scans and segments of a JPEG up to its end, or to more than there may be."""
    scans = segments = 0
    place = 2
    while scans <= MOST_SCANS and segments <= MOST_SEGMENTS and (found := MARKER.search(data, place)):
        marker, place = found[1][0], found.end()
        if marker == END:
            break
        if marker not in NO_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
            segments += 1
            scans += marker == SCAN
    return scans, segments
