"""One image file to pixels: an upright RGB picture, or the reason why there is none.

A stranger's file is data that may lie. It must be a regular file of reasonable size in one of a few
formats, known by its content; only Pillow reads it, and only its first frame.
"""

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cnnprobe.datasets.base import decoding_work
from cnnprobe.datasets.base.fitting import geometry
from cnnprobe.errors import UserError
from cnnprobe.machine import signals

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
LARGEST_FILE = 256 * 2**20  # bytes
LARGEST_IMAGE = 64_000_000  # px
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF, and a value
STRIP = 512  # rows that are laid on white at a time
PORTION = 1000  # files that a process decodes at a time
POLL = 0.1  # seconds between two looks whether a signal came
OTHER_CONTENT = {  # what a file begins with, where it is something else
    rb"\s*<(!doctype )?html": "an HTML page",
    rb"\s*(<\?xml.*)?<svg": "an SVG drawing",
    rb"(%!PS|\xc5\xd0\xd3\xc6)": "a PostScript drawing",
    rb"%PDF": "a PDF document",
    rb"....ftyp": "AVIF, HEIC or a film",
    rb"[\t\n\r\x20-\x7e]+$": "text",
}
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies grey of a PNG of 2 and 4 bits by, to be 0 to 255."""
NO_INDICES = {"I;16": "16 bits a pixel", "I": "16 bits a pixel", "LA": "grey with transparency"}
"""What a PNG without indices holds, by Pillow's mode; colours else."""
DEEP = (
    "its 16 bits become 8 (grey is rounded, of colour the upper 8 are taken), as for every such file; "
    "dataset=arrays keeps all"
)


class Unreadable(Exception):  # noqa: N818
    """A file that is not a picture we can show; its text is the reason, in a few words."""


class NoIndices(Unreadable):
    """A picture that can be shown, but whose pixels are no indices of classes."""


def decode(
    path: Path, size: Sequence[int] | None = None, resize: int | None = None
) -> tuple[np.ndarray, dict[str, str]]:
    """Read one image, upright, on white where it is transparent.

    Args:
        path: the file.
        size: (height, width) wanted, px; None: as it is.
        resize: shorter side before the centre crop, px.

    Returns:
        pixels: (y, x, channel) uint8, RGB.
        remarks: what is not shown of it, by a word for the kind: "frames" behind the first, the "depth" of 16 bits.

    Raises:
        Unreadable: with the reason.
    """
    with _opened(path) as image:
        remarks = {}
        if image.format != "JPEG" and getattr(image, "is_animated", False):
            remarks["frames"] = "the first of several frames is shown, as of every such file"
        if _is_deep(image):
            remarks["depth"] = DEEP
        _scale_transparent(image)
        if reason := decoding_work.of_pixels(path, image):
            raise Unreadable(reason)
        image.load()
        upright = _rgb(_turned(image))
    if size and (upright.height, upright.width) != tuple(size):
        upright = _fitted(upright, size, resize)
    return np.array(upright), remarks


def dimensions(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image, upright, px, from its header.

    Raises:
        Unreadable: with the reason.
    """
    with _opened(path) as image:
        lying = _orientation(image) >= 5 and image.format != "TIFF"  # whose size Pillow has turned already
        return (image.width, image.height) if lying else (image.height, image.width)


def decode_indices(path: Path) -> np.ndarray:
    """Read the indices that a PNG holds, one a pixel, upright: those of a palette, not its colours.

    Returns:
        (y, x) uint8, as written: grey of 2 or 4 bits is not spread over 0 to 255.

    Raises:
        NoIndices: its pixels are colours, or have 16 bits.
        Unreadable: it cannot be read, or is no PNG; with the reason.
    """
    with _opened(path) as image:
        if image.format != "PNG":
            raise Unreadable(f"a {image.format} file, not a PNG")
        if image.mode not in ("1", "L", "P"):
            raise NoIndices(NO_INDICES.get(image.mode, "colours"))
        step = GREY_STEPS.get(image.tile[0][3] if image.tile else "", 1)
        if reason := decoding_work.of_pixels(path, image):
            raise Unreadable(reason)
        image.load()
        return np.array(_turned(image)).astype(np.uint8) // np.uint8(step)


def decode_all(paths: Sequence[Path], size: tuple[int, int]) -> tuple[np.ndarray, dict[int, str]]:
    """Decode many files at once, by as many processes as there are cores.

    Returns:
        images: (image, channel, y, x) uint8; 0 where a file cannot be read.
        reasons: why not, by the file's place in `paths`.

    Raises:
        UserError: one of the processes was killed.
        KeyboardInterrupt, SystemExit: a signal came.
    """
    done = in_portions(partial(_decode_part, size=size), paths)
    reasons = {n * PORTION + row: why for n, (_, part) in enumerate(done) for row, why in part.items()}
    return np.concatenate([images for images, _ in done]), reasons


def in_portions(work: Callable[[Sequence[Path]], Any], paths: Sequence[Path]) -> list[Any]:
    """Do some work on many files, a portion at a time, by as many processes as there are cores; see `decode_all`."""
    parts = [paths[first : first + PORTION] for first in range(0, len(paths), PORTION)]
    workers = min(len(os.sched_getaffinity(0)), len(parts)) if hasattr(os, "sched_getaffinity") else 1
    return list(map(work, parts)) if workers <= 1 else _by_processes(work, parts, workers)


def _by_processes(work: Callable[[Any], Any], parts: Sequence[Any], workers: int) -> list[Any]:
    """Do each part of some work in one of several processes, which are gone afterwards; return the results in order."""
    processes = get_context("fork")
    with ExitStack() as end:
        results = []
        for first in range(workers):
            result, sent = processes.Pipe(duplex=False)
            do = (work, parts[first::workers], sent, os.getpid())
            process = processes.Process(target=_work_for, args=do, daemon=True)
            end.callback(_end, process)
            with sent, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of forking beside torch's threads; the children only decode
                process.start()
            results.append(end.enter_context(result))
        return [_received(results[number % workers]) for number in range(len(parts))]


def _received(result: Connection) -> Any:
    """Wait for what a process has found; a signal that comes meanwhile is heeded."""
    while not result.poll(POLL):
        signals.leave()
    try:
        found = result.recv()
    except (EOFError, OSError):
        signals.leave()
        way = "try again with more memory, or by one process (taskset -c 0 cnnprobe …)"
        raise UserError(f"a process that decodes images was killed (memory?); {way}") from None
    if isinstance(found, Exception):
        raise found
    return found


def _work_for(work: Callable[[Any], Any], parts: Sequence[Any], sent: Connection, parent: int) -> None:
    """Do parts of some work in this process, for its parent."""
    signals.only_for(parent)
    for part in parts:
        try:
            found = work(part)
        except Exception as error:
            found = error
        sent.send(found)


def _end(process: BaseProcess) -> None:
    if process.pid is not None:
        process.kill()
        process.join()


def _decode_part(paths: Sequence[Path], size: tuple[int, int]) -> tuple[np.ndarray, dict[int, str]]:
    images = np.zeros((len(paths), 3, *size), dtype=np.uint8)
    reasons = {}
    for row, path in enumerate(paths):
        signals.leave()
        try:
            images[row] = decode(path, size)[0].transpose(2, 0, 1)
        except Unreadable as reason:
            reasons[row] = str(reason)
    return images, reasons


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Give the image whose header was read; whatever goes wrong inside becomes `Unreadable`."""
    kind = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags and of sizes; we have our own limit
        try:
            _check_file(path)
            if reason := decoding_work.of_header(path):
                raise Unreadable(reason)
            with Image.open(path, formats=FORMATS) as image:
                kind = image.format
                _check_pixels(image.width * image.height)
                yield image
        except (Unreadable, MemoryError):
            raise
        except Exception as error:  # Pillow's readers raise some fifteen types for damaged files
            raise Unreadable(_reason(error, path, kind)) from None


def _check_file(path: Path) -> None:
    """Refuse what is not a regular file of a size that an image has; opening a pipe would wait for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("not a regular file")
    if found.st_size == 0:
        raise Unreadable("empty file")
    if found.st_size > LARGEST_FILE:
        raise Unreadable(f"too large ({found.st_size >> 20} MB; limit {LARGEST_FILE >> 20})")


def _check_pixels(pixels: int) -> None:
    if pixels > LARGEST_IMAGE:
        raise Unreadable(f"too large ({pixels // 10**6} million pixels; limit {LARGEST_IMAGE // 10**6})")


def _reason(error: Exception, path: Path, kind: str | None) -> str:
    """Say in a few words what is wrong with a file, from the error that reading it raised."""
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit comes before ours
        return f"too large ({int(re.findall(r'[0-9]+', str(error))[0]) // 10**6} million pixels; limit 64)"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, FileNotFoundError):
        return "leads nowhere" if path.is_symlink() else "gone"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    if kind is None:
        return _content(path)
    words = str(error).partition("\n")[0]
    if re.search("truncated|unexpected end|not enough|end of file|EOF", words, re.IGNORECASE):
        return f"truncated {kind}"
    return f"damaged {kind}: {words[:60]}" if words else f"damaged {kind}"


def _content(path: Path) -> str:
    """Say what a file that is none of our formats holds, from its beginning."""
    with path.open("rb") as file:
        head = file.read(512)
    for beginning, what in OTHER_CONTENT.items():
        if re.match(beginning, head, re.IGNORECASE | re.DOTALL):
            return f"not an image but {what}"
    return f"not an image; formats: {', '.join(FORMATS)}"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) where it is missing or damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _turned(image: Image.Image) -> Image.Image:
    """Turn a picture as its camera was held."""
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _is_deep(image: Image.Image) -> bool:
    """Say whether a picture that is not loaded yet has 16 bits a channel."""
    parts = [part for tile in image.tile for part in (tile[3] if isinstance(tile[3], tuple) else [tile[3]])]
    largest = [part for part in parts if image.format == "PPM" and isinstance(part, int)]
    return image.mode.startswith("I") or any(";16" in str(part) for part in parts) or max(largest, default=0) > 255


def _rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any kind to RGB; what is transparent shows white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _deep_grey(image)
    if image.mode in ("I", "F"):
        raise Unreadable(f"{'32-bit integer' if image.mode == 'I' else 'floating-point'} pixels have no known range")
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Lay a picture that is partly transparent on white, a strip at a time: each step takes as much as all of it."""
    shown = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        shown.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return shown


def _scale_transparent(image: Image.Image) -> None:
    """Give the value that is transparent in a PNG 8 bits, as Pillow gives them to pixels of 2, 4 and 3 x 16 bits."""
    clear, raw = image.info.get("transparency"), image.tile[0][3] if image.tile else ""
    if image.format != "PNG" or clear is None:
        return
    if raw in GREY_STEPS:
        image.info["transparency"] = clear * GREY_STEPS[raw]
    elif raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _deep_grey(image: Image.Image) -> Image.Image:
    """Convert grey of more than 8 bits to RGB, of which Pillow would cut off all above 255.

    The bits of a sample and whether 0 is white stand in the tags of a TIFF, which value is transparent in a PNG.
    """
    values = np.asarray(image).astype(np.uint32)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    bits = int(np.ravel(tags.get(BITS, 16))[0])
    top = 2**bits - 1 if 8 < bits < 16 else 65535
    shown = ((np.minimum(values, top) * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        shown = 255 - shown
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        shown = np.where(values == clear, np.uint8(255), shown)
    return Image.fromarray(shown).convert("RGB")


def _fitted(image: Image.Image, size: Sequence[int], resize: int | None) -> Image.Image:
    """Scale, then crop, as torchvision's Resize and CenterCrop do.

    Of an extremely long picture (20000 x 1) only the pixels that stay are computed; that rounds differently by a step.
    """
    (height, width), (y, x) = geometry((image.height, image.width), size, resize)
    if height * width <= LARGEST_IMAGE:
        whole = image.resize((width, height), Image.Resampling.BILINEAR)
        return whole.crop((x, y, x + size[1], y + size[0]))
    down, across = image.height / height, image.width / width
    box = (x * across, y * down, (x + size[1]) * across, (y + size[0]) * down)
    return image.resize(size[::-1], Image.Resampling.BILINEAR, box=box)
