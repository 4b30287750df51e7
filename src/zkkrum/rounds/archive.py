"""NumPy archives from strangers: names, dtypes and shapes are checked before anything is unpacked.

Must not know what the arrays mean.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.files import write_whole

HEADER_BYTES_MAX = 4096
"""No array that zkkrum writes has a longer header."""


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


def read_archive(path: Path, what: str, arrays: Mapping[str, Expected]) -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` that has exactly these arrays.

    Whatever the file claims, no more is unpacked than what is expected, and nothing is unpickled.

    Parameters
    ----------
    what
        What it should be, for messages: ``an opening``.

    Raises
    ------
    InputError
        Naming file, array, what was expected and what was found.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: expected a plain file")
        with path.open("rb") as data, zipfile.ZipFile(data) as archive:
            names = sorted(archive.namelist())
            if names != sorted(f"{name}.npy" for name in arrays):
                raise InputError(
                    f"{path}: not {what}: expected arrays {', '.join(sorted(arrays))}, found {_shown(names)}"
                )
            return {name: _read_array(archive, name, path, what, expected) for name, expected in arrays.items()}
    except InputError:
        raise
    except Exception as error:  # zipfile, NumPy and zlib raise many kinds on damaged bytes
        raise InputError(f"{path}: not {what} that can be read: {error or type(error).__name__}") from error


def _shown(names: list[str]) -> str:
    return ascii(names)[:100]


def _read_array(archive: zipfile.ZipFile, name: str, path: Path, what: str, expected: Expected) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        shape, fortran, dtype = _header(member)
        if dtype.hasobject or dtype.name not in expected.dtypes or (fortran and len(shape) > 1):
            raise InputError(f"{path}: not {what}: {name}: expected {' or '.join(expected.dtypes)}, found {dtype}")
        fits = (
            shape == expected.shape if expected.shape is not None else len(shape) == 1 and shape[0] <= expected.size_max
        )
        if not fits:
            wanted = expected.shape if expected.shape is not None else f"at most {expected.size_max} in one dimension"
            raise InputError(f"{path}: not {what}: {name}: expected shape {wanted}, found {ascii(shape)[:60]}")
        count = int(np.prod(shape, dtype=np.int64))
        content = member.read(count * dtype.itemsize)
        if len(content) != count * dtype.itemsize or member.read(1):
            raise InputError(f"{path}: not {what}: {name}: its data are not as long as its header says")
        return np.frombuffer(content, dtype=dtype).reshape(shape)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an ``.npy``, of bounded length."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member, max_header_size=HEADER_BYTES_MAX)
    return tuple(int(x) for x in shape), bool(fortran), dtype


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
