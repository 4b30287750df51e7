"""How far somebody's claim in a round has come on chain, and which calls are left to send.

Must not know an EVM: the state is what ``eth_call`` of ``claimOf`` answers, wherever that was asked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from zkkrum.errors import InputError
from zkkrum.evm.transactions import Evidence
from zkkrum.protocol.field import to_bytes


class Outcome(IntEnum):
    """How a round ended, as the contract counts."""

    NONE = 0
    HONEST = 1
    FLAGGED = 2
    UNATTRIBUTED = 3
    VOID = 4


@dataclass(frozen=True)
class ClaimState:
    """What ``claimOf`` answers: how far somebody's claim in a round has come.

    Parameters
    ----------
    outcome
        Of the round.
    challenges, chains
        SHA-256 of the claim's challenges and chains, or zero.
    next
        Shards proved.
    link
        Where the next shard starts.
    """

    outcome: Outcome
    challenges: bytes
    next: int
    link: int
    chains: bytes

    @classmethod
    def parse(cls, answer: str) -> ClaimState:
        """Read what ``eth_call`` of ``claimOf`` returned: ``0x`` and five words.

        Raises
        ------
        InputError
            If it is anything else.
        """
        try:
            data = bytes.fromhex(answer.strip().removeprefix("0x"))
            words = [data[k : k + 32] for k in range(0, len(data), 32)]
            outcome, challenges, following, link, chains = words
            number = int.from_bytes(following, "big")
            if len(data) != 5 * 32 or number >= 2**31:
                raise ValueError
            return cls(Outcome(int.from_bytes(outcome, "big")), challenges, number, int.from_bytes(link, "big"), chains)
        except ValueError:
            shown = answer if len(answer) <= 80 else f"{answer[:80]}… ({len(answer):,} characters)"
            raise InputError(
                f"claim state: expected 0x and the five 32-byte words that claimOf returns, found {shown!a}",
                "call claimOf(roundId, sender) of the contract (eth_call), and give what it answers",
            ) from None


def first_missing(told: Evidence, state: ClaimState) -> tuple[int | None, str]:
    """Return from which shard on a proof is to be sent, given the state of the sender's claim, and why in words.

    Returns
    -------
    int or None
        None: all of it, from the beginning.
    str
        What the claim is.

    Raises
    ------
    InputError
        If there is nothing to send.
    """
    if state.outcome is not Outcome.NONE:
        raise InputError(
            f"the round is decided on chain: {state.outcome.name.lower()}", "there is nothing left to send"
        )
    chunks = told.round.params.chunks
    if chunks == 1 or not any(state.challenges):
        return None, "nothing of it was sent"
    if state.challenges != hashlib.sha256(to_bytes(told.challenges)).digest():
        return None, "the sender's claim was begun with another proof, and is dropped by beginning again"
    t = state.next
    chains = hashlib.sha256(to_bytes(told.heads(t))).digest() if t else bytes(32)
    if t > chunks or (state.link, state.chains) != (told.links[t], chains):
        return None, "the sender's claim is not of this bundle, and is dropped by beginning again"
    return t, f"{t} of {chunks} shards are proved"
