"""State that a module keeps beside its tensors (`get_extra_state`), as a tensor: it is saved and loaded with them."""

import ast
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.models.weights import pickles

KEY = "_extra_state"
"""The last part of its name in a state dict, which torch gives it."""
ARCHIVE = b"PK"  # how what torch.save writes begins
LETTERS = 2**18
"""Of data that are kept as text, of which a letter takes 300 bytes to read; what has more is written by torch.save."""


def encoded(value: Any, name: str) -> Tensor:
    """Return plain data (numbers, texts, containers of those and of tensors) as bytes, (byte,) uint8; equal data alike.

    Raises:
        UserError: it is anything else.
    """
    try:
        text = repr(value) if _is_short(value) else ""
        if text and ast.literal_eval(text) == value:
            return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())
    except (ValueError, SyntaxError, TypeError, RuntimeError, MemoryError, RecursionError):
        pass  # tensors in it, NaN
    written = io.BytesIO()
    try:
        torch.save(value, written)
        written.seek(0)
        torch.load(written, weights_only=True)
    except Exception:  # whatever cannot be written, or could run code when it is read
        raise UserError(f"{name} is a {type(value).__name__} that cannot be stored (get_extra_state)") from None
    return torch.from_numpy(np.frombuffer(written.getvalue(), np.uint8).copy())


def decoded(data: Tensor, name: str) -> Any:
    """Return what was `encoded`; no code in it is run.

    Raises:
        UserError: it is nothing of the kind.
    """
    written = data.cpu().numpy().tobytes()
    try:
        if written.startswith(ARCHIVE):
            pickles.look(io.BytesIO(written))
            return torch.load(io.BytesIO(written), weights_only=True)
        if len(written) > 4 * LETTERS:
            raise ValueError
        return ast.literal_eval(written.decode())
    except Exception:  # a stranger's bytes
        raise UserError(f"{name} cannot be read: it is no state that cnnprobe stored") from None


def _is_short(value: Any) -> bool:
    """Say whether a value is of plain kinds and short enough to be kept as text; what it holds twice counts twice."""
    open_, letters = [value], 0
    while open_ and letters <= LETTERS:
        one = open_.pop()
        letters += 8 + (len(one) if isinstance(one, str | bytes) else 0)
        if isinstance(one, dict):
            open_ += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            open_ += one
        elif not isinstance(one, int | float | complex | str | bytes | None):
            return False
    return letters <= LETTERS


class _Stored(nn.Module):
    """Put in front of a module's class: gives its extra state as a tensor, and takes it so."""

    def get_extra_state(self) -> Tensor:
        """Return the module's extra state as bytes."""
        return encoded(super().get_extra_state(), KEY)

    def set_extra_state(self, state: Any) -> None:
        """Give the module its extra state, from bytes or as it is."""
        super().set_extra_state(decoded(state, KEY) if isinstance(state, Tensor) else state)


def store(model: nn.Module) -> None:
    """Make every module of a network give its extra state as a tensor.

    Raises:
        UserError: a module keeps something that cannot be stored.
    """
    plain = nn.Module.get_extra_state
    for path, module in model.named_modules():
        own = type(module)
        if own.get_extra_state is plain or issubclass(own, _Stored) or isinstance(module.get_extra_state(), Tensor):
            continue
        encoded(module.get_extra_state(), f"{path}.{KEY}" if path else KEY)
        module.__class__ = type(own.__name__, (_Stored, own), {"__module__": own.__module__, "__doc__": own.__doc__})
