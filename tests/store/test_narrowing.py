"""Columns of a smaller type than what they are handed: nothing becomes infinite, another number, or 0 in silence."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.store.narrowing import Narrowing

HALF, SINGLE = np.dtype("<f2"), np.dtype("<f4")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "dtype", "told"),
    [
        ([1, 65519.9], "f2", ""),
        ([1, 70000, -228082, 3], "f2", "float16, which holds numbers up to 65504; got -228082 .50 % of the values"),
        ([np.inf, -np.inf, np.nan, 1], "f2", ""),
        ([np.inf, 65520], "f2", ".*; got 65520 .50 % of the values do not fit.; dtype=float64 stores them"),
        ([1e39], "f4", r"float32, which holds numbers up to 3.40282e\+38; got 1e\+39"),
        ([3, -128], "i1", ""),
        ([3, 300], "i1", "int8, which holds whole numbers -128 to 127; got 300"),
        ([2.5], "i8", "int64, which holds whole numbers .*; got 2.5"),
        ([np.nan], "i4", ".*; got nan"),
    ],
)
def test_a_number_that_does_not_fit_is_refused(values, dtype, told):
    """F48."""
    values = np.array(values, float if dtype != "i1" else int)
    if told:
        with pytest.raises(UserError, match=rf"^units/a is stored as {told}"):
            Narrowing().put("units/a", values, np.dtype(dtype))
    else:
        found = Narrowing().put("units/a", values, np.dtype(dtype))
        assert found.dtype == dtype and np.allclose(found, values, rtol=1e-3, equal_nan=True)


def test_values_that_become_0_are_counted_over_all_batches(caplog):
    """F48: the smallest number other than 0 of float16 is 2^-24; half of it and less become 0."""
    narrowing = Narrowing()
    for _ in range(2):
        given = np.array([0, -0.0, 1, -(2.0**-24), 2.0**-25, -2e-8, 2.0**-25 * 1.01, 5], np.float32)
        assert narrowing.put("maps", given, HALF).tolist() == [0, 0, 1, -(2**-24), 0, 0, 2**-24, 5]
        narrowing.put("single", given, SINGLE)
        narrowing.put("other", np.append(np.full(1999, 3, np.float32), np.float32(1e-9)), HALF)
    narrowing.tell()
    (told,) = caplog.messages
    assert told.startswith("maps: 33.3 % of the values other than 0 are stored as 0: float16 holds none below 6e-08; ")


@pytest.mark.parametrize(
    ("gain", "status", "told"), [(1e7, 2, "got "), (1e-9, 0, "of the values other than 0"), (1, 0, "")]
)
def test_maps_of_half_precision_end_the_run_or_are_warned_of(cnnprobe, tmp_path, gain, status, told):
    """F48: most maps were infinite, or 0, in a run that said nothing."""
    torch.manual_seed(0)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(num_classes=2):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    torch.save({name: value * gain for name, value in net.state_dict().items()}, tmp_path / "net.pt")
    words = ["model=custom", "model.file=net.py", "weights=net.pt", "dataset=shapes", "limit=4", "layer=0", "keep=maps"]
    answer = cnnprobe("record", *words, "dtype=float16")
    assert answer.status == status and told in answer.err and "RuntimeWarning" not in answer.err
    assert ("activations/0/maps" in answer.err) == bool(told) == ("dtype=float32 stores them" in answer.err)
