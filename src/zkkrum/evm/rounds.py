"""`KrumRounds` driven by name: deployed with its verifier, opened, committed to, judged, slashed.

Must not know how proofs are made.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from zkkrum.evm.chain import Chain, Deployed, Receipt
from zkkrum.evm.solidity import Contract, circuit_words
from zkkrum.protocol.params import Params, Round


class Outcome(IntEnum):
    """How a round ended, as the contract counts."""

    NONE = 0
    HONEST = 1
    FLAGGED = 2
    UNATTRIBUTED = 3
    VOID = 4


@dataclass(frozen=True)
class Slashing:
    """What a flagged client loses, and when: fixed at construction, so clients know it before they commit.

    Parameters
    ----------
    avs
        Service on whose behalf the slasher acts.
    operator_set_id
        EigenLayer's operator set.
    challenge_delay
        Seconds from the verdict to the first slash.
    strategies, wads
        Addresses in ascending order, and the part of each in units of 1e-18.
    """

    avs: str = "0x" + "a5" * 20
    operator_set_id: int = 1
    challenge_delay: int = 7 * 24 * 3600
    strategies: tuple[str, ...] = ("0x" + "51" * 20,)
    wads: tuple[int, ...] = (10**17,)


def clip_bits(clip: float) -> int:
    """Return the binary64 pattern of a number.

    >>> hex(clip_bits(1.0))
    '0x3ff0000000000000'
    """
    return int.from_bytes(struct.pack(">d", clip), "big")


def deploy_verifier(chain: Chain, sender: str, contract: Contract, libraries: Mapping[str, Contract]) -> Deployed:
    """Deploy a verifier, its libraries first; `gas` of the result counts them all."""
    parts = {name: Deployed.create(chain, library, sender) for name, library in libraries.items()}
    verifier = Deployed.create(chain, contract.linked({n: part.address for n, part in parts.items()}), sender)
    verifier.gas += sum(part.gas for part in parts.values())
    return verifier


@dataclass(frozen=True)
class Rounds:
    """A deployed `KrumRounds` and who holds its roles.

    Parameters
    ----------
    contract
        The contract.
    operator, vetoer
        Holders of the two roles.
    """

    contract: Deployed
    operator: str
    vetoer: str

    @classmethod
    def deploy(
        cls,
        chain: Chain,
        contract: Contract,
        params: Params,
        verifier: str,
        slasher: str,
        operator: str,
        vetoer: str,
        slashing: Slashing | None = None,
    ) -> Rounds:
        """Deploy the contract for a circuit and its verifier."""
        slashing = slashing or Slashing()
        words = {
            "slasher": slasher,
            "avs": slashing.avs,
            "operatorSetId": slashing.operator_set_id,
            "challengeDelay": slashing.challenge_delay,
            "strategies": list(slashing.strategies),
            "wadsToSlash": list(slashing.wads),
        }
        arguments = (verifier, circuit_words(params), words, operator, vetoer)
        return cls(Deployed.create(chain, contract, operator, *arguments), operator, vetoer)

    @property
    def chain(self) -> Chain:
        """Where it lives."""
        return self.contract.chain

    @property
    def address(self) -> bytes:
        """Its 20-byte address, as `Round.contract` wants it."""
        return bytes.fromhex(self.contract.address[2:])

    def open(self, round: Round, commit_seconds: int = 3600, proof_seconds: int = 7200) -> Receipt:
        """Open a round whose deadlines lie so many seconds ahead; returns the receipt, its output is the context."""
        now = self.chain.time
        return self.contract.send(
            self.operator,
            "openRound",
            round.round_id,
            clip_bits(round.clip),
            [client.lower() for client in round.roster],
            round.subject,
            now + commit_seconds,
            now + proof_seconds,
        )

    def commit(self, round: Round, index: int, commitment: int) -> Receipt:
        """Post a client's commitment from its own address."""
        return self.contract.send(round.roster[index].lower(), "commit", round.round_id, index, commitment)

    def submit(self, round: Round, proof: bytes, outputs: Sequence[int], sender: str | None = None) -> Receipt:
        """Submit a proof of the outputs malicious, flagged, selected."""
        return self.contract.send(sender or self.operator, "submit", round.round_id, proof, *outputs)

    def slash(self, round: Round, clients: int, sender: str | None = None) -> Receipt:
        """Report flagged clients, given as a bitmap."""
        return self.contract.send(sender or self.operator, "slash", round.round_id, clients)

    def veto(self, round: Round, clients: int) -> Receipt:
        """Spare flagged clients, given as a bitmap."""
        return self.contract.send(self.vetoer, "veto", round.round_id, clients)

    def outcome(self, round: Round) -> Outcome:
        """Return the outcome as of the chain's time."""
        return Outcome(self.contract.view("outcomeOf", round.round_id))

    def public_inputs(self, round: Round, outputs: Sequence[int]) -> list[bytes]:
        """Return the public inputs that the contract would hand the verifier."""
        found: list[bytes] = self.contract.view("publicInputs", round.round_id, *outputs)
        return found
