"""The number format and memory layout in which a network computes, and what makes its sums the same every time."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch


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


@contextmanager
def repeatable(precision: Precision) -> Iterator[None]:
    """Make a GPU give the same bits every time, with full float32 products unless tf32 is requested.

    A processor needs nothing of this. An operation that has no repeatable version warns.
    """
    if precision.device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    products = "tf32" if precision.tf32 else "ieee"
    settings: list[tuple[Any, str, Any]] = [
        (torch.backends.cuda.matmul, "fp32_precision", products),
        (torch.backends.cudnn.conv, "fp32_precision", products),
        (torch.backends.cudnn, "deterministic", True),
        (torch.backends.cudnn, "benchmark", False),
    ]
    before = [getattr(place, name) for place, name, _ in settings]
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        for place, name, value in settings:
            setattr(place, name, value)
        yield
    finally:
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


def seed(device: torch.device, value: int) -> None:
    """Seed what dropout on a device draws from; sixty times faster than torch.manual_seed, which visits all devices."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
