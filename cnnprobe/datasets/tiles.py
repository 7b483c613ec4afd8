"""Square tiles of the images of another dataset, at several sizes: more stimuli, and things at every scale."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.fitting import resized
from cnnprobe.datasets.base.imageset import ImageSet, sha256
from cnnprobe.datasets.base.names import must_be_few
from cnnprobe.errors import UserError

MADE_BY = "dataset.sizes and dataset.overlap"


def build(
    *,
    of: str,
    source: ImageSet,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    sizes: list[Annotated[int, Range(1)]] | Annotated[int, Range(1)],
    overlap: Annotated[float, Range(0, below=1)],
    count: Annotated[int, Range(1, 10_000_000)] | None,
    seed: Annotated[int, Range(0)],
    size: Annotated[int, Range(1)] | None,
) -> ImageSet:
    """Lay grids of tiles over every image of a dataset.

    A tile is shown whole: it is scaled to `size` and nothing of it is cut off, so its name says exactly
    which pixels the network saw. It has the label of its image.

    Args:
        of: name of the dataset that is tiled.
        source: that dataset, built with size and resize None: its images as they are. The runner fills it in.
        root: of that dataset; read by the runner.
        split: of that dataset; read by the runner.
        sizes: side of the tiles, px of the source image; an image smaller than a size has no tile of it.
        overlap: share of a tile's side that it has in common with its neighbour.
        count: at most so many tiles, drawn from all by `seed`, in their order; None: all.
        seed: of that draw.
        size: side of a tile as it enters the network, px; None: the largest of `sizes`.

    Raises:
        UserError: a size is not 1 or more, no image is large enough for a tile, or there would be too many.
    """
    sides = sorted({sizes} if isinstance(sizes, int) else set(sizes))
    if not sides or sides[0] < 1:
        raise UserError(f"dataset.sizes must be sides of 1 px or more, got {sizes}")
    places = _places(source, sides, overlap)
    if not len(places):
        raise UserError(f"no image of {of} is large enough for a tile of {sides[0]} px")
    if count is not None and count < len(places):
        chosen = np.random.default_rng(seed).choice(len(places), count, replace=False)
        places = places[np.sort(chosen)]
    return Tiles(source, places, size or sides[-1])


class Tiles(ImageSet):
    """Tiles of the images of a source.

    Args:
        source: the images.
        places: (tile, 4) index of the image, y, x of the upper left corner and side, px; by image.
        size: side as they enter the network, px.
    """

    at_any_size = True  # tiles are cut out of images as they are before fitting

    def __init__(self, source: ImageSet, places: np.ndarray, size: int):
        super().__init__(
            name="tiles",
            names=[f"{source.names[i]} y={y} x={x} side={side}" for i, y, x, side in places.tolist()],
            labels=source.labels[places[:, 0]],
            classes=source.classes,
            size=(source.size[0], size, size),
            strict=source.strict,
        )
        self.source = source
        self.places = places
        self.in_memory = source.in_memory

    def load(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Cut tiles out, each image being read once; tiles of one side are scaled together."""
        places = self.places[np.asarray(indices, dtype=np.int64)]
        readable = np.ones(len(places), dtype=bool)
        cut: dict[int, list[tuple[int, Tensor]]] = {}
        order = np.argsort(places[:, 0], kind="stable")
        image, read = None, -1
        for row in order.tolist():
            index, y, x, side = places[row].tolist()
            if index != read:
                image, read = self.source.original(index), index
            if image is None:
                self.unreadable(int(indices[row]), self.source.problems.get(self.source.names[index], "unreadable"))
                readable[row] = False
            else:
                cut.setdefault(side, []).append((row, image[:, y : y + side, x : x + side]))
        images = torch.zeros((len(places), *self.size))
        for tiles in cut.values():
            images[[row for row, _ in tiles]] = resized(torch.stack([tile for _, tile in tiles]), self.size[1:])
        return images, readable

    def original(self, index: int) -> Tensor | None:
        """Return one tile before scaling."""
        image, y, x, side = self.places[index].tolist()
        whole = self.source.original(image)
        return None if whole is None else whole[:, y : y + side, x : x + side]

    def original_size(self, index: int) -> tuple[int, int]:
        """Return the side of a tile, twice."""
        return int(self.places[index, 3]), int(self.places[index, 3])

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of the source images that are used and of the places."""
        places = self.places[np.asarray(list(indices), dtype=np.int64)]
        return sha256("tiles", self.source.fingerprint_of(np.unique(places[:, 0])), places.astype("<i8").tobytes())


def _places(source: ImageSet, sides: list[int], overlap: float) -> np.ndarray:
    """Return (tile, 4) image, y, x, side of all tiles: by image, then side, then row by row.

    An image that cannot be read has none; it is warned of.

    Raises:
        UserError: there would be too many.
    """
    grids: dict[tuple[int, int], np.ndarray] = {}
    rows, total = [], 0
    for index in range(len(source)):
        shape = source.original_size(index)
        if shape is None:
            continue
        if shape not in grids:
            must_be_few(sum(y.size * x.size for y, x in (_starts(*shape, side, overlap) for side in sides)), MADE_BY)
            grids[shape] = np.concatenate([_grid(*shape, side, overlap) for side in sides])
        grid = grids[shape]
        total += len(grid)
        must_be_few(total, MADE_BY)
        rows.append(np.column_stack([np.full(len(grid), index), grid]))
    source.report(source.problems, source.remarks)
    return np.concatenate(rows) if rows else np.zeros((0, 4), dtype=np.int64)


def _grid(height: int, width: int, side: int, overlap: float) -> np.ndarray:
    """Return (tile, 3) y, x, side of a grid in the middle of an image."""
    y, x = np.meshgrid(*_starts(height, width, side, overlap), indexing="ij")
    return np.column_stack([y.ravel(), x.ravel(), np.full(y.size, side)]).astype(np.int64)


def _starts(height: int, width: int, side: int, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the rows (y) and the columns (x) of a grid begin."""
    step = max(1, round(side * (1 - overlap)))
    starts = []
    for length in (height, width):
        number = (length - side) // step + 1 if length >= side else 0
        margin = (length - side - (number - 1) * step) // 2
        starts.append(margin + step * np.arange(number))
    return starts[0], starts[1]
