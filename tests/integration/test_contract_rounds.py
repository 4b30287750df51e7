"""The contract as a state machine: real compiler and EVM, a stub for the verifier."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from support.onchain import OWNER, STRANGER, VETOER, Bench, addresses, bench, commitment, compiled
from zkkrum.errors import InputError
from zkkrum.evm.chain import Chain, Deployed, HaltError, RevertError
from zkkrum.evm.rounds import Outcome, Rounds, Slashing, clip_bits
from zkkrum.evm.solidity import Contract, circuit_words
from zkkrum.protocol.field import P
from zkkrum.protocol.params import BITS, Detection, Params, Round, Score
from zkkrum.toolchain import Toolchain

PARAMS = Params.of(n=5, d=8)
HONEST = (0, 0, 0b1)
FLAGGED = (1, 0b01100, 0b1)


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture
def b(contracts: dict[str, Contract]) -> Bench:
    return bench(contracts, PARAMS)


@contextmanager
def refused(error: str, *arguments: Any) -> Iterator[None]:
    """Expect a revert with this custom error, and these arguments if any are given."""
    with pytest.raises(RevertError) as caught:
        yield
    assert caught.value.error == error, str(caught.value)
    if arguments:
        assert caught.value.arguments == arguments


# Context: the contract and the package compute the same


def random_params(rng: random.Random) -> Params:
    while True:
        n = rng.choice([3, 5, 10, 253, rng.randint(3, 253)])
        f = rng.randint(0, (n - 3) // 2)
        b = rng.choice(BITS)
        score = rng.choice(list(Score))
        detection = rng.choice(list(Detection))
        z = Fraction(rng.randrange(2**32), rng.randrange(1, 2**32))
        gamma = Fraction(rng.randrange(2**32), rng.randrange(1, 2**32)) if detection is Detection.MAD else Fraction(0)
        if detection is Detection.BRACKETS:
            z = Fraction(rng.randrange(0, 141), 100)
        f = f if score is Score.KRUM_2017 else 0
        d, m = rng.randrange(1, 2**31), rng.randint(1, n - f)
        chunk = 252 // b * rng.randint(1, 10**6)
        try:
            return Params(n, d, b, chunk, f, m, score, detection, z, gamma)
        except InputError:
            continue


@pytest.mark.parametrize("seed", range(30))
def test_contract_computes_the_context_of_the_package(contracts: dict[str, Contract], seed: int) -> None:
    rng = random.Random(seed)
    params = random_params(rng)
    chain = Chain(chain_id=rng.choice([1, 31_337, 2**64 - 1]))
    slasher = Deployed.create(chain, contracts["MockSlasher"], OWNER, Slashing().avs)
    verifier = Deployed.create(chain, contracts["StubVerifier"], OWNER)
    rounds = Rounds.deploy(chain, contracts["KrumRounds"], params, verifier.address, slasher.address, OWNER, VETOER)
    assert rounds.contract.view("constants") == circuit_words(params)
    round = Round(
        params,
        clip=rng.choice([5e-324, 1.0, 1.7976931348623157e308, rng.lognormvariate(0, 10)]),
        roster=tuple(f"0x{x:040x}" for x in (rng.randrange(1, 2**160) for _ in range(params.n))),
        round_id=rng.randbytes(32),
        subject=rng.randbytes(32),
        chain_id=chain.chain_id,
        contract=rounds.address,
    )
    arguments = (round.round_id, clip_bits(round.clip), list(round.roster), round.subject)
    assert rounds.contract.view("contextOf", *arguments) == round.context
    receipt = rounds.open(round)
    assert int.from_bytes(receipt.output, "big") == round.context
    [(name, event)] = rounds.contract.events(receipt)
    assert name == "RoundOpened"
    assert event["context"] == round.context
    assert event["roster"] == list(round.roster)
    shown = rounds.contract.view("roundOf", round.round_id)
    assert shown["context"] == round.context
    assert shown["roster"] == list(round.roster)
    assert shown["commitments"] == [0] * params.n


# Construction


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("n", 254), ("d", 0), ("d", 2**31), ("b", 9), ("b", 6), ("b", 18), ("chunk", 0), ("chunk", 22),
        ("f", 2), ("f", 2**32 - 1), ("m", 0), ("m", 5), ("zDenominator", 0), ("gammaDenominator", 0),
        ("score", bytes(32)), ("detection", bytes(32)),
    ],
)  # fmt: skip
def test_constants_out_of_bounds_are_refused(b: Bench, field: str, value: Any) -> None:
    words = circuit_words(PARAMS) | {field: value}
    with refused("BadConstants"):
        create(b, words=words)


def slashing(b: Bench, **changes: Any) -> dict[str, Any]:
    terms: dict[str, Any] = b.rounds.contract.view("slashingTerms")
    return terms | changes


def create(b: Bench, *, words: Any = None, terms: Any = None, verifier: str = "", roles: Any = None) -> Deployed:
    roles = roles or (OWNER, VETOER)
    arguments = (verifier or b.verifier.address, words or circuit_words(PARAMS), terms or slashing(b), *roles)
    return Deployed.create(b.chain, b.rounds.contract.contract, OWNER, *arguments)


LOW, HIGH = "0x" + "01" * 20, "0x" + "02" * 20


@pytest.mark.parametrize(
    "changes",
    [
        {"slasher": STRANGER},
        {"avs": "0x" + "00" * 20},
        {"challengeDelay": 0},
        {"challengeDelay": 365 * 86400 + 1},
        {"strategies": [], "wadsToSlash": []},
        {"strategies": [LOW], "wadsToSlash": [1, 2]},
        {"strategies": [HIGH, LOW], "wadsToSlash": [1, 2]},
        {"strategies": [LOW, LOW], "wadsToSlash": [1, 2]},
        {"strategies": ["0x" + "00" * 20], "wadsToSlash": [1]},
        {"wadsToSlash": [0]},
        {"wadsToSlash": [10**18 + 1]},
    ],
)
def test_slashing_terms_that_eigenlayer_would_refuse_are_refused(b: Bench, changes: dict[str, Any]) -> None:
    with refused("BadSlashing"):
        create(b, terms=slashing(b, **changes))


def test_the_slasher_is_called_as_eigenlayers_allocation_manager(contracts: dict[str, Contract]) -> None:
    """The selector of ``slashOperator(address,(address,uint32,address[],uint256[],string))`` on mainnet."""
    assert contracts["ISlasher"].selectors["slashOperator"].hex() == "36352057"


def test_several_strategies_reach_the_slasher(b: Bench) -> None:
    terms = slashing(b, strategies=[LOW, HIGH], wadsToSlash=[1, 10**18])
    other = replace(b, rounds=replace(b.rounds, contract=create(b, terms=terms)))
    round = other.judged(FLAGGED)
    other.wait()
    receipt = other.rounds.slash(round, 0b00100)
    [(_, event)] = other.slasher.events(receipt)
    assert (event["strategies"], event["wads"]) == ([LOW, HIGH], [1, 10**18])


def test_a_verifier_without_code_or_a_role_without_holder_is_refused(b: Bench) -> None:
    with refused("BadConstants", "verifier has code"):
        create(b, verifier=STRANGER)
    for roles in ((OWNER, "0x" + "00" * 20), ("0x" + "00" * 20, VETOER)):
        with refused("ZeroAddress"):
            create(b, roles=roles)


# Opening


def test_only_the_operator_opens(b: Bench) -> None:
    for sender in (STRANGER, VETOER):
        with refused("NotAuthorized"):
            replace(b.rounds, operator=sender).open(b.round())


def test_a_round_id_is_used_once_whatever_became_of_it(b: Bench) -> None:
    round = b.opened()
    with refused("RoundIdUsed", round.round_id):
        b.rounds.open(round)
    b.chain.time += 10_000
    b.rounds.contract.send(STRANGER, "voidRound", round.round_id)
    with refused("RoundIdUsed", round.round_id):
        b.rounds.open(round)


@pytest.mark.parametrize("bits", [0, 0x7FF0000000000000, 0x7FF8000000000000, 0x8000000000000001, 0xBFF0000000000000])
def test_a_clip_that_is_not_finite_and_positive_is_refused(b: Bench, bits: int) -> None:
    now = b.chain.time
    with refused("BadClip", bits):
        b.rounds.contract.send(OWNER, "openRound", bytes(32), bits, list(addresses(5)), bytes(32), now + 1, now + 2)


@pytest.mark.parametrize(("commit", "proof"), [(0, 10), (-1, 10), (10, 10), (10, 9)])
def test_deadlines_must_be_ahead_and_in_order(b: Bench, commit: int, proof: int) -> None:
    with refused("BadDeadlines"):
        b.rounds.open(b.round(), commit, proof)


def send_roster(b: Bench, roster: list[str]) -> None:
    now = b.chain.time
    b.rounds.contract.send(OWNER, "openRound", bytes(32), clip_bits(1.0), roster, bytes(32), now + 1, now + 2)


def test_a_roster_has_exactly_n_distinct_addresses(b: Bench) -> None:
    good = list(addresses(5))
    for roster in (good[:4], [*good, STRANGER], []):
        with refused("BadRosterLength"):
            send_roster(b, roster)
    for i, j in ((0, 1), (0, 4), (3, 4)):
        twice = list(good)
        twice[j] = good[i]
        with refused("BadRosterAddress", j, good[i]):
            send_roster(b, twice)
    with refused("BadRosterAddress", 2, "0x" + "00" * 20):
        send_roster(b, [*good[:2], "0x" + "00" * 20, *good[3:]])
    send_roster(b, good)


# Commitments


def test_a_client_commits_once_at_its_own_place_in_time(b: Bench) -> None:
    round = b.opened()
    [(name, event)] = b.rounds.contract.events(b.rounds.commit(round, 1, commitment(1)))
    assert (name, event["client"], event["commitment"]) == ("Committed", round.roster[1], commitment(1))
    with refused("AlreadyCommitted", 1):
        b.rounds.commit(round, 1, commitment(2))
    with refused("AlreadyCommitted", 1):
        b.rounds.commit(round, 1, commitment(1))
    with refused("NotInRoster", round.roster[1], 2):
        b.rounds.contract.send(round.roster[1], "commit", round.round_id, 2, 7)
    with refused("NotInRoster", STRANGER, 2):
        b.rounds.contract.send(STRANGER, "commit", round.round_id, 2, 7)
    for index in (5, 252, 253, 2**255, 2**256 - 1):
        with refused("NotInRoster"):
            b.rounds.contract.send(round.roster[4], "commit", round.round_id, index, 7)
    # The zero address is what reading beyond the roster would give.
    with refused("NotInRoster"):
        b.rounds.contract.send("0x" + "00" * 20, "commit", round.round_id, 5, 7)


@pytest.mark.parametrize("value", [0, P, P + 1, 2**256 - 1])
def test_a_commitment_that_is_not_canonical_is_refused(b: Bench, value: int) -> None:
    round = b.opened()
    with refused("NotCanonical", value):
        b.rounds.commit(round, 0, value)


def test_a_late_commitment_is_refused_and_the_last_moment_is_not(b: Bench) -> None:
    round = b.opened()
    deadline = b.chain.time + 3600
    b.chain.time = deadline
    b.rounds.commit(round, 0, 1)
    b.chain.time = deadline + 1
    with refused("TooLate", deadline):
        b.rounds.commit(round, 1, 1)


def test_an_unknown_round_is_refused_everywhere(b: Bench) -> None:
    unknown = b.round()
    with refused("UnknownRound", unknown.round_id):
        b.rounds.commit(unknown, 0, 1)
    with refused("UnknownRound"):
        b.rounds.submit(unknown, b"", HONEST)
    with refused("UnknownRound"):
        b.rounds.slash(unknown, 1)
    with refused("UnknownRound"):
        b.rounds.veto(unknown, 1)
    with refused("UnknownRound"):
        b.rounds.contract.send(OWNER, "voidRound", unknown.round_id)
    with refused("UnknownRound"):
        b.rounds.outcome(unknown)


# Verdict


@pytest.mark.parametrize(
    ("outputs", "outcome"),
    [(HONEST, Outcome.HONEST), (FLAGGED, Outcome.FLAGGED), ((1, 0, 1), Outcome.UNATTRIBUTED)],
)
def test_the_outcome_follows_the_outputs(b: Bench, outputs: tuple[int, int, int], outcome: Outcome) -> None:
    round = b.committed()
    receipt = b.rounds.submit(round, b.stub_proof(round, outputs), outputs, sender=STRANGER)
    [(name, event)] = b.rounds.contract.events(receipt)
    assert name == "Verdict"
    assert (event["outcome"], event["flagged"], event["selected"]) == (outcome, outputs[1], outputs[2])
    assert b.rounds.outcome(round) is outcome
    assert b.rounds.contract.view("pendingOf", round.round_id) == outputs[1]
    b.wait()
    if outcome is not Outcome.FLAGGED:  # no slashing possible, whoever is asked for
        for clients in (0, 1, 0b11111, 2**256 - 1):
            with refused("NotPending"):
                b.rounds.slash(round, clients)


def test_public_inputs_are_what_the_contract_stored(b: Bench) -> None:
    round = b.committed()
    words = [round.context, *map(commitment, range(5)), *FLAGGED]
    assert b.rounds.public_inputs(round, FLAGGED) == [w.to_bytes(32, "big") for w in words]


def test_a_verdict_is_given_once(b: Bench) -> None:
    round = b.judged(HONEST)
    for outputs in (HONEST, FLAGGED):
        with refused("AlreadyDecided", Outcome.HONEST):
            b.rounds.submit(round, b.stub_proof(round, outputs), outputs)


def test_a_missing_commitment_stops_the_verdict(b: Bench) -> None:
    round = b.committed(count=4)
    with refused("MissingCommitment", 4):
        b.rounds.submit(round, b.stub_proof(round, HONEST), HONEST)


def test_no_verdict_after_the_proof_deadline(b: Bench) -> None:
    round, later = b.committed(), b.committed()
    start = b.chain.time
    b.chain.time = start + 7200
    b.rounds.submit(round, b.stub_proof(round, HONEST), HONEST)
    b.chain.time = start + 7201
    with refused("TooLate", start + 7200):
        b.rounds.submit(later, b.stub_proof(later, HONEST), HONEST)


@pytest.mark.parametrize(
    "outputs",
    [
        (2, 0b1, 1), (P, 0, 1), (P + 1, 0b1, 1), (0, 0b1, 1), (1, 1 << 5, 1), (1, P + 1, 1), (0, P, 1),
        (0, 0, 1 << 5), (0, 0, P + 1), (2**256 - 1, 2**256 - 1, 2**256 - 1),
    ],
)  # fmt: skip
def test_outputs_that_no_circuit_gives_are_refused_whatever_the_proof(b: Bench, outputs: tuple[int, int, int]) -> None:
    round = b.committed()
    with refused("BadVerdict", *outputs):
        b.rounds.submit(round, b.stub_proof(round, outputs), outputs)


def test_a_proof_of_anything_else_is_refused(b: Bench) -> None:
    round, other = b.committed(), b.committed()
    proof = b.stub_proof(round, FLAGGED)
    for outputs in (HONEST, (1, 0b00100, 1), (1, 0b01100, 0b10), (1, 0, 1)):
        with refused("ProofRejected"):
            b.rounds.submit(round, proof, outputs)
    with refused("ProofRejected"):  # replayed in another round
        b.rounds.submit(other, proof, FLAGGED)
    with refused("ProofRejected"):
        b.rounds.submit(round, b"", FLAGGED)
    assert b.rounds.outcome(round) is Outcome.NONE
    b.rounds.submit(round, proof, FLAGGED)


# Void


def test_a_missing_commitment_voids_the_round_after_the_commit_deadline(b: Bench) -> None:
    round = b.committed(count=4)
    with refused("TooEarly", b.chain.time + 3600):
        b.rounds.contract.send(STRANGER, "voidRound", round.round_id)
    b.chain.time += 3601
    assert b.rounds.outcome(round) is Outcome.VOID
    [(name, _)] = b.rounds.contract.events(b.rounds.contract.send(STRANGER, "voidRound", round.round_id))
    assert name == "RoundVoided"
    assert b.rounds.outcome(round) is Outcome.VOID
    with refused("AlreadyDecided", Outcome.VOID):
        b.rounds.contract.send(STRANGER, "voidRound", round.round_id)
    with refused("AlreadyDecided", Outcome.VOID):
        b.rounds.submit(round, b.stub_proof(round, FLAGGED), FLAGGED)
    with refused("NotPending"):
        b.rounds.slash(round, 0b1)


def test_no_proof_in_time_voids_the_round(b: Bench) -> None:
    round = b.committed()
    b.chain.time += 3601
    assert b.rounds.outcome(round) is Outcome.NONE
    with refused("TooEarly"):
        b.rounds.contract.send(STRANGER, "voidRound", round.round_id)
    b.chain.time += 3600
    assert b.rounds.outcome(round) is Outcome.VOID
    b.rounds.contract.send(STRANGER, "voidRound", round.round_id)


def test_a_decided_round_cannot_be_voided(b: Bench) -> None:
    round = b.judged(FLAGGED)
    b.chain.time += 10_000
    with refused("AlreadyDecided", Outcome.FLAGGED):
        b.rounds.contract.send(STRANGER, "voidRound", round.round_id)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_a_void_round_is_reopened_under_a_new_id(b: Bench) -> None:
    void = b.committed(count=3)
    b.chain.time += 3601
    again = b.opened(roster=void.roster)
    assert again.context != void.context
    assert b.rounds.contract.view("roundOf", again.round_id)["commitments"] == [0] * 5
    for i in range(5):
        b.rounds.commit(again, i, commitment(i))
    b.rounds.submit(again, b.stub_proof(again, HONEST), HONEST)
    assert b.rounds.outcome(again) is Outcome.HONEST
    assert b.rounds.outcome(void) is Outcome.VOID


# Slashing


def test_flagged_clients_are_slashed_once_after_the_delay(b: Bench) -> None:
    round = b.judged(FLAGGED)
    due = b.chain.time + Slashing().challenge_delay
    b.chain.time = due - 1
    with refused("TooEarly", due):
        b.rounds.slash(round, 0b01100)
    b.chain.time = due
    for clients in (0b00001, 0b01101, 1 << 5, 1 << 255, 0):  # not flagged, or nobody
        with refused("NotPending", clients):
            b.rounds.slash(round, clients)
    receipt = b.rounds.slash(round, 0b00100, sender=STRANGER)
    [(name, event)] = b.rounds.contract.events(receipt)
    assert (name, event["client"], event["index"]) == ("Slashed", round.roster[2], 2)
    [(_, seen)] = b.slasher.events(receipt)
    assert seen["operator"] == round.roster[2]
    assert seen["operatorSetId"] == Slashing().operator_set_id
    assert seen["strategies"] == list(Slashing().strategies)
    assert seen["wads"] == list(Slashing().wads)
    assert seen["description"] == "flagged under rule mad on scores krum-2017 (zkkrum)"
    for clients in (0b00100, 0b01100):
        with refused("NotPending", clients):
            b.rounds.slash(round, clients)
    b.rounds.slash(round, 0b01000)
    assert [b.slasher.view("slashed", client) for client in round.roster] == [0, 0, 1, 1, 0]
    assert b.rounds.contract.view("pendingOf", round.round_id) == 0
    assert b.rounds.contract.view("roundOf", round.round_id)["flagged"] == 0b01100


def test_the_vetoer_spares_during_the_delay_only(b: Bench) -> None:
    round = b.judged(FLAGGED)
    due = b.chain.time + Slashing().challenge_delay
    with refused("NotAuthorized"):
        replace(b.rounds, vetoer=OWNER).veto(round, 0b00100)
    for clients in (0, 1, 0b01101):
        with refused("NotPending", clients):
            b.rounds.veto(round, clients)
    b.chain.time = due - 1
    [(name, event)] = b.rounds.contract.events(b.rounds.veto(round, 0b00100))
    assert (name, event["clients"]) == ("Spared", 0b00100)
    with refused("NotPending"):
        b.rounds.veto(round, 0b00100)
    b.chain.time = due
    with refused("TooLate", due):
        b.rounds.veto(round, 0b01000)
    with refused("NotPending"):
        b.rounds.slash(round, 0b01100)
    b.rounds.slash(round, 0b01000)
    assert [b.slasher.view("slashed", client) for client in round.roster] == [0, 0, 0, 1, 0]
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_a_client_the_slasher_refuses_holds_up_nobody_and_can_be_tried_again(b: Bench) -> None:
    round = b.judged((1, 0b01101, 0b10))
    b.wait()
    b.slasher.send(OWNER, "setUntouchable", round.roster[2], True)
    receipt = b.rounds.slash(round, 0b01101)
    names = [(name, event["index"]) for name, event in b.rounds.contract.events(receipt)]
    assert names == [("Slashed", 0), ("SlashFailed", 2), ("Slashed", 3)]
    reason = b.rounds.contract.events(receipt)[1][1]["reason"]
    assert reason == b.chain.keccak(b"OperatorNotSlashable()")[:4]
    assert b.rounds.contract.result("slash", receipt.output) == 0b00100
    assert b.rounds.contract.view("pendingOf", round.round_id) == 0b00100
    b.slasher.send(OWNER, "setUntouchable", round.roster[2], False)
    b.rounds.slash(round, 0b00100)
    assert [b.slasher.view("slashed", client) for client in round.roster] == [1, 0, 1, 1, 0]


def test_starving_the_slasher_of_gas_loses_nobody(b: Bench) -> None:
    example, round = b.judged((1, 0b11111, 1)), b.judged((1, 0b11111, 1))
    b.wait()
    full = b.rounds.slash(example, 0b11111).gas
    for share in range(5, 100, 5):
        pending = b.rounds.contract.view("pendingOf", round.round_id)
        if not pending:
            break
        try:
            b.rounds.contract.send(STRANGER, "slash", round.round_id, pending, gas=full * share // 100)
        except HaltError:  # the whole transaction ran out: nothing happened
            continue
    pending = b.rounds.contract.view("pendingOf", round.round_id)
    if pending:
        b.rounds.slash(round, pending)
    assert [b.slasher.view("slashed", client) for client in round.roster] == [2] * 5


def test_a_reentering_slasher_gets_nothing(contracts: dict[str, Contract]) -> None:
    b = bench(contracts, PARAMS, slasher="ReentrantSlasher")
    entered = b.chain.keccak(b"Reentered()")[:4]
    for clients in (0b00100, 0b01000, 0b01100):
        round, start = b.judged(FLAGGED), b.slasher.view("calls")
        b.wait()
        b.slasher.send(OWNER, "prepare", b.rounds.contract.calldata("slash", round.round_id, clients))
        b.rounds.slash(round, 0b01100)
        assert not b.slasher.view("succeeded")
        assert b.slasher.view("answer") == entered
        assert b.slasher.view("calls") == start + 2
        assert b.rounds.contract.view("pendingOf", round.round_id) == 0
    # Nor through another round, nor by a veto, were it the vetoer.
    first, second = b.judged(FLAGGED), b.judged(FLAGGED)
    b.wait()
    b.slasher.send(OWNER, "prepare", b.rounds.contract.calldata("slash", second.round_id, 0b01100))
    b.rounds.slash(first, 0b01100)
    assert b.slasher.view("answer") == entered
    assert b.rounds.contract.view("pendingOf", second.round_id) == 0b01100
    b.rounds.slash(second, 0b01100)  # the guard is open again


# Roles


def test_roles_move_in_two_steps(b: Bench) -> None:
    c, operator = b.rounds.contract, 0
    with refused("NotAuthorized", STRANGER, operator):
        c.send(STRANGER, "offerRole", operator, STRANGER)
    with refused("ZeroAddress"):
        c.send(OWNER, "offerRole", operator, "0x" + "00" * 20)
    with refused("NotAuthorized", VETOER, operator):
        c.send(VETOER, "offerRole", operator, VETOER)
    c.send(OWNER, "offerRole", operator, STRANGER)
    assert c.view("holder", operator) == OWNER
    with refused("NotAuthorized"):
        replace(b.rounds, operator=STRANGER).open(b.round())
    with refused("NotAuthorized", VETOER, operator):
        c.send(VETOER, "acceptRole", operator)
    c.send(STRANGER, "acceptRole", operator)
    assert (c.view("holder", operator), c.view("candidate", operator)) == (STRANGER, "0x" + "00" * 20)
    with refused("NotAuthorized", OWNER, operator):
        b.rounds.open(b.round())
    replace(b.rounds, operator=STRANGER).open(b.round())
    with refused("NotAuthorized", STRANGER, operator):
        c.send(STRANGER, "acceptRole", operator)
    assert c.view("holder", 1) == VETOER


# The largest round


def test_a_round_of_the_most_clients(contracts: dict[str, Contract]) -> None:
    b = bench(contracts, Params.of(n=253, d=1))
    round = b.committed()
    everybody = 2**253 - 1
    outputs = (1, everybody, 1 << 252)
    submitted = b.rounds.submit(round, b.stub_proof(round, outputs), outputs)
    assert b.rounds.outcome(round) is Outcome.FLAGGED
    b.wait()
    with refused("NotPending"):
        b.rounds.slash(round, 1 << 253)
    slashed = b.rounds.slash(round, everybody)
    assert len(b.slasher.events(slashed)) == 253
    assert b.rounds.contract.view("pendingOf", round.round_id) == 0
    assert max(submitted.gas, slashed.gas) < 30_000_000  # a block of Ethereum


def test_gas_of_the_contract_itself_stays_in_budget(b: Bench) -> None:
    round = b.round()
    assert b.rounds.contract.gas < 3_200_000
    assert b.rounds.open(round).gas < 175_000
    commits = [b.rounds.commit(round, i, commitment(i)).gas for i in range(5)]
    assert max(commits) < 53_000
    assert b.rounds.submit(round, b.stub_proof(round, FLAGGED), FLAGGED).gas < 110_000
    b.wait()
    assert b.rounds.slash(round, 0b01100).gas < 170_000
