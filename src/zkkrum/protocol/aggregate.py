"""The aggregate: the sum S of the accepted clients' committed values, its commitment A, and the mean behind it.

Must not know files or rules. S is a vector of integers; who holds (S, σ) checks its range, recomputes A and applies the
mean (protocol: The aggregate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.protocol.commitment import chain, circuit_values, leaf_salts
from zkkrum.protocol.field import P, pack_array
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.protocol.quantize import Integers, step


@dataclass(frozen=True, eq=False)
class Aggregate:
    """S and what opens its commitment. Secret to whoever should not learn the mean update.

    Parameters
    ----------
    total
        S = Σ a_i v_i: shape (d,), int64, every entry in [0, 2^SB).
    salt
        σ, a field element; leaf salts derive from it.
    """

    total: Integers
    salt: int

    @classmethod
    def of(cls, q: Integers, accepted: Sequence[int], b: int, salt: int) -> Aggregate:
        """Sum the accepted rows of quantized updates q of shape (n, d)."""
        total = np.zeros(q.shape[1], dtype=np.int64)
        for i in accepted:
            total += circuit_values(q[i], b)
        return cls(total, salt)

    def check(self, params: Params, who: str) -> None:
        """Raise `InputError` naming ``who`` and the index unless S fits d and SB and the salt the field.

        The range is the holder's to check: without it A does not determine S, because lanes of a word can carry.
        """
        if self.total.shape != (params.d,):
            raise InputError(f"{who}: expected {params.d} integers (d), found shape {self.total.shape}")
        if (bad := np.flatnonzero((self.total < 0) | (self.total >> params.sum_bits != 0))).size:
            raise InputError(
                f"{who}: sum[{bad[0]}] = {self.total[bad[0]]} is not in [0, 2^{params.sum_bits}), "
                f"as a sum of at most n = {params.n} values of {params.b} bits is"
            )
        if not 0 <= self.salt < P:
            raise InputError(f"{who}: the salt is not a canonical field element")

    def words(self, params: Params, t: int) -> list[int]:
        """Return the words of chunk t: g coordinates each, SB bits apart, the first in the lowest bits."""
        return packed_like_sum(self.total, params, t)

    def leaves(self, params: Params, hash: Hash = hash_many) -> list[int]:
        """Return leaf_S[t] = Poseidon2(words of S of chunk t ‖ Poseidon2(σ ‖ t)) for every chunk t."""
        salts = leaf_salts(self.salt, params.chunks, hash)
        return hash([[*self.words(params, t), salt] for t, salt in enumerate(salts)])

    def commitment(self, round: Round, hash: Hash = hash_many) -> bytes:
        """Return A: the commitment chain of "client n"."""
        return chain(round.context, round.params.n, self.leaves(round.params, hash))


def packed_like_sum(values: NDArray[np.integer[Any]], params: Params, t: int) -> list[int]:
    """Pack the values of chunk t of a vector of shape (d,) as the aggregate's are; words restart at every chunk."""
    chunk = params.chunk_range(t)
    return pack_array(values[chunk.start : chunk.stop], params.sum_bits)


def mean_update(total: Integers, count: int, clip: float, b: int) -> NDArray[np.float64]:
    """Return the mean of the accepted updates: (S - |a|·2^(b-1))·Δ / |a|, in units of the update.

    Parameters
    ----------
    total
        S, shape (d,).
    count
        |a|, from the verified outputs.

    Returns
    -------
    ndarray of float64, shape (d,)
        In binary64: the integer is exact, Δ is one rounded number, then one product and one quotient an entry. The
        same bits on every machine.
    """
    return np.asarray((total - count * (1 << b - 1)).astype(np.float64) * step(clip, b) / count, dtype=np.float64)


def unproved_mean(q: Integers, accepted: Sequence[int], clip: float, b: int) -> NDArray[np.float64]:
    """Return the mean that a proof would bind, to the bit, from quantized updates q of shape (n, d) and without one."""
    return mean_update(Aggregate.of(q, accepted, b, salt=0).total, len(accepted), clip, b)
