"""The place of an image that each token shows, measured: patches may be in any order, other tokens at either end."""

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, ancestors, run, value_at
from cnnprobe.instruments.network.tracing import IMAGE, Call, Value, noise_image, trace
from cnnprobe.instruments.network.untouched import untouched

LOOKED_AT = 40
"""Values behind the patch convolution that are looked at; tokens are joined soon after it."""
CHANGED = 1e-6
"""Smallest change of a token that counts, as a share of the largest."""


def token_order(model: nn.Module, layer: Layer, patches: Layer, size: tuple[int, ...]) -> np.ndarray | None:
    """Return the token of each place of a patch convolution's map, (y x,) row by row; None where it cannot be told.

    The convolution's output is changed at half of its places at a time, once for each binary digit of the number of a
    place, then at the other half. Which changes reach a token, in the first value that has as many tokens as the layer,
    spells the number of the place it comes from; tokens that none reaches, or both halves, are no patches (a class
    token, a mean of the others). It holds for the layer if nothing moves tokens after that.

    Args:
        model: any network; it is given back as it was.
        layer: of tokens: its map has one axis.
        patches: the convolution, its map is (y, x).
        size: (channel, y, x) of the images.
    """
    written = trace(model, size)
    try:
        source, calls = value_at(written, patches.tap), ancestors(written, value_at(written, layer.tap))
    except Unrepeatable:
        return None
    with untouched(model), torch.inference_mode(False), torch.no_grad():
        clean: dict[Value, Tensor] = {Value(IMAGE, 0, (1, *size)): noise_image(model, size)}
        behind, made = [], {source}
        for call in calls:
            try:
                clean.update(zip(call.outputs, run(call, clean)))
            except (Unrepeatable, RuntimeError):
                return None
            if made & set(call.inputs):
                made |= set(call.outputs)
                behind.append(call)
                order = _order(behind, source, clean, layer.map_size[0], patches)
                if order is not None or len(behind) == LOOKED_AT:
                    return order
    return None


def _order(
    calls: list[Call], source: Value, clean: dict[Value, Tensor], tokens: int, patches: Layer
) -> np.ndarray | None:
    """Return the order of the tokens in what the last of some calls returned, if it is tokens."""
    value = calls[-1].outputs[0]
    axes = [axis for axis, side in enumerate(value.shape) if side == tokens]
    count = int(np.prod(patches.map_size))
    if not axes or source not in clean:
        return None
    generator = torch.Generator().manual_seed(0)
    push = torch.randn(patches.channels, generator=generator).to(clean[source])
    numbers = torch.arange(1, count + 1, device=push.device).view(patches.map_size)
    digits = count.bit_length()
    codes = {axis: torch.zeros(tokens, dtype=torch.int64, device=push.device) for axis in axes}
    for digit in range(2 * digits):
        known = dict(clean)
        at = ((numbers if digit < digits else ~numbers) >> digit % digits & 1).to(push.dtype)
        known[source] = clean[source] + patches.tapped((push[:, None, None] * at)[None], 1)
        for call in calls:
            known.update(zip(call.outputs, run(call, known)))
        change = (known[value] - clean[value]).abs()
        for axis, code in codes.items():
            each = change.movedim(axis, 0).flatten(1).amax(1)
            code |= (each > CHANGED * each.max()).long() << digit
    every = 2**digits - 1
    for code in codes.values():
        number, others = code & every, code >> digits
        own = torch.where((number ^ others == every) & (number <= count), number, 0)  # 0: no patch
        order = torch.argsort(own, stable=True)[tokens - count :]
        if torch.equal(own[order], numbers.flatten()) and int((own > 0).sum()) == count:
            return order.cpu().numpy()
    return None
