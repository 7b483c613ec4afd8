"""Runs that somebody looks at, or leaves, while they work."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def broken(tmp_path):
    """Sixty images in two classes, of which three cannot be read."""
    for number in range(60):
        path = tmp_path / f"images/{'ab'[number // 30]}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if number in (1, 31, 55):
            path.write_bytes(path.read_bytes()[:200])
    return tmp_path / "images"
