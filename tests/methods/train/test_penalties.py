"""Terms that a network adds to the loss: found, named, learned by, and refused where they are none."""

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.methods.train.penalties import names_of, penalties_of
from cnnprobe.store.tables import Rows
from tests.methods.train.test_loop import events
from tests.support.images.blobs import Blobs


class Shrinking(nn.Module):
    """A linear classifier of mean colours that adds the sum of its squared weights, and its mean output."""

    def __init__(self, weight=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.read, self.weight = nn.Linear(3, 3), weight

    def forward(self, images):
        return self.read(images.mean((2, 3)))

    def penalties(self, images, outputs, targets):
        return {"size": self.weight * self.read.weight.square().sum(), "level": outputs.mean() * 0}


def history(model, **changes):
    rows = [event for event in events(model, augment="none", **changes) if isinstance(event, Rows)]
    return [{name: values.item() for name, values in row.columns.items()} for row in rows if row.table == "epochs"]


def test_it_is_learned_by_and_has_columns_of_its_own():
    """One update of plain SGD over all images: the weights move by the gradient of the sum of both."""
    data, hand = Blobs(16, 0), Shrinking()
    given = {"batch_size": 16, "epochs": 1, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": 0.1}
    images, labels = data.pixels.float() / 255, torch.from_numpy(data.labels)
    term = 0.5 * hand.read.weight.square().sum()
    entropy = nn.functional.cross_entropy(hand(images), labels)
    (entropy + term).backward()
    model = Shrinking()
    (row,) = history(model, train=data, **given)
    assert row["size"] == pytest.approx(term.item(), rel=1e-5) and row["level"] == 0
    assert row["loss"] == pytest.approx(entropy.item(), rel=1e-5)
    after = hand.read.weight - 0.1 * hand.read.weight.grad
    assert torch.allclose(model.read.weight, after, atol=1e-6)
    assert row["val_size"] == pytest.approx(0.5 * after.square().sum().item(), rel=1e-5)


def test_a_network_without_has_none_and_its_attribute_lookup_is_not_asked():
    class Grasping(nn.Module):
        def __getattr__(self, name):
            return super().__getattr__(name) if name.startswith("_") else (lambda *_: {"x": 1})

    assert penalties_of(nn.Linear(3, 3)) is None and penalties_of(Grasping()) is None
    assert names_of(nn.Linear(3, 3), Blobs(4, 0), ()) == ()
    assert names_of(Shrinking(), Blobs(4, 0), ("loss",)) == ("size", "level")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": torch.tensor(1.0)}, "calls a term 'loss', as a column of /epochs is called"),
        ({"val_loss": torch.tensor(1.0)}, "calls a term 'val_loss'"),
        ({"a b": torch.tensor(1.0)}, "must return a dict of one number by name"),
        ({"x": torch.ones(2)}, "must return a dict of one number by name"),
        (torch.tensor(1.0), "must return a dict of one number by name"),
    ],
)
def test_what_is_no_number_by_name_is_told(given, words):
    class Odd(Shrinking):
        def penalties(self, images, outputs, targets):
            return given

    with pytest.raises(UserError, match=words):
        names_of(Odd(), Blobs(4, 0), ("loss",))
