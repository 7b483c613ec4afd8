"""A pretend accelerator: the processor's memory under the name of another device.

What a real one refuses is refused (operations on tensors of two devices, `.numpy()` without `.cpu()`), and the numbers
are the processor's, so that what is measured on it must be the same bit for bit. It stands on a hook of torch that is
experimental (`_setup_privateuseone_for_python_backend`): `MISSING` says why it cannot be used, "" where it can.

What the hook cannot do: streams, pinned memory, real asynchrony, `torch.func.vmap` over tensors of a device, and
parameters that two modules share (torch makes two of them when it moves a network there; on a GPU it does not).
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import _pytree as pytree

NAME = "pretend"
FREE = 2**31
"""Bytes that it says are free, until a test says otherwise."""
ROOM = SimpleNamespace(free=FREE)


class Module:
    """What torch asks of the module of a device: `torch.pretend`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return ROOM.free, 2**40

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class Held(torch.Tensor):
    """A tensor of the pretend device; `held` is where its numbers really are."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        with torch.inference_mode(False):
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                layout=held.layout,
                device=torch.device(NAME, 0),
                requires_grad=False,
            )
        made.held = held
        return made

    def __init__(self, held: torch.Tensor):
        pass

    def __repr__(self) -> str:
        return f"{NAME}({self.held})"

    def tolist(self) -> Any:  # which a GPU's tensors give, and torch refuses for tensors of a class of their own
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _done(function, args, kwargs or {})


ATEN = torch.ops.aten
LAZY = {ATEN._conj.default: ATEN.conj_physical.default, ATEN._neg_view.default: ATEN.neg.default}
"""What only sets a flag, which is not seen where operations of such a tensor are done."""
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
FACTORIES = ("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "eye", "eye.m",
             "linspace", "logspace", "randperm", "tril_indices", "triu_indices")  # fmt: skip
"""What makes a tensor: the two that all others use, and those that would make it longer afterwards."""
LOWERED = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")
"""What autocast computes in bfloat16, of what our networks do."""
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)
"""Their indices may lie on the processor, as on a GPU."""


def _done(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Do one operation on the processor; refuse tensors of two devices, but for scalars, as a GPU does."""
    flat, layout = pytree.tree_flatten((args, kwargs))
    ours = any(isinstance(one, Held) for one in flat)
    if ours and function not in COPIES:
        indices = {id(one) for one in pytree.tree_leaves(args[1])} if function in INDEXED else set()
        for one in flat:
            foreign = isinstance(one, torch.Tensor) and not isinstance(one, Held)
            if foreign and one.dim() and id(one) not in indices:
                raise RuntimeError(f"{function}: expected all tensors on one device, got {NAME} and {one.device}")
    asked = kwargs.get("device")
    stays = torch.device(asked).type == NAME if asked is not None else ours
    given, named = pytree.tree_unflatten([_real(one) for one in flat], layout)
    if function is ATEN.copy_.default:
        given[0].copy_(given[1])
        return args[0]
    out = LAZY.get(function, function)(*given, **named)
    if isinstance(out, torch.Tensor) and function._schema.is_mutable:  # in place: hand back the argument itself
        for real, one in zip(pytree.tree_leaves((given, named)), flat):
            if real is out:
                return one
    return pytree.tree_map(_held, out) if stays else out


def _held(one: Any) -> Any:
    return Held(one) if isinstance(one, torch.Tensor) and not isinstance(one, Held) else one


def _real(one: Any) -> Any:
    if isinstance(one, Held):
        return one.held
    return torch.device("cpu") if isinstance(one, torch.device) and one.type == NAME else one


@cache
def missing() -> str:
    """Make the device known to torch, once a process; return why that is not possible, "" where it is."""
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as setup

        setup(NAME, backend_module=Module())
        library = torch.library.Library("aten", "IMPL")
        for name in FACTORIES:
            operation, _, overload = name.partition(".")
            library.impl(name, _factory(getattr(getattr(ATEN, operation), overload or "default")), "PrivateUse1")
        library.impl("_copy_from", _copied, "PrivateUse1")
        for operation in LOWERED:
            library.impl(operation, _lowered(getattr(ATEN, operation).default), "AutocastPrivateUse1")
        rest = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
        rest.fallback(torch.library.fallthrough_kernel)
        missing.libraries = library, rest  # they are undone when they are collected
        ones = torch.ones(2, device=NAME)
        if ones.device.type != NAME or not torch.equal((ones + ones).cpu(), torch.full((2,), 2.0)):
            return "torch's hook for devices in Python makes no device of its own"
        leaf = ones.requires_grad_()
        try:
            (leaf * 2).sum().backward()
        except RuntimeError:
            return "gradients were taken before the device was known: run this file by itself (make test does)"
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        return f"torch {torch.__version__} has no hook for devices in Python: {error}"
    return ""


def _copied(source: torch.Tensor, to: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _real(to).copy_(_real(source))
    return to


def _lowered(operation: Any) -> Any:
    """Return an operation as autocast has it: its factors in bfloat16."""

    def low(*args, **kwargs):
        with torch.autocast(NAME, enabled=False):
            return operation(*pytree.tree_map(_low, args), **pytree.tree_map(_low, kwargs))

    return low


def _low(one: Any) -> Any:
    return one.bfloat16() if isinstance(one, torch.Tensor) and one.dtype == torch.float32 else one


def _factory(make: Any) -> Any:
    def made(*args, **kwargs):
        kwargs.pop("pin_memory", None)
        return Held(make(*args, **kwargs | {"device": "cpu"}))

    return made
