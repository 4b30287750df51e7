"""The router in front of several KrumRounds contracts: who may slash, from when on, and who decides that."""

from __future__ import annotations

import pytest

from support.onchain import OTHER, OWNER, STRANGER, VETOER, WHOLE, Bench, bench, compiled, refused
from zkkrum.evm.chain import NOBODY, Chain, Deployed
from zkkrum.evm.rounds import DAY, DEFAULT_SLASHING, Rounds
from zkkrum.evm.solidity import Contract
from zkkrum.toolchain import Toolchain

FLAGGED = (1, 0b01100, 0b1)
DELAY = 18 * DAY


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture
def target(contracts: dict[str, Contract]) -> Deployed:
    return Deployed.create(Chain(), contracts["MockSlasher"], OWNER, DEFAULT_SLASHING.avs)


@pytest.fixture
def router(contracts: dict[str, Contract], target: Deployed) -> Deployed:
    code = contracts["SlashingRouter"]
    return Deployed.create(target.chain, code, OWNER, target.address, DEFAULT_SLASHING.avs, DELAY, OWNER)


def behind(router: Deployed, contracts: dict[str, Contract]) -> Bench:
    """A KrumRounds contract whose slasher is the router."""
    other = bench(contracts, WHOLE, chain=router.chain)
    where = {name: stub.address for name, stub in other.verifiers.items()}
    code = contracts["KrumRounds"]
    rounds = Rounds.deploy(router.chain, code, WHOLE, where, router.address, (OWNER, VETOER))
    return Bench(rounds, other.slasher, other.verifiers, WHOLE)


def test_registered_contracts_slash_through_it(
    router: Deployed, target: Deployed, contracts: dict[str, Contract]
) -> None:
    first, second = behind(router, contracts), behind(router, contracts)
    for b in (first, second):
        router.send(OWNER, "register", b.rounds.contract.address)
    router.chain.time += DELAY
    for times, b in enumerate((first, second), start=1):
        round = b.judged(FLAGGED)
        b.wait()
        receipt = b.rounds.slash(round, 0b01100)
        events = b.rounds.contract.events(receipt)
        assert [(name, event["slashId"], event["shares"]) for name, event in events] == [
            ("Slashed", times, list(DEFAULT_SLASHING.wads))
        ] * 2
        assert [target.view("slashed", client) for client in round.roster] == [0, 0, times, times, 0]
        [forwarded, _] = router.events(receipt)
        assert forwarded[1]["rounds"] == b.rounds.contract.address.lower()
        assert forwarded[1]["client"] == round.roster[2]
        assert b.rounds.contract.view("pendingOf", round.round_id) == 0


def test_others_do_not_and_their_flagged_stay_pending(
    router: Deployed, target: Deployed, contracts: dict[str, Contract]
) -> None:
    b = behind(router, contracts)
    round = b.judged(FLAGGED)
    b.wait()
    receipt = b.rounds.slash(round, 0b01100)
    assert [name for name, _ in b.rounds.contract.events(receipt)] == ["SlashFailed"] * 2
    assert b.rounds.contract.view("pendingOf", round.round_id) == 0b01100
    assert target.view("slashed", round.roster[2]) == 0
    router.send(OWNER, "register", b.rounds.contract.address)
    router.chain.time += DELAY - 1
    assert router.view("isActive", b.rounds.contract.address) is False
    b.rounds.slash(round, 0b01100)
    assert target.view("slashed", round.roster[2]) == 0
    router.chain.time += 1
    assert router.view("isActive", b.rounds.contract.address) is True
    b.rounds.slash(round, 0b01100)
    assert target.view("slashed", round.roster[2]) == 1


def test_a_registration_is_announced_and_ends_at_once(router: Deployed, contracts: dict[str, Contract]) -> None:
    rounds = behind(router, contracts).rounds.contract.address
    [(name, event)] = router.events(router.send(OWNER, "register", rounds))
    assert (name, event["rounds"], event["activeFrom"]) == ("Registered", rounds.lower(), router.chain.time + DELAY)
    with refused("BadArgument", "what is registered was not before"):
        router.send(OWNER, "register", rounds)
    router.chain.time += DELAY
    [(name, event)] = router.events(router.send(OWNER, "unregister", rounds))
    assert (name, event["rounds"]) == ("Unregistered", rounds.lower())
    assert router.view("isActive", rounds) is False
    with refused("NotRegistered"):
        router.send(OWNER, "unregister", rounds)
    with refused("BadArgument", "what is registered has code"):
        router.send(OWNER, "register", STRANGER)
    router.send(OWNER, "register", rounds)  # and waits again
    assert router.view("isActive", rounds) is False


def parameters(client: str = STRANGER) -> dict[str, object]:
    strategies, wads = list(DEFAULT_SLASHING.strategies), list(DEFAULT_SLASHING.wads)
    fields = ("operator", "operatorSetId", "strategies", "wadsToSlash", "description")
    return dict(zip(fields, (client, 1, strategies, wads, "because"), strict=True))


def test_nobody_slashes_directly(router: Deployed) -> None:
    for sender in (OWNER, STRANGER):
        with refused("NotRegistered", sender):
            router.send(sender, "slashOperator", DEFAULT_SLASHING.avs, parameters())


def test_it_slashes_for_one_avs(router: Deployed) -> None:
    """Whoever is registered, were it for another service."""
    caller = "0x" + "ca" * 20
    router.chain.place(caller, bytes.fromhex("00"))
    router.send(OWNER, "register", caller)
    router.chain.place(caller, b"")  # so that it can send by itself
    router.chain.time += DELAY
    with refused("OtherAvs", OTHER):
        router.send(caller, "slashOperator", OTHER, parameters())
    router.send(caller, "slashOperator", DEFAULT_SLASHING.avs, parameters())


def test_it_passes_on_who_can_be_slashed(router: Deployed, target: Deployed) -> None:
    of = {"avs": DEFAULT_SLASHING.avs, "id": 1}
    assert router.view("isOperatorSlashable", STRANGER, of) is True
    target.send(OWNER, "setUntouchable", STRANGER, True)
    assert router.view("isOperatorSlashable", STRANGER, of) is False


def test_the_ownership_moves_in_two_steps(router: Deployed, contracts: dict[str, Contract]) -> None:
    rounds = behind(router, contracts).rounds.contract.address
    for call in (("register", rounds), ("unregister", rounds), ("offerOwnership", STRANGER)):
        with refused("NotAuthorized", STRANGER):
            router.send(STRANGER, *call)
    router.send(OWNER, "offerOwnership", STRANGER)
    assert router.view("owner") == OWNER
    with refused("NotAuthorized", OTHER):
        router.send(OTHER, "acceptOwnership")
    [(name, event)] = router.events(router.send(STRANGER, "acceptOwnership"))
    assert (name, event["from"], event["to"]) == ("OwnershipTransferred", OWNER, STRANGER)
    with refused("NotAuthorized", OWNER):
        router.send(OWNER, "register", rounds)
    with refused("NotAuthorized", STRANGER):
        router.send(STRANGER, "acceptOwnership")
    router.send(STRANGER, "register", rounds)


def test_an_offer_can_be_taken_back(router: Deployed) -> None:
    router.send(OWNER, "offerOwnership", STRANGER)
    router.send(OWNER, "offerOwnership", NOBODY)
    with refused("NotAuthorized", STRANGER):
        router.send(STRANGER, "acceptOwnership")


@pytest.mark.parametrize(
    ("place", "value", "bound"),
    [
        (0, STRANGER, "target has code"),
        (1, NOBODY, "avs is not zero"),
        (2, 60 * DAY + 1, "registration delay <= 60 days"),
        (3, NOBODY, "owner is not zero"),
    ],
)
def test_arguments_out_of_bounds_are_refused(
    target: Deployed, contracts: dict[str, Contract], place: int, value: object, bound: str
) -> None:
    arguments: list[object] = [target.address, DEFAULT_SLASHING.avs, DELAY, OWNER]
    arguments[place] = value
    with refused("BadArgument", bound):
        Deployed.create(target.chain, contracts["SlashingRouter"], OWNER, *arguments)
