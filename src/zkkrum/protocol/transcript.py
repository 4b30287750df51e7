"""The transcript of a proof: what follows from openings, verdict and the prover's secrets, in the order of hashing.

Must not know circuits or files. Whoever has the transcript can write the inputs of every circuit of the round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.challenge import Challenge, Links, claims, combination, evaluations, rho
from zkkrum.protocol.commitment import Opening, chain, fresh_secret, statement
from zkkrum.protocol.krum import Outcome
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import Hash


@dataclass(frozen=True, eq=False)
class Secrets:
    """What a proof hides behind: fresh uniform field elements, never used for another proof.

    Parameters
    ----------
    blind
        Blinds ρ and s.
    salt
        σ, the salt of the aggregate.
    blinds
        Of the links c_1 … c_T; empty where T = 1.
    """

    blind: int
    salt: int
    blinds: tuple[int, ...] = ()

    @classmethod
    def fresh(cls, params: Params) -> Secrets:
        """Draw them from the system's randomness."""
        links = params.chunks if params.chunks > 1 else 0
        return cls(fresh_secret(), fresh_secret(), tuple(fresh_secret() for _ in range(links)))


@dataclass(frozen=True, eq=False)
class Transcript:
    """Everything a round's proof is made from: openings, outcome, secrets, and what follows from them.

    Parameters
    ----------
    round, openings
        The round and every client's quantized update and salt, in roster order.
    outcome
        Of the reference.
    secrets
        See `Secrets`.
    accepted
        Who is aggregated.
    aggregate
        S and its salt.
    leaves
        By client, then chunk; last those of the aggregate.
    commitments
        32 bytes a client, then A.
    statement
        The public word that binds context, commitments and A.
    claims
        Distances and norms.
    challenge
        ρ, Z, x, s'.
    links
        Running sums of a sharded round; None where T = 1.
    """

    round: Round
    openings: Sequence[Opening]
    outcome: Outcome
    secrets: Secrets
    accepted: tuple[int, ...]
    aggregate: Aggregate
    leaves: Sequence[Sequence[int]]
    commitments: Sequence[bytes]
    statement: int
    claims: Sequence[int]
    challenge: Challenge
    links: Links | None

    @classmethod
    def of(
        cls,
        round: Round,
        openings: Sequence[Opening],
        client_leaves: Sequence[Sequence[int]],
        outcome: Outcome,
        secrets: Secrets,
        hash: Hash,
    ) -> Transcript:
        """Derive everything from the openings, their leaves (by client, then chunk) and the secrets."""
        p = round.params
        q = np.stack([o.q for o in openings])
        accepted = outcome.verdict.accepted(p)
        aggregate = Aggregate.of(q, accepted, p.b, secrets.salt)
        own = [*client_leaves, aggregate.leaves(p, hash)]
        commitments = [chain(round.context, i, each) for i, each in enumerate(own)]
        stated = statement(round.context, commitments[: p.n], commitments[p.n])
        by_chunk = [claims(q[:, c.start : c.stop], p.b) for c in map(p.chunk_range, range(p.chunks))]
        all_claims = [sum(parts) for parts in zip(*by_chunk, strict=True)]
        rho_ = rho(p, stated, all_claims, secrets.blind, hash)
        values = evaluations(p, q, aggregate, rho_)
        combined = combination(p, rho_, values)
        challenge = Challenge.of(rho_, secrets.blind, combined, accepted, p.n, hash)
        links = Links.of(p, challenge, by_chunk, values, secrets.blinds, hash) if p.chunks > 1 else None
        return cls(
            round,
            openings,
            outcome,
            secrets,
            accepted,
            aggregate,
            own,
            commitments,
            stated,
            all_claims,
            challenge,
            links,
        )

    @property
    def sharded_links(self) -> Links:
        """The links, of a sharded round."""
        assert self.links is not None
        return self.links

    def leaves_of_chunk(self, t: int) -> list[int]:
        """Return the leaves of chunk t: one a client, then the aggregate's."""
        return [own[t] for own in self.leaves]
