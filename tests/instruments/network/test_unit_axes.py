"""Which axis is that of units, after chains of operations drawn at random that move, mix and join axes.

Beside every chain the names of its axes are kept by hand: b, c and positions. After it, c is where units have to be.
"""

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find, layers_of

LETTERS = "abcdefgh"


class Chain:
    """Operations on maps (b, c, y, x) and the names of the axes they leave; no two axes are of one length.

    Args:
        seed: of what is drawn.
    """

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.names, self.channels = ["b", "c", "y", "x"], 5
        self.steps: list[Callable[[Tensor], Tensor]] = []
        self.widths = iter((11, 7, 13, 9, 17, 19))
        kinds = [getattr(self, name) for name in dir(type(self)) if name.startswith("by_")]
        for _ in range(self.random.randint(1, 6)):
            self.random.choice(kinds)()

    @property
    def at(self) -> int:
        return self.names.index("c")

    @property
    def positions(self) -> list[int]:
        return [axis for axis, name in enumerate(self.names) if name not in ("b", "c")]

    def drawn(self, count: int) -> tuple[Tensor, int]:
        """Return a matrix (channels, new channels), and how many those are."""
        before, self.channels = self.channels, next(self.widths)
        return torch.rand(before, self.channels, generator=torch.Generator().manual_seed(count)), self.channels

    def order(self) -> list[int]:
        order = [0, *self.random.sample(range(1, len(self.names)), len(self.names) - 1)]
        self.names = [self.names[axis] for axis in order]
        return order

    def by_permute(self):
        order = self.order()
        self.steps.append(lambda maps: maps.permute(order))

    def by_einsum(self):
        letters = LETTERS[: len(self.names)]
        written = f"{letters}->{''.join(letters[axis] for axis in self.order())}"
        self.steps.append(lambda maps: torch.einsum(written, maps))

    def by_turning(self):
        if len(self.names) > 2:
            self.names[-2:] = self.names[:-3:-1]
            self.steps.append(lambda maps: maps.mT)

    def by_einsum_with_weights(self):
        letters, (weights, _) = LETTERS[: len(self.names)], self.drawn(0)
        place = self.random.randint(1, len(letters) - 1)
        kept = [letter for letter in letters if letter != letters[self.at]]
        written = f"{letters},{letters[self.at]}z->{''.join([*kept[:place], 'z', *kept[place:]])}"
        self.names.remove("c")
        self.names.insert(place, "c")
        self.steps.append(lambda maps: torch.einsum(written, maps, weights))

    def by_tensordot(self):
        at, (weights, _) = self.at, self.drawn(1)
        self.names = [*(name for name in self.names if name != "c"), "c"]
        self.steps.append(lambda maps: torch.tensordot(maps, weights, ([at], [0])))

    def by_product(self):
        if self.at == len(self.names) - 1:
            weights, _ = self.drawn(2)
            dense = self.random.random() < 0.5
            self.steps.append(lambda maps: F.linear(maps, weights.T) if dense else maps @ weights)
        elif len(self.names) == 3:
            front, _ = self.drawn(3)
            self.steps.append(lambda maps: front.T @ maps)

    def by_flatten(self):
        pairs = [axis for axis in self.positions if axis + 1 in self.positions]
        if pairs:
            axis = self.random.choice(pairs)
            self.names[axis : axis + 2] = ["".join(self.names[axis : axis + 2])]
            self.steps.append(lambda maps: maps.flatten(axis, axis + 1))

    def by_maximum(self):
        if len(self.positions) > 1:
            axis = self.random.choice(self.positions)
            self.names.pop(axis)
            self.steps.append(lambda maps: maps.amax(axis))

    def by_attention(self):
        if len(self.names) == 3 and self.at == 2:
            self.steps.append(lambda maps: F.scaled_dot_product_attention(maps, maps, maps))

    def by_what_keeps_axes(self):
        axis, at, places = self.random.choice(self.positions), self.at, tuple(self.positions)
        new = self.random.randint(1, len(self.names))
        self.steps.append(
            self.random.choice(
                [
                    lambda maps: maps.roll(1, axis),
                    lambda maps: maps.flip(axis),
                    lambda maps: maps.softmax(axis),
                    lambda maps: F.layer_norm(maps, maps.shape[-1:]),
                    lambda maps: F.normalize(maps, dim=at),
                    lambda maps: maps * maps.mean(places, keepdim=True).sigmoid(),
                    lambda maps: torch.stack([maps, 2 * maps], new).sum(new),
                    lambda maps: maps.index_select(at, torch.arange(maps.shape[at]).flip(0)),
                    lambda maps: torch.cat([maps, maps.relu()], axis).narrow(axis, 0, maps.shape[axis]),
                ]
            )
        )


class Network(nn.Module):
    """A convolution, the chain, and a place where it can be read."""

    def __init__(self, chain: Chain):
        super().__init__()
        self.conv, self.made, self.chain = nn.Conv2d(3, 5, 3, padding=1), nn.Identity(), chain

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        for step in self.chain.steps:
            maps = step(maps)
        return self.made(maps).flatten(1)[:, :3]


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 1500), marks=pytest.mark.slow)], ids=["60", "more"]
)
def test_units_are_the_channels_after_any_chain(seeds):
    """F85: of one chain in twenty an axis of positions was taken for that of units."""
    for seed in seeds:
        chain = Chain(seed)
        (layer,) = find(Network(chain).eval(), "made", (3, 8, 6))
        assert (layer.channel_axis, layer.channels) == (chain.at, chain.channels), f"seed {seed}: {chain.names}"


class Spectral(nn.Module):
    """Signals whose channels are picked one by one behind a transform over time."""

    def __init__(self):
        super().__init__()
        self.stacked, self.written, self.head = nn.Identity(), nn.Identity(), nn.Linear(3, 2)

    def forward(self, signals):
        spectrum = torch.fft.rfft(signals)
        back = torch.fft.irfft(spectrum, n=signals.shape[-1])
        picked = self.stacked(torch.stack([back[:, 0] ** 2, back[:, 2] ** 2, back[:, 1]], 1))
        empty = torch.zeros_like(spectrum)
        empty[:, 0] = spectrum[:, 0]
        written = self.written(torch.fft.irfft(empty, n=signals.shape[-1]))
        return self.head(picked.mean(-1)) + written.mean((1, 2))[:, None]


def test_of_signals_whose_axes_cannot_be_followed_channels_come_first():
    """F85: and that it is taken so is said."""
    model = Spectral().eval()
    found = {layer.module: layer for layer in layers_of(model, (4, 250))}
    assert (found["stacked"].channels, found["stacked"].map_size) == (3, (250,))
    assert (found["written"].channels, found["written"].map_size) == (4, (250,))
    assert "its axis 1 is taken for the units" in found["stacked"].note
    assert "is taken for" not in found["head"].note
