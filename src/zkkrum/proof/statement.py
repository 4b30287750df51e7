"""What is proved: the named public inputs of each circuit, and the sentence that says it in words.

Must not know files or how proofs are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zkkrum.protocol.field import from_bytes, to_bytes
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Detection, Round

Words = list[tuple[str, int]]
"""Named field elements, in order."""


# The public inputs of each circuit, in the protocol's order


def round_words(round: Round, commitments: Sequence[int], verdict: Verdict) -> Words:
    """Return the public inputs of the `round` circuit."""
    return [("context", round.context), *_commitment_words(round, commitments), *_output_words(verdict)]


def verdict_words(round: Round, commitments: Sequence[int], rho: int, last_link: int, verdict: Verdict) -> Words:
    """Return the public inputs of the `verdict` circuit."""
    head = [("context", round.context), *_commitment_words(round, commitments)]
    return [*head, ("rho", rho), ("chunks", round.params.chunks), ("link", last_link), *_output_words(verdict)]


def shard_words(round: Round, t: int, rho: int, leaves: Sequence[int], before: int, after: int) -> Words:
    """Return the public inputs of the `shard` circuit of chunk t."""
    named = [(f"leaf[{client}]", leaf) for client, leaf in zip(round.roster, leaves, strict=True)]
    head = [("context", round.context), ("t", t), ("rho", rho)]
    return [*head, *named, ("link_before", before), ("link_after", after)]


def _commitment_words(round: Round, commitments: Sequence[int]) -> Words:
    return [(f"commitment[{client}]", c) for client, c in zip(round.roster, commitments, strict=True)]


def _output_words(verdict: Verdict) -> Words:
    return list(zip(("malicious", "flagged", "selected"), verdict.public_words(), strict=True))


def encode(words: Words) -> bytes:
    """Return public inputs as bb reads them: 32-byte big-endian words."""
    return to_bytes(value for _, value in words)


@dataclass(frozen=True)
class ShardInputs:
    """What the public inputs of a shard say, still to be believed by nobody."""

    t: int
    rho: int
    leaves: tuple[int, ...]
    before: int
    after: int

    @classmethod
    def parse(cls, data: bytes, n: int) -> ShardInputs:
        """Split the public inputs of a shard of n clients; `ValueError` for another size."""
        words = from_bytes(data)
        if len(words) != n + 5:
            raise ValueError(f"expected {n + 5} words, found {len(words)}")
        return cls(words[1], words[2], tuple(words[3:-2]), words[-2], words[-1])


def statement(round: Round, verdict: Verdict) -> str:
    """Say in words what a valid proof states."""
    p = round.params

    def names(clients: Sequence[int]) -> str:
        return ", ".join(round.roster[i] for i in clients)

    gamma = f", gamma = {p.gamma}" if p.detection is Detection.MAD else ""
    rules = f"score {p.score.value} (f = {p.f}), detection {p.detection.value} (z = {p.z}{gamma})"
    if verdict.flagged:
        outcome = f"flagged: {names(verdict.flagged)}"
    elif verdict.malicious:
        outcome = "malicious, but unattributed: nobody is flagged, and there are no grounds for slashing"
    else:
        outcome = "honest: nobody is flagged"
    kind = "Krum" if p.m == 1 else f"Multi-Krum (m = {p.m})"
    return (
        f"In round 0x{round.round_id.hex()}, on the very updates behind the {p.n} commitments (d = {p.d} coordinates, "
        f"b = {p.b} bits, clip {round.clip:g}), under {rules}, the verdict is: {outcome}. "
        f"{kind} selects: {names(verdict.selected)}."
    )
