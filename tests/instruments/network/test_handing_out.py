"""What leaves torch in a pass: values, and shapes made of values; what only passes through tensors does not."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.replay import Unrepeatable, refuse_handed_out, repeat, run, value_at
from cnnprobe.instruments.network.split_network import Head, WholeHead, cut
from cnnprobe.instruments.network.tracing import Value, trace
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.windows.engine import WindowEngine
from cnnprobe.instruments.windows.occluders import Grid

SIZE = (3, 8, 8)
BRIGHT = 0.8


def rows(found: Tensor) -> Tensor | None:
    return found if len(found) else None


def rows_of_squeezed(score: Tensor) -> Tensor | None:
    found = (score > BRIGHT).nonzero().squeeze()
    return found[None] if found.dim() == 0 else None


def rows_of_pieces(score: Tensor) -> Tensor | None:
    found = None
    for row in (score > BRIGHT).nonzero():
        found = row
    return found


def rows_of_sparse(score: Tensor) -> Tensor | None:
    return rows((score * (score > BRIGHT)).to_sparse().coalesce().indices()[0])


def rows_of_unique(score: Tensor) -> Tensor | None:
    return rows(torch.unique(torch.cat([(score > BRIGHT).long(), torch.zeros(1, dtype=torch.long)]))[1:] * 0)


def rows_of_runs(score: Tensor) -> Tensor | None:
    steps = torch.cat([score * 0, (score > BRIGHT).to(score)])
    return rows(torch.unique_consecutive(steps)[1:].long() * 0)


def rows_without_graph(score: Tensor) -> Tensor | None:
    with torch.inference_mode():
        found = rows(torch.where(score > BRIGHT)[0])
    return None if found is None else found.clone()


WAYS = {  # rows of bright images, or None, by something that differs for other images
    "item()": lambda s: torch.arange(1) if s.max().item() > BRIGHT else None,
    "__bool__()": lambda s: torch.arange(1) if s.max() > BRIGHT else None,
    "__format__()": lambda s: torch.arange(1) if f"{s.max():.3f}" > "0.800" else None,
    "__repr__()": lambda s: None if "False" in repr(s > BRIGHT) else torch.arange(1),
    "the shape of nonzero()": lambda s: rows((s > BRIGHT).nonzero()[:, 0]),
    "the shape of nonzero_numpy()": lambda s: rows(torch.ops.aten.nonzero_numpy(s > BRIGHT)[0]),
    "the shape of argwhere()": lambda s: rows(torch.argwhere(s > BRIGHT)[:, 0]),
    "the shape of where()": lambda s: rows(torch.where(s > BRIGHT)[0]),
    "the shape of __getitem__()": lambda s: rows(torch.arange(len(s))[s > BRIGHT]),
    "the shape of masked_select()": lambda s: rows(torch.arange(len(s)).masked_select(s > BRIGHT)),
    "the shape of unique()": rows_of_unique,
    "the shape of unique_consecutive()": rows_of_runs,
    "the shape of bincount()": lambda s: rows(torch.bincount((s > BRIGHT).long())[1:] * 0),
    "the shape of one_hot()": lambda s: rows(F.one_hot((s > BRIGHT).long())[0, 1:] * 0),
    "the shape of repeat_interleave()": lambda s: rows(torch.arange(len(s)).repeat_interleave((s > BRIGHT).long())),
    "the shape of tensor_split()": lambda s: rows(torch.arange(1).tensor_split((s > BRIGHT).long().cpu())[0]),
    "the shape of zeros()": lambda s: rows(torch.zeros((s > BRIGHT).sum(), dtype=torch.long)),
    "the shape of arange()": lambda s: rows(torch.arange((s > BRIGHT).sum())),
    "the shape of to_sparse()": rows_of_sparse,
    "the shape of squeeze() of nonzero()": rows_of_squeezed,
    "pieces": rows_of_pieces,
    "without graph": rows_without_graph,
    "slice": lambda s: rows(torch.arange(1)[: (s > BRIGHT).sum()]),
    "size": lambda s: torch.arange(1) if (s > BRIGHT).nonzero().size(0) else None,
    "property": lambda s: torch.arange(1) if (s > BRIGHT).nonzero().shape[0] else None,
    "like": lambda s: rows(torch.zeros_like((s > BRIGHT).nonzero()[:, 0])),
    "made from it": lambda s: rows((torch.where(s > BRIGHT)[0] * 2 + 1) // 4),
    "count": lambda s: torch.arange(1) if (s > BRIGHT).nonzero().numel() else None,
}


class Gate(nn.Module):
    """An expert that sees bright images alone; by noise nothing shows that it may be asked."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.conv, self.head, self.expert = nn.Conv2d(3, 6, 3), nn.Linear(6, 3), nn.Linear(6, 3)
        self.eval()

    def forward(self, images):
        maps = torch.relu(self.conv(images)).mean((2, 3))
        answer = self.head(maps)  # before anything is decided
        bright = self.way(images.mean((1, 2, 3)))
        return answer if bright is None else answer.index_add(0, bright, 20 * self.expert(maps[bright]))


@pytest.mark.parametrize("name", WAYS)
def test_by_whatever_python_decides_it_is_decided_anew_for_each_image(name, caplog):
    """F84: a lesion in what a bright image passes through, beside a hook; the noise image is not bright."""
    logging.getLogger("cnnprobe").propagate = True
    model = Gate(WAYS[name])
    images = torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(0))
    images[3:] = images[3:] * 0.1 + 0.9
    (layer,) = find(model, "conv1", SIZE)

    def silence(_, inputs, output):
        output[:, 2] = 0

    handle = model.conv.register_forward_hook(silence)
    with torch.no_grad():
        expected = torch.cat([model(one) for one in images.split(1)])
    handle.remove()
    with torch.no_grad():
        assert not torch.equal(model(images[3:4]), model.head(torch.relu(model.conv(images[3:4])).mean((2, 3))))
    with torch.inference_mode(), untouched(model):
        whole = cut(model, layer, SIZE)
        activation, sides = whole.base(images)
        activation[:, 2] = 0
        found, _ = whole.ends(activation, sides)
    assert isinstance(whole, WholeHead)
    torch.testing.assert_close(found, expected)
    assert conduct_of(model, SIZE).copies
    told = caplog.records[0].getMessage()
    assert "reads values of its images (" in told and "images pass one by one" in told
    assert f"({name})" in told or "(" not in name


MASK = torch.arange(6) > 2


def hidden(maps):
    maps = maps.clone()
    maps[maps < 0.1] = 0
    return maps.reshape(maps.size(0), -1)


def put_back(maps):
    made, mask = torch.zeros_like(maps), maps.mean((1, 2, 3)) > 0
    made[mask] = maps[mask].relu()
    return made.reshape(made.shape[0], -1)


def added(maps):
    found = (maps.mean((1, 2, 3)) > 0).nonzero()[:, 0]
    return maps.index_add(0, found, maps[found]).reshape(len(maps), -1)


SILENT = {
    "filled": lambda maps: maps.masked_fill(maps < 0.1, 0).reshape(len(maps), -1),
    "masked": hidden,
    "put back": put_back,
    "added": added,
    "averaged": lambda maps: (maps * maps[maps > 0].mean()).reshape(maps.shape[0], -1),
    "of some channels": lambda maps: maps[:, MASK].repeat_interleave(torch.tensor([1, 2]).sum(), 1).flatten(1).view(
        maps.shape[0], maps[:, MASK].shape[1] * 3, -1),
    "the largest": lambda maps: torch.stack([one[one.mean((1, 2)).argmax()] for one in maps]).flatten(1),
    "chosen": lambda maps: maps.gather(1, maps.argsort(1)).reshape(len(maps), -1),
    "one hot": lambda maps: F.one_hot(maps.argmax(1), 6).to(maps).reshape(len(maps), -1),
    "three arguments": lambda maps: torch.where(maps > 0, maps, 0.1).reshape(len(maps), -1),
    "counted": lambda maps: maps.reshape(maps.numel() // maps[0].nelement(), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", SILENT)
def test_what_tensors_alone_decide_is_no_decision_of_python(name):
    """Masks that gather and scatter within fixed sizes cost nothing, and no word."""

    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        def forward(self, images):
            return SILENT[name](self.conv(images))

    assert trace(Silent().eval(), SIZE).readers == []


class Turning(nn.Module):
    """Decides on what it returns when that is made."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        maps = self.conv(images)
        return -maps if images.mean() > BRIGHT else maps


def test_a_module_decides_until_it_returns():
    """F84: what it has made by then is not yet its answer; what is decided behind it is none of its own."""
    first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
    model = nn.Sequential(first, Turning(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    before, inner, turned = (find(model, name, SIZE)[0] for name in ("0", "1.conv", "1"))
    written = trace(model, SIZE)
    for layer in (before, inner):
        refuse_handed_out(written, value_at(written, layer.tap), layer.tap)
    with pytest.raises(Unrepeatable, match=r"in Python with values from __bool__\(\), which may differ by image$"):
        refuse_handed_out(written, value_at(written, turned.tap), turned.tap)
    with pytest.raises(Unrepeatable, match=r"__bool__\(\)"):
        WindowEngine(model, turned, SIZE, Grid(SIZE[1:], 2, 2), 2**30)
    assert "Python decides by __bool__()" in turned.note and not inner.note
    with pytest.raises(Unrepeatable, match=r"__bool__\(\)"):
        Head(model, inner, SIZE)


def test_bounds_of_slices_are_read_anew():
    """F85: a part of a map that begins where values say."""

    class Cropped(nn.Module):
        def forward(self, images):
            start = images.mean((0, 1, 2)).argmax()
            return images[:, :, :, start : start + 1] * 2

    written = trace(Cropped(), SIZE)
    call = next(call for call in written.calls if call.name == "__getitem__")
    assert len(set(call.inputs)) == 3 and written.readers == []
    image = torch.zeros(1, *SIZE)
    image[..., 5] = 1
    known: dict[Value, Tensor] = {written.calls[0].inputs[0]: image}
    for one in written.calls:
        known.update(zip(one.outputs, repeat(one, known) if one is not call else run(one, known)))
    assert torch.equal(known[written.modules[-1].output], torch.full((1, 3, 8, 1), 2.0))
