"""The loop against one written by hand, stopped at every update, and led astray."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnprobe.errors import UserError
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.recipe import class_weights
from cnnprobe.methods.train.training_images import order_of
from cnnprobe.store.tables import Advance, Checkpoint, Rows
from tests.support.images.blobs import COMPUTATION, Blobs, network, recipe


def events(model=None, train=None, held_out=None, state=None, start=0, stop=None, **changes):
    train, held_out = train or Blobs(33, 0), held_out or Blobs(20, 1)
    options = {"state": state, "should_stop": stop}
    own = {name: value for name, value in changes.items() if name in vars(COMPUTATION)}
    around = replace(COMPUTATION, **own)
    return Training(model or network(), train, held_out, recipe(**changes), around, **options).events(start)


def kept(stream):
    return {event.name: event for event in stream if isinstance(event, Checkpoint)}


def rows(stream):
    """Return the rows of /epochs without times, and the confusion matrix."""
    found = [event for event in stream if isinstance(event, Rows)]
    plain = [{k: v.item() for k, v in r.columns.items()} for r in found if r.table == "epochs"]
    return plain, [r.columns["matrix"].tolist() for r in found if r.table == "confusion"]


def test_equals_a_loop_written_by_hand():
    """Plain SGD with momentum and cosine, cross-entropy, in the order the engine says; 33rd image in the last batch."""
    data, hand = Blobs(33, 0), network()
    hand[3].p = 0.0
    optimiser = torch.optim.SGD(hand.parameters(), lr=0.05, momentum=0.9, weight_decay=0.0005)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    for epoch in range(2):
        hand.train()
        order = order_of(33, 0, epoch)
        for batch in (order[:16], order[16:]):
            optimiser.zero_grad()
            images = data.pixels[batch].float() / 255
            functional.cross_entropy(hand(images), torch.from_numpy(data.labels[batch])).backward()
            optimiser.step()
            scheduler.step()
    ours = network()
    ours[3].p = 0.0
    list(events(ours, data, augment="none"))
    for name, tensor in hand.state_dict().items():
        assert torch.allclose(ours.state_dict()[name].float(), tensor.float(), atol=1e-5), name


def test_a_network_learns():
    stream = list(events(network(), Blobs(96, 0), Blobs(30, 1), epochs=8, lr=0.2))
    table, _ = rows(stream)
    assert table[-1]["loss"] < 0.6 * table[0]["loss"]
    assert table[-1]["val_accuracy"] > 0.9
    assert sum(event.count for event in stream if isinstance(event, Advance)) == 8 * 96


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_written_is_what_the_network_does(precision):
    """Of a network that has not learned enough to be right: rows of the matrix are the truth, columns its answers.

    F99: held-out images are measured in float32, whatever the network learns in.
    """
    model, held_out = network(), Blobs(30, 1)
    stream = list(events(model, Blobs(96, 0), held_out, epochs=2, lr=0.002, precision=precision))
    table, (matrix,) = rows(stream)
    assert matrix != np.transpose(matrix).tolist()
    best = max(table, key=lambda row: (row["val_accuracy"], -row["epoch"]))
    model.load_state_dict(kept(stream)["best"].weights)
    with torch.no_grad():
        outputs = model(held_out.pixels.float() / 255)
        answers = outputs.argmax(1).numpy()
    loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(held_out.labels)).item()
    assert best["val_loss"] == pytest.approx(loss, rel=1e-5)
    expected = np.zeros((3, 3), dtype=int)
    np.add.at(expected, (held_out.labels, answers), 1)
    assert matrix == expected.tolist()
    assert best["val_accuracy"] == pytest.approx((answers == held_out.labels).mean())
    assert kept(stream)["best"].about["epoch"] == best["epoch"]


def test_weights_are_kept_at_the_start_on_the_way_and_at_the_end():
    stream = list(events(network(), Blobs(96, 0), epochs=3, checkpoints=[2]))
    names = [event.name for event in stream if isinstance(event, Checkpoint)]
    assert names[:6] == ["update=000000", "epoch=000", "update=000001", "update=000002", "update=000004", "best"]
    assert set(names) == {*names[:6], "epoch=002", "last"}
    untrained = network().state_dict()
    checkpoints = kept(stream)
    assert all(torch.equal(untrained[key], value) for key, value in checkpoints["epoch=000"].weights.items())
    assert checkpoints["update=000004"].about["update"] == 4
    assert all(value.is_contiguous() for value in checkpoints["last"].weights.values())


RECIPES = [
    {"augment": ["crop", "resized-crop", "flip", "colour"], "precision": "bfloat16"},
    {"optimizer": "adamw", "clip": 0.5, "balance": "draw", "preload": False, "lr": 0.01},
    {"loss": "squared-error", "balance": "loss", "label_smoothing": 0.1, "channels_last": True},
]


@pytest.mark.parametrize("changes", RECIPES)
def test_stopped_after_any_batch_it_goes_on_to_the_same_bits(changes):
    """Stops during learning and during measuring; a fresh network takes all it needs from the state."""
    whole = list(events(**changes))
    expected, weights = rows(whole), kept(whole)["last"].weights
    for batches in range(1, 12):  # images are read, then two epochs of two updates and two measured batches
        calls = iter(range(100))
        before = list(events(stop=lambda calls=calls, n=batches: next(calls) >= n, **changes))
        state = kept(before)["last"].resume if kept(before) else None  # none while images are read
        done = rows(before)[0]
        torch.rand(batches)  # whatever else has drawn random numbers meanwhile
        after = list(events(state=state, start=len(done), **changes))
        table, confusion = rows(after)
        assert (done + table, confusion) == expected
        for name, tensor in kept(before + after)["last"].weights.items():
            assert torch.equal(tensor, weights[name]), (batches, name)


def test_rows_that_were_lost_are_given_again():
    state = kept(events())["last"].resume
    table, confusion = rows(events(state=state, start=1))
    assert [row["epoch"] for row in table] == [2]
    assert (rows(events(state=state, start=0))[0], confusion) == rows(events())


def test_the_state_is_saved_within_an_epoch_too(monkeypatch):
    monkeypatch.setattr("cnnprobe.methods.train.loop.SHARE", 1e9)  # whatever it costs
    stream = [event for event in events(save_minutes=1e-9) if isinstance(event, Checkpoint) and event.resume]
    steps = [event.resume["progress"]["step"] for event in stream]
    assert [step for step, before in zip(steps, [0, *steps]) if step != before] == [1, 2, 0, 1, 2, 0]
    assert max(len(event.resume["asked"]) for event in stream) > 0  # and while the held-out images are asked about


def test_an_image_is_changed_anew_in_each_epoch():
    model, seen = network(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    list(events(model, batch_size=33, epochs=3, augment=["crop"]))
    unshuffled = [images[np.argsort(order_of(33, 0, epoch))] for epoch, images in enumerate(seen)]
    assert not torch.equal(unshuffled[0], unshuffled[1])
    assert not torch.equal(unshuffled[1], unshuffled[2])


def test_how_images_are_supplied_does_not_matter():
    """Held in memory or loaded, and for images before fitting too."""
    for size in (8, 12):
        data, other = Blobs(33, 0, size=size), Blobs(20, 1, size=size)
        held, loaded = (rows(events(network(), data, other, preload=preload)) for preload in (True, False))
        assert held == loaded


def test_images_that_cannot_be_read_are_left_out(caplog):
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    for preload in (True, False):
        stream = list(events(network(), Blobs(40, 0, broken=8), preload=preload))
        assert sum(event.count for event in stream if isinstance(event, Advance)) == 2 * 35


def damaged(count, seed):
    """Return images of which every fifth cannot be read, and none of the first 16: a whole batch of those in order."""
    data = Blobs(count, seed, broken=5)
    data.can_read[:16] = False
    return data


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("balance", ["none", "draw"])
def test_images_that_cannot_be_read_are_missing_from_their_batches_and_change_no_other_one(preload, balance, caplog):
    """F32: held images were shuffled without them, others with them; each batch against the order by hand."""
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    data, model, seen = damaged(80, 0), network(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    list(events(model, data, damaged(40, 1), preload=preload, balance=balance, augment="none"))
    odds = class_weights(np.bincount(data.labels))[data.labels] if balance == "draw" else None
    orders = [order_of(80, 0, epoch, odds) for epoch in range(2)]
    batches = [order[first : first + 16] for order in orders for first in range(0, 80, 16)]
    assert [len(images) for images in seen] == [data.can_read[batch].sum() for batch in batches]
    for images, batch in zip(seen, batches):
        assert torch.equal(images, data.pixels[batch[data.can_read[batch]]].float() / 255)


def test_which_images_are_held_in_memory_may_change_at_every_stop(caplog):
    """F32: `preload=auto` goes by free memory; some images were learned twice after a resume, others never."""
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    data = damaged(80, 0), damaged(40, 1)
    whole = {preload: list(events(network(), *data, preload=preload)) for preload in (True, False)}
    expected, weights = rows(whole[True]), kept(whole[True])["last"].weights
    assert rows(whole[False]) == expected
    for first in (True, False):
        for batches in (2, 4, 6, 7, 11, 14):
            calls = iter(range(100))
            stop = lambda calls=calls, n=batches: next(calls) >= n  # noqa: E731
            before = list(events(network(), *data, stop=stop, preload=first))
            done, state = rows(before)[0], kept(before)["last"].resume
            after = list(events(network(), *data, state=state, start=len(done), preload=not first))
            table, confusion = rows(after)
            assert (done + table, confusion) == expected
            for name, tensor in kept(before + after)["last"].weights.items():
                assert torch.equal(tensor, weights[name]), (batches, name)


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("part", ["training", "held-out"])
def test_images_of_which_none_can_be_read_are_told(part, preload, caplog):
    """F33."""
    caplog.set_level(logging.CRITICAL, logger="cnnprobe")
    data = {"training": Blobs(33, 0), "held-out": Blobs(20, 1)}
    data[part].can_read[:] = False
    with pytest.raises(UserError, match=f"no batch of the {part} images of blobs has enough that can be read"):
        list(events(network(), *data.values(), preload=preload))


@pytest.mark.parametrize("train", [Blobs(33, 0), Blobs(96, 0)])
def test_a_training_that_diverges_says_where_and_what_is_left(train):
    names, rows_kept = [], 0
    with pytest.raises(
        UserError, match=r"diverged at epoch 1, .*last good weights: \w+=\d+; try a smaller lr"
    ) as error:
        for event in events(network(), train, lr=1e38, weight_decay=0.0, augment="none"):
            if isinstance(event, Checkpoint):
                names.append(event.name)
                assert all(tensor.isfinite().all() for tensor in event.weights.values())
            rows_kept += isinstance(event, Rows)
    assert rows_kept == 0
    assert f"last good weights: {names[-1]};" in str(error.value)


def test_an_update_that_is_not_a_number_is_found_at_its_step():
    data = Blobs(96, 0)
    order = order_of(96, 0, 1)
    model = network()
    seen = []

    def spoil(module, inputs, outputs):
        seen.append(module.training)
        return outputs * float("nan") if sum(seen) == 6 + 3 else outputs  # third update of the second epoch

    model.register_forward_hook(spoil)
    with pytest.raises(UserError, match=r"epoch 2, step 3 \(loss nan\); last good weights: best"):
        list(events(model, data, epochs=3))
    assert len(order) == 96


def test_memory_that_is_short_is_told_with_what_to_try():
    def refuse(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    model = network()
    model.register_forward_hook(refuse)
    with pytest.raises(UserError, match="a batch of 16 images does not fit in memory; try batch_size=8"):
        list(events(model))


def test_gradients_are_cut_to_the_norm_asked_for():
    """With lr 1 and nothing else, one update moves the weights exactly by the norm."""
    options = {"epochs": 1, "batch_size": 40, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": 1.0}
    stream = kept(events(clip=0.01, **options))
    before, after = stream["update=000000"].weights, stream["last"].weights
    moved = [after[key] - before[key] for key in before if "running" not in key and "num_batches" not in key]
    assert float(torch.cat([tensor.flatten() for tensor in moved]).norm()) == pytest.approx(0.01, rel=1e-3)


def test_parts_that_are_not_to_be_trained_stay_and_others_learn_at_their_rate():
    model = network()
    for parameter in model[:2].parameters():
        parameter.requires_grad_(False)
    groups = [{"params": list(model[6].parameters()), "factor": 0.0}]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    training = Training(model, Blobs(33, 0), Blobs(20, 1), recipe(), COMPUTATION, groups=groups)
    list(training.events())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_what_an_observer_measures_joins_the_row():
    training = Training(*(network(), Blobs(33, 0), Blobs(20, 1), recipe(), COMPUTATION), observe=lambda: {"old": 0.25})
    assert [row["old"] for row in rows(training.events())[0]] == [0.25, 0.25]


def test_random_numbers_outside_are_left_alone_and_the_network_comes_back_plain():
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    model = network_without_seeding()
    list(events(model, channels_last=True))
    assert torch.equal(torch.rand(2), expected)
    assert not model.training
    assert model[0].weight.is_contiguous()


def network_without_seeding():
    with torch.random.fork_rng([]):
        return network()


@pytest.mark.parametrize("asked", [1, 2])
def test_a_stop_while_images_are_read_teaches_nothing(asked):
    """F103: what is asked for is an end, and no state is kept from before the first update."""
    calls = iter(range(100))
    data = Blobs(33, 0, broken=4)
    stream = list(events(None, data, preload=True, stop=lambda: next(calls) >= asked - 1))
    assert not [event for event in stream if isinstance(event, Rows | Checkpoint | Advance)]
