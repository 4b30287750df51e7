"""The prover's randomness ρ, its challenges, and the links between shards: what the random check is made of.

Must not know files or processes: the hash is handed in (`zkkrum.protocol.poseidon2.Hash`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from zkkrum.protocol.field import P, pack
from zkkrum.protocol.krum import pair_list
from zkkrum.protocol.params import Params
from zkkrum.protocol.poseidon2 import Hash, hash_many, stream
from zkkrum.protocol.quantize import Integers


def rho(
    params: Params, commitments: Sequence[int], distances: Sequence[int], blind: int, hash: Hash = hash_many
) -> int:
    """Return ρ = Poseidon2(commitments ‖ packed D ‖ blind), D in the order (0,1), (0,2), …"""
    width = params.distance_bits
    return hash([[*commitments, *pack(distances, width), blind]])[0]


def challenges(rho: int, n: int) -> list[int]:
    """Return r_0 = 1, r_1 … r_(n-2) from the stream of ρ, and r_(n-1) = -Σ of the others mod p."""
    r = [1, *stream(rho, n - 2)]
    return [*r, -sum(r) % P]


FIRST_LINK = hash_many([(0, 0, 0)])[0]
"""c_0, the link before the first shard: the empty sum with blind 0. A constant every verifier knows."""


@dataclass(frozen=True)
class Chain:
    """What ties the shards of a round together; ``rho`` and ``links`` are public, the rest is private.

    Parameters
    ----------
    rho, blind
        ρ and what blinds it.
    sums
        Q_0 … Q_T: the quadratic form over the chunks before t, mod p.
    blinds
        Blinds of the links; the first is 0.
    links
        c_0 … c_T, with c_t = Poseidon2(t ‖ Q_t ‖ blind_t).
    """

    rho: int
    blind: int
    sums: tuple[int, ...]
    blinds: tuple[int, ...]
    links: tuple[int, ...]

    @classmethod
    def of(
        cls,
        params: Params,
        commitments: Sequence[int],
        chunk_distances: Sequence[Integers],
        blind: int,
        blinds: Sequence[int],
        hash: Hash = hash_many,
    ) -> Chain:
        """Compute the chain of a round.

        Parameters
        ----------
        chunk_distances
            T arrays of shape (n, n): exact squared distances over each chunk alone.
        blinds
            T fresh secrets, for the links after the first.
        """
        total = np.sum(np.stack(chunk_distances), axis=0)
        rho_ = rho(params, commitments, pair_list(total), blind, hash)
        r = challenges(rho_, params.n)
        products = [r[i] * r[j] % P for i, j in combinations(range(params.n), 2)]
        sums = [0]
        for distances in chunk_distances:
            form = -sum(x * y for x, y in zip(products, pair_list(distances), strict=True))
            sums.append((sums[-1] + form) % P)
        all_blinds = (0, *blinds)
        links = hash([(t, q, s) for t, (q, s) in enumerate(zip(sums, all_blinds, strict=True))])
        return cls(rho_, blind, tuple(sums), all_blinds, tuple(links))
