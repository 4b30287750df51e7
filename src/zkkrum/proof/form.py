"""One circuit or shards, and why: the circuits, keys, files and gates of each form, derived once.

Must not know tools or what is in the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from zkkrum.proof.circuit import Circuit, round_circuit, shard_circuit, verdict_circuit
from zkkrum.protocol import forecast
from zkkrum.protocol.params import Params, whole_chunk

MANIFEST, PROOF, PUBLIC_INPUTS, VK = "manifest.json", "proof", "public_inputs", "vk"
VK_SHARD, VK_LAST, SHARDS = "vk.shard", "vk.last", "shards"


@dataclass(frozen=True)
class Part:
    """One proof of a bundle.

    Parameters
    ----------
    name
        In words: ``proof`` or ``shard 3``.
    key, proof, public_inputs
        Names of its files; several parts share a key.
    """

    name: str
    key: str
    proof: str
    public_inputs: str


TOP = Part("proof", VK, PROOF, PUBLIC_INPUTS)
"""The proof that has the outputs: the whole round's, or the verdict's."""


class Form(str, Enum):
    """How a round is proved; everything that differs between the two is derived here."""

    ROUND = "round"
    SHARDED = "sharded"

    @classmethod
    def of(cls, params: Params) -> Form:
        """Return the form of a round: one circuit where all coordinates are in one chunk, else shards."""
        return cls.ROUND if params.chunks == 1 else cls.SHARDED

    def circuits(self, params: Params) -> dict[str, Circuit]:
        """Return the circuit of each verification key file of a bundle of this form."""
        if self is Form.ROUND:
            return {VK: round_circuit(params)}
        found = {VK: verdict_circuit(params), VK_SHARD: shard_circuit(params, len(params.chunk_range(0)))}
        if shard_key(params, params.chunks - 1) == VK_LAST:
            found[VK_LAST] = shard_circuit(params, len(params.chunk_range(params.chunks - 1)))
        return found

    def gates(self, params: Params) -> dict[str, int]:
        """Forecast the gates of the circuit of each verification key file."""
        if self is Form.ROUND:
            return {VK: forecast.round_gates(params)}
        found = {VK: forecast.verdict_gates(params)}
        for t in (0, params.chunks - 1):
            found[shard_key(params, t)] = forecast.shard_gates(params, len(params.chunk_range(t)))
        return found

    def parts(self, params: Params) -> Iterator[Part]:
        """Yield every proof of a bundle of this form, the one with the outputs first."""
        yield TOP
        if self is Form.SHARDED:
            yield from (shard_part(params, t) for t in range(params.chunks))

    def proofs_of(self, params: Params, key: str) -> int:
        """Return how many proofs share a verification key file."""
        if key == VK_SHARD:
            return params.chunks - (shard_key(params, params.chunks - 1) == VK_LAST)
        return 1

    def proofs(self, params: Params) -> int:
        """Return how many proofs a bundle of this form has."""
        return 1 if self is Form.ROUND else params.chunks + 1

    def words(self, params: Params, part: Part) -> int:
        """Return how many field elements are the public inputs of a proof of a bundle of this form."""
        n = params.n
        if self is Form.ROUND:
            return n + 5
        return n + 6 if part == TOP else 2 * n + 4

    def files(self, params: Params) -> list[str]:
        """Return every file of a bundle of this form but the manifest."""
        names = [name for part in self.parts(params) for name in (part.proof, part.public_inputs)]
        return [*names[:2], *self.circuits(params), *names[2:]]


def shard_key(params: Params, t: int) -> str:
    """Return the name of the key file that shard t belongs to: a shorter last one has its own."""
    return VK_SHARD if len(params.chunk_range(t)) == len(params.chunk_range(0)) else VK_LAST


def shard_part(params: Params, t: int) -> Part:
    """Return the files of shard t."""
    return Part(f"shard {t}", shard_key(params, t), *shard_files(t))


def shard_files(t: int) -> tuple[str, str]:
    """Return the names of a shard's proof and public inputs."""
    return f"{SHARDS}/{t:05d}.proof", f"{SHARDS}/{t:05d}.public_inputs"


def why(params: Params) -> str:
    """Say in words which form a round has and why: its chunk decides, as it was opened."""
    one = forecast.round_gates(replace(params, chunk=whole_chunk(params.d, params.pack)))
    if Form.of(params) is Form.ROUND:
        return f"all {params.d:,} coordinates are one chunk: one circuit of about {one:,} gates"
    return (
        f"{params.chunks:,} shards of {params.chunk:,} coordinates and a verdict; "
        f"one circuit would have about {one:,} gates"
    )
