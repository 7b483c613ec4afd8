import numpy as np
import pytest
import torch

from cnnprobe.datasets.rendering.drawn import Drawn, sensor_noise, stream


class Ramp(Drawn):
    """Image i is grey of brightness i / 10."""

    def __init__(self, count: int = 4, version: int = 1):
        super().__init__(
            version=version,
            options={"count": count},
            side=5,
            name="ramp",
            names=[str(i) for i in range(count)],
            labels=[0] * count,
            classes=("grey",),
        )

    def draw(self, index: int) -> np.ndarray:
        return np.full((3, 5, 5), index / 10, np.float32)


def test_images_come_in_the_order_asked():
    images, readable = Ramp().load([3, 0, 3])
    assert images.dtype == torch.float32 and tuple(images.shape) == (3, 3, 5, 5)
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.3, 0.0, 0.3])
    assert readable.all()


def test_the_fingerprint_follows_options_and_version():
    same, other, redrawn = Ramp(4).fingerprint, Ramp(5).fingerprint, Ramp(4, version=2).fingerprint
    assert Ramp(4).fingerprint == same
    assert len({same, other, redrawn}) == 3


def test_streams_of_different_images_differ_and_repeat():
    first = stream(0, 1, 2).uniform(size=4)
    np.testing.assert_array_equal(first, stream(0, 1, 2).uniform(size=4))
    assert not np.allclose(first, stream(0, 1, 3).uniform(size=4))


@pytest.mark.parametrize("shape", [(1,), (3, 7, 7), (200, 201)])
def test_sensor_noise_has_the_shape_asked(shape):
    assert sensor_noise(shape, stream(0)).shape == shape


def test_sensor_noise_is_standard_and_nearly_normal():
    noise = sensor_noise((400_000,), stream(5)).astype(float)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(noise) < 1) == pytest.approx(0.683, abs=0.02)  # of a normal variable
    # Neighbours share no bytes.
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] == pytest.approx(0, abs=0.01)
