"""A large JSON file of lists, one element at a time: half a gigabyte of annotations is never held as a whole."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.errors import UserError

PIECE = 2**20  # characters read at a time
LARGEST = 2**26  # characters of one element; those of COCO have less than 2^20
FOLLOWING = " \t\r\n,:]}"  # what may stand behind a value inside an object


def elements(path: Path) -> Iterator[tuple[str, Any]]:
    """Read a JSON object, and give each element of its lists with the list's key; other values are given whole.

    Raises:
        UserError: there is no such file, or it is no JSON object, damaged or cut off.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        raise UserError(f"no file {shown(str(path))}")
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file).pairs()
    except (OSError, ValueError, RecursionError) as error:  # a JSONDecodeError is a ValueError, so is broken UTF-8
        reason = getattr(error, "strerror", None) or getattr(error, "msg", None) or f"no JSON ({error})"
        raise UserError(f"cannot read {shown(str(path))}: {reason}") from None


class _Reader:
    """Takes values from the front of a file, of which only a piece is held."""

    def __init__(self, file: TextIO):
        self.file = file
        self.text = ""
        self.at = 0
        self.decode = json.JSONDecoder(parse_constant=_refused).raw_decode

    def pairs(self) -> Iterator[tuple[str, Any]]:
        """Give what `elements` gives."""
        for _ in self.between("{", "}"):
            key = self.value()
            self.take(":")
            if self.front() == "[":
                for _ in self.between("[", "]"):
                    yield key, self.value()
            else:
                yield key, self.value()

    def between(self, opening: str, closing: str) -> Iterator[None]:
        """Go past the brackets and commas around values, which are taken in between."""
        self.take(opening)
        if self.front() != closing:
            yield
            while self.front() != closing:
                self.take(",")
                yield
        self.take(closing)

    def front(self) -> str:
        """Return the next character that is no white space.

        Raises:
            ValueError: the file ends here.
        """
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                raise json.JSONDecodeError("it is cut off", self.text, self.at)

    def take(self, expected: str) -> None:
        """Go past one character."""
        if self.front() != expected:
            raise json.JSONDecodeError(f"{expected!r} expected, got {self.front()!r}", self.text, self.at)
        self.at += 1

    def value(self) -> Any:
        """Decode the value that begins here. It is whole where a character follows that can follow a value."""
        self.front()
        while True:
            try:
                found, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                problem = error.msg  # the error itself would keep the text, and itself, alive
            else:
                if end < len(self.text) and self.text[end] in FOLLOWING:
                    self.at = end
                    return found
                problem = "it is damaged or cut off"
            if len(self.text) - self.at > LARGEST or not self.more():
                raise json.JSONDecodeError(problem, self.text, self.at)

    def more(self) -> bool:
        """Read on: as much as is held, so that a long value is not tried too often."""
        self.text, self.at = self.text[self.at :], 0
        piece = self.file.read(max(PIECE, len(self.text)))
        self.text += piece
        return bool(piece)


def _refused(word: str) -> None:
    """Refuse NaN and Infinity, which Python writes and JSON does not know."""
    raise ValueError(f"{word} is no number")
