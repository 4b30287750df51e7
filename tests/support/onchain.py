"""What the on-chain tests share: compiled contracts, a chain, a deployed KrumRounds with the stub verifier."""

from __future__ import annotations

import hashlib
import secrets
import sys
from dataclasses import dataclass, replace

import pytest

from support.tools import CHECKOUT, unavailable
from zkkrum.errors import ToolMissingError
from zkkrum.evm.chain import Chain, Deployed
from zkkrum.evm.rounds import Rounds, Slashing
from zkkrum.evm.solidity import Contract, compile_rounds, demo_sources
from zkkrum.protocol.field import P
from zkkrum.protocol.params import Params, Round
from zkkrum.toolchain import Toolchain

CONTRACTS = CHECKOUT / "tests" / "contracts"
"""Contracts that only tests need."""

OWNER, VETOER, STRANGER = ("0x" + byte * 20 for byte in ("0a", "0b", "0c"))


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


@dataclass(frozen=True)
class Bench:
    """A chain with the contract under test, its verifier and its slasher."""

    rounds: Rounds
    slasher: Deployed
    verifier: Deployed
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

    def committed(self, count: int | None = None) -> Round:
        round = self.opened()
        for i in range(self.params.n if count is None else count):
            self.rounds.commit(round, i, commitment(i))
        return round

    def stub_proof(self, round: Round, outputs: tuple[int, int, int]) -> bytes:
        """What the stub verifier takes for a proof: the hash of the public inputs."""
        words = [round.context, *map(commitment, range(self.params.n)), *outputs]
        return self.chain.keccak(b"".join(w.to_bytes(32, "big") for w in words))

    def judged(self, outputs: tuple[int, int, int]) -> Round:
        round = self.committed()
        self.rounds.submit(round, self.stub_proof(round, outputs), outputs)
        return round

    def wait(self) -> None:
        """Let the challenge delay pass."""
        self.chain.time += Slashing().challenge_delay


def commitment(i: int) -> int:
    """Stand-in commitment of client i, among them the largest canonical value."""
    return P - 1 - i


def bench(
    contracts: dict[str, Contract], params: Params, *, verifier: str = "StubVerifier", slasher: str = "MockSlasher"
) -> Bench:
    chain = Chain()
    checker = Deployed.create(chain, contracts[verifier], OWNER)
    taker = Deployed.create(chain, contracts[slasher], OWNER, *([Slashing().avs] if slasher == "MockSlasher" else []))
    rounds = Rounds.deploy(chain, contracts["KrumRounds"], params, checker.address, taker.address, OWNER, VETOER)
    return Bench(rounds, taker, checker, params)
