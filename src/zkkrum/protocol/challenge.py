"""The one random check: ρ, Z, s, the coefficients x, and the running sums that links carry from shard to shard.

Must not know files or processes: the hash is handed in (`zkkrum.protocol.poseidon2.Hash`). Source: protocol, "One
random check for all distances and the aggregate".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from zkkrum.protocol.aggregate import Aggregate, packed_like_sum
from zkkrum.protocol.commitment import circuit_values
from zkkrum.protocol.field import P, evaluate, pack
from zkkrum.protocol.krum import pair_list, squared_distances, squared_norms
from zkkrum.protocol.params import Params
from zkkrum.protocol.poseidon2 import Hash, hash_many, stream
from zkkrum.protocol.quantize import Integers
from zkkrum.protocol.widths import Widths


def claims(q: Integers, b: int) -> list[int]:
    """Return D in the order (0,1), (0,2), …, then the norms N_0 … N_(n-1), for q of shape (n, d)."""
    return [*pair_list(squared_distances(q)), *squared_norms(q, b)]


def rho(params: Params, statement: int, claims: Sequence[int], blind: int, hash: Hash = hash_many) -> int:
    """Return ρ = Poseidon2(statement ‖ packed D, N ‖ blind)."""
    return hash([[statement, *pack(claims, Widths.of(params).distance), blind]])[0]


def coefficients(rho: int, n: int) -> list[int]:
    """Return r_0 = 1 and r_1 … r_(n-1) from the stream of ρ; the origin's is -Σ."""
    return [1, *stream(rho, n - 1)]


def form_of_claims(x: Sequence[int], claims: Sequence[int]) -> int:
    """Return -Σ_(i<j) x_i x_j D_ij + (Σ x_i)(Σ x_i N_i) mod p: what Σ_k (Σ_i x_i v_ik)² must be."""
    n = len(x)
    pairs = sum(x[i] * x[j] % P * claims[k] for k, (i, j) in enumerate(combinations(range(n), 2)))
    norms = sum(a * b for a, b in zip(x, claims[-n:], strict=True))
    return (sum(x) * norms - pairs) % P


def words_of_chunk(params: Params, t: int) -> int:
    """Return how many words the aggregate's chunk t has."""
    return -(-len(params.chunk_range(t)) // params.group)


def evaluations(params: Params, q: Integers, aggregate: Aggregate, beta: int) -> tuple[tuple[int, ...], ...]:
    """Evaluate packed vectors as polynomials at β, chunk by chunk.

    Returns
    -------
    tuple of tuples
        By chunk t of W_t words: Σ_w β^(W_t-1-w)·(word w of v_i, packed like S) for every client i, and last that of S.
    """
    values = [circuit_values(row, params.b) for row in q]
    return tuple(
        (
            *(evaluate(packed_like_sum(v, params, t), beta) for v in values),
            evaluate(aggregate.words(params, t), beta),
        )
        for t in range(params.chunks)
    )


def combination(params: Params, rho: int, evaluations: Sequence[Sequence[int]]) -> int:
    """Return Z = Σ r_i V_i(β), with V_i over all chunks and β = ρ."""
    r = coefficients(rho, params.n)
    total = 0
    for t, values in enumerate(evaluations):
        chunk = sum(c * v for c, v in zip(r, values[: params.n], strict=True))
        total = (total * pow(rho, words_of_chunk(params, t), P) + chunk) % P
    return total


@dataclass(frozen=True)
class Challenge:
    """The challenges of a round: ρ, x and s' are public in shards and verdict, the rest is private.

    Parameters
    ----------
    rho, blind
        ρ and what blinds it and s.
    combined
        Z, hashed into s before s is known.
    x
        y_i / y_0 with y_i = r_i + s·a_i; the first is 1.
    scaled_s
        s' = s / y_0.
    """

    rho: int
    blind: int
    combined: int
    x: tuple[int, ...]
    scaled_s: int

    @classmethod
    def of(
        cls, rho: int, blind: int, combined: int, accepted: Sequence[int], n: int, hash: Hash = hash_many
    ) -> Challenge:
        """Derive s = Poseidon2(ρ ‖ Z ‖ blind), and x and s' from it.

        Raises
        ------
        ZeroDivisionError
            If y_0 = 0, which happens for one blind in p: nothing can be proved under it.
        """
        s = hash([[rho, combined, blind]])[0]
        y = [(r + s * (i in accepted)) % P for i, r in enumerate(coefficients(rho, n))]
        if y[0] == 0:
            raise ZeroDivisionError("y_0 = 0: draw another blind")
        inverse = pow(y[0], -1, P)
        return cls(rho, blind, combined, tuple(c * inverse % P for c in y), s * inverse % P)


FIRST_LINK = hash_many([(0, 0, 0)])[0]
"""c_0, the link before the first shard: empty sums with blind 0. A constant every verifier knows."""


@dataclass(frozen=True)
class Links:
    """What ties the shards of a round together; ``links`` are public, the rest is private.

    Parameters
    ----------
    forms, residues
        Q_0 … Q_T and R_0 … R_T: the quadratic form and Horner's residue over the chunks before t, mod p.
    blinds
        Blinds of the links; the first is 0.
    links
        c_0 … c_T, with c_t = Poseidon2(Q_t ‖ R_t ‖ blind_t).
    """

    forms: tuple[int, ...]
    residues: tuple[int, ...]
    blinds: tuple[int, ...]
    links: tuple[int, ...]

    @classmethod
    def of(
        cls,
        params: Params,
        challenge: Challenge,
        chunk_claims: Sequence[Sequence[int]],
        evaluations: Sequence[Sequence[int]],
        blinds: Sequence[int],
        hash: Hash = hash_many,
    ) -> Links:
        """Compute the running sums of a round from what is known of each chunk alone, never from n²·d products.

        Parameters
        ----------
        chunk_claims
            By chunk: distances and norms over its coordinates (`claims`).
        evaluations
            By chunk; see `evaluations`.
        blinds
            T fresh secrets, for the links after the first.
        """
        forms, residues = [0], [0]
        for t, (parts, values) in enumerate(zip(chunk_claims, evaluations, strict=True)):
            forms.append((forms[-1] + form_of_claims(challenge.x, parts)) % P)
            step = sum(x * v for x, v in zip(challenge.x, values[:-1], strict=True)) - challenge.scaled_s * values[-1]
            residues.append((residues[-1] * pow(challenge.rho, words_of_chunk(params, t), P) + step) % P)
        all_blinds = (0, *blinds)
        links = hash(list(zip(forms, residues, all_blinds, strict=True)))
        return cls(tuple(forms), tuple(residues), all_blinds, tuple(links))
