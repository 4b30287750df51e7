"""Bytes of strangers: files that can neither hang nor exhaust whoever opens them, JSON and TOML that mean one thing.

Must not know what is in them. Whoever reads says how large a file can be; what is larger is refused before it is read.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

JSON_DIGITS_MAX = 100
"""No integer in a file has more digits: converting text to integers takes quadratic time."""
TOML_BYTES_MAX = 2**19
"""A roster of the longest ids takes a fifth of it."""
TOML_KEY_DOTS_MAX = 8
"""Dots outside of strings on a line of TOML. Files here need one; parsers take quadratic time for dotted keys."""
NESTING_MAX = 64
"""Brackets within brackets. Files here need four; Python's own bound is whatever some library has set it to, and beyond
the stack of the process a parser crashes it."""

# What holds no syntax: strings and, in TOML, comments. A string that nobody closes ends with its line or the text:
# a pattern that failed there would be tried anew at each of its quotes, in quadratic time.
_JSON_QUIET = re.compile(r'"(?:[^"\\]+|\\[\s\S])*"?')
_TOML_QUIET = re.compile(
    r'"""(?:[^"\\]+|\\[\s\S]|"(?!""))*(?:"{3,5})?|'
    + r"'''(?:[^']+|'(?!''))*(?:'{3,5})?|"
    + r'"(?:[^"\\\n]+|\\.)*"?|'
    + r"'[^'\n]*'?|#[^\n]*"
)


# Files


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading, wherever links lead; `OSError` for anything else, a FIFO or a device included.

    It is opened without waiting and looked at afterwards, so that no exchange in between matters.
    """
    _require_plain(os.stat(path))  # opening a device may do something  # noqa: PTH116 (Path.stat is the same)
    return _opened(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def open_inside(folder: Path, name: str) -> BinaryIO:
    """Open a plain file inside a folder, following no link below it; `OSError` for anything else.

    Parameters
    ----------
    folder
        May itself be a link: its user named it.
    name
        Relative, with ``/`` between its parts.
    """
    *parents, last = name.split("/")
    here = _directory(folder, None)
    try:
        for parent in parents:
            there = _directory(parent, here)
            os.close(here)
            here = there
        _require_plain(os.stat(last, dir_fd=here, follow_symlinks=False))
        return _opened(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here))
    finally:
        os.close(here)


def entries_inside(folder: Path, name: str) -> int:
    """Count the entries of a folder in a folder, which must be no link; 0 where there is none."""
    try:
        outer = _directory(folder, None)
    except OSError:
        return 0
    try:
        inner = _directory(name, outer)
    except OSError:
        return 0
    finally:
        os.close(outer)
    try:
        with os.scandir(inner) as found:
            return sum(1 for _ in found)
    finally:
        os.close(inner)


def _directory(name: Path | str, inside: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if inside is None else os.O_NOFOLLOW)
    try:
        return os.open(name, flags, dir_fd=inside)
    except OSError as error:
        if inside is not None and error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(errno.ELOOP, f"{name} is not a plain folder") from error
        raise


def _opened(handle: int) -> BinaryIO:
    try:
        _require_plain(os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _require_plain(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a plain file")


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def read_all(file: BinaryIO, most: int) -> bytes:
    """Read an open file that may have at most so many bytes; `OSError` for a larger one, before it is read."""
    if (size := size_of(file)) > most:
        raise OSError(errno.EFBIG, f"Too large: expected at most {most:,} bytes, found {size:,}")
    data = file.read(most + 1)  # it may have grown, and some files have no size
    if len(data) > most:
        raise OSError(errno.EFBIG, f"Too large: expected at most {most:,} bytes")
    return data


def read_plain(path: Path, most: int) -> bytes:
    """Read a plain file of at most so many bytes; `OSError` for anything else."""
    with open_plain(path) as file:
        return read_all(file, most)


class Sips(io.RawIOBase):
    """An open file of which no single read takes more than it should: archives claim sizes of their own parts.

    Parameters
    ----------
    file
        Open for reading.
    most
        Bytes that one read may ask for; `ValueError` where it asks for more.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self.most = file, most

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does, if it is not too much."""
        if size < 0:  # all the rest
            size = max(0, size_of(self._file) - self._file.tell())
        if size > self.most:
            raise ValueError(f"a part of it claims to be larger than {self.most:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Seek as the file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Tell where the file is."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Tell that it can seek."""
        return True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True


# Texts


def parse_json(data: bytes) -> Any:
    """Parse JSON in UTF-8 that every parser reads alike; `ValueError`, on one line, for anything else.

    No key stands twice in an object, no number is infinite, not a number or absurdly long.

    Examples
    --------
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: key 'a' stands twice in one object
    """
    try:
        text = data.decode("utf-8")
        _require_shallow(_JSON_QUIET.sub("s", text))
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


def _require_shallow(quiet: str) -> None:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", quiet):
        depth += 1 if bracket in "[{" else -1
        if depth > NESTING_MAX:
            raise ValueError("nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:60]!a} stands twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > JSON_DIGITS_MAX:
        raise ValueError(f"an integer of more than {JSON_DIGITS_MAX} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a small file of TOML; `ValueError`, on one line, or `OSError` for anything else."""
    text = read_plain(path, TOML_BYTES_MAX).decode("utf-8")
    quiet = _TOML_QUIET.sub("s", text)
    _require_shallow(quiet)
    if any(line.count(".") > TOML_KEY_DOTS_MAX for line in quiet.split("\n")):
        raise ValueError(f"a line has more than {TOML_KEY_DOTS_MAX} dots outside of strings")
    return tomllib.loads(text)
