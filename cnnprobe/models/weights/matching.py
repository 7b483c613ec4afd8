"""Matching of the weights of a file to those of a network: one rule for every prefix and wrapping.

Training programs save a network under a key (`state_dict`, `model`, `params_ema`), its names under a prefix (`module.`,
`model.`, `_orig_mod.`), and other things beside them (an optimiser, a criterion, a running average). The network may
stand in a wrapper of its own (`1.` of a Sequential behind a normalisation). So the names of a file are those of a
nested dict, joined by dots, and a set of weights fits where one prefix there, in place of one prefix here, makes all of
the network's names present, in their shapes.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError, listing
from cnnprobe.models.weights import extra_state, packing

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that torch's own wrappers put anywhere: DataParallel, torch.compile, FSDP, checkpointing."""
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "params", "module")
"""Keys under which weights usually stand; where none fit, what is there is compared with other networks."""
ORIGINAL = re.compile(r"(.*?)parametrizations\.(\w+)\.original([01])")
"""Length and direction of a normalised weight, by the names that torch gives them since 2.0."""
COUNTER = "num_batches_tracked"
"""Of a BatchNorm: files of before 2018 lack it, and nothing depends on it."""


@dataclass(frozen=True)
class Found:
    """One set of weights in a file.

    Args:
        prefix: what stands before its names, without the last dot; "" where nothing does.
        state: tensors by the network's names.
        beside: names under the prefix that belong to parts of the network it does not have.
        unused: all other names of the file.
        misfits: names of the network whose tensors have other shapes there.
    """

    prefix: str
    state: dict[str, Tensor]
    beside: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether it can be loaded."""
        return not (self.beside or self.misfits)


def found(state: Mapping[str, Tensor], own: Mapping[str, Tensor], optional: Container[str]) -> list[Found]:
    """Return every set of weights in a file that has all names of a network; those that can be loaded, if any can.

    Args:
        state: of the file, see `checkpoints.tensors`.
        own: the state of the network.
        optional: names of it that a file may lack.
    """
    needed = [name for name in own if name not in optional] or list(own)
    several: list[Found] = []
    for spelling in (str, _unwrapped, _older):  # as they are; without the parts that wrappers add; by older names
        theirs, ours = ({spelling(name): name for name in names} for names in (state, own))
        if len(theirs) < len(state) or len(ours) < len(own):
            continue
        required = [spelling(name) for name in needed]
        for head in _heads(required):
            for prefix in _prefixes(theirs, [name.removeprefix(head) for name in required]):
                names = {name: prefix + short.removeprefix(head) for short, name in ours.items()}
                names = {name: short for name, short in names.items() if short in theirs}
                several.append(_set(prefix, names, theirs, state, own))
            exact = [one for one in several if one.exact]
            if exact:
                return exact
    return several


def _set(
    prefix: str, names: dict[str, str], theirs: dict[str, str], state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> Found:
    """Describe one set of weights.

    Args:
        prefix: as in `Found`, with its last dot.
        names: the file's spellings by the network's names.
        theirs: the file's names by their spellings.
        state, own: see `found`.
    """
    tensors = packing.unpacked({name: state[theirs[there]] for name, there in names.items()}, own)
    taken = set(names.values())
    parts = {there.removeprefix(prefix).split(".")[0] for there in taken}
    numbered = any(part.isdecimal() for part in parts)

    def is_part(name: str) -> bool:
        part = name.removeprefix(prefix).split(".")[0]
        return name.startswith(prefix) and (part in parts or (numbered and part.isdecimal()))

    others = [name for name in theirs if name not in taken]
    beside = tuple(theirs[name] for name in others if is_part(name) and not name.endswith(COUNTER))
    unused = tuple(theirs[name] for name in others if not is_part(name))
    wrong = [
        name for name, value in tensors.items() if not name.endswith(extra_state.KEY) and value.shape != own[name].shape
    ]
    wrong += [name for name in own if name.endswith(packing.MASK) and name not in tensors]
    for group in tied(own):
        there = [name for name in group if name in tensors]
        wrong += [] if there else group[:1]
        tensors |= {name: tensors[there[0]] for name in group if there and name not in tensors}
    return Found(prefix.removesuffix("."), tensors, beside, unused, tuple(wrong))


def _unwrapped(name: str) -> str:
    """Return a name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _older(name: str) -> str:
    """Return an unwrapped name as torch's first weight normalisation spelled it: weight_g and weight_v."""
    match = ORIGINAL.fullmatch(_unwrapped(name))
    return f"{match[1]}{match[2]}_{'gv'[int(match[3])]}" if match else _unwrapped(name)


def _heads(names: list[str]) -> list[str]:
    """Return the prefixes that all names share, with their last dot; the shortest, "", first."""
    shared: list[str] = [""]
    for parts in zip(*(name.split(".")[:-1] for name in names)):
        if len(set(parts)) > 1:
            break
        shared.append(f"{shared[-1]}{parts[0]}.")
    return shared


def _prefixes(theirs: Iterable[str], names: list[str]) -> list[str]:
    """Return the prefixes under which a file has all of some names."""
    there = set(theirs)
    anchor = max(names, key=lambda name: name.count("."))
    prefixes = (name.removesuffix(anchor) for name in theirs if name == anchor or name.endswith(f".{anchor}"))
    return [prefix for prefix in prefixes if all(prefix + name in there for name in names)]


def nearest(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of a file that looks most like a network, under the names it has behind its prefix.

    That is the prefix under which most of the network's names are; where there are none, what all names share.
    """
    counts: Counter[str] = Counter()
    for name in state:
        places = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        counts.update(name[:place] for place in places if name[place:] in own)
    if counts:
        prefix = counts.most_common(1)[0][0]
    else:
        wrapped = [name for name in state if name.split(".")[0] in USUAL]
        prefix = _heads(wrapped or list(state))[-1]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def optional(model: nn.Module) -> dict[str, bool]:
    """Return what a file of a network's weights may lack, by name, and whether a warning has to say so.

    Counters of batches, masks that packing leaves out and all names but one of a shared tensor are known without it.
    Constants are named in a warning: buffers of a module that has no parameters and is no normalisation by statistics
    of its own (mean and deviation of images, the counter of a running average), and what modules keep beside their
    tensors.
    """
    own = model.state_dict()
    told: dict[str, bool] = {}
    for path, module in model.named_modules():
        kept = [f"{path}.{name}" if path else name for name in module._buffers]
        constant = not module._parameters and not isinstance(module, nn.modules.batchnorm._NormBase)
        told |= {name: True for name in kept if name in own and constant}
    told |= {name: True for name in own if name.endswith(extra_state.KEY)}
    told |= {name: False for name in own if name.endswith((COUNTER, packing.MASK))}
    return told | {name: False for names in tied(own) for name in names}


def tied(own: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names that stand for one tensor, where there are several."""
    places: dict[tuple, list[str]] = {}
    for name, value in own.items():
        if value.numel():
            place = value.data_ptr() or id(value)  # a device may give its tensors no address
            places.setdefault((place, value.shape, value.stride()), []).append(name)
    return [names for names in places.values() if len(names) > 1]


def one_of(sets: list[Found], part: str, label: str, name: str) -> Found:
    """Return the set of weights that is meant: the only one, or the first where all are equal.

    Args:
        sets: those that fit.
        part: the prefix requested, or a beginning of it; "." for none, "" where nothing is said.
        label, name: of file and network, for the message.

    Raises:
        UserError: several fit and differ, or none is under that prefix; names those there are.
    """
    there = listing(one.prefix or "." for one in sets)
    asked = [one for one in sets if part in ("", one.prefix or ".") or one.prefix.startswith(f"{part}.")]
    if not asked:
        raise UserError(f"{label}: no weights of {name} under {part!r}; there are some under: {there}")
    first, *others = asked
    if all(torch.equal(first.state[key], other.state[key]) for other in others for key in first.state):
        return first
    ways = " or ".join(f"weights=FILE@{one.prefix or '.'}" for one in asked[:3])
    raise UserError(f"{label} holds {len(asked)} sets of weights that fit {name}, under {there}; say {ways}")


def summary(names: Iterable[str]) -> str:
    """Name tensors of a file, those under one key together: "optimizer (24), criterion.weight"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split(".")[0], []).append(name)
    for key, group in [*groups.items()]:
        if len(group) < 4 and key.endswith("state_dict"):  # what lies among the weights is named, if it is little
            groups |= {key: group[:1]} | {name: [name] for name in group[1:]}
    return listing(f"{key} ({len(group)})" if len(group) > 1 else group[0] for key, group in groups.items())
