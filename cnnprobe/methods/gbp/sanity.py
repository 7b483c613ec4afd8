"""Sanity checks: what is left of gradient maps when their network is randomised (Adebayo et al. 2018, section 3)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.network.randomisation import Block, blocks, cascading, independent
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.methods.gbp.gradients import Gradients
from cnnprobe.methods.gbp.likeness import MEASURES, likeness
from cnnprobe.methods.gbp.mapping import GradientMapping
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

UNITS = 4
"""Units that are looked at where none are requested."""
IMAGES = 4
"""Images of each of them at most."""
SanityColumn = Literal["block", "kind", "likeness", "map", "unit", "image"]
"""Columns of the tables "sanity/<layer>"."""
KINDS = {"cascading": cascading, "independent": independent}


class Sanity:
    """Compares maps of a few units, by the rule and by the plain gradient, with those of the network randomised.

    Args:
        mapping: of the layer.
        pages: units to look at; None: the first living ones.
        seed: of the random parameters.
    """

    def __init__(self, mapping: GradientMapping, pages: list[int] | None, seed: int):
        self.mapping, self.how, self.layer = mapping, mapping.how, mapping.layer
        self.pages, self.seed = pages, seed
        self.name = f"sanity/{self.layer.group}"
        self.blocks: list[Block] = blocks(self.how.model, self.how.dataset.size, self.layer)
        rule = self.how.recipe.rule
        self.rules = [rule] if rule == "gradient" else [rule, "gradient"]
        self.images = min(IMAGES, self.how.k)

    def table(self) -> Table[SanityColumn]:
        """Lay out what is stored: a row for the untouched network, then one for each stage of either randomisation."""
        names = [block.name for block in reversed(self.blocks)]
        stages = ["original", *names, *names]
        kinds = ["", *["cascading"] * len(names), *["independent"] * len(names)]
        pairs = UNITS * self.images if self.pages is None else len(self.pages) * self.images
        each = (len(self.rules), self.how.dataset.size[0], *self.mapping.canvas.sides)
        columns: dict[SanityColumn, Column] = {
            "block": Column("the last block that was randomised", dtype="str", values=np.array(stages, object)),
            "kind": Column("cascading: and all blocks behind it; independent: alone", dtype="str",
                           values=np.array(kinds, object)),
            "likeness": Column("of maps with those of the untouched network; NaN where a map is constant",
                               "rule measure pair", (len(self.rules), len(MEASURES), pairs)),
            "map": Column("signed map of the first pair", "rule channel y x", each, unit="activation per pixel"),
            "unit": Column("channel of the layer", "pair", (pairs,), "int64", "index"),
            "image": Column("row of /stimuli", "pair", (pairs,), "int64", "index"),
        }  # fmt: skip
        about = {"rules": self.rules, "measures": list(MEASURES), "randomised_with_seed": self.seed}
        return Table(self.name, "stage", len(stages), columns, len(stages), about | self.layer.attributes)

    def events(
        self, found: Strongest, units: np.ndarray, unfinished: Unfinished | None = None
    ) -> Iterator[Rows[SanityColumn] | Advance | Phase]:
        """Measure everything; one batch of rows.

        Args:
            found: the strongest images of these units.
            units: those that were mapped.
            unfinished: keeps the stages so far.
        """
        unfinished, done = unfinished or Unfinished(), 0
        rows, ranks = self._pairs(found, units)
        count = self.table().columns["likeness"].shape[-1]
        columns = {name: np.full((2 * len(self.blocks) + 1, *column.shape), -1 if column.dtype == "int64" else np.nan,
                                 column.dtype)
                   for name, column in self.table().columns.items() if column.values is None}  # fmt: skip
        yield Phase(f"sanity of {self.layer.name}", 2 * len(self.blocks) + 1, "stages")
        if len(rows):
            pairs = (units[rows], found.ranks[BEST].images[rows, ranks], found.ranks[BEST].positions[rows, ranks])
            images = self._images(pairs[1])
            columns["unit"][:, : len(rows)], columns["image"][:, : len(rows)] = pairs[0], pairs[1]
            original = self._maps(images, *pairs)

            def restore(state: State) -> None:
                nonlocal done
                put(columns, state["columns"])
                done = state["stages"]

            unfinished.begin(self.name, lambda: {"stages": done, "columns": columns}, restore)
            yield Advance(done)
            for stage, maps in enumerate(self._stages(images, pairs, original, done), done):
                alike = [likeness(one, other) for one, other in zip(maps, original)]
                columns["likeness"][stage, :, :, : min(count, len(rows))] = np.stack(alike)
                columns["map"][stage] = maps[:, 0]
                done = stage + 1
                yield Advance()
        yield Rows(self.name, 0, columns)
        if len(rows):
            unfinished.drop(self.name)

    def _pairs(self, found: Strongest, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which units, by their row, and which of their images are looked at."""
        answers = self.mapping.answers(found)
        alive = np.flatnonzero(answers.any(1))
        rows = alive[:UNITS] if self.pages is None else [row for row in alive if units[row] in self.pages]
        places = [(row, rank) for row in rows for rank in np.flatnonzero(answers[row])[: self.images]]
        pairs = np.array(places, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _images(self, indices: np.ndarray) -> torch.Tensor:
        """Load the image of each pair."""
        needed, places = np.unique(indices, return_inverse=True)
        how = self.how
        loaded = batches(how.dataset, **replace(how.computation, workers=0).loading, indices=needed)
        return torch.cat([batch.images for batch in loaded])[places]

    def _stages(self, images: torch.Tensor, pairs: tuple, original: np.ndarray, done: int) -> Iterator[np.ndarray]:
        """Give the maps (rule, pair, channel, y, x) of the untouched network and of every stage, from `done` on."""
        if not done:
            yield original
        stage = 1
        for randomised in KINDS.values():
            with randomised(self.how.model, self.blocks, self.seed) as stages:
                for _ in stages:
                    if stage >= done:
                        yield self._maps(images, *pairs)
                    stage += 1

    def _maps(self, images: torch.Tensor, units: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        recipe = replace(self.how.recipe, plain=len(self.rules) > 1)
        with Gradients(self.how.model, self.layer, self.how.dataset.size, recipe, whole=True) as gradients:
            made = gradients.maps(images, indices, units, positions)
        found = (made.values, made.plain)
        return np.stack([self.mapping.on_canvas(maps, positions) for maps in found if maps is not None])


def verdict(rules: list[str], alike: np.ndarray) -> str:
    """Say in plain words what randomised weights leave of maps.

    Args:
        rules: that were compared.
        alike: (rule, 2, stage, pair) rank correlations with the map of the untouched network, of |map| and with signs;
            NaN for empty maps.
    """
    words = []
    for rule, (sizes, signed) in zip(rules, alike):
        known = [one[np.isfinite(one)] for one in (sizes, signed)]
        both = " and ".join(f"{one.mean():.2f}" for one in known if one.size)
        words.append(f"{rule} {both}" if both else f"{rule}: only empty maps")
    return (
        f"Rank correlation with the map of the untouched network, of |map| and with signs, mean over all stages: "
        f"{'; '.join(words)}. As far as a map stays, it shows the image and the architecture, not what was learned."
    )
