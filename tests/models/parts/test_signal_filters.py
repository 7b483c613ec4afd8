"""Filters that channels share."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.models.parts.signal_filters import OverTime, glorot


def test_each_channel_is_filtered_by_each_filter():
    """Against numpy's correlation, one pair at a time."""
    torch.manual_seed(0)
    filters = OverTime(3, 4, 7)
    nn.init.normal_(filters.weight)
    nn.init.normal_(filters.bias)
    signals = torch.randn(2, 3, 30)
    found = filters(signals).detach().numpy()
    assert found.shape == (2, 12, 24)
    for signal in range(2):
        for channel in range(3):
            for k in range(4):
                plain = np.correlate(signals[signal, channel].numpy(), filters.weight[k, 0].detach().numpy(), "valid")
                assert np.allclose(found[signal, channel * 4 + k], plain + filters.bias[k].item(), atol=1e-5)


def test_weights_begin_with_the_variance_of_glorot_and_bengio():
    torch.manual_seed(0)
    model = nn.Sequential(OverTime(8, 40, 25), nn.Conv1d(320, 40, 1))
    glorot(model)
    for module, fans in ((model[0], 25 + 40 * 25), (model[1], 320 + 40)):
        assert float(module.weight.detach().var()) == pytest.approx(2 / fans, rel=0.1)
        assert not module.bias.any()
