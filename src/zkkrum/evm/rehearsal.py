"""The transactions of a bundle tried on an EVM in this process, before anybody pays for them.

Must not print, nor know how the bundle was made. The contract is put where the round says that it is, on a chain of the
round's id; the round is opened and committed to as it must have been for the bundle to be of any use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zkkrum.errors import InputError
from zkkrum.evm.chain import Chain
from zkkrum.evm.claims import Outcome
from zkkrum.evm.deployment import deploy_all
from zkkrum.evm.transactions import Call, Evidence
from zkkrum.evm.verifiers import Verifier
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import is_address
from zkkrum.toolchain import Toolchain

OPERATOR, VETOER, SERVER = ("0x" + hashlib.sha256(b"rehearsal " + w).hexdigest()[:40] for w in (b"1", b"2", b"3"))


def rehearse(
    told: Evidence, calls: Sequence[Call], commitments: Sequence[bytes], verifiers: Sequence[Verifier], tools: Toolchain
) -> list[int]:
    """Send all the calls of a bundle, and return the gas of each.

    Parameters
    ----------
    calls
        From the beginning to the end.

    Raises
    ------
    InputError
        If the bundle is not of a round on chain.
    RevertError
        If a call is refused.
    """
    round = told.round
    if not is_bound(told):
        raise InputError(
            "the bundle's round names no chain and contract, or clients that are no addresses: no contract takes it",
            "`zkkrum open --chain-id … --contract 0x… --client 0x… …` opens such a round",
        )
    chain = Chain(round.chain_id)
    rounds = deploy_all(chain, round.params, verifiers, tools.solc, (OPERATOR, VETOER)).rounds
    there = hex_of(round.contract)
    chain.move(rounds.contract.address, there)
    rounds.contract.address = there
    rounds.open(round)
    for i, commitment in enumerate(commitments):
        rounds.commit(round, i, commitment)
    gas = [receipt.gas for receipt in rounds.prove(calls, SERVER)]
    assert rounds.outcome(round) not in (Outcome.NONE, Outcome.VOID)
    return gas


def is_bound(told: Evidence) -> bool:
    """Tell whether a round is one that a contract can have opened."""
    round = told.round
    return any(round.contract) and all(map(is_address, round.roster))
