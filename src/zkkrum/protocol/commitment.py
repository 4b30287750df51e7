"""Leaves, commitments and the statement: what binds a proof to the clients' values, the round and the aggregate.

Must not know files or processes: Poseidon2 is handed in (`zkkrum.protocol.poseidon2.Hash`), so that large vectors can
go through bb while everything here stays checkable in plain Python.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.protocol.field import P, pack_array
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.protocol.quantize import Integers


def fresh_secret() -> int:
    """Return a uniform field element from the system's randomness: a salt or a blind. Never from a seed."""
    return secrets.randbelow(P)


@dataclass(frozen=True, eq=False)
class Opening:
    """What a client sends the server: its quantized update and the salt of its commitment.

    Parameters
    ----------
    q
        Shape (d,), int64, in [-2^(b-1), 2^(b-1)).
    salt
        Field element; leaf salts derive from it.
    """

    q: Integers
    salt: int

    def check(self, params: Params, who: str) -> None:
        """Raise `InputError` naming ``who`` and the index unless the opening fits d, b and the field."""
        if self.q.shape != (params.d,):
            raise InputError(f"{who}: expected {params.d} integers (d), found shape {self.q.shape}")
        half = 1 << params.b - 1
        if (bad := np.flatnonzero((self.q < -half) | (self.q >= half))).size:
            raise InputError(f"{who}: q[{bad[0]}] = {self.q[bad[0]]} does not fit b = {params.b} bits")
        if not 0 <= self.salt < P:
            raise InputError(f"{who}: the salt is not a canonical field element")


def circuit_values(q: Integers, b: int) -> NDArray[np.uint16]:
    """Return v = q + 2^(b-1), what the circuit sees, in [0, 2^b)."""
    return (q + (1 << b - 1)).astype(np.uint16)


def words(values: NDArray[np.uint16], b: int) -> list[int]:
    """Pack circuit values of one chunk into words, ``252 // b`` each, the first in the lowest bits.

    The last word is filled with 2^(b-1), the encoding of zero.
    """
    return pack_array(values, b, fill=1 << b - 1)


def leaf_salts(salt: int, chunks: int, hash: Hash = hash_many) -> list[int]:
    """Return salt_(i,t) = Poseidon2(salt_i ‖ t) for every chunk t."""
    return hash([(salt, t) for t in range(chunks)])


def leaves(opening: Opening, params: Params, hash: Hash = hash_many) -> list[int]:
    """Return leaf[t] = Poseidon2(words of chunk t ‖ salt_(i,t)) for every chunk t."""
    values = circuit_values(opening.q, params.b)
    salts = leaf_salts(opening.salt, params.chunks, hash)
    chunks = [params.chunk_range(t) for t in range(params.chunks)]
    return hash([[*words(values[c.start : c.stop], params.b), s] for c, s in zip(chunks, salts, strict=True)])


def chain(context: bytes, i: int, leaves: Sequence[int]) -> bytes:
    """Return h_(T-1) with h_0 = SHA-256(context ‖ i ‖ leaf[0]) and h_t = SHA-256(h_(t-1) ‖ leaf[t]).

    Parameters
    ----------
    context
        32 bytes that name the round and its parameters (`Round.context`).
    i
        Position in the roster; n for the aggregate.
    leaves
        One field element a chunk.

    Returns
    -------
    bytes
        32 bytes: the commitment of client i, or A where i = n.
    """
    head = context + i.to_bytes(32, "big")
    for leaf in leaves:
        head = hashlib.sha256(head + leaf.to_bytes(32, "big")).digest()
    return head


def commit(round: Round, i: int, opening: Opening, hash: Hash = hash_many) -> bytes:
    """Return the commitment of the client at roster position i: 32 bytes.

    Examples
    --------
    >>> from zkkrum.protocol.params import Params
    >>> round = Round(Params.of(n=3, d=2, f=0), clip=1.0, roster=("a", "b", "c"), round_id=bytes(32))
    >>> len(commit(round, 0, Opening(np.array([1, -1]), salt=7)))
    32
    """
    return chain(round.context, i, leaves(opening, round.params, hash))


def statement(context: bytes, commitments: Sequence[bytes], aggregate: bytes) -> int:
    """Return SHA-256(context ‖ commitment[0] ‖ … ‖ commitment[n-1] ‖ A) mod p.

    The only way in which context, commitments and the aggregate's commitment A enter a proof.
    """
    digest = hashlib.sha256(b"".join([context, *commitments, aggregate])).digest()
    return int.from_bytes(digest, "big") % P
