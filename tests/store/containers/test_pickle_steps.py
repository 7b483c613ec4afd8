"""What a pickle asks for is counted from its steps, also what is not there any more at its end."""

import pickle
import struct

import pytest

from cnnprobe.store.containers.pickle_steps import Oversized, look_through

LAUGHS = b"N" + b"".join(b"q%c(" % n + b"h%c" % n * 10 + b"t" for n in range(9))
"""Steps that make tuples in each other, each of which holds the one inside it ten times."""
HOSTILE = {
    "place for names": (b"K\x01r" + struct.pack("<I", 150_000_000), "place for 150000000 values .* after 3 steps"),
    "laughs doubled": (b"(" * 8 + b"N" + (b"2" * 9 + b"t") * 8, "values and letters"),
    "laughs thrown away": (b"}(" + LAUGHS + b"Nu0N", "values and letters"),
    "laughs thrown away to a mark": (b"(" + LAUGHS + b"1N", "values and letters"),
    "laughs left over": (LAUGHS + b"N", "values and letters"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_be_built_on_the_way_is_counted(kind):
    """F102."""
    steps, words = HOSTILE[kind]
    with pytest.raises(Oversized, match=words):
        look_through(b"\x80\x02" + steps + b".")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_taken_by_every_protocol(protocol):
    value = {"a": [1, 2.5, None, True, (1, 2, 3, 4)], "b": {"c": "x" * 1000, "d": b"bytes" * 100}, "e": {1, 2}}
    value["again"] = value["a"]
    look_through(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("steps", [b"", b"t.", b"(N2(0.", b"h\x05."])
def test_what_is_no_pickle_is_told(steps):
    with pytest.raises(pickle.UnpicklingError):
        look_through(steps)
