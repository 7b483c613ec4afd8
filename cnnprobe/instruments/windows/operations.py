"""Local operations: how each kind carries changed windows on.

A window holds what an occluder changed, as the difference to the clean image (`changes`: zero wherever nothing
changed), or as the values themselves (`values`). Linear functions are applied to the differences: what lies around the
window is zero then, and its products need not be computed. Others are applied to the values, for which pooling takes
its surroundings from the clean image. The clean image's result is subtracted again where differences are needed.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnprobe.instruments.network.tracing import Call
from cnnprobe.instruments.windows.spans import Lookup, Reach, Slide

PACKING = torch.backends.mkldnn.is_available() and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")


TOUCHING = 150
"""Work of writing one number of a window, as multiply-accumulate operations (fitted to times of four networks)."""


class Operation:
    """A call that acts locally; a subclass says how.

    Args:
        call: of the trace.

    Attributes:
        reach: along (y, x): which results read a stretch of its inputs.
        parameters: how many weights it has.
    """

    parameters = 0

    def __init__(self, call: Call, reach: tuple[Reach, Reach]):
        self.call, self.reach = call, reach
        self.inputs = tuple(dict.fromkeys(call.inputs))
        self.output = call.outputs[0]

    def macs(self, source: tuple[int, int], result: tuple[int, int]) -> float:
        """Return the multiply-accumulate operations of one window, (y, x) positions in and out."""
        return 0.0

    @property
    def weight(self) -> float:
        """Return the work per position of a window of what is read, as multiply-accumulate operations."""
        return TOUCHING * self.inputs[0].shape[1]

    def carry(self, windows: Any) -> None:
        """Compute the windows of `output` from those of `inputs`; see `carrying.Windows`."""
        raise NotImplementedError


class Convolution(Operation):
    """A convolution: differences only, the bias cancels."""

    reach: tuple[Slide, Slide]

    UNROLLED = 600
    """Numbers in a window up to which a convolution with stride is written as one matrix (it reads the image)."""

    def __init__(self, call: Call, reach: tuple[Slide, Slide], weight: Tensor, groups: int):
        super().__init__(call, reach)
        self.kernel, self.groups = weight, groups
        self.area = weight.shape[2] * weight.shape[3]
        self.parameters = weight.numel()
        self.prepared: dict[Any, Tensor] = {}

    def run(self, maps: Tensor, low: bool, padding: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Convolve (image, channel, y, x) without the bias."""
        if maps.shape[1] == 1 and stride[0] != stride[1]:  # torch 2.15 leaves a result of one column unwritten on CPUs
            return self.run(maps, low, padding, (1, 1))[:, :, :: stride[0], :: stride[1]]
        dilation = [slide.dilation for slide in self.reach]
        maps = maps.contiguous(memory_format=torch.channels_last)
        maps = maps.to(torch.bfloat16) if low else maps
        if PACKING and maps.device.type == "cpu" and maps.dtype == torch.float32:
            # else the kernel is brought into the processor's layout anew in every call
            settings = (list(padding), list(stride), dilation, self.groups)

            def pack() -> Tensor:
                return torch._C._nn.mkldnn_reorder_conv2d_weight(self.kernel.to_mkldnn(), *settings, list(maps.shape))

            packed = self._once((padding, tuple(stride)), pack, False)
            return torch.ops.mkldnn._convolution_pointwise(maps, packed, None, *settings, "none", [], "")
        kernel = self._once("kernel", lambda: self.kernel.contiguous(memory_format=torch.channels_last), low)
        return F.conv2d(maps, kernel, None, stride, padding, dilation, self.groups)

    def flat(self, low: bool) -> Tensor:
        """Return the kernel as a matrix (y x channel, channel) for windows with a single result."""
        return self._once("flat", lambda: self.kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), low)

    def unrolled(self, gaps: list[int], lengths: tuple[int, int], result: tuple[int, int], low: bool) -> Tensor:
        """Return a matrix (y x channel, y x channel) from windows of `lengths` to their results.

        Args:
            gaps: (y, x) places of the window in what the results read.
        """

        def make() -> Tensor:
            channels, (height, width) = self.kernel.shape[1], lengths
            one = torch.eye(height * width * channels, device=self.kernel.device, dtype=self.kernel.dtype)
            maps = one.view(-1, height, width, channels).permute(0, 3, 1, 2)
            reads = [(n - 1) * s.stride + s.span for n, s in zip(result, self.reach)]
            pad = [gaps[1], reads[1] - gaps[1] - width, gaps[0], reads[0] - gaps[0] - height]
            y, x = self.reach
            made = self.run(F.pad(maps, pad), False, (0, 0), (y.stride, x.stride))
            return made.permute(0, 2, 3, 1).reshape(len(one), -1).contiguous()

        return self._once((tuple(gaps), lengths, result), make, low)

    def _once(self, key: Any, make: Callable[[], Tensor], low: bool) -> Tensor:
        if (key, low) not in self.prepared:
            self.prepared[key, low] = make().to(torch.bfloat16) if low else make()
        return self.prepared[key, low]

    def macs(self, source: tuple[int, int], result: tuple[int, int]) -> float:
        """Count the cheaper of both ways."""
        return min(self._positions(source, result)) * self.kernel.numel()

    def _positions(self, source: tuple[int, int], result: tuple[int, int]) -> tuple[float, float]:
        """Return how often the kernel is applied whole: outwards from every input, or at every result."""
        plain = all(slide.stride == 1 for slide in self.reach)
        return (math.prod(source) if plain else math.inf), math.prod(result)

    @property
    def weight(self) -> float:
        """Count the kernel once per position, less with stride."""
        return self.kernel.numel() / math.prod(slide.stride for slide in self.reach)

    def carry(self, windows: Any) -> None:
        """Convolve the differences outwards (zeros around them), or what each result reads, whichever is less."""
        source, result = windows.place(self.inputs[0]), windows.place(self.output)
        changes = windows.changes(self.inputs[0])
        y, x = self.reach
        outwards, inwards = self._positions(source.lengths, result.lengths)
        if self.area == 1 and y.stride == x.stride == 1 and not (y.before or x.before):
            made = windows.product(windows.moved(changes, source, result), self)
        elif outwards <= inwards:
            full = windows.convolved(changes, self, (y.span - 1, x.span - 1))
            made = windows.moved(full, source.reaching(self.reach), result)
        else:
            made = windows.strided(changes, source, result, self)
        windows.set_changes(self.output, made)


class Scale(Operation):
    """BatchNorm in eval mode: a factor per channel."""

    def __init__(self, call: Call, reach: tuple[Reach, Reach], factor: Tensor):
        super().__init__(call, reach)
        self.factor = factor

    def carry(self, windows: Any) -> None:
        """Multiply the differences."""
        windows.set_changes(self.output, windows.changes_at(self.inputs[0], self.output) * self.factor)


class Sum(Operation):
    """The sum of two values, of a value and a constant, or the value itself."""

    def carry(self, windows: Any) -> None:
        """Add the differences."""
        parts = [windows.changes_at(value, self.output) for value in self.call.inputs]
        windows.set_changes(self.output, parts[0] if len(parts) == 1 else parts[0] + parts[1])


class Join(Operation):
    """Maps side by side along the channels."""

    def carry(self, windows: Any) -> None:
        """Join the differences."""
        parts = [windows.changes_at(value, self.output) for value in self.call.inputs]
        windows.set_changes(self.output, torch.cat(parts, -1))


class Pad(Operation):
    """A border of a constant, or of what is inside (reflect, replicate, circular)."""

    reach: tuple[Lookup, Lookup]

    def carry(self, windows: Any) -> None:
        """Fetch the differences from where each position was taken."""
        changes, source = windows.changes(self.inputs[0]), windows.place(self.inputs[0])
        windows.set_changes(self.output, windows.fetched(changes, source, windows.place(self.output), self.reach))


class Pointwise(Operation):
    """A function of the values at each position (all channels together, or one by one)."""

    def carry(self, windows: Any) -> None:
        """Apply the function to the values."""
        if self.call.name in ("relu", "relu_") and len(self.inputs) == 1:
            made = windows.values_at(self.inputs[0], self.output, fresh=True).relu_()
        else:
            made = windows.applied(self.call, self.output)
        windows.set_values(self.output, made)


class MaxPool(Operation):
    """The largest value under a window."""

    reach: tuple[Slide, Slide]

    def carry(self, windows: Any) -> None:
        """Pool the values, with the clean image around them."""
        slides = self.reach
        place = windows.place(self.output).read_by(slides)
        around = windows.inlaid(self.inputs[0], place, slides, -math.inf)
        kernel, stride, dilation = ([getattr(s, name) for s in slides] for name in ("kernel", "stride", "dilation"))
        windows.set_values(
            self.output, windows.image_like(around, lambda maps: F.max_pool2d(maps, kernel, stride, 0, dilation))
        )


class AveragePool(Operation):
    """The mean under a window; `divisor` (y, x) where it is not the same everywhere."""

    reach: tuple[Slide, Slide]

    def __init__(self, call: Call, reach: tuple[Slide, Slide], divisor: Tensor):
        super().__init__(call, reach)
        self.divisor = divisor

    def carry(self, windows: Any) -> None:
        """Average the differences."""
        slides, place = self.reach, windows.place(self.output)
        changes = windows.moved(windows.changes(self.inputs[0]), windows.place(self.inputs[0]), place.read_by(slides))
        kernel, stride = [s.kernel for s in slides], [s.stride for s in slides]
        total = windows.image_like(changes, lambda maps: F.avg_pool2d(maps, kernel, stride, divisor_override=1))
        windows.set_changes(self.output, total / windows.cut(self.divisor, place))


def behind(slides: tuple[Slide, Slide]) -> list[int]:
    """Return the padding (left, right, top, bottom) with which a window fits at every result (ceil_mode)."""
    y, x = ((s.before, max((s.into - 1) * s.stride + s.span - s.before - s.length, 0)) for s in slides)
    return [*x, *y]
