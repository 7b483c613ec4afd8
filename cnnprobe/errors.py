"""A mistake of the user, reported in one line: what was requested, what was found, what is possible."""

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """Whatever is not our bug: a wrong word, a missing file, a full disk. Exit status 2, no traceback.

    The message is one line. It survives pickling, because workers of a sweep send it back.
    """


def escaped(text: object) -> str:
    r"""Return a text with control characters, marks of direction, odd spaces, broken bytes as "\x1b", "\u202e" …"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def printable(text: object, most: int = 60) -> str:
    """Return a stranger's text as one printable line: control characters escaped, shortened in the middle."""
    line = escaped("".join(" " if unicodedata.category(c) == "Zs" else c for c in str(text)))
    return line if len(line) <= most else line[: most // 2] + "…" + line[-(most // 2 - 1) :]


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'conv3'?" for the choice most like `word`, or "" when none is like it.

    Of names that are the same but for their last number, the nearest number is meant: conv26 by conv27.
    """
    original = {str(c).lower(): str(c) for c in choices}
    stem, number = _numbered(word.lower())
    alike = [(abs(own - number), name) for name in original for kind, own in [_numbered(name)] if kind == stem]
    if number >= 0 and alike:
        return f"; did you mean {original[min(alike)[1]]!r}?"
    match = get_close_matches(word.lower(), original, n=1, cutoff=0.6)
    return f"; did you mean {original[match[0]]!r}?" if match else ""


def _numbered(name: str) -> tuple[tuple[str, str], int]:
    """Return what stands around the last number of a name, and the number; -1 where there is none."""
    match = re.fullmatch(r"(.*?)(\d{1,9})(\D*)", name, re.DOTALL)
    return ((match[1], match[3]), int(match[2])) if match else ((name, ""), -1)


def path_of(word: str) -> Path:
    """Return the path that a word means; `~` is the home folder of whoever types, `~anna` Anna's.

    Raises:
        UserError: nobody has that name here.
    """
    path = Path(os.path.expanduser(word))  # noqa: PTH111 (leaves an unknown name as it is, where Path raises)
    if word.startswith("~") and str(path).startswith("~") and not path.exists():
        raise UserError(f"there is no home folder {path.parts[0]} on this machine, got {word}")
    return path


def no_folder(path: Path, asked_by: str) -> UserError:
    """Build the line for a folder of images that is not there."""
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return UserError(f"no folder {str(path)!r} for dataset {asked_by}{nearest(path.name, beside)}")


def must_be_a_file(path: Path) -> None:
    """Refuse a folder, a pipe or a device before it is opened; what is not there is left to the opening.

    Raises:
        OSError: "it is not a file", for the line that the caller has for files that cannot be read.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise OSError(errno.EINVAL, "it is not a file")


def in_the_way(error: OSError) -> str:
    """Return the words for a folder that has the name of a file of ours (EISDIR)."""
    return f"{error.filename2 or error.filename} is a folder where a file should be; move it elsewhere"


def one_line(text: str) -> str:
    """Return a text as one line that a terminal shows as it is: control characters are escaped."""
    return escaped(" ".join(text.split()))


def listing(choices: Iterable[object], most: int = 12) -> str:
    """Join names with commas; of more than `most` the first and the last ones, with the number of all."""
    names = [str(choice) for choice in choices]
    if len(names) <= most:
        return ", ".join(names)
    last = max(1, most // 4)
    return f"{', '.join(names[: most - last])}, …, {', '.join(names[-last:])} ({len(names)} in all)"


def is_list(word: str) -> bool:
    """Say whether a word is a list that could not be read as one: it holds a # or a bracket."""
    return word.startswith("[") and "," in word


def unknown(kind: str, word: str, choices: Iterable[str], of: str = "", plural: str = "") -> UserError:
    """Build the error for a name that does not exist.

    Example:
        unknown("layer", "conv_3", ["conv1", "conv3"], of="mousenet") reads
        "no layer 'conv_3' in mousenet; did you mean 'conv3'? layers: conv1, conv3".
    """
    names = list(choices)
    listed = is_list(word)
    hint = (
        "; in a list, names with # or [ ] stand in double quotes ('[a,\"a#2\"]');" if listed else nearest(word, names)
    )
    place = f" in {of}" if of else ""
    gap = " " if hint else "; "
    return UserError(f"no {kind} {word!r}{place}{hint}{gap}{plural or kind + 's'}: {listing(names)}")


def place_of(
    word: str,
    names: Iterable[str],
    kind: str,
    *,
    of: str = "",
    plural: str = "",
    instead: str = "give each a name of its own",
    first: int = 0,
    offered: Iterable[str] | None = None,
) -> int:
    """Return the one place of a name among names.

    Args:
        word: the name.
        names: in their order, of which some may be the same.
        kind, of, plural: see `unknown`.
        instead: what can be done where several have the name.
        first: the number of the first place, as people count there.
        offered: names that are listed where there is no such name; None: all.

    Raises:
        UserError: there is no such name, or several have it.
    """
    among = list(names)
    places = [place for place, name in enumerate(among) if name == word]
    if not places:
        raise unknown(kind, word, among if offered is None else offered, of, plural)
    if len(places) > 1:
        raise several(word, [place + first for place in places], plural or kind + "s", instead=instead, of=of)
    return places[0]


def several(word: str, places: Sequence[int], plural: str, *, instead: str, of: str = "") -> UserError:
    """Build the error for a name that several things have.

    Example:
        several("crane", [134, 517], "classes", instead="write the index of one") reads
        "2 classes are called 'crane': 134, 517; write the index of one".
    """
    place = f" of {of}" if of else ""
    return UserError(one_line(f"{len(places)} {plural}{place} are called {word!r}: {listing(places)}; {instead}"))
