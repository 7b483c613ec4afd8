"""Small pictures of images for the figures of a run."""

import numpy as np
from torch import Tensor
from torch.nn import functional


def thumbnails(images: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Shrink images by averaging areas.

    Args:
        images: (image, channel, y, x) or (image, channel, time), float 0 to 1.
        size: (y, x) or (time,) of the pictures.

    Returns:
        the same axes, uint8 0 to 255.
    """
    pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool1d
    smaller = images if tuple(images.shape[2:]) == tuple(size) else pool(images, size)
    return smaller.clamp(0, 1).mul(255).round().byte().cpu().numpy()
