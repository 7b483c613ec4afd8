"""What Python gets to know of an image: values that leave torch, and shapes that depend on values.

Code may decide by either (`if x.max() > 1`, `if len(x[mask])`), and does otherwise for another image than it did in the
pass that was written down. Which operations look at values is asked of torch, which marks them; those it does not mark
are named here.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HANDED_OUT = {
    *("__bool__", "__nonzero__", "__float__", "__int__", "__index__", "__complex__", "__contains__", "__array__"),
    *("__dlpack__", "__format__", "__repr__", "__str__", "__reduce_ex__", "storage", "untyped_storage"),
    *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero"),
}
"""Functions by which values leave torch: what Python does with them is not seen."""
_UNMARKED = re.compile(r"nms|batched_nms|tensor_split|_pack_padded_sequence|(_?to_|_)sparse\w*|coalesce")
"""Functions that make shapes of values without an operation that torch marks."""
_FACTORS = re.compile(r"threshold|addcmul|addcdiv|hardtanh|clamp\w*|masked_fill|fill|leaky_relu|elu|celu|lerp|add|sub")
"""Functions that read a number that a tensor holds as a factor or a bound, not as a length."""
_OF_FIRST = re.compile(
    r"(index_(add|copy|fill|put|reduce)|scatter(_add|_reduce)?|(slice|select|diagonal|masked)_scatter|masked_fill|put)_?"
)
"""Functions that return what has the shape of their first argument, besides those in place."""
_PIECES = re.compile(r"unbind|(unsafe_)?(split|chunk)")
"""Functions that return as many pieces as a shape says."""
_OTHER_NUMBERS = {"element_size", "itemsize", "_version", "output_nr", "get_device", "data_ptr", "storage_offset"}
"""Functions of a tensor that return numbers other than its shape."""
_RANK = {"dim", "ndim", "ndimension"}
_MASKS = (torch.bool, torch.uint8)


class Reading(TorchDispatchMode):
    """Notes what torch looks at while a function runs.

    Args:
        constants: `id` of tensors that do not depend on the image.

    Attributes:
        shapes: some operation made a shape of values that may depend on it.
        numbers: some operation read a number of such a tensor, for Python or as a length.
    """

    supports_higher_order_operators = True

    def __init__(self, constants: set[int]):
        super().__init__()
        self.constants = constants
        self.shapes = self.numbers = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Leave what is compiled to itself."""
        return True

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if torch.is_inference_mode_enabled() and hasattr(operation, "decompose"):  # else torch does that before
            with self:
                result = operation.decompose(*arguments, **(keywords or {}))
            if result is not NotImplemented:
                return result
        tags = getattr(operation, "tags", ())
        if torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags:
            read = [one for one in tree_leaves((arguments, keywords)) if isinstance(one, Tensor)]
            if operation is torch.ops.aten.index.Tensor:  # by places, the shape is that of their tensor
                read = [one for one in read[1:] if one.dtype in _MASKS]
            if any(id(one) not in self.constants for one in read):
                self.shapes |= torch.Tag.dynamic_output_shape in tags
                self.numbers |= torch.Tag.data_dependent_output in tags
        return operation(*arguments, **(keywords or {}))


def makes_shape(name: str, reading: Reading, lengths: bool) -> bool:
    """Say whether the shape of what a function returned depends on values.

    Args:
        name: of the function.
        reading: what it looked at.
        lengths: whether tensors are among the bounds of its slices, of `__getitem__`.
    """
    if name == "__getitem__":  # by a number one place is taken, whichever
        return reading.shapes or lengths
    if _FACTORS.fullmatch(name.removesuffix("_")):
        return False
    return reading.shapes or reading.numbers or bool(_UNMARKED.fullmatch(name))


def is_shaped_as_first(name: str) -> bool:
    """Say whether a function that is not in place returns what has the shape of its first argument."""
    return bool(_OF_FIRST.fullmatch(name))


def tells_shape(function: Callable, name: str, result: Any, squeezed: bool) -> bool:
    """Say whether Python learns of the shape of a tensor by what a function of it returned.

    Args:
        function, name: the function.
        result: of it.
        squeezed: how many axes the tensor has depends on how long they are.
    """
    if name == "__get__":  # a property, by its own name
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    if name in _RANK:
        return squeezed
    if _PIECES.fullmatch(name) or name == "is_same_size":
        return True
    numbers = [one for one in tree_leaves(result) if isinstance(one, int) and not isinstance(one, bool)]
    return bool(numbers) and name not in _OTHER_NUMBERS
