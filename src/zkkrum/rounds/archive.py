"""NumPy archives from strangers: names, dtypes and shapes are checked before anything is unpacked.

Must not know what the arrays mean.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.files import write_whole
from zkkrum.rounds.foreign import Sips, open_plain, size_of

HEADER_BYTES_MAX = 4096
"""No array that is written with NumPy has a longer header."""
DIRECTORY_BYTES_MAX = 16 * 2**20
"""No archive has a longer list of its members: some 10^5."""
UNICODE_PATH = 0x7075
"""Of Info-ZIP: a member's name once more."""
VERSION_MAX, LOCAL_EXTRA_MAX, MAGIC_BYTES = 63, 20, 12
"""Of the format that a member needs; bytes that NumPy puts before a member (its sizes, once more), and of a magic."""
NOT_IN_ONE_PIECE = "its members and the list of them do not make up the file, each of it once, as NumPy writes it"
_END = struct.Struct("<4sHHHHIIH")
_ENTRY = struct.Struct("<4s2xHHH4xIIIHHHH2x4xI")
_LOCAL = struct.Struct("<4s2xHH16xHH")
_PLAIN_NAME = re.compile(rb"[0-9A-Za-z_]+\.npy")
_NUMBER = rb"(?:0|[1-9][0-9]{0,18})"
_AS_WRITTEN = re.compile(
    rb"\{'descr': '(?:[<>|][a-zA-Z][1-9][0-9]*|\|O)', 'fortran_order': (?:True|False), 'shape': "
    rb"\((?:|%b,|(?:%b, )+%b)\), \} *\n" % (_NUMBER, _NUMBER, _NUMBER)
)
DEFLATE_MOST = 1032
"""How many bytes a byte of deflated data can become."""


@dataclass(frozen=True)
class Expected:
    """What an array of an archive must be.

    Parameters
    ----------
    dtypes
        Their names, little-endian or of one byte.
    shape
        Exactly this one; None where `size_max` bounds a one-dimensional array.
    size_max
        Largest number of entries where the shape is free.
    """

    dtypes: tuple[str, ...]
    shape: tuple[int, ...] | None = ()
    size_max: int = 0

    @property
    def bytes_max(self) -> int:
        """Size of the largest such array."""
        count = self.size_max if self.shape is None else math.prod(self.shape)
        return count * max(np.dtype(name).itemsize for name in self.dtypes)


def read_archive(path: Path, what: str, arrays: Mapping[str, Expected], who: str = "") -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` that has exactly these arrays.

    Whatever the file claims, no more is read or unpacked than what is expected, and nothing is unpickled.

    Parameters
    ----------
    what
        What it should be, for messages: ``an opening``.
    who
        Whose it is, for messages: ``client 'alice'``.

    Raises
    ------
    InputError
        Naming file, array, what was expected and what was found.
    """
    where = f"{path}: {who}: " if who else f"{path}: "
    try:
        with open_plain(path) as data:
            most = sum(expected.bytes_max + 2 * HEADER_BYTES_MAX for expected in arrays.values())
            most += most // 100  # what does not deflate grows a little
            if (size := size_of(data)) > most:
                raise InputError(f"{where}not {what}: expected at most {most:,} bytes, found {size:,}")
            members = _members(data, size)
            names = sorted(member.name for member in members)
            if names != sorted(f"{name}.npy" for name in arrays):
                raise InputError(
                    f"{where}not {what}: expected arrays {', '.join(sorted(arrays))}, found {_shown(names)}"
                )
            found = {member.name.removesuffix(".npy"): member for member in members}
            return {
                name: _read_array(data, found[name], f"{where}not {what}: {name}", expected)
                for name, expected in arrays.items()
            }
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where}cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile, NumPy and zlib raise many kinds on damaged bytes
        raise InputError(f"{where}not {what} that can be read: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """Return what a parser of foreign bytes complained of, shortly."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _shown(names: list[str]) -> str:
    return ascii(names[:10])[:100]


@dataclass(frozen=True)
class _Member:
    """A member of an archive: where its bytes lie, how many they are, and what they unpack to."""

    name: str
    deflated: bool
    crc: int
    start: int
    packed: int
    size: int


def _members(file: BinaryIO, size: int) -> list[_Member]:
    """List the members of an archive that every reader reads alike: NumPy writes no other.

    Readers of zip archives differ in where they look for the list of members, in which of two names they believe, and
    in what they make of bytes that belong to nobody. So there is one list, before the end of the file; members follow
    each other from its first byte up to the list; names are plain and stand in both places; nothing else has a name.
    `zipfile` cannot be asked for that.
    """
    mark, *disks, ofdisk, count, length, at, comment = _END.unpack(_at(file, size - _END.size, _END.size))
    if (mark, disks, ofdisk, comment) != (b"PK\5\6", [0, 0], count, 0):
        raise ValueError("File is not a zip file")
    if at + length != size - _END.size or length > DIRECTORY_BYTES_MAX:
        raise ValueError(NOT_IN_ONE_PIECE)
    entries, found, here, end = _at(file, at, length), [], 0, 0
    for _ in range(count):
        mark, needed, flags, method, crc, *sizes, named, extra, said, disk, start = _ENTRY.unpack_from(entries, here)
        name = entries[here + _ENTRY.size : here + _ENTRY.size + named]
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{ascii(name.decode('latin1'))[:60]}: expected a member that is stored or deflated")
        plain = mark == b"PK\1\2" and needed <= VERSION_MAX and not flags & ~0x800 and len(name) == named
        if not plain or extra or said or disk or not _PLAIN_NAME.fullmatch(name) or start != end:
            raise ValueError(NOT_IN_ONE_PIECE)
        own = _at(file, start, _LOCAL.size + named)
        own_mark, own_flags, own_method, own_named, own_extra = _LOCAL.unpack_from(own)
        if (own_mark, own_flags, own_method, own_named) != (b"PK\3\4", flags, method, named) or own[30:] != name:
            raise ValueError(NOT_IN_ONE_PIECE)
        packed, unpacked = sizes
        if (method == zipfile.ZIP_STORED and packed != unpacked) or own_extra > LOCAL_EXTRA_MAX:
            raise ValueError(NOT_IN_ONE_PIECE)
        begin = start + _LOCAL.size + named + own_extra
        found.append(_Member(name.decode(), method == zipfile.ZIP_DEFLATED, crc, begin, packed, unpacked))
        here, end = here + _ENTRY.size + named, begin + packed
    if here != length or end != at:
        raise ValueError(NOT_IN_ONE_PIECE)
    return found


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(max(0, start))
    data = file.read(size)
    if start < 0 or len(data) != size:
        raise ValueError("File is not a zip file")
    return data


def _unpacked(file: BinaryIO, member: _Member) -> bytes:
    """Return what a member unpacks to, which is exactly what it says, and no more is unpacked."""
    raw = _at(file, member.start, member.packed)
    if member.deflated:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        raw, packed = inflate.decompress(raw, member.size + 1), raw
        if not inflate.eof or inflate.unused_data or not packed:
            raise ValueError(f"{member.name!r} unpacks to another size than it says")
    if len(raw) != member.size or zlib.crc32(raw) != member.crc:
        raise ValueError(f"Bad CRC-32 for file {member.name!r}")
    return raw


def _is_renamed(extra: bytes) -> bool:
    """Tell whether an extra field gives a member another name: Python believes it from 3.12 on."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == UNICODE_PATH:
            return True
        extra = extra[4 + length :]
    return False


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive of members that are stored or deflated, each of the size it claims or less."""
    sips = Sips(file, DIRECTORY_BYTES_MAX)
    archive = zipfile.ZipFile(sips)
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise ValueError(f"{member.filename[:60]!a}: expected a member that is stored or deflated")
        if member.orig_filename != member.filename or _is_renamed(member.extra):
            raise ValueError(f"{member.filename[:60]!a}: has two names, of which readers believe one or the other")
        if member.file_size > DEFLATE_MOST * (member.compress_size + 1):
            raise ValueError(f"{member.filename[:60]!a} claims more than it can unpack to")
    sips.most = size_of(file)
    return archive


def _read_array(file: BinaryIO, member: _Member, what: str, expected: Expected) -> NDArray[Any]:
    if member.size > expected.bytes_max + HEADER_BYTES_MAX + MAGIC_BYTES:
        raise InputError(f"{what}: expected at most {expected.bytes_max:,} bytes, found {member.size:,}")
    content = io.BytesIO(_unpacked(file, member))
    header = read_header(content, as_written=True)
    shape, dtype = header.shape, header.dtype
    if dtype.hasobject or dtype.name not in expected.dtypes or (header.fortran and len(shape) > 1):
        raise InputError(f"{what}: expected {' or '.join(expected.dtypes)}, found {dtype}")
    fits = shape == expected.shape if expected.shape is not None else len(shape) == 1 and shape[0] <= expected.size_max
    if not fits:
        wanted = expected.shape if expected.shape is not None else f"at most {expected.size_max} in one dimension"
        raise InputError(f"{what}: expected shape {wanted}, found {ascii(shape)[:60]}")
    data = content.read()
    if len(data) != header.bytes:
        raise InputError(f"{what}: its data are not as long as its header says")
    return np.frombuffer(data, dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


@dataclass(frozen=True)
class Header:
    """What an ``.npy`` says of its array, before any of it is read."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(member: IO[bytes], *, as_written: bool = False) -> Header:
    """Read the header of an ``.npy``, of bounded length; `ValueError` and others where it is none.

    Parameters
    ----------
    as_written
        Take only what NumPy writes: what it also reads differs between its versions, and no other reader agrees.
    """
    magic = member.read(len(np.lib.format.MAGIC_PREFIX) + 2)
    version = np.lib.format.read_magic(io.BytesIO(magic))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"a header of version {version}")
    length = member.read(2 if version == (1, 0) else 4)
    (size,) = struct.unpack("<H" if version == (1, 0) else "<I", length)
    if size > HEADER_BYTES_MAX:
        raise ValueError(f"a header of {size:,} bytes")
    text = member.read(size)
    if as_written and (version != (1, 0) or not _AS_WRITTEN.fullmatch(text)):
        raise ValueError("the header of an array is not one that NumPy writes")
    whole = io.BytesIO(length + text)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(whole, max_header_size=HEADER_BYTES_MAX)
    if any(x < 0 for x in shape):
        raise ValueError(f"a header with the shape {ascii(shape)[:60]}")
    return Header(tuple(int(x) for x in shape), bool(fortran), dtype)


def write_archive(path: Path, arrays: Mapping[str, NDArray[Any]], mode: int) -> None:
    """Write an ``.npz``, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue(), mode=mode)


def secret_bytes(value: int) -> NDArray[np.uint8]:
    """Return a field element as 32 big-endian bytes, as archives hold it."""
    return np.frombuffer(value.to_bytes(32, "big"), dtype=np.uint8)


def secret_of(data: NDArray[np.uint8]) -> int:
    """Return the field element that `secret_bytes` wrote; its range is the caller's to check."""
    return int.from_bytes(data.tobytes(), "big")
