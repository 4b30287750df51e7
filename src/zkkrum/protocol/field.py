"""The BN254 scalar field as Python integers: modulus, 32-byte words, hexadecimal, packing, evaluation.

Must not know what the numbers mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

P = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
"""Order of the BN254 scalar field."""

PACKABLE_BITS = 252
"""Widest packed word: 2^252 < P, so every such word is its own residue."""


def to_hex(x: int) -> str:
    """Return ``x`` as ``0x`` and 64 hexadecimal digits.

    >>> to_hex(255)[-4:]
    '00ff'
    """
    return f"0x{x:064x}"


def hex_of(data: bytes) -> str:
    """Return bytes as ``0x`` and two hexadecimal digits each.

    >>> hex_of(bytes([1, 255]))
    '0x01ff'
    """
    return "0x" + data.hex()


def from_hex(text: str) -> int:
    """Parse a canonical field element written in hexadecimal.

    Raises
    ------
    ValueError
        If ``text`` is not ``0x…`` or not below `P`.
    """
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text):
        raise ValueError(f"expected 0x and hexadecimal digits, found {text[:20]!r}")
    x = int(text, 16)
    if x >= P:
        raise ValueError(f"{text} is not canonical: it is not below the field modulus")
    return x


def to_bytes(words: Iterable[int]) -> bytes:
    """Concatenate field elements as 32-byte big-endian words (the format of bb's ``public_inputs``)."""
    return b"".join(w.to_bytes(32, "big") for w in words)


def from_bytes(data: bytes) -> list[int]:
    """Split 32-byte big-endian words; the length must be a multiple of 32 (`ValueError` otherwise)."""
    if len(data) % 32:
        raise ValueError(f"expected a multiple of 32 bytes, found {len(data)}")
    return [int.from_bytes(data[k : k + 32], "big") for k in range(0, len(data), 32)]


def pack(values: Sequence[int], width: int, fill: int = 0) -> list[int]:
    """Pack integers of ``width`` bits into words, the first in the lowest bits.

    Parameters
    ----------
    values
        Integers in [0, 2^width).
    width
        Bits per value; ``252 // width`` values share a word.
    fill
        What completes the last word.

    >>> pack([1, 2], 126)[0] == 1 + (2 << 126)
    True
    """
    per = PACKABLE_BITS // width
    words = []
    for start in range(0, len(values), per):
        group = list(values[start : start + per])
        group += [fill] * (per - len(group))
        words.append(sum(v << (width * j) for j, v in enumerate(group)))
    return words


def pack_array(values: NDArray[np.integer[Any]], width: int, fill: int = 0) -> list[int]:
    """Pack an array as `pack` does, for integers of at most 32 bits, fast.

    >>> pack_array(np.array([1, 2]), 21) == pack([1, 2], 21)
    True
    """
    per = PACKABLE_BITS // width
    filled = np.full(-(-len(values) // per) * per, fill, dtype="<u4")
    filled[: len(values)] = values
    bits = np.unpackbits(filled.view(np.uint8).reshape(-1, 4), axis=1, count=width, bitorder="little")
    rows = np.packbits(bits.reshape(-1, per * width), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def evaluate(coefficients: Sequence[int], x: int) -> int:
    """Return Σ_w x^(W-1-w) · coefficients[w] mod p, by Horner's rule.

    >>> evaluate([1, 2, 3], 10)
    123
    """
    total = 0
    for c in coefficients:
        total = (total * x + c) % P
    return total
