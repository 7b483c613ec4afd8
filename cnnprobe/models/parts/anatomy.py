"""MouseNet's connection tables: read, rebuilt for another input side, and the Gaussian masks of their edges.

A table has nodes (name, channels, out_size, n_neurons, ...) in a topological order and edges (id,
source, target, kernel_size, stride, gsh, gsw, ...) in the order of the published network. gsh and gsw
are peak and sigma (px of the source map) of the Gaussian probability that a tap of a kernel exists
(Shi, Tripp, Shea-Brown, Mihalas, Buice 2022, PLOS Comput Biol 18(9): e1010427, and its code).
"""

import json
import math
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Network = dict[str, Any]


@cache
def _file() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "mousenet.json").read_text(encoding="utf-8"))


def network(variant: str) -> Network:
    """Return one table: "mousenet64", "mousenet32", "mousenet64_may2020" or "mousenet64_oct2020"."""
    return deepcopy(_file()["networks"][variant])


def rebuilt(side: int) -> Network:
    """Return the published anatomy (mousenet64) rebuilt for images of another side.

    The number of neurons of a node is fixed, so a larger map has fewer channels:
    ch' = floor(N / side'^2) and, since sigma is fixed in micrometres, gsw' = gsw sqrt(ch / ch'). The peak
    follows from the in-degree, which is fixed as well. The two edges of the LGN do not scale.

    Args:
        side: px of the input image, even; 64 returns mousenet64, 32 mousenet32.

    Returns:
        The table, without the numbers that only hold for 64 px (`checks`).
    """
    table = network("mousenet64")
    table["input_size"] = [3, side, side]
    del table["checks"], table["description"]
    channels = {node["name"]: node["channels"] for node in table["nodes"]}
    for node in table["nodes"]:
        node["out_size"] = node["out_size"] * side // 64
        if node["name"] != "input":
            node["channels"] = max(1, node["n_neurons"] // node["out_size"] ** 2)
    now = {node["name"]: node["channels"] for node in table["nodes"]}
    for edge in table["edges"]:
        before, after = channels[edge["source"]], now[edge["source"]]
        edge["in_channels"], edge["out_channels"] = after, now[edge["target"]]
        if edge["kind"] not in ("input", "thalamic"):
            _rescale(edge, before, after)
    return table


def _rescale(edge: dict[str, Any], before: int, after: int) -> None:
    """Give an edge the sigma, peak, kernel and padding that follow from `after` channels of its source."""
    gsw = edge["gsw"] * math.sqrt(before / after)
    if edge["kind"] == "interareal":
        edge["gsh"] *= before * _mass(edge["gsw"]) / (after * _mass(gsw))
    edge["gsw"], edge["kernel_size"] = gsw, 2 * int(gsw) + 1
    missing = edge["kernel_size"] - edge["stride"]
    edge["padding"] = [missing // 2, missing - missing // 2] * 2  # left, right, top, bottom


def _gaussian(gsw: float) -> np.ndarray:
    """Return the Gaussian of peak 1 within one sigma, (y, x): a kernel is cut there."""
    axis = np.arange(-int(gsw), int(gsw) + 1)
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * gsw**2))


def _mass(gsw: float) -> float:
    return float(_gaussian(gsw).sum())


def probability(edge: dict[str, Any]) -> np.ndarray:
    """Return the probability that a tap exists, (y, x), 0 to 1: the tables' peaks may exceed 1."""
    return np.minimum(edge["gsh"] * _gaussian(edge["gsw"]), 1.0)


def masks(table: Network, kind: str, seed: int) -> list[np.ndarray | None]:
    """Draw which taps exist, once, for every edge.

    The numbers are those of `numpy.random.seed(seed)` followed by one `rand(k, k)` for every pair of
    output and input channel, edges in list order, as in the authors' code: seed 2021 gives their masks.

    Args:
        table: a connection table.
        kind: "per_channel", "shared" (one kernel for all pairs of channels of an edge) or "none".
        seed: of the masks, apart from the seed of the weights.

    Returns:
        For each edge (output channel, input channel, y, x), True where a tap exists; None without masks.
    """
    if kind == "none":
        return [None] * len(table["edges"])
    random = np.random.RandomState(seed)
    return [_mask(edge, kind, random) for edge in table["edges"]]


def _mask(edge: dict[str, Any], kind: str, random: np.random.RandomState) -> np.ndarray:
    pairs = (edge["out_channels"], edge["in_channels"])
    drawn = random.random_sample((*(pairs if kind == "per_channel" else (1, 1)), *2 * [edge["kernel_size"]]))
    return np.broadcast_to(drawn < probability(edge), (*pairs, *drawn.shape[2:])).copy()
