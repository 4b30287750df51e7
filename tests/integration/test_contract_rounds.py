"""The contract as a state machine: opening, committing, voiding, slashing, roles. Real EVM, stub verifiers.

How a verdict is proved stands in test_contract_verdicts.py; random sequences of calls in test_contract_machine.py.
"""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from support.onchain import (
    OWNER,
    SHARDED,
    STRANGER,
    VETOER,
    WHOLE,
    Bench,
    addresses,
    bench,
    commitments,
    compiled,
    refused,
)
from zkkrum.errors import InputError
from zkkrum.evm.chain import NOBODY, Chain, Deployed, HaltError, RevertError
from zkkrum.evm.claims import Outcome
from zkkrum.evm.rounds import DAY, DEFAULT_SCHEDULE, DEFAULT_SLASHING, Schedule, Slashing
from zkkrum.evm.solidity import Contract, circuit_words
from zkkrum.protocol.params import BITS, Acceptance, Detection, Params, Score, clip_bits
from zkkrum.toolchain import Toolchain

HONEST = (0, 0, 0b1)
FLAGGED = (1, 0b01100, 0b1)


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture(params=[WHOLE, SHARDED], ids=["whole", "sharded"])
def b(contracts: dict[str, Contract], request: pytest.FixtureRequest) -> Bench:
    return bench(contracts, request.param)


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
            return Params(n, d, b, chunk, f, m, score, detection, z, gamma, rng.choice(list(Acceptance)))
        except InputError:
            continue


@pytest.mark.parametrize("seed", range(30))
def test_contract_computes_the_context_of_the_package(contracts: dict[str, Contract], seed: int) -> None:
    rng = random.Random(seed)
    params = random_params(rng)
    b = bench(contracts, params, chain=Chain(chain_id=rng.choice([1, 31_337, 2**64 - 1])))
    assert b.rounds.contract.view("constants") == circuit_words(params)
    assert b.rounds.contract.view("CHUNKS") == params.chunks
    round = b.round(
        clip=rng.choice([5e-324, 1.0, 1.7976931348623157e308, rng.lognormvariate(0, 10)]),
        roster=tuple(f"0x{x:040x}" for x in (rng.randrange(1, 2**160) for _ in range(params.n))),
        subject=rng.randbytes(32),
    )
    arguments = (round.round_id, clip_bits(round.clip), list(round.roster), round.subject)
    assert b.rounds.contract.view("contextOf", *arguments) == round.context
    receipt = b.rounds.open(round)
    assert receipt.output == round.context
    [(name, event)] = b.rounds.contract.events(receipt)
    assert name == "RoundOpened"
    assert event["context"] == round.context
    assert event["roster"] == list(round.roster)
    shown = b.rounds.contract.view("roundOf", round.round_id)
    assert shown["context"] == round.context
    assert shown["roster"] == list(round.roster)
    assert shown["commitments"] == [bytes(32)] * params.n


# Construction


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("n", 254), ("d", 0), ("d", 2**31), ("b", 9), ("b", 6), ("b", 18), ("chunk", 0), ("chunk", 22),
        ("f", 2), ("f", 2**32 - 1), ("m", 0), ("m", 5), ("zDenominator", 0), ("gammaDenominator", 0),
        ("score", bytes(32)), ("detection", bytes(32)), ("acceptance", bytes(32)),
    ],
)  # fmt: skip
def test_constants_out_of_bounds_are_refused(b: Bench, field: str, value: Any) -> None:
    words = circuit_words(b.params) | {field: value}
    bounds = {
        "n": "3 <= n <= 253",
        "d": "1 <= d < 2^31",
        "b": "b is 8, 10, 12, 14 or 16",
        "chunk": "chunk is a multiple of floor(252 / b)",
        "f": "2f + 2 < n",
        "m": "1 <= m <= n - f",
        **dict.fromkeys(("zDenominator", "gammaDenominator"), "denominators are not zero"),
        **dict.fromkeys(("score", "detection", "acceptance"), "rules have ids"),
    }
    with refused("BadConstants", bounds[field]):
        create(b, words=words)


def slashing(b: Bench, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = b.rounds.contract.view("slashing")
    return told | changes


def create(
    b: Bench, *, words: Any = None, told: Any = None, times: Any = None, roles: Any = None, **which: Any
) -> Deployed:
    roles = roles or (OWNER, VETOER)
    verifiers = b.rounds.contract.view("verifiers") | which
    arguments = (verifiers, words or circuit_words(b.params), told or slashing(b), times or DEFAULT_SCHEDULE.words())
    return Deployed.create(b.chain, b.rounds.contract.contract, OWNER, *arguments, *roles)


LOW, HIGH = "0x" + "01" * 20, "0x" + "02" * 20


@pytest.mark.parametrize(
    "changes",
    [
        {"slasher": STRANGER},
        {"avs": NOBODY},
        {"strategies": [], "wadsToSlash": []},
        {"strategies": [LOW], "wadsToSlash": [1, 2]},
        {"strategies": [HIGH, LOW], "wadsToSlash": [1, 2]},
        {"strategies": [LOW, LOW], "wadsToSlash": [1, 2]},
        {"strategies": [NOBODY], "wadsToSlash": [1]},
        {"wadsToSlash": [0]},
        {"wadsToSlash": [10**18 + 1]},
    ],
)
def test_slashing_that_eigenlayer_would_refuse_is_refused(b: Bench, changes: dict[str, Any]) -> None:
    with refused("BadSlashing"):
        create(b, told=slashing(b, **changes))


@pytest.mark.parametrize(
    ("schedule", "bound"),
    [
        (Schedule(0, 1, 100), "commit window is not zero"),
        (Schedule(1, 0, 100), "challenge delay is not zero"),
        (Schedule(1, 1, 14 * DAY + 1), "open to slashable <= 14 days"),
        (Schedule(50, 50, 100), "commit window + challenge delay < open to slashable"),
        (Schedule(2**32 - 1, 2**32 - 1, 14 * DAY), "commit window + challenge delay < open to slashable"),
    ],
)
def test_times_out_of_bounds_are_refused(b: Bench, schedule: Schedule, bound: str) -> None:
    with refused("BadSchedule", bound):
        create(b, times=schedule.words())


def test_times_at_their_bounds_are_taken(b: Bench) -> None:
    for schedule in (Schedule(49, 50, 100), Schedule(1, 14 * DAY - 2, 14 * DAY)):
        assert create(b, times=schedule.words()).view("schedule") == schedule.words()


def test_the_slasher_is_called_as_eigenlayers_allocation_manager(contracts: dict[str, Contract]) -> None:
    """Selectors of ``slashOperator(address,(address,uint32,address[],uint256[],string))`` on mainnet, and of
    ``isOperatorSlashable(address,(address,uint32))``."""
    selectors = contracts["ISlasher"].selectors
    assert selectors["slashOperator"].hex() == "36352057"
    assert selectors["isOperatorSlashable"] == Chain().keccak(b"isOperatorSlashable(address,(address,uint32))")[:4]
    [function] = [e for e in contracts["ISlasher"].abi if e["name"] == "slashOperator"]
    assert [(p["name"], p["type"]) for p in function["outputs"]] == [("slashId", "uint256"), ("shares", "uint256[]")]


def test_several_strategies_reach_the_slasher(contracts: dict[str, Contract]) -> None:
    b = bench(contracts, slashing=Slashing(strategies=(LOW, HIGH), wads=(1, 10**18)))
    round = b.judged(FLAGGED)
    b.wait()
    receipt = b.rounds.slash(round, 0b00100)
    [(_, event)] = b.slasher.events(receipt)
    assert (event["strategies"], event["wads"]) == ([LOW, HIGH], [1, 10**18])


def test_a_shape_has_exactly_its_verifiers(b: Bench) -> None:
    for name, address in b.rounds.contract.view("verifiers").items():
        with refused("BadVerifiers", name):  # missing, or one too many
            create(b, **{name: NOBODY if address != NOBODY else next(iter(b.verifiers.values())).address})
        with refused("BadVerifiers", name):  # no code
            create(b, **{name: STRANGER})


def test_no_verifier_of_a_shorter_last_shard_where_chunk_divides_d(contracts: dict[str, Contract]) -> None:
    even = bench(contracts, Params.of(n=5, d=84, chunk=21))
    assert set(even.verifiers) == {"shard", "verdict"}
    with refused("BadVerifiers", "lastShard"):
        create(even, lastShard=even.verifiers["shard"].address)
    assert even.rounds.outcome(even.judged(HONEST)) is Outcome.HONEST


def test_roles_have_two_different_holders(b: Bench) -> None:
    for roles in ((OWNER, NOBODY), (NOBODY, VETOER)):
        with refused("ZeroAddress"):
            create(b, roles=roles)
    with refused("RolesMustDiffer", OWNER):
        create(b, roles=(OWNER, OWNER))


# Opening


def test_only_the_operator_opens(b: Bench) -> None:
    for sender in (STRANGER, VETOER):
        with refused("NotAuthorized"):
            replace(b.rounds, operator=sender).open(b.round())


def test_a_round_id_is_used_once_whatever_became_of_it(b: Bench) -> None:
    round = b.opened()
    with refused("RoundIdUsed", round.round_id):
        b.rounds.open(round)
    with refused("RoundIdUsed", round.round_id):
        b.rounds.open(replace(round, clip=2.0))
    b.chain.time += 10_000
    b.rounds.void(round)
    with refused("RoundIdUsed", round.round_id):
        b.rounds.open(round)
    with refused("RoundIdUsed", bytes(32)):
        b.rounds.open(b.round(round_id=bytes(32)))


@pytest.mark.parametrize("bits", [0, 0x7FF0000000000000, 0x7FF8000000000000, 0x8000000000000001, 0xBFF0000000000000])
def test_a_clip_that_is_not_finite_and_positive_is_refused(b: Bench, bits: int) -> None:
    now, roster = b.chain.time, list(addresses(5))
    with refused("BadClip", bits):
        b.rounds.contract.send(OWNER, "openRound", b"\1" * 32, bits, roster, bytes(32), now + 3600, now + 7200)


LATEST = DEFAULT_SCHEDULE.open_to_slashable - DEFAULT_SCHEDULE.challenge_delay


@pytest.mark.parametrize(
    ("commit", "proof"),
    [(3599, 7200), (0, 7200), (-1, 7200), (3600, 3600), (3600, 3599), (3600, LATEST + 1), (3600, 2**47)],
)
def test_deadlines_leave_the_commit_window_and_end_in_time(b: Bench, commit: int, proof: int) -> None:
    with refused("BadDeadlines", b.chain.time + 3600, b.chain.time + LATEST):
        b.rounds.open(b.round(), commit, proof)


def test_slashing_begins_in_time_even_for_the_last_verdict(b: Bench) -> None:
    opened, round = b.chain.time, b.round()
    b.rounds.open(round, 3600, LATEST)
    for i, commitment in enumerate(commitments(round)):
        b.rounds.commit(round, i, commitment)
    b.chain.time = opened + LATEST
    b.judge(round, FLAGGED)
    shown = b.rounds.contract.view("roundOf", round.round_id)
    assert shown["slashableFrom"] == opened + DEFAULT_SCHEDULE.open_to_slashable


def send_roster(b: Bench, roster: list[str]) -> None:
    now = b.chain.time
    arguments = (b"\1" * 32, clip_bits(1.0), roster, bytes(32), now + 3600, now + 7200)
    b.rounds.contract.send(OWNER, "openRound", *arguments)


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
    with refused("BadRosterAddress", 2, NOBODY):
        send_roster(b, [*good[:2], NOBODY, *good[3:]])
    send_roster(b, good)


# Subjects


SUBJECT = b"\x5b" * 32


def test_a_subject_has_one_live_round(b: Bench) -> None:
    first = b.opened(subject=SUBJECT)
    with refused("SubjectTaken", first.round_id, Outcome.NONE):
        b.opened(subject=SUBJECT)
    b.opened(subject=b"\1" * 32)  # another subject is free
    b.opened()  # and rounds without a subject are not counted
    b.opened()


@pytest.mark.parametrize("outputs", [HONEST, FLAGGED, (1, 0, 1)])
def test_a_decided_subject_has_no_other_round(b: Bench, outputs: tuple[int, int, int]) -> None:
    """No shopping for another verdict, no slashing twice for one training step."""
    round = b.judged(outputs, subject=SUBJECT)
    b.chain.time += 30 * DAY
    with refused("SubjectTaken", round.round_id, b.rounds.outcome(round)):
        b.opened(subject=SUBJECT)


def test_a_void_round_frees_its_subject_even_unrecorded(b: Bench) -> None:
    round = b.committed(count=4, subject=SUBJECT)
    b.chain.time += 3601
    again = b.opened(subject=SUBJECT)
    assert b.rounds.contract.view("roundOfSubject", SUBJECT) == again.round_id
    b.rounds.void(round)
    with refused("SubjectTaken", again.round_id, Outcome.NONE):
        b.opened(subject=SUBJECT)


# Commitments


def test_a_client_commits_once_at_its_own_place_in_time(b: Bench) -> None:
    round = b.opened()
    posted = commitments(round)
    [(name, event)] = b.rounds.contract.events(b.rounds.commit(round, 1, posted[1]))
    assert (name, event["client"], event["commitment"]) == ("Committed", round.roster[1], posted[1])
    for again in (posted[2], posted[1]):
        with refused("AlreadyCommitted", 1):
            b.rounds.commit(round, 1, again)
    send, seven = b.rounds.contract.send, bytes(31) + b"\7"
    with refused("NotInRoster", round.roster[1], 2):
        send(round.roster[1], "commit", round.round_id, round.context, 2, seven)
    with refused("NotInRoster", STRANGER, 2):
        send(STRANGER, "commit", round.round_id, round.context, 2, seven)
    for index in (5, 252, 253, 2**255, 2**256 - 1):
        with refused("NotInRoster"):
            send(round.roster[4], "commit", round.round_id, round.context, index, seven)
    # The zero address is what reading beyond the roster would give.
    with refused("NotInRoster"):
        send(NOBODY, "commit", round.round_id, round.context, 5, seven)


def test_a_commitment_is_any_word_but_zero(b: Bench) -> None:
    round = b.opened()
    with refused("ZeroCommitment"):
        b.rounds.commit(round, 0, bytes(32))
    for i, word in enumerate((b"\xff" * 32, bytes(31) + b"\1")):  # no field element, and a small one
        b.rounds.commit(round, i, word)
        assert b.rounds.contract.view("roundOf", round.round_id)["commitments"][i] == word


def test_a_commitment_for_another_context_is_refused(b: Bench) -> None:
    """After a reorganization the same id may stand for a round with another clip: what was sent for the first must not
    count in the second."""
    before, round = b.chain.snapshot(), b.round()
    b.rounds.open(round)
    b.rounds.commit(round, 0, commitments(round)[0])
    b.chain.restore(before)
    other = replace(round, clip=2.0)
    b.rounds.open(other)
    with refused("OtherContext", other.context):
        b.rounds.commit(round, 0, commitments(round)[0])
    b.rounds.commit(other, 0, commitments(other)[0])


def test_a_late_commitment_is_refused_and_the_last_moment_is_not(b: Bench) -> None:
    round = b.opened()
    deadline = b.chain.time + 3600
    b.chain.time = deadline
    b.rounds.commit(round, 0, b"\1" * 32)
    b.chain.time = deadline + 1
    with refused("TooLate", deadline):
        b.rounds.commit(round, 1, b"\1" * 32)


def test_only_who_can_be_slashed_commits_where_that_is_asked(contracts: dict[str, Contract]) -> None:
    asked = bench(contracts, slashing=Slashing(asked_at_commit=True))
    round = asked.opened()
    asked.slasher.send(OWNER, "setUntouchable", round.roster[0], True)
    with refused("NotSlashable", round.roster[0]):
        asked.rounds.commit(round, 0, commitments(round)[0])
    asked.rounds.commit(round, 1, commitments(round)[1])
    asked.slasher.send(OWNER, "setUntouchable", round.roster[0], False)
    asked.rounds.commit(round, 0, commitments(round)[0])
    silent = bench(contracts)  # and nobody is asked by default
    round = silent.opened()
    silent.slasher.send(OWNER, "setUntouchable", round.roster[0], True)
    silent.rounds.commit(round, 0, commitments(round)[0])


def test_an_unknown_round_is_refused_everywhere(b: Bench) -> None:
    unknown = b.round()
    told = b.evidence(unknown, HONEST)
    with refused("UnknownRound", unknown.round_id):
        b.rounds.commit(unknown, 0, b"\1" * 32)
    for call in told.calls(2):
        with refused("UnknownRound", unknown.round_id):
            b.rounds.send(call)
    with refused("UnknownRound"):
        b.rounds.slash(unknown, 1)
    with refused("UnknownRound"):
        b.rounds.veto(unknown, 1)
    with refused("UnknownRound"):
        b.rounds.void(unknown)
    for view in ("outcomeOf", "pendingOf", "roundOf"):
        with refused("UnknownRound"):
            b.rounds.contract.view(view, unknown.round_id)
    with refused("UnknownRound"):
        b.rounds.contract.view("claimOf", unknown.round_id, OWNER)


# Void


def test_a_missing_commitment_voids_the_round_and_names_who_did_not_commit(b: Bench) -> None:
    round = b.opened()
    for i in (0, 2, 3):
        b.rounds.commit(round, i, commitments(round)[i])
    deadline = b.chain.time + 3600
    with refused("TooEarly", deadline):
        b.rounds.void(round)
    b.chain.time = deadline
    with refused("TooEarly", deadline):
        b.rounds.void(round)
    b.chain.time = deadline + 1
    assert b.rounds.outcome(round) is Outcome.VOID
    [(name, event)] = b.rounds.contract.events(b.rounds.void(round, STRANGER))
    assert (name, event["missing"]) == ("RoundVoided", 0b10010)
    assert b.rounds.outcome(round) is Outcome.VOID
    with refused("AlreadyDecided", Outcome.VOID):
        b.rounds.void(round)
    for call in b.evidence(round, FLAGGED).calls(2):
        with refused("AlreadyDecided", Outcome.VOID):
            b.rounds.send(call)
    with refused("NotPending"):
        b.rounds.slash(round, 0b1)


def test_no_proof_in_time_voids_the_round_and_names_nobody(b: Bench) -> None:
    round = b.committed()
    start = b.chain.time
    b.chain.time = start + 3601
    assert b.rounds.outcome(round) is Outcome.NONE
    with refused("TooEarly", start + 7200):
        b.rounds.void(round)
    b.chain.time = start + 7201
    assert b.rounds.outcome(round) is Outcome.VOID
    [(_, event)] = b.rounds.contract.events(b.rounds.void(round))
    assert event["missing"] == 0


def test_a_decided_round_cannot_be_voided(b: Bench) -> None:
    round = b.judged(FLAGGED)
    b.chain.time += 10_000
    with refused("AlreadyDecided", Outcome.FLAGGED):
        b.rounds.void(round)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_a_void_round_is_reopened_under_a_new_id(b: Bench) -> None:
    void = b.committed(count=3)
    b.chain.time += 3601
    again = b.opened(roster=void.roster)
    assert again.context != void.context
    assert b.rounds.contract.view("roundOf", again.round_id)["commitments"] == [bytes(32)] * 5
    for i, commitment in enumerate(commitments(again)):
        b.rounds.commit(again, i, commitment)
    b.judge(again, HONEST)
    assert b.rounds.outcome(again) is Outcome.HONEST
    assert b.rounds.outcome(void) is Outcome.VOID


# Slashing


def test_flagged_clients_are_slashed_once_after_the_delay(b: Bench) -> None:
    round = b.judged(FLAGGED)
    due = b.chain.time + DEFAULT_SCHEDULE.challenge_delay
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
    assert (event["slashId"], event["shares"]) == (1, list(DEFAULT_SLASHING.wads))
    [(_, seen)] = b.slasher.events(receipt)
    assert seen["operator"] == round.roster[2]
    assert seen["operatorSetId"] == DEFAULT_SLASHING.operator_set_id
    assert seen["strategies"] == list(DEFAULT_SLASHING.strategies)
    assert seen["wads"] == list(DEFAULT_SLASHING.wads)
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
    due = b.chain.time + DEFAULT_SCHEDULE.challenge_delay
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


def test_nothing_is_reported_as_slashed_where_nothing_was(contracts: dict[str, Contract]) -> None:
    """EigenLayer's slashing does not revert where nothing is allocated: it returns zeros."""
    b = bench(contracts, slashing=Slashing(strategies=(LOW, HIGH), wads=(1, 2)))
    round = b.judged(FLAGGED)
    b.wait()
    b.slasher.send(OWNER, "setBare", round.roster[2], True)
    receipt = b.rounds.slash(round, 0b01100)
    (nothing, first), (something, second) = b.rounds.contract.events(receipt)
    assert (nothing, first["index"], first["slashId"]) == ("NothingSlashed", 2, 1)
    assert (something, second["index"], second["shares"]) == ("Slashed", 3, [1, 2])
    assert b.rounds.contract.result("slash", receipt.output) == 0
    # Each is reported once all the same: EigenLayer may have cut a magnitude whose shares round to zero.
    b.slasher.send(OWNER, "setBare", round.roster[2], False)
    with refused("NotPending"):
        b.rounds.slash(round, 0b00100)


def test_a_slasher_that_returns_nothing_undoes_the_report(contracts: dict[str, Contract]) -> None:
    b = bench(contracts, slasher="SilentSlasher")
    round = b.judged(FLAGGED)
    b.wait()
    with pytest.raises(RevertError):
        b.rounds.slash(round, 0b00100)
    assert b.slasher.view("calls") == 0
    assert b.rounds.contract.view("pendingOf", round.round_id) == 0b01100


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
    b = bench(contracts, slasher="ReentrantSlasher")
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


def test_no_way_leads_both_roles_to_one_holder(b: Bench) -> None:
    c = b.rounds.contract
    for role, other, holder, candidate in ((0, 1, OWNER, VETOER), (1, 0, VETOER, OWNER)):
        c.send(holder, "offerRole", role, candidate)
        with refused("RolesMustDiffer", candidate):
            c.send(candidate, "acceptRole", role)
        # Both are offered to one newcomer: the second acceptance is refused.
        before = b.chain.snapshot()
        c.send(holder, "offerRole", role, STRANGER)
        c.send(candidate, "offerRole", other, STRANGER)
        c.send(STRANGER, "acceptRole", role)
        with refused("RolesMustDiffer", STRANGER):
            c.send(STRANGER, "acceptRole", other)
        b.chain.restore(before)


# Cost, and the largest round


def test_a_round_of_the_most_clients(contracts: dict[str, Contract]) -> None:
    for params in (Params.of(n=253, d=1), Params.of(n=253, d=43, chunk=21)):
        b = bench(contracts, params)
        round = b.committed()
        everybody = 2**253 - 1
        receipts = b.judge(round, (1, everybody, 1 << 252))
        assert b.rounds.outcome(round) is Outcome.FLAGGED
        b.wait()
        with refused("NotPending"):
            b.rounds.slash(round, 1 << 253)
        halves = (2**127 - 1, everybody ^ (2**127 - 1))
        slashed = [b.rounds.slash(round, half) for half in halves]
        assert sum(len(b.slasher.events(receipt)) for receipt in slashed) == 253
        assert b.rounds.contract.view("pendingOf", round.round_id) == 0
        assert max(receipt.gas for receipt in (*receipts, *slashed)) < 2**24


def test_gas_of_the_contract_itself_stays_in_budget(contracts: dict[str, Contract]) -> None:
    """Without the verifiers, at five clients."""
    b = bench(contracts)
    round = b.round()
    assert b.rounds.contract.contract.size <= 15_000
    assert b.rounds.contract.gas < 3_500_000
    assert b.rounds.open(round).gas < 125_000
    gas = [b.rounds.commit(round, i, commitment).gas for i, commitment in enumerate(commitments(round))]
    assert max(gas) < 53_000
    assert b.judge(round, FLAGGED)[0].gas < 110_000
    b.wait()
    assert b.rounds.slash(round, 0b00100).gas <= 130_000


def test_gas_of_a_claim_stays_in_budget(contracts: dict[str, Contract]) -> None:
    """Beyond the verifiers, at ten clients, and at most 23,000 for each shard of a batch."""
    b = bench(contracts, Params.of(n=10, d=21 * 16, chunk=21))
    receipts = b.judge(b.committed(), FLAGGED, batch=14)
    begin, first, second, conclude = (receipt.gas for receipt in receipts)
    assert begin < 90_000
    assert first < 14 * 23_000 + 100_000
    assert second < 2 * 23_000 + 70_000
    assert conclude < 150_000
