"""What the on-chain tests share: compiled contracts, a chain, a deployed KrumRounds with stub verifiers.

A stub's "proof" is the hash of its name and of the public inputs, so that evidence of anything can be made up here and
only the contract decides what it is worth.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from support.tools import CHECKOUT, unavailable
from zkkrum.errors import ToolMissingError
from zkkrum.evm.chain import Chain, Deployed, Receipt, RevertError
from zkkrum.evm.rounds import DEFAULT_SCHEDULE, DEFAULT_SLASHING, Rounds, Schedule, Slashing
from zkkrum.evm.solidity import Contract, compile_rounds, demo_sources
from zkkrum.evm.transactions import Evidence
from zkkrum.evm.verifiers import names_of
from zkkrum.proof.statement import PublicChallenge, Words, encode, round_words, shard_words, verdict_words
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.commitment import statement
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Params, Round
from zkkrum.toolchain import Toolchain

CONTRACTS = CHECKOUT / "tests" / "contracts"
"""Contracts that only tests need."""

OWNER, VETOER, STRANGER, OTHER = ("0x" + byte * 20 for byte in ("0a", "0b", "0c", "0d"))

WHOLE = Params.of(n=5, d=8)
"""One chunk."""
SHARDED = Params.of(n=5, d=100, chunk=21)
"""Four chunks and a shorter last."""


def compiled(toolchain: Toolchain) -> dict[str, Contract]:
    """KrumRounds and the test contracts, compiled; skips or fails where there is no EVM to run them on."""
    try:
        Chain()
    except ToolMissingError as error:
        if not (3, 11) <= sys.version_info < (3, 13):
            pytest.skip("pyrevm has wheels for CPython 3.11 and 3.12 only")
        unavailable(error)
    own = {f"tests/{path.name}": path.read_text("utf-8") for path in sorted(CONTRACTS.glob("*.sol"))}
    return compile_rounds(toolchain.solc, {**demo_sources(), **own})


def addresses(n: int, tag: str = "client") -> tuple[str, ...]:
    """Distinct addresses that belong to nobody."""
    return tuple("0x" + hashlib.sha256(f"{tag} {i}".encode()).hexdigest()[:40] for i in range(n))


def name_word(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


@contextmanager
def refused(error: str, *arguments: Any) -> Iterator[None]:
    """Expect a revert with this custom error, and these arguments if any are given."""
    with pytest.raises(RevertError) as caught:
        yield
    assert caught.value.error == error, str(caught.value)
    if arguments:
        assert caught.value.arguments == arguments


@dataclass(frozen=True)
class Bench:
    """A chain with the contract under test, its stub verifiers and its slasher."""

    rounds: Rounds
    slasher: Deployed
    verifiers: dict[str, Deployed]
    params: Params

    @property
    def chain(self) -> Chain:
        return self.rounds.chain

    def round(self, **changes: object) -> Round:
        """A round for this chain and contract under a fresh id."""
        fresh = Round(
            self.params,
            clip=0.5,
            roster=addresses(self.params.n),
            round_id=secrets.token_bytes(32),
            chain_id=self.chain.chain_id,
            contract=self.rounds.address,
        )
        return replace(fresh, **changes)  # type: ignore[arg-type]

    def opened(self, **changes: object) -> Round:
        round = self.round(**changes)
        self.rounds.open(round)
        return round

    def committed(self, count: int | None = None, **changes: Any) -> Round:
        """A round in which the first so many clients have committed to made-up leaves."""
        round = self.opened(**changes)
        for i, commitment in enumerate(commitments(round)[:count]):
            self.rounds.commit(round, i, commitment)
        return round

    def evidence(
        self,
        round: Round,
        outputs: tuple[int, int, int],
        *,
        seed: str = "",
        leaves: Sequence[Sequence[int]] | None = None,
        committed: Sequence[bytes] | None = None,
    ) -> Evidence:
        """Evidence that the stubs accept: proofs for the leaves (by default those behind the commitments)."""
        own = leaves or made_up_leaves(round, seed)
        plain = Evidence(round, outputs, own, b"")
        if round.params.chunks > 1:
            draw = [_element(f"{seed} challenge {i}") for i in range(round.params.n + 1)]
            links = [FIRST_LINK, *(_element(f"{seed} link {t}") for t in range(round.params.chunks))]
            plain = replace(plain, public=PublicChallenge.parse(draw), links=links)
        posted = committed or [head.to_bytes(32, "big") for head in plain.heads(round.params.chunks)[:-1]]
        return self.proved(plain, posted)

    def proved(self, told: Evidence, committed: Sequence[bytes]) -> Evidence:
        """Give evidence the proofs that the stubs take for it."""
        round = told.round
        stated = statement(round.context, committed, told.aggregate)
        nobody, outputs = (
            Verdict(False, (), ()),
            list(zip(("malicious", "flagged", "selected"), told.outputs, strict=True)),
        )
        if told.public is None:
            words = round_words(round, stated, told.leaves[0], nobody)[:-3]
            return replace(told, proof=self.stub("round", [*words, *outputs]))
        last = "lastShard" in self.verifiers
        shards = []
        for t, leaves in enumerate(told.leaves):
            name = "lastShard" if last and t == len(told.leaves) - 1 else "shard"
            words = shard_words(round, told.public, leaves, told.links[t], told.links[t + 1])
            shards.append(self.stub(name, words))
        top = verdict_words(round, stated, told.public, told.links[-1], nobody)[:-3]
        return replace(told, proof=self.stub("verdict", [*top, *outputs]), shard_proofs=shards)

    def stub(self, name: str, words: Words) -> bytes:
        """What the stub of this name takes for a proof."""
        return self.chain.keccak(name_word(name) + encode(words))

    def judge(self, round: Round, outputs: tuple[int, int, int], batch: int = 2) -> list[Receipt]:
        """Prove a verdict on a committed round."""
        return self.rounds.prove(self.evidence(round, outputs).calls(batch))

    def judged(self, outputs: tuple[int, int, int], **changes: Any) -> Round:
        round = self.committed(**changes)
        self.judge(round, outputs)
        return round

    def wait(self) -> None:
        """Let the challenge delay pass."""
        self.chain.time += DEFAULT_SCHEDULE.challenge_delay


def _element(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % P


def made_up_leaves(round: Round, seed: str = "") -> list[list[int]]:
    """Leaves by chunk, among them the smallest and the largest canonical value."""
    p = round.params
    found = [[_element(f"leaf {t} {i} {seed if i == p.n else ''}") for i in range(p.n + 1)] for t in range(p.chunks)]
    found[0][0], found[-1][-2] = P - 1, 0
    return found


def commitments(round: Round) -> list[bytes]:
    """What the clients of the made-up leaves commit to."""
    told = Evidence(round, (0, 0, 0), made_up_leaves(round), b"")
    return [head.to_bytes(32, "big") for head in told.heads(round.params.chunks)[:-1]]


def bench(
    contracts: dict[str, Contract],
    params: Params = WHOLE,
    *,
    slasher: str = "MockSlasher",
    slashing: Slashing = DEFAULT_SLASHING,
    schedule: Schedule = DEFAULT_SCHEDULE,
    chain: Chain | None = None,
) -> Bench:
    chain = chain or Chain()
    stubs = {
        name: Deployed.create(chain, contracts["StubVerifier"], OWNER, name_word(name)) for name in names_of(params)
    }
    taker = Deployed.create(chain, contracts[slasher], OWNER, *([slashing.avs] if slasher == "MockSlasher" else []))
    where = {name: stub.address for name, stub in stubs.items()}
    code = contracts["KrumRounds"]
    rounds = Rounds.deploy(chain, code, params, where, taker.address, (OWNER, VETOER), slashing, schedule)
    return Bench(rounds, taker, stubs, params)
