"""Findings of an inspection: in order, worth knowing, or wrong; and what to do about it."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from cnnprobe.errors import one_line
from cnnprobe.machine import screen


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Args:
        level: "ok", "warning" or "error".
        subject: what was looked at.
        text: what was found.
        remedy: what to do; "" where nothing needs to be done.
    """

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {one_line(f'{self.subject}: {self.text}{remedy}')}"


def told(findings: Iterable[Finding]) -> int:
    """Print findings as they come, and return how many are errors, whether or not somebody reads to the end."""
    errors = 0
    for finding in findings:
        with suppress(screen.UnreadError):
            screen.say(str(finding))
        errors += finding.level == "error"
    return errors
