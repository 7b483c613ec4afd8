import io

import numpy as np

from cnnprobe.store.layout import Blank


def test_a_blank_file_behaves_like_a_file_that_keeps_only_what_was_written():
    """Against the file in memory of the standard library, over random writes and reads."""
    random = np.random.default_rng(0)
    blank, real = Blank(), io.BytesIO()
    for _ in range(200):
        place, length = int(random.integers(0, 30_000)), int(random.integers(1, 6000))
        data = random.bytes(length)
        for file in (blank, real):
            file.seek(place)
            file.write(data) if place % 3 else None
        if place % 3 == 0:
            blank.seek(place)
            real.seek(place)
            buffer = bytearray(length)
            blank.readinto(memoryview(buffer))
            expected = real.read(length)
            assert bytes(buffer[: len(expected)]) == expected
            assert not any(buffer[len(expected) :])
    assert blank.size == len(real.getvalue())
