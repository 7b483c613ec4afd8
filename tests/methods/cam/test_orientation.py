"""How maps lie over their images: class maps of networks that turn them are those of networks that turn them back."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, last_map
from cnnprobe.methods.cam.grids import Grid
from cnnprobe.models import unet
from tests.support.calling import Told

SIZE = (3, 24, 32)
TURNS = {  # how a map is turned, what turns it back, and the words
    "up": (lambda x: x.flip(2), lambda x: x.flip(2), "mirrored top to bottom"),
    "aside": (lambda x: x.flip(3), lambda x: x.flip(3), "mirrored left to right"),
    "both": (lambda x: x.flip(2, 3), lambda x: x.flip(2, 3), "mirrored top to bottom and mirrored left to right"),
    "transposed": (lambda x: x.mT, lambda x: x.mT, "with rows and columns exchanged"),
    "quarter": (
        lambda x: torch.rot90(x, 1, (2, 3)), lambda x: torch.rot90(x, -1, (2, 3)),
        "with rows and columns exchanged and mirrored left to right",
    ),
}  # fmt: skip


class Turning(nn.Module):
    """Two convolutions, the map turned between them; a module called `back` turns it back where it has to."""

    def __init__(self, turn, back=nn.Identity):
        super().__init__()
        torch.manual_seed(2)
        self.turn, self.back = turn, back()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 1, stride=2)
        self.head = nn.Linear(6, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(self.turn(F.relu(self.first(x)))))
        return self.head(self.back(x).mean((2, 3)))


class Back(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x)


@pytest.mark.parametrize("name", TURNS)
def test_a_turned_map_is_turned_back(name):
    """F91: what the grid gives is what the network that turns the map back by itself has there."""
    turn, back, words = TURNS[name]
    model, other = Turning(turn), Turning(turn, lambda: Back(back))
    images, seen = torch.rand(2, *SIZE), []
    with Told() as lines:
        grid, straight = (
            Grid(model, find(model, "conv2", SIZE)[0], SIZE),
            Grid(other, find(other, "back", SIZE)[0], SIZE),
        )
    assert [line.partition("over the image ")[2] for line in lines] == [f"{words}: it is turned back"]
    other.back.register_forward_hook(lambda module, given, output: seen.extend([*given, output]))
    other(images)
    assert torch.equal(grid.of(seen[0]), straight.of(seen[1])) and grid.shape == straight.shape == (12, 16)


def test_a_map_whose_parts_change_places_is_refused():
    """F91: no turn lays it as the image is."""
    swapped = Turning(lambda x: torch.cat([x[:, :, 12:], x[:, :, :12]], 2))
    with pytest.raises(UserError, match="in another order than those of the image"):
        Grid(swapped, find(swapped, "conv2", SIZE)[0], SIZE)


def test_a_map_of_large_fields_lies_as_its_image_where_the_fields_say_so():
    """The bottom of a U-Net for small images: every unit sees nearly all, and the change moves to and fro."""
    torch.manual_seed(1)
    options = {"input_size": 16, "channels": 3, "width": 4, "depth": 2, "padding": "same", "rise": "transposed"}
    model = unet.build(num_classes=2, **options)
    grid = Grid(model, find(model, "bottom", (3, 16, 16))[0], (3, 16, 16))
    assert grid.shape == (4, 4)
    assert not str(grid.orientation)


@pytest.mark.parametrize(
    ("name", "side", "seed"),
    [
        ("resnet18", 96, 0),
        *(pytest.param(name, 96, 0, marks=pytest.mark.slow) for name in ("alexnet", "squeezenet1_0")),
        pytest.param("vit_b_32", 224, 0, marks=pytest.mark.slow),
        *(pytest.param(name, 96, 1, marks=pytest.mark.slow) for name in ("alexnet", "squeezenet1_0", "resnet18")),
    ],
)
def test_ordinary_networks_lie_as_their_images(name, side, seed):
    torch.manual_seed(seed)
    model = torchvision.models.get_model(name, weights=None).eval()
    with Told() as lines:
        Grid(model, last_map(model, (3, side, side)), (3, side, side))
    assert not lines


@pytest.mark.parametrize("name", ["up", "aside", "both"])
def test_the_field_of_a_map_that_is_turned_back_is_that_of_its_places(name):
    """F91: it was that of the mirrored map: its first place seemed to see the other end of the image."""
    model, image = Turning(TURNS[name][0]), torch.rand(1, *SIZE)
    layer = find(model, "conv2", SIZE)[0]
    about = (grid := Grid(model, layer, SIZE)).attributes
    for place in ((0, 0), (grid.shape[0] - 1, 2)):
        image.requires_grad_(True).grad = None
        laid = grid.of(F.relu(model.second(model.turn(F.relu(model.first(image))))))
        (gradient,) = torch.autograd.grad(laid[0, :, *place].sum(), image)
        for axis, at in enumerate(place):
            seen = gradient[0].abs().sum(0).sum(1 - axis).nonzero()
            first = about["field_start"][axis] + at * about["field_stride"][axis]
            assert first <= seen.min() and seen.max() < first + about["field_size"][axis]
            assert seen.max() - seen.min() >= about["field_size"][axis] - 2  # at a border of the image one less
    assert list(about["map_size"]) == list(grid.shape)
