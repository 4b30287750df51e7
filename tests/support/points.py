"""The first 512 points of the real reference string, for tests that need no more of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from zkkrum.toolchain.crs import BASE_FIELD

FILE = Path(__file__).parents[1] / "data" / "bn254_g1_compressed_512.dat"


def compressed_points(count: int) -> bytes:
    """Return the first points, 32 bytes each."""
    data = FILE.read_bytes()[: 32 * count]
    assert len(data) == 32 * count
    return data


@cache
def points(count: int) -> bytes:
    """Return the first points, 64 bytes each: x, and the root y of x³ + 3 whose parity the compressed form tells."""
    data, made = compressed_points(count), []
    for at in range(0, len(data), 32):
        word = int.from_bytes(data[at : at + 32], "big")
        x, odd = word & (1 << 255) - 1, word >> 255
        y = pow(x**3 + 3, (BASE_FIELD + 1) // 4, BASE_FIELD)
        y = y if y & 1 == odd else BASE_FIELD - y
        made.append(x.to_bytes(32, "big") + y.to_bytes(32, "big"))
    return b"".join(made)


def folder_of(folder: Path, data: bytes, *, compressed: bool = False) -> Path:
    """Make a folder of a reference string, as bb looks for it."""
    folder.mkdir(parents=True)
    (folder / ("bn254_g1_compressed.dat" if compressed else "bn254_g1.dat")).write_bytes(data)
    return folder
