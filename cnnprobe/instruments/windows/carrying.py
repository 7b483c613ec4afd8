"""Changed windows on their way through a network, many occluders at once.

Rows of numbers are (draw, row of occluders, column of occluders, y, x, channel): all windows of a batch have one size,
and each its own place on the map. Channels stand last, as convolutions on CPUs like it best.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnprobe.instruments.network.replay import repeat_batch, run
from cnnprobe.instruments.network.tracing import CONSTANT, Call, Value, replaced
from cnnprobe.instruments.windows.operations import Convolution, behind
from cnnprobe.instruments.windows.plan import Class
from cnnprobe.instruments.windows.spans import Lookup, Slide


@dataclass(frozen=True)
class Place:
    """Where windows lie on a map: first positions (row of occluders,) and (column of occluders,), and their lengths."""

    first: tuple[np.ndarray, np.ndarray]
    lengths: tuple[int, int]

    def read_by(self, slides: tuple[Slide, Slide]) -> "Place":
        """Return what results at these places read."""
        rows, columns = (at * s.stride - s.before for at, s in zip(self.first, slides))
        height, width = ((n - 1) * s.stride + s.span for n, s in zip(self.lengths, slides))
        return Place((rows, columns), (height, width))

    def reaching(self, slides: tuple[Slide, Slide]) -> "Place":
        """Return all results that read any of these places; stride 1."""
        rows, columns = (at + s.before - (s.span - 1) for at, s in zip(self.first, slides))
        height, width = (n + s.span - 1 for n, s in zip(self.lengths, slides))
        return Place((rows, columns), (height, width))

    def relative_to(self, other: "Place") -> tuple[np.ndarray, np.ndarray]:
        """Return its first positions counted from those of another."""
        rows, columns = (own - its for own, its in zip(self.first, other.first))
        return rows, columns


class Clean:
    """The clean image's values, and what is derived from them once.

    Args:
        values: (1, …) by value.
    """

    def __init__(self, values: dict[Value, Tensor]):
        self.values = values
        self.tables: dict[tuple, tuple[Tensor, int]] = {}

    def table(self, value: Value, border: tuple[int, ...] = (), fill: float = 0.0) -> tuple[Tensor, int]:
        """Return a map as rows (position, channel) and its width; with a border (left, right, top, bottom)."""
        key = (value, border, fill)
        if key not in self.tables:
            maps = self.values[value]
            maps = F.pad(maps, border, value=fill) if any(border) else maps
            rows = maps[0].permute(1, 2, 0).reshape(-1, maps.shape[1]).contiguous()
            self.tables[key] = rows, maps.shape[3]
        return self.tables[key]


class Windows:
    """The windows of a batch of occluders, value by value.

    Args:
        rows, columns: classes of occluders.
        clean: the clean image's values.
        draws: how many fillings.
        low: use bfloat16 for the products.
    """

    def __init__(self, rows: Class, columns: Class, clean: Clean, draws: int, low: bool):
        self.axes, self.clean, self.draws, self.low = (rows, columns), clean, draws, low
        self.count = (draws, len(rows.members), len(columns.members))
        self.changed: dict[Value, Tensor] = {}
        self.valued: dict[Value, Tensor] = {}
        self.wholes: dict[Value, Tensor] = {}

    def place(self, value: Value) -> Place:
        """Return where the windows of a value lie."""
        y, x = (axis.windows[value] for axis in self.axes)
        return Place((y.first, x.first), (y.length, x.length))

    def enter(self, value: Value, differences: Tensor) -> None:
        """Begin with an image seen through the occluders: differences (draw, y, x, channel) of the whole image."""
        place = self.place(value)
        draws, height, width, channels = differences.shape
        table = differences.permute(1, 2, 0, 3).reshape(height * width, -1)
        rows = self._read(table, width, place).unflatten(-1, (draws, channels)).movedim(-2, 0)
        for axis, stretch in enumerate(axis.windows[value] for axis in self.axes):
            if not stretch.exact:
                along = stretch.first[:, None] + np.arange(stretch.length)
                seen = (along >= stretch.changed[0][:, None]) & (along < stretch.changed[1][:, None])
                shape = [1, 1, 1, 1, 1, 1]
                shape[1 + axis], shape[3 + axis] = seen.shape
                rows = rows * torch.from_numpy(seen).view(shape).to(rows)
        self.changed[value] = rows

    # ---- what a value is ---------------------------------------------------------------------------------------

    def set_changes(self, value: Value, rows: Tensor) -> None:
        """Take differences to the clean image, (draw, row, column, y, x, channel)."""
        self.changed[value] = rows

    def set_values(self, value: Value, rows: Tensor) -> None:
        """Take the values themselves."""
        self.valued[value] = rows

    def changes(self, value: Value) -> Tensor:
        """Return the differences of a value to the clean image."""
        if value not in self.changed:
            self.changed[value] = self.valued[value] - self.background(value, self.place(value))
        return self.changed[value]

    def values(self, value: Value, fresh: bool = False) -> Tensor:
        """Return the values in the windows; `fresh`: to be written to."""
        if value in self.valued:
            return self.valued[value].clone() if fresh else self.valued[value]
        made = self.changed[value] + self.background(value, self.place(value))
        if not fresh:
            self.valued[value] = made
        return made

    def changes_at(self, value: Value, result: Value) -> Tensor:
        """Return the differences of a value where the windows of another lie."""
        return self.moved(self.changes(value), self.place(value), self.place(result))

    def values_at(self, value: Value, result: Value, fresh: bool = False) -> Tensor:
        """Return the values where the windows of another lie, what is not changed included."""
        source, target = self.place(value), self.place(result)
        if source.lengths == target.lengths and all(not gap.any() for gap in source.relative_to(target)):
            return self.values(value, fresh)
        return self._around(value, target)

    def forget(self, value: Value) -> None:
        """Give the memory of a value back."""
        for kept in (self.changed, self.valued, self.wholes):
            kept.pop(value, None)

    # ---- moving --------------------------------------------------------------------------------------------------

    def background(self, value: Value, place: Place) -> Tensor:
        """Return the clean values in windows, (row, column, y, x, channel)."""
        return self._read(*self.clean.table(value), place)

    def cut(self, maps: Tensor, place: Place) -> Tensor:
        """Return windows of one map (y, x) that holds for all channels, (row, column, y, x, 1)."""
        maps = maps.to(next(iter(self.clean.values.values())))
        return self._read(maps.reshape(-1, 1), maps.shape[1], place)

    def _read(self, table: Tensor, width: int, place: Place) -> Tensor:
        rows, columns = self._positions(place, table.device)
        index = rows[:, None, :, None] * width + columns[None, :, None, :]
        return table.index_select(0, index.reshape(-1)).view(*index.shape, table.shape[1])

    @staticmethod
    def _positions(place: Place, device: torch.device) -> list[Tensor]:
        """Return the positions of windows along each axis, (occluder, position)."""
        along = (at[:, None] + np.arange(length) for at, length in zip(place.first, place.lengths))
        return [torch.from_numpy(np.ascontiguousarray(positions)).to(device) for positions in along]

    def moved(self, rows: Tensor, source: Place, target: Place) -> Tensor:
        """Return differences that lie at `source` as they are at `target`; zero where they were not known."""
        gaps = target.relative_to(source)
        if all((gap == gap[0]).all() for gap in gaps):
            return self._shifted(rows, [int(gap[0]) for gap in gaps], target.lengths)
        offsets = [gap[:, None] + np.arange(length) for gap, length in zip(gaps, target.lengths)]
        return self._gathered(rows, offsets, None)

    def fetched(self, rows: Tensor, source: Place, target: Place, lookups: tuple[Lookup, Lookup]) -> Tensor:
        """Return differences where each target position looks its source up."""
        offsets = []
        for lookup, at, first, length in zip(lookups, target.first, source.first, target.lengths):
            taken = lookup.source[at[:, None] + np.arange(length)]
            offsets.append(np.where(taken < 0, -1, taken - first[:, None]))
        return self._gathered(rows, offsets, None)

    @staticmethod
    def _shifted(rows: Tensor, gaps: list[int], lengths: tuple[int, int]) -> Tensor:
        """Cut or pad all windows alike."""
        for axis, gap, length in zip((3, 4), gaps, lengths):
            own = rows.shape[axis]
            if gap < 0 or gap + length > own:
                pad = [0, 0] * (5 - axis) + [max(-gap, 0), max(gap + length - own, 0)]
                rows, gap = F.pad(rows, pad), max(gap, 0)
            if gap or length != rows.shape[axis]:
                rows = rows.narrow(axis, gap, length)
        return rows

    def _gathered(self, rows: Tensor, offsets: list[np.ndarray], around: tuple[Tensor, int, Place] | None) -> Tensor:
        """Fetch every position of the target from a window, or from the table `around`, or zero.

        Args:
            rows: (draw, row, column, y, x, channel).
            offsets: per axis (occluder, position) within the window; outside of it: not there.
            around: rows, width and place in them of what stands where there is no window.
        """
        height, width, channels = rows.shape[3:]
        device, flat = rows.device, rows.reshape(-1, rows.shape[5])
        inside = [(o >= 0) & (o < length) for o, length in zip(offsets, (height, width))]
        ys, xs = (torch.from_numpy(np.where(ok, o, 0)).to(device) for ok, o in zip(inside, offsets))
        windows = torch.arange(int(np.prod(self.count)), device=device).view(*self.count, 1, 1) * (height * width)
        index = windows + (ys * width)[:, None, :, None] + xs[None, :, None, :]
        found = index.reshape(-1)
        shape = (*index.shape, channels)
        if all(ok.all() for ok in inside):
            return flat.index_select(0, found).view(shape)
        ok_y, ok_x = (torch.from_numpy(ok).to(device) for ok in inside)
        ok = (ok_y[:, None, :, None] & ok_x[None, :, None, :]).expand(index.shape).reshape(-1)
        if around is None:
            return flat.index_select(0, found).index_fill_(0, (~ok).nonzero()[:, 0], 0).view(shape)
        table, columns, place = around
        rows_y, rows_x = self._positions(place, device)
        outside = (rows_y[:, None, :, None] * columns + rows_x[None, :, None, :]).expand(index.shape).reshape(-1)
        made = table.index_select(0, outside)
        places = ok.nonzero()[:, 0]
        return made.index_copy_(0, places, flat.index_select(0, found[places])).view(shape)

    def inlaid(self, value: Value, place: Place, slides: tuple[Slide, Slide], border: float) -> Tensor:
        """Return the values a pooling reads: windows with the clean image around them and `border` around that."""
        margins = behind(slides)
        table, width = self.clean.table(value, tuple(margins), border)
        inner = self.place(value)
        offsets = [gap[:, None] + np.arange(n) for gap, n in zip(place.relative_to(inner), place.lengths)]
        at = Place((place.first[0] + margins[2], place.first[1] + margins[0]), place.lengths)
        return self._gathered(self.values(value), offsets, (table, width, at))

    def _around(self, value: Value, target: Place) -> Tensor:
        """Return a value at a place, clean where no window is; what is known as values keeps its bits."""
        source = self.place(value)
        if value not in self.valued:
            return self.moved(self.changes(value), source, target) + self.background(value, target)
        offsets = [gap[:, None] + np.arange(n) for gap, n in zip(target.relative_to(source), target.lengths)]
        return self._gathered(self.valued[value], offsets, (*self.clean.table(value), target))

    # ---- functions -------------------------------------------------------------------------------------------------

    def image_like(self, rows: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function of (image, channel, y, x) to all windows."""
        maps = rows.reshape(-1, *rows.shape[3:]).permute(0, 3, 1, 2)
        made = function(maps).permute(0, 2, 3, 1)
        return made.reshape(*self.count, *made.shape[1:])

    def applied(self, call: Call, result: Value) -> Tensor:
        """Run a pointwise call on the values in the windows."""
        place, side = self.place(result), result.shape[2:]
        flat = lambda rows: rows.expand(*self.count, *rows.shape[-3:]).reshape(-1, *rows.shape[-3:]).permute(0, 3, 1, 2)  # noqa: E731
        known = {value: flat(self.values_at(value, result)) for value in dict.fromkeys(call.inputs)}

        def constant(value: Value) -> Value:
            if value.call != CONSTANT or value.shape[-2:] != side or tuple(side) == (1, 1):
                return value
            maps = value.held.reshape(-1, *side)
            cut = flat(self._read(maps.permute(1, 2, 0).reshape(-1, len(maps)), side[1], place))
            return Value(CONSTANT, 0, tuple(cut.shape), cut)

        arguments, keywords = replaced((call.arguments, call.keywords), Value, constant)
        made = run(replace(call, arguments=arguments, keywords=keywords), known)[0].permute(0, 2, 3, 1)
        return made.reshape(*self.count, *made.shape[1:])

    def convolved(
        self, changes: Tensor, how: Convolution, padding: tuple[int, int] = (0, 0), stride: tuple[int, int] = (1, 1)
    ) -> Tensor:
        """Convolve differences."""
        return self.image_like(changes, lambda maps: how.run(maps, self.low, padding, stride).to(changes.dtype))

    def strided(self, changes: Tensor, source: Place, result: Place, how: Convolution) -> Tensor:
        """Convolve what each result reads; as one matrix product where that is cheaper."""
        read = result.read_by(how.reach)
        gaps = source.relative_to(read)
        if how.groups == 1 and how.area > 1:
            aligned = all((gap == gap[0]).all() for gap in gaps)
            if result.lengths == (1, 1) and all(slide.dilation == 1 for slide in how.reach):
                return self._matrix(self.moved(changes, source, read), how.flat(self.low), (1, 1))
            if aligned and changes[0, 0, 0].numel() <= how.UNROLLED:
                unrolled = how.unrolled([int(gap[0]) for gap in gaps], source.lengths, result.lengths, self.low)
                return self._matrix(changes, unrolled, result.lengths)
        y, x = how.reach
        return self.convolved(self.moved(changes, source, read), how, (0, 0), (y.stride, x.stride))

    def _matrix(self, changes: Tensor, matrix: Tensor, lengths: tuple[int, int]) -> Tensor:
        """Multiply whole windows by a matrix (y x channel, y x channel)."""
        flat = changes.reshape(-1, matrix.shape[0]).to(matrix.dtype)
        return (flat @ matrix).to(changes.dtype).view(*self.count, *lengths, -1)

    def product(self, changes: Tensor, how: Convolution) -> Tensor:
        """Apply a 1x1 convolution."""
        if how.groups > 1:
            return self.convolved(changes, how)
        weight = how.flat(self.low)
        made = changes.reshape(-1, changes.shape[-1]).to(weight.dtype) @ weight
        return made.to(changes.dtype).view(*changes.shape[:-1], -1)

    # ---- no windows any more -----------------------------------------------------------------------------------------

    def whole(self, value: Value) -> Tensor:
        """Return a value of every occluded image, whole: (image, …)."""
        if value not in self.wholes:
            height, width = value.shape[2:]
            rows, columns = (np.zeros(count, np.int64) for count in self.count[1:])
            maps = self._around(value, Place((rows, columns), (height, width)))
            self.wholes[value] = maps.reshape(-1, *maps.shape[3:]).permute(0, 3, 1, 2).contiguous()
        return self.wholes[value]

    def run_whole(self, call: Call) -> None:
        """Run a call that is not local on whole values."""
        found = repeat_batch(call, {value: self.whole(value) for value in dict.fromkeys(call.inputs)})
        self.wholes.update(zip(call.outputs, found))
