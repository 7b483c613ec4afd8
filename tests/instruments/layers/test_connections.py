"""Which layers read which, against networks whose graph is known."""

from cnnprobe.instruments.layers.connections import connections, values_of
from cnnprobe.instruments.layers.naming import main_layers
from cnnprobe.instruments.network.tracing import trace
from cnnprobe.models import unet
from tests.support.networks import planted


def named(model, size):
    """Return the pairs by name, the image as ""."""
    layers, written = main_layers(model, size), trace(model, size)
    names = [*(layer.name for layer in layers), ""]
    return {(names[read], names[reader]) for read, reader in connections(written, values_of(written, layers))}


def test_a_skip_reads_the_way_down_and_is_read_on_the_way_up():
    options = {"num_classes": 2, "channels": 3, "width": 1, "padding": "same", "rise": "transposed"}
    pairs = named(unet.build(depth=1, input_size=8, **options), (3, 8, 8))
    assert pairs == {
        ("", "conv1"), ("conv1", "conv2"), ("conv2", "conv3"), ("conv3", "conv4"), ("conv4", "conv5"),
        ("conv2", "skip1"), ("skip1", "conv6"), ("conv5", "conv6"), ("conv6", "conv7"), ("conv7", "conv8"),
    }  # fmt: skip


def test_what_passes_beside_a_block_is_read_behind_it():
    pairs = named(planted.Block(), (3, 8, 8))
    assert ("", "conv1") in pairs and ("conv1", "conv2") in pairs
