"""A look at the pickles of a .pt file before torch builds what they say: small ones may ask for any amount of memory.

`weights_only` keeps code out, and still lets 400 bytes ask for a `bytearray` of 3 GB, or for lists that hold each other
ten times over and over, which nothing can hash or print to the end.
"""

import argparse
import pickle
import pickletools
import zipfile
from typing import Any, BinaryIO

import numpy as np

MOST_STEPS = 10**6
"""Steps of a pickle; a tensor takes forty."""
LARGEST, GROWS = 10**7, 20
"""Values and letters that may be there, counted wherever they stand, and how many a byte may stand for beyond that."""
DEEPEST = 1000
"""Things in each other: Python hashes and prints them by calls within calls."""
LEGACY_PARTS = 5
"""Pickles that begin a file of torch before 1.6: three of its head, what was saved, and the keys of the storages."""
REFUSED = ("builtins bytearray", "__builtin__ bytearray")
"""What torch would call with any number."""
ENCODE = "_codecs encode"
"""How Python 2 has bytes; some codes double what they are given."""
FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
"""Steps that put things into what lies below them."""
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16")
"""Kinds of NumPy's numbers that may stand beside weights."""


class Oversized(Exception):  # noqa: N818
    """A pickle that would take more than its bytes can stand for; its text is the reason."""


class _Thing:
    """What one step of a pickle makes: how much it is itself, what it holds, and its word, where it is one."""

    __slots__ = ("holds", "weight", "word")

    def __init__(self, word: Any = None, holds: list["_Thing"] | None = None):
        self.word, self.holds = word, holds or []
        self.weight = 1 + (len(word) if isinstance(word, str | bytes) else 0)


def look(file: BinaryIO) -> None:
    """Look through all pickles of a file that torch.save has written; nothing in them is built.

    Raises:
        Oversized: they ask for more than their bytes can stand for.
        pickle.UnpicklingError: they are none that torch reads.
        zipfile.BadZipFile, OSError and others: it is damaged.
    """
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise Oversized(f"{member.filename[:60]!r} in it is compressed")
                if member.filename.endswith("data.pkl"):
                    _look_through(archive.read(member))
        return
    file.seek(0)
    for _ in range(LEGACY_PARTS):
        _look_through(file)


def _look_through(pickled: bytes | BinaryIO) -> None:
    """Look through one pickle; a file is left behind it."""
    stack: list[Any] = []
    memo: dict[Any, _Thing] = {}
    first = read = steps = 0
    try:
        for step, word, at in pickletools.genops(pickled):
            steps += 1
            first = at if steps == 1 else first
            read = at - first
            if steps > MOST_STEPS:
                raise Oversized(f"it takes more than {MOST_STEPS} steps to build")
            _take(step, word, stack, memo)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise pickle.UnpicklingError(f"no pickle ({error})") from None
    _check_size(stack[-1] if stack else _Thing(), read)


def _take(step: pickletools.OpcodeInfo, word: Any, stack: list[Any], memo: dict[Any, _Thing]) -> None:
    """Take one step of a pickle: what it takes from the stack is held by what it puts there."""
    name = step.name
    if name == "STOP":
        return
    if name == "MARK":
        stack.append(None)
    elif "GET" in name:
        stack.append(memo[word])
    elif "PUT" in name or name == "MEMOIZE":
        memo[len(memo) if name == "MEMOIZE" else word] = stack[-1]
    elif step.stack_before or step.stack_after:
        taken = _popped(step, stack)
        if name in FILLING:
            taken[0].holds += taken[1:]
            stack.append(taken[0])
        elif step.stack_after:
            _check_call(name, word, taken)
            stack.append(_Thing(word, taken))


def _popped(step: pickletools.OpcodeInfo, stack: list[Any]) -> list[_Thing]:
    """Take from the stack what a step takes, lowest first; what stands on a mark with what is below it."""
    below = len(step.stack_before)
    marked: list[_Thing] = []
    if pickletools.markobject in step.stack_before:
        at = len(stack) - 1 - stack[::-1].index(None)
        marked = stack[at + 1 :]
        del stack[at:]
        below = step.stack_before.index(pickletools.markobject)
    if below > len(stack) or None in stack[len(stack) - below :]:
        raise ValueError("it takes more than there is")
    taken = stack[len(stack) - below :]
    del stack[len(stack) - below :]
    return taken + marked


def _check_call(name: str, word: Any, taken: list[_Thing]) -> None:
    """Refuse what makes much of little: the functions that do so, and codes other than the one that bytes have."""
    if name == "GLOBAL" and word in REFUSED:
        raise Oversized("it makes a bytearray, of any size")
    called = taken[0].word if name == "REDUCE" and taken else None
    handed = taken[1:] if called == ENCODE else taken
    words = [one.word for one in taken[1].holds] if called == ENCODE else []
    if any(one.word == ENCODE for one in handed) or (called == ENCODE and words[1:] != ["latin1"]):
        raise Oversized("it encodes texts otherwise than as latin1")


def _check_size(whole: _Thing, read: int) -> None:
    """Refuse what is too large, counted wherever it stands, or too deep; a circle counts once."""
    done: dict[int, tuple[int, int]] = {}
    open_, path = [(whole, False)], set()
    most = max(LARGEST, GROWS * read)
    while open_:
        thing, after = open_.pop()
        if after:
            inner = [done.get(id(one), (0, 0)) for one in thing.holds]
            size, deep = thing.weight + sum(one[0] for one in inner), 1 + max((one[1] for one in inner), default=0)
            if size > most:
                raise Oversized(
                    f"it holds {size:.3g} values and letters in {read / 1e3:.3g} kB; at most {most:.0e} may"
                )
            if deep > DEEPEST:
                raise Oversized(f"it holds things more than {DEEPEST} deep in each other")
            done[id(thing)] = (size, deep)
        elif id(thing) not in path:
            path.add(id(thing))
            open_.append((thing, True))
            open_ += [(one, False) for one in thing.holds if id(one) not in path]


class _Kind:
    """Stands for a type of NumPy in a file: that of a number, and of nothing that is as large as the file says."""

    def __init__(self, code: str, *_: Any):
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"Unsupported type numpy.dtype({str(code)[:40]!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple):
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _Kind, data: bytes) -> np.generic:
    """Return a number of NumPy from its bytes."""
    return np.frombuffer(data, kind.dtype, 1)[0]


def plain_types() -> list[Any]:
    """Return what training programs keep beside weights and what is data: their arguments, NumPy's numbers."""
    scalars = [(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")]  # of NumPy 2, and 1
    return [argparse.Namespace, *scalars, (_Kind, "numpy.dtype")]
