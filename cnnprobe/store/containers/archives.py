"""Zip archives of any origin: names must be unique, so that the member that is checked is the one that is read."""

import zipfile

from cnnprobe.errors import UserError, one_line


def members(archive: zipfile.ZipFile, called: str, any_case: bool = False) -> list[zipfile.ZipInfo]:
    """Return what is in an archive.

    Args:
        archive: opened.
        called: its name, for people.
        any_case: names that differ only in capitals are the same to whatever reads it.

    Raises:
        UserError: a name stands there twice, also once with and once without .npy, as NumPy adds it. Which of the two
            is read depends on the program, and the other one may be of any size.
    """
    found, seen = archive.infolist(), set()
    for member in found:
        name = member.filename.replace("\\", "/").removesuffix(".npy")
        name = name.casefold() if any_case else name
        if name in seen:
            raise UserError(one_line(f"{called} holds {member.filename[:60]!r} twice; refused"))
        seen.add(name)
    return found
