"""A look at the steps of a pickle before anything is built: a small one may ask for any amount of memory.

Whoever keeps code out still lets 400 bytes ask for a `bytearray` of 3 GB, or for lists that hold each other ten times
over and over, which nothing can hash or print to the end.
"""

import pickle
import pickletools
from typing import Any, BinaryIO

MOST_STEPS = 10**6
"""Steps of a pickle; a tensor takes forty."""
LARGEST, GROWS = 10**7, 20
"""Values and letters that may be there, counted wherever they stand, and how many a byte may stand for beyond that."""
DEEPEST = 1000
"""Things in each other: Python hashes and prints them by calls within calls."""
REFUSED = ("builtins bytearray", "__builtin__ bytearray")
"""What torch would call with any number."""
ENCODE = "_codecs encode"
"""How Python 2 has bytes; some codes double what they are given."""
FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
"""Steps that put things into what lies below them."""


class Oversized(Exception):  # noqa: N818
    """A pickle that would take more than its bytes can stand for; its text is the reason."""


class _Thing:
    """What one step of a pickle makes: how much it is itself, what it holds, and its word, where it is one."""

    __slots__ = ("holds", "weight", "word")

    def __init__(self, word: Any = None, holds: list["_Thing"] | None = None):
        self.word, self.holds = word, holds or []
        self.weight = 1 + (len(word) if isinstance(word, str | bytes) else 0)


def look_through(pickled: bytes | BinaryIO) -> None:
    """Look through one pickle; a file is left behind it."""
    stack: list[Any] = []
    memo: dict[Any, _Thing] = {}
    dropped: list[_Thing] = []
    first = read = steps = 0
    word: Any  # of a step that has one
    at: Any  # an int, since both bytes and files can tell
    try:
        for step, word, at in pickletools.genops(pickled):
            steps += 1
            first = at if steps == 1 else first
            read = at - first
            if steps > MOST_STEPS:
                raise Oversized(f"it takes more than {MOST_STEPS} steps to build")
            if "PUT" in step.name and word > steps:
                raise Oversized(f"it keeps place for {word} values that are named, after {steps} steps")
            dropped += _taken(step, word, stack, memo)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise pickle.UnpicklingError(f"no pickle ({error})") from None
    # what is left over was built all the same, and may have been hashed
    _check_size(_Thing(None, [one for one in (*dropped, *stack) if one is not None]), read)


def _taken(step: pickletools.OpcodeInfo, word: Any, stack: list[Any], memo: dict[Any, _Thing]) -> list[_Thing]:
    """Take one step of a pickle: what it takes from the stack is held by what it puts there; the rest is returned."""
    name = step.name
    if name == "STOP":
        return []
    if name == "MARK":
        stack.append(None)
    elif name == "DUP":
        stack.append(stack[-1])
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
        else:
            return taken
    return []


def _popped(step: pickletools.OpcodeInfo, stack: list[Any]) -> list[_Thing]:
    """Take from the stack what a step takes, lowest first; what stands on a mark with what is below it."""
    below = len(step.stack_before)
    marked: list[_Thing] = []
    if pickletools.markobject in step.stack_before:
        while (one := stack.pop()) is not None:
            marked.append(one)
        marked.reverse()
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
