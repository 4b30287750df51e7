"""The calls that prove a verdict to `KrumRounds`: which, in which order, in which batches, and how they are encoded.

Must not know an EVM, files or how proofs are made. One call serves a round of one chunk; a sharded one takes ``begin``,
as many ``prove`` as its shards need, and ``conclude``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zkkrum.evm.solidity import Encodable, encode_call
from zkkrum.proof.statement import PublicChallenge
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.commitment import statement
from zkkrum.protocol.field import to_bytes
from zkkrum.protocol.params import Round

TRANSACTION_BYTES = 128 * 1024
"""Largest transaction that Ethereum's nodes pass on."""
TRANSACTION_GAS = 2**24
"""Most gas of a transaction (EIP-7825)."""
ENVELOPE_BYTES = 256
"""More than the rest of a transaction takes beside its calldata: nonce, fees, address, signature."""


@dataclass(frozen=True)
class Call:
    """One call of the contract.

    Parameters
    ----------
    function
        Its name.
    arguments
        As `encode_call` takes them.
    shards
        Those that it proves.
    """

    function: str
    arguments: tuple[Encodable, ...]
    shards: range = range(0)

    def data(self, selectors: Mapping[str, bytes]) -> bytes:
        """Return the calldata, given the contract's selectors."""
        return encode_call(selectors[self.function], *self.arguments)

    @property
    def title(self) -> str:
        """The call in words."""
        if not self.shards:
            return self.function
        first, last = self.shards[0], self.shards[-1]
        return f"{self.function} shard {first}" if first == last else f"{self.function} shards {first} to {last}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the contract is told of a proved round.

    Parameters
    ----------
    round
        What was proved is of this round.
    outputs
        malicious, flagged, selected.
    leaves
        By chunk: one a client, then the aggregate's.
    proof
        The proof that has the outputs.
    public
        Challenges of a sharded round; None where T = 1.
    links
        c_0 … c_T of a sharded round.
    shard_proofs
        One a chunk of a sharded round.
    """

    round: Round
    outputs: tuple[int, int, int]
    leaves: Sequence[Sequence[int]]
    proof: bytes
    public: PublicChallenge | None = None
    links: Sequence[int] = (FIRST_LINK,)
    shard_proofs: Sequence[bytes] = ()

    @property
    def challenges(self) -> list[int]:
        """ρ, x_1 … x_(n-1), s'; empty where T = 1."""
        return [value for _, value in self.public.words(self.round)] if self.public else []

    def heads(self, t: int) -> list[int]:
        """Return the n + 1 commitment chains over the first t chunks; none before the first."""
        context = self.round.context
        found = [context + i.to_bytes(32, "big") for i in range(self.round.params.n + 1)] if t else []
        for chunk in self.leaves[:t]:
            found = [hashlib.sha256(head + to_bytes([leaf])).digest() for head, leaf in zip(found, chunk, strict=True)]
        return [int.from_bytes(head, "big") for head in found]

    @property
    def aggregate(self) -> bytes:
        """A."""
        return self.heads(len(self.leaves))[-1].to_bytes(32, "big")

    @property
    def _round_id(self) -> int:
        return int.from_bytes(self.round.round_id, "big")

    def submit(self) -> Call:
        """Return the one call of a round of one chunk."""
        *leaves, of_aggregate = self.leaves[0]
        return Call("submit", (self._round_id, self.proof, leaves, of_aggregate, self.outputs))

    def begin(self) -> Call:
        """Return the call that begins a claim."""
        return Call("begin", (self._round_id, self.challenges))

    def prove(self, shards: range) -> Call:
        """Return the call that proves these shards."""
        batch = [(self.shard_proofs[t], list(self.leaves[t]), self.links[t + 1]) for t in shards]
        return Call("prove", (self._round_id, self.challenges, self.heads(shards.start), batch), shards)

    def conclude(self) -> Call:
        """Return the call that ends a claim."""
        heads = self.heads(self.round.params.chunks)
        return Call("conclude", (self._round_id, self.challenges, heads, self.proof, self.outputs))

    def questions(self, commitments: Sequence[bytes]) -> list[tuple[str, bytes, list[int]]]:
        """Return what the contract asks each of its verifiers first: the verifier's name, proof and public inputs."""
        stated = statement(self.round.context, commitments, self.aggregate)
        if self.public is None:
            return [("round", self.proof, [stated, *self.leaves[0], *self.outputs])]
        last = self.round.params.chunks - 1
        places = {"shard": 0} | ({"lastShard": last} if self.round.params.d % self.round.params.chunk else {})
        shards = [
            (name, self.shard_proofs[t], [*self.challenges, *self.leaves[t], self.links[t], self.links[t + 1]])
            for name, t in places.items()
        ]
        top = [stated, *self.challenges, self.links[-1], *self.outputs]
        return [*shards, ("verdict", self.proof, top)]

    def calls(self, batch: int, start: int | None = None) -> list[Call]:
        """Return the calls that prove the verdict, in order.

        Parameters
        ----------
        batch
            Shards in a call.
        start
            The first shard that is missing in a claim that was begun; all of it by default.
        """
        chunks = self.round.params.chunks
        if chunks == 1:
            return [self.submit()]
        batches = [range(t, min(t + batch, chunks)) for t in range(start or 0, chunks, batch)]
        return [*([self.begin()] if start is None else []), *map(self.prove, batches), self.conclude()]
