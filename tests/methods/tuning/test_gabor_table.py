import numpy as np
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.tuning.gabor_table import KINDS, fitted, gabor_table
from cnnprobe.methods.tuning.gabors import fit_gabors, gabor


def test_rows_fill_every_column_that_is_not_known_from_the_start():
    wave = gabor(7, sigma_x=1.5, sigma_y=2.0, frequency=0.2, orientation=30.0, phase=40.0)
    filters = np.stack([wave, np.ones((7, 7))])[:, None]
    (layer,) = find(nn.Sequential(nn.Conv2d(1, 2, 7)), "0", (1, 9, 9))
    table = gabor_table(layer, np.arange(2), filters, 8)
    flat = table.columns["plane"].values
    rows = fitted(fit_gabors(flat))
    assert [name for name, column in table.columns.items() if column.values is None] == list(rows)
    for name, values in rows.items():
        assert values.shape == (2, *table.columns[name].shape)
        assert values.dtype == table.columns[name].dtype
    assert [KINDS[kind] for kind in rows["kind"]] == ["gabor", "other"]
    assert np.allclose(rows["orientation"][0], 30)
