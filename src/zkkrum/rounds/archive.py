"""NumPy archives from strangers: names, dtypes and shapes are checked before anything is unpacked.

Must not know what the arrays mean.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
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
END_BYTES, LOCATOR_BYTES = 22, 20
"""Of the end of an archive, and of what stands before it in one of more than 4 GiB."""
_NUMBER = rb"(?:0|[1-9][0-9]{0,18})"
_AS_WRITTEN = re.compile(
    rb"\{'descr': '(?:[<>|][a-zA-Z][0-9]+|\|O)', 'fortran_order': (?:True|False), 'shape': "
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
            _require_one_piece(data, size)
            with open_zip(data) as archive:
                names = sorted(archive.namelist())
                if names != sorted(f"{name}.npy" for name in arrays):
                    raise InputError(
                        f"{where}not {what}: expected arrays {', '.join(sorted(arrays))}, found {_shown(names)}"
                    )
                return {
                    name: _read_array(archive, name, f"{where}not {what}: {name}", expected)
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


def _require_one_piece(file: BinaryIO, size: int) -> None:
    """Refuse an archive that readers may take for different ones: more than one list of members, or bytes around it.

    Above 4 GiB such a list is of another kind, which is `zipfile`'s to read.
    """
    if size >= 2**32:
        return
    file.seek(max(0, size - END_BYTES - LOCATOR_BYTES))
    tail = file.read()
    file.seek(0)
    locator, end = tail[:-END_BYTES], tail[-END_BYTES:]
    if len(end) < END_BYTES or not end.startswith(b"PK\5\6"):
        raise ValueError("File is not a zip file")
    disks, here, count, length, at, comment = struct.unpack("<4xIHHIIH", end)
    one = (disks, here, comment) == (0, count, 0) and not locator.startswith(b"PK\6\7")
    if not one or at + length != size - END_BYTES:
        raise ValueError("its members and the list of them do not make up the file, each of it once")


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive of members that are stored or deflated, each of the size it claims or less."""
    sips = Sips(file, DIRECTORY_BYTES_MAX)
    archive = zipfile.ZipFile(sips)
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise ValueError(f"{member.filename[:60]!a}: expected a member that is stored or deflated")
        if member.file_size > DEFLATE_MOST * (member.compress_size + 1):
            raise ValueError(f"{member.filename[:60]!a} claims more than it can unpack to")
    sips.most = size_of(file)
    return archive


def _read_array(archive: zipfile.ZipFile, name: str, what: str, expected: Expected) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        header = read_header(member, as_written=True)
        shape, dtype = header.shape, header.dtype
        if dtype.hasobject or dtype.name not in expected.dtypes or (header.fortran and len(shape) > 1):
            raise InputError(f"{what}: expected {' or '.join(expected.dtypes)}, found {dtype}")
        fits = (
            shape == expected.shape if expected.shape is not None else len(shape) == 1 and shape[0] <= expected.size_max
        )
        if not fits:
            wanted = expected.shape if expected.shape is not None else f"at most {expected.size_max} in one dimension"
            raise InputError(f"{what}: expected shape {wanted}, found {ascii(shape)[:60]}")
        content = member.read(header.bytes)
        if len(content) != header.bytes or member.read(1) or info.file_size != header.length + header.bytes:
            raise InputError(f"{what}: its data are not as long as its header says")
        return np.frombuffer(content, dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


@dataclass(frozen=True)
class Header:
    """What an ``.npy`` says of its array, before any of it is read."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int
    """Bytes of the header itself."""

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
    return Header(tuple(int(x) for x in shape), bool(fortran), dtype, len(magic) + len(length) + len(text))


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
