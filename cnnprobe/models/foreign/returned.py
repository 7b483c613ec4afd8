"""The logits among everything that a network of somebody else returns."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

LOG = logging.getLogger("cnnprobe")


def as_logits(model: nn.Module, _: Any, output: Any) -> Any:
    """Return the logits out of what a network returns, as its last forward hook; see `main_output`."""
    return output if isinstance(output, Tensor) else main_output(model, output)


def main_output(model: nn.Module, output: Any) -> Any:
    """Return the logits out of what a network returns where they can be told; else what it returns.

    They are the entry `logits` of a dict, dataclass or named tuple; the only tensor; of a tuple or list the only one
    that is (image, class). A network that returns several while it trains is taught its first, and that is said.
    """
    named = entries_of(output)
    entries = list(named.values()) if named is not None else list(output) if isinstance(output, tuple | list) else []
    tensors = [entry for entry in entries if isinstance(entry, Tensor)]
    if named is not None and isinstance(named.get("logits"), Tensor):
        if len([one for one in tensors if one.ndim == 2]) > 1:
            _tell_taught(model, output, entries, "logits")
        return named["logits"]
    if len(tensors) == 1 and all(entry is None or isinstance(entry, Tensor) for entry in entries):
        return tensors[0]
    flat = [tensor for tensor in tensors if tensor.ndim == 2]
    if named is None and len(flat) == 1 and len(tensors) == len(entries):
        return flat[0]
    if model.training and flat and entries[0] is flat[0]:
        _tell_taught(model, output, entries, "the first")
        return flat[0]
    return output


def _tell_taught(model: nn.Module, output: Any, entries: Sequence[Any], what: str) -> None:
    """Warn, once, that of what a network returns while it trains one alone has a loss."""
    if model.training and not vars(model).get("_cnnprobe_told"):
        model._cnnprobe_told = True
        kind = type(output).__name__
        LOG.warning(f"the network returns a {kind} of {len(entries)} while it trains: {what} is taught, the others not")


def entries_of(output: Any) -> dict[str, Any] | None:
    """Return what a structure calls its entries; None where they have no names."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output):
        return {one.name: getattr(output, one.name) for one in fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output))
    return None
