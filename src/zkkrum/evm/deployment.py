"""Everything a shape needs on a chain of this process, deployed: its verifiers, a slasher to play with, `KrumRounds`.

Must not know rounds or bundles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zkkrum.evm import solidity
from zkkrum.evm.chain import Chain, Deployed
from zkkrum.evm.rounds import DEFAULT_SLASHING, Rounds, deploy_verifier
from zkkrum.evm.verifiers import Verifier
from zkkrum.protocol.params import Params


@dataclass(frozen=True, eq=False)
class Deployment:
    """What was deployed; verifiers by the contract's names."""

    verifiers: Mapping[str, Deployed]
    slasher: Deployed
    rounds: Rounds


def deploy_all(
    chain: Chain, params: Params, rendered: Sequence[Verifier], solc: solidity.Solc, roles: tuple[str, str]
) -> Deployment:
    """Deploy the rendered verifiers of a shape, a mock slasher, and `KrumRounds` on top of them.

    Whatever a verifier reverts with has its name, called by itself or through `KrumRounds`.

    Parameters
    ----------
    roles
        Operator, who deploys, and vetoer.
    """
    operator, _ = roles
    contracts = solidity.compile_rounds(solc, solidity.demo_sources())
    checkers = {v.name: deploy_verifier(chain, operator, v.contract, v.libraries) for v in rendered}
    slasher = Deployed.create(chain, contracts["MockSlasher"], operator, DEFAULT_SLASHING.avs)
    where = {name: checker.address for name, checker in checkers.items()}
    rounds = Rounds.deploy(chain, contracts["KrumRounds"], params, where, slasher.address, roles)
    for verifier in rendered:
        checker = checkers[verifier.name]
        checker.foreign = solidity.verifier_errors(verifier.text) | checker.errors
        rounds.contract.foreign |= checker.foreign
    return Deployment(checkers, slasher, rounds)
