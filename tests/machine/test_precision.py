"""Which number format and layout is taken, and that nothing stays set."""

import pytest
import torch

from cnnprobe.machine import precision
from cnnprobe.machine.precision import chosen

CPU = torch.device("cpu")


@pytest.mark.parametrize("able", [True, False])
def test_auto_takes_bfloat16_where_the_processor_has_it(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    assert chosen("auto", "auto", CPU, 3).half == able
    assert chosen("bfloat16", "auto", CPU, 3).half
    assert not chosen("float32", "auto", CPU, 3).half


def test_channels_last_goes_with_bfloat16_and_never_with_signals():
    assert chosen("bfloat16", "auto", CPU, 3).layout == torch.channels_last
    assert chosen("float32", "auto", CPU, 3).layout == torch.contiguous_format
    assert chosen("float32", True, CPU, 3).layout == torch.channels_last
    assert chosen("bfloat16", False, CPU, 3).layout == torch.contiguous_format
    assert chosen("bfloat16", True, CPU, 2).layout == torch.contiguous_format
    assert chosen("bfloat16", "auto", CPU, 3).words == "bfloat16, channels_last on cpu"


def test_autocast_computes_products_in_bfloat16():
    linear = torch.nn.Linear(4, 4)
    with chosen("bfloat16", False, CPU, 3).autocast():
        assert linear(torch.rand(2, 4)).dtype == torch.bfloat16
    with chosen("float32", False, CPU, 3).autocast():
        assert linear(torch.rand(2, 4)).dtype == torch.float32


def test_repeatable_leaves_no_setting_behind():
    gpu = precision.Precision(torch.device("cuda"), half=False, tf32=False, layout=torch.channels_last)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.conv.fp32_precision
    with precision.repeatable(gpu):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.conv.fp32_precision) == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_seeding_makes_dropout_repeat():
    with torch.random.fork_rng([]):
        precision.seed(CPU, 5)
        first = torch.rand(3)
        precision.seed(CPU, 5)
        assert torch.equal(torch.rand(3), first)
