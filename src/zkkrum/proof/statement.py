"""What is proved: the named public inputs of each circuit, and the sentence that says it in words.

Must not know files or how proofs are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zkkrum.protocol.challenge import Challenge
from zkkrum.protocol.field import P, from_bytes, to_bytes
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Acceptance, Detection, Round

Words = list[tuple[str, int]]
"""Named field elements, in order."""


# The public inputs of each circuit, in the protocol's order


def round_words(round: Round, statement: int, leaves: Sequence[int], verdict: Verdict) -> Words:
    """Return the public inputs of the `round` circuit; ``leaves`` are one a client, then the aggregate's."""
    return [("statement", statement), *_leaf_words(round, leaves), *_output_words(verdict)]


def shard_words(round: Round, public: PublicChallenge, leaves: Sequence[int], before: int, after: int) -> Words:
    """Return the public inputs of the `shard` circuit; ``leaves`` as in `round_words`, of one chunk."""
    links = [("link_before", before), ("link_after", after)]
    return [*public.words(round), *_leaf_words(round, leaves), *links]


def verdict_words(round: Round, statement: int, public: PublicChallenge, link: int, verdict: Verdict) -> Words:
    """Return the public inputs of the `verdict` circuit."""
    return [("statement", statement), *public.words(round), ("link", link), *_output_words(verdict)]


def _leaf_words(round: Round, leaves: Sequence[int]) -> Words:
    names = [f"leaf[{client}]" for client in round.roster]
    return list(zip([*names, "leaf_of_aggregate"], leaves, strict=True))


def _output_words(verdict: Verdict) -> Words:
    return list(zip(("malicious", "flagged", "selected"), verdict.public_words(), strict=True))


@dataclass(frozen=True)
class PublicChallenge:
    """What a sharded round shows of its challenges: ρ, x_1 … x_(n-1), s'."""

    rho: int
    x: tuple[int, ...]
    scaled_s: int

    def words(self, round: Round) -> Words:
        """Return them by name."""
        named = [(f"x[{client}]", value) for client, value in zip(round.roster[1:], self.x, strict=True)]
        return [("rho", self.rho), *named, ("s", self.scaled_s)]

    @classmethod
    def of(cls, challenge: Challenge) -> PublicChallenge:
        """Take what is public."""
        return cls(challenge.rho, challenge.x[1:], challenge.scaled_s)

    @classmethod
    def parse(cls, words: Sequence[int]) -> PublicChallenge:
        """Take ρ, x and s' from n + 1 words."""
        return cls(words[0], tuple(words[1:-1]), words[-1])


def encode(words: Words) -> bytes:
    """Return public inputs as bb reads them: 32-byte big-endian words."""
    return to_bytes(value for _, value in words)


@dataclass(frozen=True)
class RoundInputs:
    """What the public inputs of a `round` proof say, still to be believed by nobody."""

    leaves: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes, n: int) -> RoundInputs:
        """Split the public inputs of a round of n clients; `ValueError` for another size or a word >= p."""
        words = _canonical(data, n + 5)
        return cls(tuple(words[1 : n + 2]))


@dataclass(frozen=True)
class ShardInputs:
    """What the public inputs of a shard say, still to be believed by nobody."""

    public: PublicChallenge
    leaves: tuple[int, ...]
    before: int
    after: int

    @classmethod
    def parse(cls, data: bytes, n: int) -> ShardInputs:
        """Split the public inputs of a shard of n clients; `ValueError` for another size or a word >= p."""
        words = _canonical(data, 2 * n + 4)
        return cls(PublicChallenge.parse(words[: n + 1]), tuple(words[n + 1 : -2]), words[-2], words[-1])


@dataclass(frozen=True)
class VerdictInputs:
    """What the public inputs of a verdict say, still to be believed by nobody."""

    public: PublicChallenge
    link: int

    @classmethod
    def parse(cls, data: bytes, n: int) -> VerdictInputs:
        """Split the public inputs of a verdict of n clients; `ValueError` for another size or a word >= p."""
        words = _canonical(data, n + 6)
        return cls(PublicChallenge.parse(words[1 : n + 2]), words[n + 2])


def _canonical(data: bytes, count: int) -> list[int]:
    if len(data) != 32 * count:
        raise ValueError(f"expected {32 * count} bytes, found {len(data)}")
    words = from_bytes(data)
    if any(word >= P for word in words):
        raise ValueError("a word is not below the field modulus")
    return words


def sentence(round: Round, verdict: Verdict, aggregate: bytes) -> str:
    """Say in words what a valid proof states; ``aggregate`` is A. Client ids are quoted, lest one read as a word."""
    p = round.params

    def names(clients: Sequence[int]) -> str:
        return ", ".join(repr(round.roster[i]) for i in clients)

    gamma = f", gamma = {p.gamma}" if p.detection is Detection.MAD else ""
    rules = f"score {p.score.value} (f = {p.f}), detection {p.detection.value} (z = {p.z}{gamma})"
    if verdict.flagged:
        outcome = f"flagged: {names(verdict.flagged)}"
    elif verdict.malicious:
        outcome = "malicious, but unattributed: nobody is flagged, and there are no grounds for slashing"
    else:
        outcome = "honest: nobody is flagged"
    kind = "Krum" if p.m == 1 else f"Multi-Krum (m = {p.m})"
    accepted = verdict.accepted(p)
    if p.acceptance is Acceptance.SELECTED:
        who = f"accepted are the selected that are not flagged: {names(accepted)}"
    elif verdict.flagged:
        who = f"accepted are all but the flagged ({len(accepted)} of {p.n})"
    else:
        who = f"accepted are all {p.n}"
    return (
        f"In round 0x{round.round_id.hex()}, on the very updates behind the {p.n} commitments (d = {p.d} coordinates, "
        f"b = {p.b} bits, clip {round.clip:g}), under {rules}, the verdict is: {outcome}. "
        f"{kind} selects: {names(verdict.selected)}. For the aggregate {who}; the sum of their committed values is "
        f"what A = 0x{aggregate.hex()} commits to."
    )
