"""Poseidon2 over BN254 (t = 4, rate 3): the sponge that bb, bb.js and the circuit share, in plain Python.

Must not know what is hashed. It serves clients without bb and is the independent check of bb's hash;
large vectors go through bb (`zkkrum.toolchain`), some ten times faster. Source: Grassi, Khovratovich,
Schofnegger, "Poseidon2" (AFRICACRYPT 2023); instance of the reference implementation for BN254, t = 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Protocol

from zkkrum.protocol.field import P

WIDTH = 4
RATE = 3
FULL_ROUNDS = 8
PARTIAL_ROUNDS = 56
FIELD_BITS = 254

# Diagonal of the internal matrix minus the identity, as published with the instance.
_DIAGONAL = (
    0x10DC6E9C006EA38B04B1E03B4BD9490C0D03F98929CA1D7FB56821FD19D3B6E7,
    0x0C28145B6A44DF3E0149B3D0A30B3BB599DF9756D4DD9B84A86B38CFB45A740B,
    0x00544B8338791518B2C7645A50392798B21F75BB60E3596170067D00141CAC15,
    0x222C01175718386F2E2E82EB122789E352E105A3B8FA852613BC534433EE428B,
)

State = tuple[int, int, int, int]


class Hash(Protocol):
    """Hashes each of many sequences of field elements to one field element."""

    def __call__(self, inputs: Sequence[Sequence[int]], /) -> list[int]:
        """Return one digest per input sequence, in order."""
        ...


def _grain_bits() -> Iterator[int]:
    """Self-shrinking Grain LFSR of the Poseidon paper (appendix E), seeded with the instance."""
    seed = f"{1:02b}{0:04b}{FIELD_BITS:012b}{WIDTH:012b}{FULL_ROUNDS:010b}{PARTIAL_ROUNDS:010b}" + "1" * 30
    state = int(seed, 2)  # bit 79 is the oldest

    def step() -> int:
        nonlocal state
        new = (state >> 17 ^ state >> 28 ^ state >> 41 ^ state >> 56 ^ state >> 66 ^ state >> 79) & 1
        state = (state << 1 | new) & (1 << 80) - 1
        return new

    for _ in range(160):
        step()
    while True:
        keep, bit = step(), step()
        if keep:
            yield bit


@cache
def round_constants() -> tuple[tuple[int, ...], ...]:
    """Return the constants of each round: four in a full round, one in a partial round."""
    bits = _grain_bits()

    def element() -> int:
        while True:
            x = 0
            for _ in range(FIELD_BITS):
                x = x << 1 | next(bits)
            if x < P:
                return x

    half = FULL_ROUNDS // 2
    widths = [WIDTH] * half + [1] * PARTIAL_ROUNDS + [WIDTH] * half
    return tuple(tuple(element() for _ in range(w)) for w in widths)


def _external(a: int, b: int, c: int, d: int) -> State:
    """Multiply by the external matrix (M4 of the Poseidon2 paper)."""
    t0, t1 = a + b, c + d
    t2, t3 = 2 * b + t1, 2 * d + t0
    t4, t5 = 4 * t1 + t3, 4 * t0 + t2
    return (t3 + t5) % P, t5 % P, (t2 + t4) % P, t4 % P


def permute(state: State) -> State:
    """Apply the Poseidon2 permutation to four field elements."""
    m0, m1, m2, m3 = _DIAGONAL
    a, b, c, d = _external(*state)
    for constants in round_constants():
        if len(constants) == WIDTH:
            k0, k1, k2, k3 = constants
            a, b, c, d = _external(pow(a + k0, 5, P), pow(b + k1, 5, P), pow(c + k2, 5, P), pow(d + k3, 5, P))
        else:
            x = a + constants[0]
            x2 = x * x % P
            a = x2 * x2 % P * x
            total = a + b + c + d
            a, b, c, d = (a * m0 + total) % P, (b * m1 + total) % P, (c * m2 + total) % P, (d * m3 + total) % P
    return a, b, c, d


def hash_one(inputs: Sequence[int]) -> int:
    """Hash field elements with the fixed-length sponge.

    Parameters
    ----------
    inputs
        Field elements in [0, P), any number.

    Returns
    -------
    int
        Lane 0 after the last block; lane 3 starts at ``len(inputs) * 2^64``.

    >>> hex(hash_one([1, 2]))[:10]
    '0x38682aa1'
    """
    state: State = (0, 0, 0, len(inputs) << 64)
    for start in range(0, max(len(inputs), 1), RATE):
        block = list(inputs[start : start + RATE]) + [0] * RATE
        a, b, c, d = state
        state = permute(((a + block[0]) % P, (b + block[1]) % P, (c + block[2]) % P, d))
    return state[0]


def hash_many(inputs: Sequence[Sequence[int]]) -> list[int]:
    """Hash each sequence with `hash_one`; the `Hash` used where no bb process is at hand."""
    return [hash_one(words) for words in inputs]


def stream(seed: int, count: int) -> list[int]:
    """Return the first elements of the stream of ``seed``: state (seed, 0, 0, 0); permute, take three lanes; repeat."""
    state: State = (seed, 0, 0, 0)
    out: list[int] = []
    while len(out) < count:
        state = permute(state)
        out += state[:RATE]
    return out[:count]
