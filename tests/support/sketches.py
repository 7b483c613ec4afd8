"""Figures made as ever, but not rendered: in place of their pixels, a small picture that tells what they would show."""

import hashlib
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def sketch(made: Figure) -> bytes:
    """Return the bytes of a PNG file of one pixel, with a checksum of the words, lines and pictures of a figure.

    Rendering is most of what a short run costs. Two figures of the same data have the same sketch, and a figure of
    other data has another one.
    """
    shown = hashlib.sha256(made.get_suptitle().encode())
    for ax in made.axes:
        words = (ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts))
        shown.update("\0".join(words).encode(errors="backslashreplace"))
        for line in ax.lines:
            shown.update(np.ascontiguousarray(line.get_xydata()).tobytes())
        for image in ax.images:
            shown.update(np.ascontiguousarray(image.get_array()).tobytes())
    about, buffer = PngInfo(), BytesIO()
    about.add_text("Sketch", shown.hexdigest())
    Image.new("L", (1, 1)).save(buffer, format="png", pnginfo=about)
    return buffer.getvalue()
