"""Layers by name: what is in a network, where a name is read, how large it is, what it costs, where its units look.

Names:
    conv1 … convN   the convolutions in the order in which they run, module or function. Read after the BatchNorm and
                    the rectifier that follow the convolution, where they follow it alone; else its own output.
                    A network that numbers its convolutions itself (`aliases` of its `network.about.About`) keeps them.
    VISp23          areas, and other names of those aliases: the output of the module they stand for.
    logits          what the network returns; a module called logits that gives another value is `logits#1`.
    features.6      module path: the module's own output. `relu#2`: the output of its second call in the pass, `rnn[0]`:
                    part of a tuple. `conv1#1` is the module `conv1` where a short name has the same word.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from cnnprobe.errors import UserError, is_list, listing, unknown
from cnnprobe.instruments.fields.check import checked
from cnnprobe.instruments.fields.rules import geometries
from cnnprobe.instruments.layers.multiply_adds import multiply_accumulates
from cnnprobe.instruments.layers.rounding import only_rounding
from cnnprobe.instruments.layers.unfollowed import unfollowed
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.calls import (
    KINDS,
    alone_rectified,
    followed,
    has_map,
    is_gate,
    nonnegative,
    own_parameters,
    parameters,
    pools_evenly,
    weights,
)
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.image_places import Place
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.replay import ancestors
from cnnprobe.instruments.network.tracing import CONSTANT, Call, ModuleCall, Value, trace


def layers_of(model: nn.Module, input_size: tuple[int, ...]) -> list[Layer]:
    """Return every layer in the order in which they are computed: short names, areas, and the output of every module.

    Their fields are computed, and not compared with the network yet (`fields.check.checked`).

    Args:
        input_size: (channel, y, x) or (channel, time) of the images.

    Raises:
        UserError: the network cannot take such an image.
    """
    return _Catalogue(model, input_size).every


def main_layers(model: nn.Module, input_size: tuple[int, ...]) -> list[Layer]:
    """Return the convolutions by their short names, the dense layers and the areas, in order (see `layers_of`)."""
    return _Catalogue(model, input_size).main


def find(
    model: nn.Module, spec: str | Iterable[str], input_size: tuple[int, ...], of: str = "the model"
) -> list[Layer]:
    """Return the layers with these names, in the order asked; each place in the network once, fields compared with it.

    Args:
        spec: a name, a list of names, a glob ("conv*", "VISp*", "features.*"; of module paths only where it fits no
            short name), or "all": every convolution by its short name, every dense layer, every area not among those.
        input_size: (channel, y, x) or (channel, time) of the images.
        of: name of the network in messages.

    Raises:
        UserError: no such layer, a glob that matches none, a module that is not used, is called several times, or
            returns no tensor of units.
    """
    catalogue = _Catalogue(model, input_size)
    chosen: dict[Tap, Layer] = {}
    for word in [spec] if isinstance(spec, str) else list(spec):
        for layer in catalogue.named(str(word), of):
            if (same := chosen.setdefault(layer.tap, layer)).name not in (layer.name, word) and word != "all":
                catalogue.conduct.say(f"{layer.name} is {same.name} of {of}: it is measured once, under that name")
            if told := catalogue.conduct.place(layer.tap).told:
                catalogue.conduct.say(f"layer {layer.name!r} of {of}: {told}")
    if not chosen and catalogue.main_problems:
        why, names = next(iter(catalogue.by_reason(catalogue.main_problems).items()))
        raise UserError(f"no layer of {of} can be read: {listing(names)}: {why}")
    if not chosen:
        raise UserError(f"no layer is requested; layers of {of}: {listing(layer.name for layer in catalogue.main)}")
    for name, how in only_rounding(model, list(chosen.values()), input_size).items():
        catalogue.conduct.say(f"layer {name!r} of {of} does not depend on the image but for rounding: {how}")
    return checked(model, list(chosen.values()), input_size)


def left_out(model: nn.Module, input_size: tuple[int, ...], every: bool = False) -> dict[str, list[str]]:
    """Return names of layers that cannot be had for each image, by the reason.

    Args:
        input_size: (channel, y, x) or (channel, time) of the images.
        every: also modules; else convolutions, dense layers and areas.
    """
    catalogue = _Catalogue(model, input_size)
    return catalogue.by_reason(set(catalogue.problems) if every else catalogue.main_problems)


def last_map(model: nn.Module, input_size: tuple[int, ...]) -> Layer:
    """Return where the last map stands that the output is made from: what becomes of the last convolution's output.

    Where the head pools maps evenly it is what is pooled; else the last convolution's output behind all that keeps its
    size (BatchNorm, sum, joining, rectifier), but not one that only says how positions are weighed (by a softmax). In a
    transformer with a class token it is the normalisation before the last attention: of what follows that, the class
    token alone is read.

    Raises:
        UserError: there is no such map.
    """
    return _Catalogue(model, input_size).last_map()


def before_output(model: nn.Module, input_size: tuple[int, ...], count: int) -> list[Layer]:
    """Return the places on the way to the output that have as many values for an image, in the order of the pass."""
    return _Catalogue(model, input_size).before_output(count)


class _Catalogue:
    """The layers of one network for one size of image.

    Attributes:
        every: all layers in the order in which they are computed.
        main: convolutions, dense layers and areas of them.
        short: the names that are no module paths.
        problems: by name of what cannot be had for each image: why.
        main_problems: those of them that would be in `main`.
    """

    def __init__(self, model: nn.Module, input_size: tuple[int, ...]):
        self.model = model
        self.trace = trace(model, input_size)
        self.conduct = conduct_of(model, tuple(input_size), anew=True)
        self.problems: dict[str, str] = {}
        self.main_problems: set[str] = set()
        self.geometries = geometries(self.trace)
        self.macs = np.cumsum([0, *map(multiply_accumulates, self.trace.calls)])
        self.times = Counter(call.path for call in self.trace.modules)
        self.spellings: dict[str, Layer] = {}  # further names of the same places
        short = self._convolutions() + self._areas()
        taken = {layer.name for _, layer in short} | set(self.spellings)
        output = self.trace.modules[-1].output
        self.hidden = any(call.path == "logits" and call.output != output for call in self.trace.modules)
        modules = self._modules(taken | {"logits"} if self.hidden else taken)
        self.problems |= (lost := unfollowed(model, self.trace))
        self.main_problems |= lost.keys()
        self.every = [layer for _, layer in sorted(short + modules, key=lambda pair: pair[0])]
        self.short = taken
        self.main = [layer for layer in self.every if layer.name in taken or layer.kind == "linear"]
        if isinstance(output, Value) and self._has_units("logits", output, Tap(""), main=True):
            logits = self._layer("logits", "", "other", output, Tap(""))
            self.spellings.setdefault("logits", logits)

    def named(self, word: str, of: str) -> list[Layer]:
        """Return the layers a word stands for, or say why there is none."""
        if word == "all":
            self._tell_left_out(self.main_problems, of)
            return self.main
        names = self.spellings | {layer.name: layer for layer in self.every}
        if word in names:
            self._tell_namesake(word, names[word])
            return [replace(names[word], name=word)]
        if any(sign in word for sign in "*?[") and not is_list(word):
            short = [name for name in names if name in self.short and fnmatchcase(name, word)]
            found = short or [name for name in names if fnmatchcase(name, word)]
            order = {layer.tap: place for place, layer in enumerate(self.every)}
            self._tell_left_out({name for name in self.problems if fnmatchcase(name, word)}, of)
            if found:
                return sorted((replace(names[name], name=name) for name in found), key=lambda layer: order[layer.tap])
        raise self._missing(word, of, names)

    def _tell_namesake(self, word: str, layer: Layer) -> None:
        """Warn where a name stands for something else than the module that the network calls so."""
        own = f"{word} is {layer.module}, by the order in which convolutions are computed"
        own = "logits is what the network returns" if word == "logits" and self.hidden else own
        other = word in self.short and layer.module != word and self.times[word] and word not in self._aliases()
        if other or (word == "logits" and self.hidden):
            self.conduct.say(f"{own}; the output of its module of that name is {word}#1")

    def by_reason(self, names: set[str]) -> dict[str, list[str]]:
        """Return names of `problems` by the reason, with the shapes of the first of each."""
        found: dict[str, tuple[str, list[str]]] = {}
        for name, why in self.problems.items():
            if name in names:
                found.setdefault(re.sub(r"\([^()]*\)", "", why), (why, []))[1].append(name)
        return dict(found.values())

    def _tell_left_out(self, names: set[str], of: str) -> None:
        """Warn of layers that were requested together with others and cannot be had."""
        for why, some in self.by_reason(names).items():
            self.conduct.say(f"left out of the layers of {of}: {listing(some)}: {why}")

    def _missing(self, word: str, of: str, names: dict[str, Layer]) -> UserError:
        if word in self.problems:
            return UserError(f"layer {word!r} of {of} cannot be read image by image: {self.problems[word]}")
        path = re.sub(r"(#\d+)?(\[\d+\])?$", "", word)
        if path == word and self.times[word] > 1:
            options = listing(f"{word}#{number + 1}" for number in range(self.times[word]))
            return UserError(
                f"layer {word!r} of {of} is called {self.times[word]} times in a pass; say which: {options}"
            )
        if path in dict(self.model.named_modules()) and not self.times[path]:
            return UserError(f"layer {path!r} of {of} is not used for the noise image that the network is tried with")
        output = self._output("" if word == "logits" else word)
        if isinstance(output, (tuple, list)):
            parts = [name for name in names if name.startswith(f"{word}[")]
            hint = f"; name its part: {listing(parts)}" if parts else ""
            return UserError(f"layer {word!r} of {of} returns a {type(output).__name__} of {len(output)}{hint}")
        if word and self.times[word] and "numpy" in self.trace.readers:
            return UserError(f"layer {word!r} of {of}: what it is made from leaves torch (numpy()), and is lost there")
        if isinstance(output, Value) and output.call == CONSTANT:
            how = "how cannot be followed (a compiled part, a transform)"
            return UserError(f"layer {word!r} of {of} does not depend on the image, or {how}")
        if word and self.times[word]:
            return UserError(
                f"layer {word!r} of {of} returns nothing with units (one tensor of real numbers with an image axis)"
            )
        return unknown("layer", word, dict.fromkeys([layer.name for layer in self.main] + list(names)), of=of)

    def _convolutions(self) -> list[tuple[int, Layer]]:
        """Return the convolutions with their place in the pass, under their short names."""
        found, count = [], 0
        given = {name: path for name, path in self._aliases().items() if re.fullmatch(r"conv\d+", name)}
        values = {path: self._output(path) for path in given.values()}
        for call in self.trace.calls:
            if KINDS.get(call.name) != "convolution":
                continue
            value = alone_rectified(self.trace, call)
            same = [name for name, path in given.items() if values[path] == value or path == call.module]
            count += 1
            name = same[0] if same else "" if given else f"conv{count}"
            if not self._has_units(name, value, self._tap(value), main=bool(name)):
                continue
            module = self.model.get_submodule(call.module)
            own = self._tap(call.outputs[0])
            leaf = not module._modules.keys() - {"parametrizations"}
            layer = self._layer(name, call.module if leaf else str(own), "convolution", value)
            size = parameters(module) if leaf else weights(call, self.model)
            if name:
                macs = multiply_accumulates(call)
                found.append((value.call, replace(layer, parameters=size, macs=macs)))
        return found

    def _areas(self) -> list[tuple[int, Layer]]:
        """Return the other names the network has for its modules; a second name for the same place is a spelling."""
        found: dict[Value, tuple[int, Layer]] = {}
        for name, path in self._aliases().items():
            value = self._output(path)
            if re.fullmatch(r"conv\d+", name) or not isinstance(value, Value):
                continue
            size = own_parameters(self.model.get_submodule(path))  # those of modules inside it are of other layers
            layer = replace(self._layer(name, path, "area", value), parameters=size)
            if not self._has_units(name, value, layer.tap, main=True):
                continue
            if value in found:
                self.spellings[name] = layer
            else:
                found[value] = (value.call, layer)
        return list(found.values())

    def _modules(self, taken: set[str]) -> list[tuple[int, Layer]]:
        """Return the output of every call of every module, under its path."""
        found = []
        for call in self.trace.modules:
            several = self.times[call.path] > 1 or call.path in taken
            name = f"{call.path}#{call.number + 1}" if several else call.path
            parts = call.output if isinstance(call.output, (tuple, list)) else ()
            for part, value in [(None, call.output), *enumerate(parts)]:
                label = name if part is None else f"{name}[{part}]"
                tap, kind = Tap(call.path, call.number, part=part), self._kind(call)
                if not call.path or not isinstance(value, Value):
                    continue
                if not self._has_units(label, value, tap, main=kind == "linear"):
                    continue
                layer = self._layer(label, call.path, kind, value, tap)
                size = parameters(self.model.get_submodule(call.path))
                macs = int(self.macs[call.stop] - self.macs[call.start])
                found.append((value.call, replace(layer, parameters=size, macs=macs)))
        return found

    def _layer(self, name: str, module: str, kind: str, value: Value, tap: Tap | None = None) -> Layer:
        geometry, tap = self.geometries[value], tap or self._tap(value)
        place = self.conduct.place(tap)
        shape, axis, images = self._whole(value, place), geometry.channel_axis, place.axis
        axis += len(shape) > len(value.shape) and axis >= images
        if lone := len(shape) == 1:
            shape, axis = (*shape, 1), 1
        if axis == images:  # the channels went into an axis of their own, if any
            axis = max(at for at in range(len(shape)) if at != images)
        places = [at for at in range(len(shape)) if at not in (images, axis)]
        known = places if shape == value.shape else []  # of one that lost an axis, no other is known
        field = geometry.field_on(value.shape, known)
        handed = self.trace.decided(value, None if tap.function else (tap.module, tap.call))
        said = [f"Python decides by {name}() of values" for name in handed if not field.whole]
        said += [f"its axis {axis} is taken for the units"] if geometry.is_guessed else []
        note = "; ".join(filter(None, [geometry.note_on(known), *said]))
        size = (shape[axis], tuple(shape[at] for at in places), axis, 0, 0, field, nonnegative(self.trace, value))
        return Layer(name, module, str(tap), kind, tap, *size, images, place.handing, note, lone=lone)

    def _whole(self, value: Value, place: Place) -> tuple[int, ...]:
        """Return the shape of a value with the axis of its one image, where it lost that."""
        lost = place.handing == "restored"
        return (*value.shape[: place.axis], 1, *value.shape[place.axis :]) if lost else value.shape

    def before_output(self, count: int) -> list[Layer]:
        """Return the layers of `before_output`, under names of their places."""
        output = self.trace.modules[-1].output
        made = [call.outputs[0] for call in ancestors(self.trace, output)] if isinstance(output, Value) else []
        places = {one: self.conduct.place(self._tap(one)) for one in made if one != output and one.real}
        fitting = [one for one, place in places.items() if not place.problem and math.prod(one.shape) == count]
        return [self._layer(f"scores {place}", "", "other", value) for place, value in enumerate(fitting)]

    def last_map(self) -> Layer:
        """Return the layer of `last_map`."""
        output = self.trace.modules[-1].output
        needed = ancestors(self.trace, output) if isinstance(output, Value) else []
        folded = [call for call in needed if KINDS.get(call.name) == "convolution" and has_map(call.outputs[0])]
        if not folded:
            raise UserError("the output is made from no convolution with a map (image, channel, y, x); say layer=…")
        last = next((call for call in folded[::-1] if not is_gate(needed, call.outputs[0])), folded[-1])
        pooled = [call for call in needed if call.index > last.index and pools_evenly(call)]
        attention = [call for call in needed if KINDS.get(call.name) == "attention" and call.index > last.index]
        if attention and not pooled:
            return self._before(attention[-1])
        value = pooled[-1].inputs[0] if pooled else followed(needed, last.outputs[0])
        around = [call for call in self.trace.modules if call.output == value and call.path]
        short = [layer.name for layer in self.every if layer.name in self.short and layer.tap == self._tap(value)]
        if short or not around:
            name = short[0] if short else str(self._tap(value))
            if not self._has_units(name, value, self._tap(value), main=True):
                raise self._missing(name, "the model", {})
            return self._layer(name, around[-1].path if around else "", "convolution", value)
        outer = around[-1]
        several = self.times[outer.path] > 1 or outer.path in self.short
        return self.named(f"{outer.path}#{outer.number + 1}" if several else outer.path, "the model")[0]

    def _before(self, attention: Call) -> Layer:
        """Return the last normalisation of tokens before an attention."""
        names = [
            call.path
            for call in self.trace.modules
            if call.stop <= attention.index and self._kind(call) == "norm" and isinstance(call.output, Value)
        ]
        if not names:
            raise UserError("the network attends after its last convolution; say layer=… (a map, or tokens in a grid)")
        return self.named(names[-1], "the model")[0]

    def _tap(self, value: Value) -> Tap:
        """Return where a value can be read: at the module that made it, if it returns it, else at the function."""
        call = self.trace.calls[value.call]
        around = self.trace.around(call)
        if around.output == value:
            return Tap(call.module, call.number)
        if isinstance(around.output, (tuple, list)) and value in around.output:
            return Tap(call.module, call.number, part=around.output.index(value))
        part = value.part if len(call.outputs) > 1 else None
        return Tap(call.module, call.number, call.name, call.nth, part)

    def _kind(self, call: ModuleCall) -> str:
        direct = {inner.name for inner in self.trace.calls[call.start : call.stop] if inner.module == call.path}
        if any(inner.module != call.path for inner in self.trace.calls[call.start : call.stop]):
            return "block"
        kinds = {KINDS[name] for name in direct if name in KINDS}
        idle = "dropout" if "Dropout" in call.type else "other"  # in eval mode it calls nothing that changes a value
        return next((kind for kind in dict.fromkeys(KINDS.values()) if kind in kinds), idle)

    def _has_units(self, name: str, value: Value, tap: Tap, main: bool) -> bool:
        """Say whether a value is units that answer to each image, and note under its name why not."""
        place = self.conduct.place(tap)
        if value.call < 0 or not value.real:
            return False
        if place.problem:
            self.problems.setdefault(name, place.problem)
            self.main_problems |= {name} if main else set()
            return False
        shape = self._whole(value, place)
        return shape[place.axis : place.axis + 1] == (1,) and (len(shape) > 1 or not tap.module)

    def _aliases(self) -> Mapping[str, str]:
        named = about(self.model).aliases
        modules = dict(self.model.named_modules())
        for name, path in named.items():
            if path not in modules:
                raise unknown("module", path, list(modules)[1:], of=f"the network, for its alias {name!r}")
        return named

    def _output(self, path: str) -> object:
        return next((call.output for call in self.trace.modules if call.path == path), None)
