import os
import signal
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnprobe.datasets.base import decoding
from cnnprobe.datasets.base.decoding import Unreadable, _by_processes, _decode_part, decode, decode_all, dimensions
from cnnprobe.errors import UserError
from cnnprobe.machine.signals import EXIT_STATUS, Stop
from tests.support.faults.hostile import COLOUR, corpus, noise


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, corpus(folder)


def test_every_file_of_the_corpus_is_shown_or_refused_with_its_reason(hostile):
    """F32, F34, F35, F37, F38, F39, F40."""
    folder, expected = hostile
    assert len(expected) >= 50
    for name, words in expected.items():
        if words:
            with pytest.raises(Unreadable, match=words):
                decode(folder / name)
        else:
            pixels, _ = decode(folder / name, (16, 16))
            assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8, name


@pytest.mark.parametrize("name", ["bomb.png", "bomb100.png", "lie.png", "huge.png", "pipe.png"])
def test_bombs_and_pipes_are_refused_at_once(hostile, name):
    """F34, F35."""
    began = time.process_time()
    with pytest.raises(Unreadable):
        decode(hostile[0] / name)
    assert time.process_time() - began < 1


def test_what_is_no_file_is_refused(hostile):
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(Unreadable, match="not a regular file"):
            decode(hostile[0] / name)
    with pytest.raises(Unreadable, match="gone"):
        decode(hostile[0] / "never.png")


def test_a_file_larger_than_the_limit_is_refused_unread(tmp_path):
    """F34."""
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(Unreadable, match=r"too large \(300 MB; limit 256\)"):
        decode(tmp_path / "large.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_refused(tmp_path):
    """F32."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(Unreadable, match="permission denied"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("palette.png", COLOUR),
        ("plain.bmp", COLOUR),
        ("plain.webp", COLOUR),
        ("plain.tif", COLOUR),
        ("plain.ppm", COLOUR),
        ("cmyk.tif", COLOUR),
        ("grey.png", (124, 124, 124)),  # 0.299, 0.587, 0.114 of the colour
        ("clear.png", (255, 255, 255)),  # transparent red on white
        ("half_grey.png", (127, 127, 127)),  # black, half transparent, on white
        ("grey16.png", (128, 128, 128)),  # 0x8080 / 257
        ("film.gif", COLOUR),
        ("film.png", COLOUR),
        ("film.webp", COLOUR),
        ("pages.tif", COLOUR),
        ("wide.png", COLOUR),
    ],
)
def test_colours_are_right_to_one_step(hostile, name, colour):
    """F37, F38."""
    pixels, remarks = decode(hostile[0] / name, (6, 6))
    assert np.abs(pixels.astype(int) - colour).max() <= 1
    assert ("frames" in remarks) == name.startswith(("film", "pages"))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "ppm"])
def test_the_depth_that_is_lost_is_told(tmp_path, ending):
    """F37: 12 bits in 16 keep 17 levels, so that it matters."""
    levels = np.full((8, 8), 900, np.uint16)
    if ending == "ppm":
        (tmp_path / "a.ppm").write_bytes(b"P6 8 8 65535\n" + np.repeat(levels, 3).astype(">u2").tobytes())
    else:
        Image.fromarray(levels).save(tmp_path / f"a.{ending}")
    pixels, remarks = decode(tmp_path / f"a.{ending}")
    assert np.abs(pixels.astype(int) - 900 / 257).max() < 1 and remarks.keys() == {"depth"}
    Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "b.png")
    assert decode(tmp_path / "b.png")[1] == {}


def test_sixteen_bit_grey_is_scaled_over_its_whole_range(tmp_path):
    """F37."""
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None]
    for name in ("ramp.png", "ramp.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        assert decode(tmp_path / name)[0][0, :, 0].tolist() == list(range(256))
    (tmp_path / "ramp.pgm").write_bytes(b"P5 256 1 65535\n" + ramp.astype(">u2").tobytes())
    assert decode(tmp_path / "ramp.pgm")[0][0, :, 0].tolist() == list(range(256))


def test_a_large_transparent_picture_is_laid_on_white_in_strips(tmp_path, monkeypatch):
    """F102: no more than a strip is there four times over, and the pixels are those of the whole at once."""
    monkeypatch.setattr(decoding, "STRIP", 7)
    values = np.random.default_rng(0).integers(0, 256, (40, 9, 4), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    sizes, whole = [], Image.alpha_composite
    monkeypatch.setattr(Image, "alpha_composite", lambda *both: sizes.append(both[0].height) or whole(*both))
    found = decoding.decode(tmp_path / "a.png")[0]
    white = Image.new("RGBA", (9, 40), "white")
    np.testing.assert_array_equal(found, np.array(whole(white, Image.fromarray(values)).convert("RGB")))
    assert max(sizes) == 7


def test_transparency_of_a_palette_shows_white(tmp_path):
    """F37."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    pixels = decode(tmp_path / "a.png")[0]
    assert pixels[0, 0].tolist() == [0, 0, 255] and pixels[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_whatever_the_orientation(tmp_path, orientation, kind):
    """F38."""
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the upper left quarter
    inverse = {  # how the sensor lay: EXIF 2.3, tag 274
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.ascontiguousarray(inverse)).save(path, exif=exif)
    pixels, _ = decode(path)
    assert dimensions(path) == (16, 32)
    assert pixels.shape == (16, 32, 3) and np.abs(pixels.astype(int) - upright).max() < 40  # JPEG is not exact


@pytest.mark.parametrize(
    ("shape", "size", "resize"), [((60, 80), 32, None), ((300, 201), 227, 256), ((48, 64), 32, 40), ((20, 33), 64, 70)]
)
def test_scaling_equals_that_of_torchvision(tmp_path, shape, size, resize):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.transforms.v2 import functional
    Image.fromarray(noise(*shape)).save(tmp_path / "a.png")
    image = functional.resize(Image.open(tmp_path / "a.png"), resize or size, antialias=True)
    expected = np.asarray(functional.center_crop(image, size))
    assert np.array_equal(decode(tmp_path / "a.png", (size, size), resize)[0], expected)


def test_many_files_at_once_equal_one_after_the_other(hostile, monkeypatch):
    monkeypatch.setattr("cnnprobe.datasets.base.decoding.PORTION", 16)  # several processes where there are cores
    folder, expected = hostile
    images, reasons = decode_all([folder / name for name in expected], (8, 8))
    for row, (name, words) in enumerate(expected.items()):
        assert (row in reasons) == bool(words), name
        assert (
            not images[row].any()
            if words
            else np.array_equal(images[row], decode(folder / name, (8, 8))[0].T.swapaxes(1, 2))
        )


def gone(number, seconds=5):
    """Wait until a process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # its parent is whoever takes orphans in, and may be slow
            return True
        time.sleep(0.01)
    return False


def sleeping(folder):
    """Return work that does not end: it leaves the number of its process as the name of a file."""

    def work(_part):
        (folder / str(os.getpid())).touch()
        time.sleep(60)

    return work


def both(folder):
    """Wait for two processes that sleep, and return their numbers."""
    while len(found := list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return [int(path.name) for path in found]


def test_a_killed_process_is_told_and_takes_the_others_with_it(tmp_path):
    """F103: of a pool of Python's the others went on for ever."""

    def work(part):
        if part:
            return sleeping(tmp_path)(part)
        (tmp_path / str(os.getpid())).touch()
        both(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match=r"a process that decodes images was killed \(memory\?\); try again"):
        _by_processes(work, [0, 1], 2)
    assert all(map(gone, both(tmp_path)))


@pytest.fixture
def heard():
    """Let SIGHUP count, also where the tests themselves were begun with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", EXIT_STATUS)
def test_a_signal_ends_the_decoding_at_once(tmp_path, number, heard):
    """F103."""

    def send():
        both(tmp_path)
        os.kill(os.getpid(), number)

    began = time.monotonic()
    with pytest.raises((KeyboardInterrupt, SystemExit)), Stop().listening() as stop:
        threading.Thread(target=send).start()
        _by_processes(sleeping(tmp_path), [0, 1], 2)
    assert stop.signal == number and time.monotonic() - began < 5
    assert all(map(gone, both(tmp_path)))


def test_one_process_alone_heeds_a_signal_too(hostile):
    """F103."""
    with pytest.raises(SystemExit), Stop().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        _decode_part([hostile[0] / "plain.bmp"], (8, 8))


def test_processes_leave_signals_to_their_parent():
    """F103: a handler of the parent's would take the signal that is to end them."""
    with Stop().listening():
        found = _by_processes(lambda number: signal.getsignal(number), list(EXIT_STATUS), 2)
    assert found == [signal.SIG_IGN] * 3


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    """F103."""
    parent = os.fork()
    if parent == 0:
        _by_processes(sleeping(tmp_path), [0, 1], 2)
    numbers = both(tmp_path)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert all(map(gone, numbers))


def test_what_goes_wrong_in_a_process_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        _by_processes(lambda number: 1 / number, [1, 0], 2)


def test_a_very_long_picture_is_scaled_only_where_it_is_kept(tmp_path):
    """F39: Level i in the middle of a row of 80,000 px: the crop of 64 px comes from the 64 / 256 of a pixel there."""
    row = np.zeros((1, 80_000), np.uint8)
    row[0, 40_000:] = 200
    Image.fromarray(row).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", (64, 64), 900)[0].astype(int)
    assert np.abs(pixels[:, 0] - 93).max() <= 1 and np.abs(pixels[:, -1] - 107).max() <= 1  # 100 -+ 32/900 of 200
    assert (np.diff(pixels[..., 0], axis=1) >= 0).all()


RAMP = np.linspace(0, 4095, 1024).round().astype(np.uint16).reshape(32, 32)


def tiff(path, data, bits, photometric):
    """Write a grey TIFF of 32 x 32 px."""
    tags = [(256, 32), (257, 32), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 32)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_grey_of_any_depth_shows_its_white_as_white(tmp_path, bits, photometric):
    """F37: of 12 bits all are used, and 0 is white where the file says so."""
    levels = RAMP.astype(np.int64) * (2**bits - 1) // 4095
    levels = levels if photometric else 2**bits - 1 - levels
    data = levels.astype("<u2" if bits > 8 else "u1").tobytes()
    if bits == 12:
        data = b"".join(int(f"{a:012b}{b:012b}", 2).to_bytes(3, "big") for a, b in levels.reshape(-1, 2).tolist())
    tiff(tmp_path / "a.tif", data, bits, photometric)
    pixels, _ = decode(tmp_path / "a.tif")
    assert np.abs(pixels[..., 0] - RAMP / 4095 * 255).max() <= 1
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[-1, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("bits", "kind", "rows", "clear", "expected"),
    [
        (16, 0, struct.pack(">4H", 0, 1000, 65535, 257 * 7), struct.pack(">H", 1000), [0, 255, 255, 7]),
        (16, 0, struct.pack(">4H", 0, 257, 514, 0), struct.pack(">H", 0), [255, 1, 2, 255]),
        (16, 2, struct.pack(">6H", 5140, 0, 0, 2570, 0, 0), struct.pack(">3H", 5140, 0, 0), [255, 10]),
        (4, 0, bytes([0x1F, 0x80]), struct.pack(">H", 8), [17, 255, 255, 0]),
        (2, 0, bytes([0b00011011]), struct.pack(">H", 1), [0, 255, 170, 255]),
    ],
)
def test_the_transparent_value_of_a_png_of_any_depth_shows_white(tmp_path, bits, kind, rows, clear, expected):
    """F37."""
    head = struct.pack(">IIBBBBB", len(expected), 1, bits, kind, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
             for name, data in chunks)  # fmt: skip
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert decode(tmp_path / "a.png")[0][0, :, 0].tolist() == expected
