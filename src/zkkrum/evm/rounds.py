"""`KrumRounds` driven by name: deployed with its verifiers, opened, committed to, judged, slashed.

Must not know how proofs are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zkkrum.evm.chain import NOBODY, Chain, Deployed, Receipt
from zkkrum.evm.claims import ClaimState, Outcome
from zkkrum.evm.solidity import Contract, circuit_words
from zkkrum.evm.transactions import Call
from zkkrum.protocol.params import Params, Round, clip_bits

DAY = 24 * 3600
VERIFIERS = ("round", "shard", "lastShard", "verdict")
"""The contract's names of them; a shape has the first, or the others."""


@dataclass(frozen=True)
class Slashing:
    """What a flagged client loses: fixed at construction, so clients know it before they commit.

    Parameters
    ----------
    avs
        Service on whose behalf the slasher acts.
    operator_set_id
        EigenLayer's operator set.
    asked_at_commit
        Whether a client can commit only while the slasher says that it can be slashed.
    strategies, wads
        Addresses in ascending order, and the part of each in units of 1e-18.
    """

    avs: str = "0x" + "a5" * 20
    operator_set_id: int = 1
    asked_at_commit: bool = False
    strategies: tuple[str, ...] = ("0x" + "51" * 20,)
    wads: tuple[int, ...] = (10**17,)

    def words(self, slasher: str) -> dict[str, Any]:
        """Return the contract's ``Slashing``, by field name."""
        return {
            "slasher": slasher,
            "avs": self.avs,
            "operatorSetId": self.operator_set_id,
            "askedAtCommit": self.asked_at_commit,
            "strategies": list(self.strategies),
            "wadsToSlash": list(self.wads),
        }


@dataclass(frozen=True)
class Schedule:
    """Bounds on a round's times, in seconds: fixed at construction.

    Parameters
    ----------
    commit_window
        Least time from opening to the last commitment.
    challenge_delay
        From the verdict to the first slash.
    open_to_slashable
        Most time from opening to the first slash; the contract takes at most 14 days.
    """

    commit_window: int = 3600
    challenge_delay: int = 3 * DAY
    open_to_slashable: int = 7 * DAY

    def words(self) -> dict[str, int]:
        """Return the contract's ``Schedule``, by field name."""
        return {
            "commitWindow": self.commit_window,
            "challengeDelay": self.challenge_delay,
            "openToSlashable": self.open_to_slashable,
        }


DEFAULT_SLASHING, DEFAULT_SCHEDULE = Slashing(), Schedule()


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
        verifiers: Mapping[str, str],
        slasher: str,
        roles: tuple[str, str],
        slashing: Slashing = DEFAULT_SLASHING,
        schedule: Schedule = DEFAULT_SCHEDULE,
    ) -> Rounds:
        """Deploy the contract for a shape.

        Parameters
        ----------
        verifiers
            Addresses by the contract's names (`zkkrum.evm.verifiers.names_of`): those that the shape has.
        slasher
            Its address.
        roles
            Operator, who deploys, and vetoer.
        """
        arguments = (
            {name: verifiers.get(name, NOBODY) for name in VERIFIERS},
            circuit_words(params),
            slashing.words(slasher),
            schedule.words(),
            *roles,
        )
        return cls(Deployed.create(chain, contract, roles[0], *arguments), *roles)

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

    def commit(self, round: Round, index: int, commitment: bytes) -> Receipt:
        """Post a client's commitment from its own address."""
        sender = round.roster[index].lower()
        return self.contract.send(sender, "commit", round.round_id, round.context, index, commitment)

    def send(self, call: Call, sender: str | None = None) -> Receipt:
        """Send one of the calls that prove a verdict."""
        return self.contract.send_data(sender or self.operator, call.data(self.contract.contract.selectors))

    def prove(self, calls: Sequence[Call], sender: str | None = None) -> list[Receipt]:
        """Send all the calls that prove a verdict, in order."""
        return [self.send(call, sender) for call in calls]

    def slash(self, round: Round, clients: int, sender: str | None = None) -> Receipt:
        """Report flagged clients, given as a bitmap."""
        return self.contract.send(sender or self.operator, "slash", round.round_id, clients)

    def veto(self, round: Round, clients: int) -> Receipt:
        """Spare flagged clients, given as a bitmap."""
        return self.contract.send(self.vetoer, "veto", round.round_id, clients)

    def void(self, round: Round, sender: str | None = None) -> Receipt:
        """Record that a round is void."""
        return self.contract.send(sender or self.operator, "voidRound", round.round_id)

    def outcome(self, round: Round) -> Outcome:
        """Return the outcome as of the chain's time."""
        return Outcome(self.contract.view("outcomeOf", round.round_id))

    def claim(self, round: Round, sender: str | None = None) -> ClaimState:
        """Return how far a sender's claim has come."""
        data = self.contract.calldata("claimOf", round.round_id, sender or self.operator)
        return ClaimState.parse(self.chain.call(self.contract.address, data).hex())
