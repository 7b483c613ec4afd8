"""Which number format and layout is taken, and that nothing stays set."""

import os

import numpy
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


SETTINGS = {
    "torch.set_float32_matmul_precision('medium')": lambda: torch.backends.mkldnn.matmul.fp32_precision,
    "torch.backends.fp32_precision = 'bf16'": lambda: torch.backends.mkldnn.conv.fp32_precision,
    "torch.set_default_dtype(torch.float64)": torch.get_default_dtype,
    "torch.set_default_device('meta')": torch.get_default_device,
    "torch.set_grad_enabled(False)": torch.is_grad_enabled,
    "torch.set_num_threads(torch.get_num_threads() + 1)": torch.get_num_threads,
    "torch.set_autocast_enabled('cpu', True)": lambda: torch.is_autocast_enabled("cpu"),
    "torch.set_flush_denormal(True)": lambda: bool(torch.full((1,), 2.0**-140).mul(1) == 0),
    "torch.use_deterministic_algorithms(True)": torch.are_deterministic_algorithms_enabled,
    "numpy.seterr(all='raise')": numpy.geterr,
}


@pytest.mark.parametrize("line", SETTINGS)
def test_what_a_file_sets_is_put_back(line):
    """F100: whatever decides how everything behind it in this process computes."""
    before = SETTINGS[line]()
    with precision.put_back():
        exec(line)
        changed = SETTINGS[line]()
    after = SETTINGS[line]()
    assert changed != before
    assert after == before


def test_products_keep_all_their_bits_whatever_is_set():
    """F100: a product with 1 + 2^-12 has to be that number, which 8 bits cannot hold."""
    exact, one = torch.full((256, 256), 1 + 2.0**-12), torch.eye(256)
    image, kernel = exact[None, None].repeat(1, 16, 1, 1), torch.eye(16)[:, :, None, None]
    with precision.put_back():
        for setting in ("medium", "high"):
            torch.set_float32_matmul_precision(setting)
            torch.backends.mkldnn.conv.fp32_precision = "bf16"
            with precision.repeatable(precision.exact("cpu")):
                # a processor without bfloat16 products ignores the setting and keeps all bits
                places = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
                assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
                assert torch.equal(exact @ one, exact)
                assert torch.equal(torch.nn.functional.conv2d(image, kernel), image)
            assert torch.get_float32_matmul_precision() == setting


def test_a_variable_that_shortens_products_is_taken_out(monkeypatch, caplog):
    """F100: oneDNN reads the variable itself and ignores the settings of torch."""
    for name in precision.SHORTENING:
        monkeypatch.setenv(name, "BF16")
    precision.take_out_of_environment()
    assert [f"{name}=BF16 is not followed" in caplog.text for name in precision.SHORTENING] == [True, True]
    assert not [name for name in precision.SHORTENING if name in os.environ]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert precision.environment()["ATEN_CPU_CAPABILITY"] == "default"
