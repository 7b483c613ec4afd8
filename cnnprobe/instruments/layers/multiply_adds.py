"""The cost of a network: multiply-accumulate operations, counted from the shapes of what its functions are given.

Counted are sums of products: convolutions (of deformable ones not the sampling between pixels), dense and bilinear
layers, products of matrices, attention, recurrent layers. Functions of single numbers, products and sums at each place,
pooling, normalisation and interpolation count nothing, as is usual.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import einsum_indices
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.tracing import CONSTANT, Call, Trace, Value, Watch, leaves, noise_image, replaced
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance

_CONVOLUTION = re.compile(r"(conv[123]d|conv_transpose[123]d|_?convolution|conv_tbc|deform_conv2d)")
_PRODUCT = re.compile(r"matmul|__r?matmul__|linalg_matmul|mm|bmm|mv|inner")
_ADDED_PRODUCT = re.compile(r"addmm|addmv|baddbmm|addbmm")
_RECURRENT = re.compile(r"(lstm|gru|rnn_tanh|rnn_relu)(_cell)?")
_WITHOUT_COUNT = re.compile(
    r"_?cdist|pairwise_distance|cosine_similarity|cov|corrcoef|fft_(?!\w*(shift|freq))\w+|i?stft"
    r"|linalg_(?!cross|diagonal|\w*norm|matmul|multi_dot|vecdot)\w+|matrix_(exp|power)|p?inverse|det|logdet|slogdet"
    r"|cholesky\w*|qr|svd|lu\w*|lobpcg|triangular_solve|orgqr|ormqr|\w*sparse\w*mm|sspaddmm|_native_multi_head_attention"
    r"|_transformer_encoder_layer_fwd|flex_attention\w*"
)
_OUTSIDE = {"numpy", "__array__", "__dlpack__"}


def multiply_accumulates(call: Call) -> int:
    """Count the multiply-accumulate operations of a call on one image; 0 for what is not a sum of products.

    Of an `einsum` of several factors these are multiplied from left to right; a bilinear layer has one operation for
    each of its weights.
    """
    if _own_operation(call):
        return 0
    name, out, given = _plain(call), math.prod(call.outputs[0].shape), call.argument
    tensors = leaves((call.arguments, call.keywords), Value)
    if _CONVOLUTION.fullmatch(name):
        return _of_convolution(call, name, out)
    if name == "linear":
        return out * given("weight", 1).shape[-1]
    if name == "bilinear":
        return out * math.prod(given("weight", 2).shape[1:])
    if _PRODUCT.fullmatch(name):
        first = tensors[0].shape
        return out * (first[-2:][0] if name == "__rmatmul__" else first[-1])
    if _ADDED_PRODUCT.fullmatch(name):
        first = tensors[1].shape
        return out * first[-1] * (first[0] if name == "addbmm" else 1)
    if name in ("dot", "vdot"):
        return math.prod(tensors[0].shape)
    if name == "linalg_vecdot":
        return out * tensors[0].shape[call.keywords.get("dim", -1)]
    if name == "tensordot":  # of a numbers and b numbers, c of each summed over, there are a/c times b/c sums of c
        return out * math.isqrt(math.prod(map(_count, tensors[:2])) // out) if out else 0
    if name in ("linalg_multi_dot", "chain_matmul"):
        return _of_chain([value.shape for value in tensors])
    if name == "einsum":
        return _of_einsum(call)
    if _RECURRENT.fullmatch(name):
        return _of_recurrence(call, name)
    return _of_attention(call, name, out)


class _Bill(Watch):
    """Sums up the operations of everything that runs in a pass, whether it reads the image or not."""

    count = 0

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        result = function(*arguments, **keywords)
        outputs = tuple(_shape(tensor) for tensor in leaves(result, Tensor))
        if self.stack and outputs:
            given, named = replaced((arguments, keywords), Tensor, _shape)
            name = getattr(function, "__name__", str(function))
            self.count += multiply_accumulates(Call(0, name, function, *self.stack[-1], 0, given, named, outputs))
        return result


def per_image(model: nn.Module, size: tuple[int, ...]) -> int:
    """Count the multiply-accumulate operations that an image costs, each once.

    They are what a second image adds to a pass: the steps that a recurrent network takes from its state of zeros are
    counted, kernels that are made from parameters alone, once for a batch, are not. Where images pass one by one, they
    are all that the pass does.

    Args:
        model: any network; it is given back as it was.
        size: (channel, y, x) or (channel, time) of its images.
    """
    alone, ends = _bill(model, size, 1), conduct_of(model, size).output
    return alone if ends.problem or ends.handing == "one by one" else _bill(model, size, 2) - alone


def _bill(model: nn.Module, size: tuple[int, ...], images: int) -> int:
    with torch.inference_mode(False):
        batch = noise_image(model, size).repeat_interleave(images, 0)  # alike: a router sends both the same way
    bill = _Bill(model)
    with untouched(model), chance.forked(), torch.inference_mode(False), torch.enable_grad(), bill:
        model(batch)
    return bill.count


def uncounted(trace: Trace) -> list[str]:
    """Return what sums products in a pass, or may, and has no count: names of functions and operations, in words."""
    names = [_own_operation(call) or _plain(call) for call in trace.calls if _lacks_count(call)]
    outputs = leaves(trace.modules[-1].output, Value)
    if _OUTSIDE & set(trace.readers):
        names.append("what leaves torch (numpy())")
    elif outputs and all(value.call == CONSTANT for value in outputs):
        names.append("what cannot be followed from the image to the output (a compiled part, a transform)")
    return list(dict.fromkeys(names))


def apart(trace: Trace, model: nn.Module) -> list[str]:
    """Return the modules with parameters that gave nothing that comes from the image, as far as torch can see."""
    weighed = {path for path, module in model.named_modules() if path and any(True for _ in module.parameters())}
    found: dict[str, bool] = {}
    for call in trace.modules:
        values = leaves(call.output, Value)
        found[call.path] = found.get(call.path, True) and all(value.call == CONSTANT for value in values)
    return [path for path, alone in found.items() if alone and path in weighed]


def _shape(tensor: Tensor) -> Value:
    return Value(CONSTANT, 0, tuple(tensor.shape))


def _count(value: Value) -> int:
    return math.prod(value.shape)


def _plain(call: Call) -> str:
    """Return the name of a function without that of an overload, and without the "_" of those in place."""
    name = call.name.partition(".")[0]
    return name if name.startswith("__") else name.removesuffix("_")


def _own_operation(call: Call) -> str:
    """Return the name of an operation that somebody registered with torch, "" for torch's and torchvision's own."""
    space = str(getattr(call.function, "__module__", "") or "").partition("torch._ops.")[2]
    return f"{space}::{call.name.partition('.')[0]}" if space and space not in ("aten", "prims", "torchvision") else ""


def _lacks_count(call: Call) -> bool:
    """Say whether a call sums products and is not counted; of an unknown operation: whether it is given two tensors."""
    if _own_operation(call):
        several = [value for value in leaves((call.arguments, call.keywords), Value) if _count(value) > 1]
        return len(several) > 1
    return bool(_WITHOUT_COUNT.fullmatch(_plain(call)))


def _of_convolution(call: Call, name: str, out: int) -> int:
    image, weight = call.argument("input", 0), call.argument("weight", 1).shape
    if name == "conv_tbc":
        return out * math.prod(weight[:2])
    transposed = name.startswith("conv_transpose") or (name.endswith("convolution") and call.argument("transposed", 6))
    return (_count(image) if transposed else out) * math.prod(weight[1:])


def _of_recurrence(call: Call, name: str) -> int:
    """Count one operation for each weight of the matrices and each step."""
    matrices = call.arguments[2:4] if name.endswith("_cell") else call.arguments[1:]
    weights = [value for value in leaves(matrices, Value) if len(value.shape) == 2]
    return math.prod(call.arguments[0].shape[:-1]) * sum(map(_count, weights))


def _of_attention(call: Call, name: str, out: int) -> int:
    if name == "scaled_dot_product_attention":
        query, key, value = (call.argument(word, place).shape for place, word in enumerate(("query", "key", "value")))
        return out // value[-1] * key[-2] * (query[-1] + value[-1]) if out else 0
    if name != "multi_head_attention_forward":
        return 0
    query, key, value = (call.argument(word, place).shape for place, word in enumerate(("query", "key", "value")))
    tokens, width, read = query[0], query[-1], key[0]
    projections = 2 * tokens * width**2 + read * width * (key[-1] + value[-1])
    read += (call.argument("bias_k", 7) is not None) + bool(call.argument("add_zero_attn", 9))
    return math.prod(query[1:-1]) * (projections + 2 * tokens * read * width)


def _of_chain(shapes: list[tuple[int, ...]]) -> int:
    """Count the operations of a product of matrices in the order that has the fewest; ends may be vectors."""
    first = shapes[0] if len(shapes[0]) == 2 else (1, *shapes[0])
    sides = [*first, *(shape[1] if len(shape) == 2 else 1 for shape in shapes[1:])]
    least = {(at, at + 1): 0 for at in range(len(shapes))}
    for length in range(2, len(shapes) + 1):
        for start in range(len(shapes) - length + 1):
            end = start + length
            least[start, end] = min(
                least[start, cut] + least[cut, end] + sides[start] * sides[cut] * sides[end]
                for cut in range(start + 1, end)
            )
    return least[0, len(shapes)]


def _of_einsum(call: Call) -> int:
    """Count the products that are summed, the factors multiplied from left to right."""
    written, result, sizes = einsum_indices(call)
    factors = [set(names) for names in written]
    done, count = factors[0], 0
    for place, factor in enumerate(factors[1:], 2):
        together = done | factor
        needed = together & set(result).union(*factors[place:])
        if done & factor - needed:
            summed_alone = (done ^ factor) - needed  # those are summed before anything is multiplied
            count += math.prod(sizes[index] for index in together - summed_alone)
        done = needed
    return count
