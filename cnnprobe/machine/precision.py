"""The number format and memory layout in which a network computes, and what makes its sums the same every time."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

LOG = logging.getLogger("cnnprobe")


@dataclass(frozen=True)
class Precision:
    """How a network computes on one device.

    Args:
        device: where.
        half: convolutions and matrix products in bfloat16, everything else in float32 (autocast).
        tf32: let a GPU shorten the factors of float32 products to 10 bits.
        layout: of images and kernels in memory.
    """

    device: torch.device
    half: bool
    tf32: bool
    layout: torch.memory_format

    def autocast(self) -> torch.autocast:
        """Return the context the forward pass runs in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    @property
    def number(self) -> str:
        """The number format of products: "bfloat16", "tf32" or "float32"."""
        return "bfloat16" if self.half else "tf32" if self.tf32 else "float32"

    @property
    def words(self) -> str:
        """Say what is computed how, for the log: "bfloat16, channels_last on cpu"."""
        layout = "channels_last" if self.layout == torch.channels_last else "contiguous"
        return f"{self.number}, {layout} on {self.device}"


def chosen(asked: str, channels_last: bool | str, device: torch.device, image_axes: int) -> Precision:
    """Choose number format and layout.

    "auto" is bfloat16 where the device multiplies in it, else float32, and channels_last together with bfloat16 or on
    a GPU: in float32 on a processor it made networks of large kernels three times slower, and others 1.15 times faster.

    Args:
        asked: "auto", "float32", "tf32" or "bfloat16".
        channels_last: True, False or "auto".
        device: of the network.
        image_axes: 3 for images, 2 for signals, which have one layout only.
    """
    half = asked == "bfloat16" or (asked == "auto" and has_bfloat16(device))
    faster = half or device.type == "cuda"
    last = image_axes == 3 and (faster if channels_last == "auto" else channels_last)
    return Precision(device, half, asked == "tf32", torch.channels_last if last else torch.contiguous_format)


def whole(precision: Precision) -> Precision:
    """Return the same in float32 throughout, as networks are probed."""
    return replace(precision, half=False, tf32=False)


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 in hardware (processors: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


SHORTENING = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Variables of the environment by which products of a processor lose bits behind torch's back."""
CHOOSING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS",
            "NVIDIA_TF32_OVERRIDE")  # fmt: skip
"""Variables that choose how sums are computed: the last bits of results depend on them."""


def environment() -> dict[str, str]:
    """Return the variables of the environment on which bits depend, "" where one is not set."""
    return {name: os.environ.get(name, "") for name in CHOOSING}


def take_out_of_environment() -> None:
    """Take out the variables that shorten products, with a warning; before the first product, which follows them."""
    for name in SHORTENING:
        if name in os.environ:
            setting = f"{name}={os.environ.pop(name)}"
            LOG.warning(f"{setting} is not followed: networks are measured in float32; train has precision=bfloat16")


def _products() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what has a number format for the factors of its products: on a processor, and on a GPU."""
    one, gpu = torch.backends.mkldnn, torch.backends.cudnn
    return (one.matmul, one.conv, one.rnn), (torch.backends.cuda.matmul, gpu.conv, gpu.rnn)


@contextmanager
def put_back() -> Iterator[None]:
    """Put back afterwards how this process computes: a Python file of the user's own may set that for itself.

    Number formats, default type and device, gradients, threads, determinism, and what NumPy does about its errors.
    """
    general = torch.backends, torch.backends.mkldnn, torch.backends.cudnn  # what these say, the others inherit
    of_products = [(place, place.fp32_precision) for place in (*general, *_products()[0], *_products()[1])]
    of_cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    strict = _determinism()
    kind, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, errors, flushed = torch.get_num_threads(), np.geterr(), _flushes()
    halves = [(name, torch.is_autocast_enabled(name)) for name in ("cpu", "cuda")]
    try:
        yield
    finally:
        torch.set_default_device(device if device.type != "cpu" else None)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
        if _determinism() != strict:  # which loads a compiler, for seconds
            torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = of_cudnn
        for name, enabled in halves:
            torch.set_autocast_enabled(name, enabled)
        for place, products in of_products:
            place.fp32_precision = products
        np.seterr(**errors)


def _determinism() -> tuple[bool, bool]:
    """Return whether operations have to be deterministic, and whether those that are not only warn."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _flushes() -> bool:
    """Tell whether this process takes the smallest numbers for 0, which it does not say itself."""
    return bool((torch.full((1,), 2.0**-140, dtype=torch.float32, device="cpu") * 1).item() == 0)


@contextmanager
def repeatable(precision: Precision) -> Iterator[None]:
    """Compute full float32 products unless tf32 is requested, and the same bits every time on a GPU too.

    An operation of a GPU that has no repeatable version warns.
    """
    on_processor, on_gpu = _products()
    settings: list[tuple[Any, str, Any]] = [(place, "fp32_precision", "ieee") for place in on_processor]
    gpu = precision.device.type == "cuda"
    if gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        settings += [(place, "fp32_precision", "tf32" if precision.tf32 else "ieee") for place in on_gpu]
        settings += [(torch.backends.cudnn, "deterministic", True), (torch.backends.cudnn, "benchmark", False)]
    before = [getattr(place, name) for place, name, _ in settings]
    strict, warns = _determinism()
    try:
        if gpu:
            torch.use_deterministic_algorithms(True, warn_only=True)
        for place, name, value in settings:
            setattr(place, name, value)
        yield
    finally:
        if gpu:
            torch.use_deterministic_algorithms(strict, warn_only=warns)
        for (place, name, _), value in zip(settings, before):
            setattr(place, name, value)


def exact(device: torch.device | str) -> Precision:
    """Return how everything but a training computes: float32, to its last bit."""
    return Precision(torch.device(device), half=False, tf32=False, layout=torch.contiguous_format)


def repeated(precision: Precision, events: Iterable[Any]) -> Iterator[Any]:
    """Give the events of a measurement, its work done as `repeatable` says, and close it."""
    with repeatable(precision):
        yield from events
