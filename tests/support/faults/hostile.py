"""A folder of difficult and hostile image files, made anew for each test that asks for it."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

COLOUR = (200, 100, 50)  # of every plain picture
NAMES = (
    "with space.png",
    "é 日本 ☃.png",
    "new\nline.png",
    "tab\t.png",
    "\x1b[31mred\x1b[0m.png",
    "-rf.png",
    "$(touch PWNED).png",
    "%s{0}.png",
    "[b]rich[b].png",
    "=cmd|calc!A1.png",
    "<img src=x onerror=alert(1)>.png",
    "n" * 241 + ".png",
    os.fsdecode(b"bad\xff\xfe.png"),
)


def corpus(folder: Path) -> dict[str, str]:
    """Write every difficult file into a folder.

    Returns:
        what must be said of each file that is listed, by name: words of the reason why it cannot be
        read, "" where it can.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = dict.fromkeys(NAMES, "")
    for name in NAMES:
        Image.new("RGB", (12, 8), COLOUR).save(folder / name)
    expected |= _damaged(folder) | _lying(folder) | _kinds(folder) | _frames(folder)
    _strays(folder)
    (folder / "dangling.png").symlink_to("nowhere.png")
    return expected | {"dangling.png": "leads nowhere"}


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    """Return (y, x, channel) uint8 noise, the same each time."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width: int, height: int, rows: bool) -> bytes:
    """Return a black grey-level PNG whose header gives a size, with its rows or with none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(bytes(width + 1)) for _ in range(height if rows else 1)) if rows else b""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", data + pack.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _damaged(folder: Path) -> dict[str, str]:
    Image.fromarray(noise()).save(folder / "whole.jpg", quality=95)
    Image.fromarray(noise()).save(folder / "whole.png")
    jpeg, whole = (folder / "whole.jpg").read_bytes(), (folder / "whole.png").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x40
    files = {
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        "end.jpg": (jpeg[:-2], "truncated JPEG"),
        "half.png": (whole[: len(whole) // 2], "truncated PNG"),
        "flip.png": (bytes(flipped), "damaged PNG"),
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"hello", "not an image but text"),
        "html.png": (b"<html><h1>404</h1>", "an HTML page"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "an SVG drawing"),
        "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript drawing"),
        "noise.webp": (bytes(range(256)), "not an image"),
        "png.jpg": (whole, ""),
        "UPPER.JPEG": (jpeg, ""),
        "noending": (whole, ""),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {"whole.jpg": "", "whole.png": ""} | {name: words for name, (_, words) in files.items()}


def _lying(folder: Path) -> dict[str, str]:
    files = {
        "bomb.png": (png(14000, 14000, rows=True), r"too large \(196 million pixels; limit 64\)"),
        "bomb100.png": (png(10000, 10000, rows=False), r"too large \(100 million pixels; limit 64\)"),
        "lie.png": (png(60000, 60000, rows=False), r"too large \(3600 million"),
        "huge.png": (png(2**31 - 1, 2**31 - 1, rows=False), "too large"),
        "short.png": (png(3000, 3000, rows=False), "truncated PNG"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: words for name, (_, words) in files.items()}


def _kinds(folder: Path) -> dict[str, str]:
    plain = Image.new("RGB", (12, 8), COLOUR)
    plain.convert("CMYK").save(folder / "cmyk.tif")
    plain.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    plain.convert("L").save(folder / "grey.png")
    plain.convert("1").save(folder / "bilevel.png")
    for ending in ("bmp", "webp", "tif", "ppm", "gif"):
        plain.save(folder / f"plain.{ending}", **({"lossless": True} if ending == "webp" else {}))
    Image.new("RGBA", (12, 8), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("LA", (12, 8), (0, 128)).save(folder / "half_grey.png")
    Image.fromarray(np.full((8, 12), 0x8080, np.uint16)).save(folder / "grey16.png")
    Image.fromarray(np.full((8, 12), 0.5, np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((8, 12), 5, np.int32)).save(folder / "int32.tif")
    Image.new("RGB", (1, 1), COLOUR).save(folder / "one.png")
    Image.new("RGB", (20000, 1), COLOUR).save(folder / "wide.png")
    shown = ["cmyk.tif", "palette.png", "grey.png", "bilevel.png", "clear.png", "half_grey.png", "grey16.png"]
    shown += [f"plain.{ending}" for ending in ("bmp", "webp", "tif", "ppm", "gif")] + ["one.png", "wide.png"]
    return dict.fromkeys(shown, "") | {"float.tif": "floating-point", "int32.tif": "32-bit integer"}


def _frames(folder: Path) -> dict[str, str]:
    first, *others = (Image.new("RGB", (12, 8), colour) for colour in (COLOUR, (0, 0, 0), (255, 255, 255)))
    names = ["film.gif", "film.png", "film.webp", "pages.tif"]
    for name in names:
        options = {"lossless": True} if name.endswith("webp") else {}
        first.save(folder / name, save_all=True, append_images=others, **options)
    return dict.fromkeys(names, "")


def _strays(folder: Path) -> None:
    """Write what a listing must leave out."""
    for name in (".hidden.png", "._whole.png", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes((folder / "whole.png").read_bytes())
    for name in (".ipynb_checkpoints", "folder.png"):
        (folder / name).mkdir()
    (folder / "loop").symlink_to(".")
    (folder / "twice.png").symlink_to("whole.png")
    (folder / "outside.png").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe.png")
