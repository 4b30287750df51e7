"""How a verdict is proved to the contract, in one call or in many: every step and every refusal. Stub verifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.onchain import (
    OTHER,
    OWNER,
    SHARDED,
    STRANGER,
    WHOLE,
    Bench,
    bench,
    commitments,
    compiled,
    made_up_leaves,
    refused,
)
from zkkrum.evm.chain import HaltError, RevertError
from zkkrum.evm.claims import ClaimState, Outcome
from zkkrum.evm.solidity import Contract
from zkkrum.evm.transactions import Call, Evidence
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.field import P
from zkkrum.protocol.params import Params, Round
from zkkrum.toolchain import Toolchain

HONEST = (0, 0, 0b1)
FLAGGED = (1, 0b01100, 0b1)
Edit = Callable[[list[Any]], None]


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture
def whole(contracts: dict[str, Contract]) -> Bench:
    return bench(contracts, WHOLE)


@pytest.fixture
def sharded(contracts: dict[str, Contract]) -> Bench:
    return bench(contracts, SHARDED)


@pytest.fixture(params=[WHOLE, SHARDED], ids=["whole", "sharded"])
def b(contracts: dict[str, Contract], request: pytest.FixtureRequest) -> Bench:
    return bench(contracts, request.param)


def edited(call: Call, edit: Edit) -> Call:
    """A call whose arguments somebody changed."""
    arguments = [list(a) if isinstance(a, list) else a for a in call.arguments]
    edit(arguments)
    return replace(call, arguments=tuple(arguments))


def state(b: Bench, round: Round, sender: str = OWNER) -> ClaimState:
    return b.rounds.claim(round, sender)


# Both forms


@pytest.mark.parametrize(
    ("outputs", "outcome"),
    [(HONEST, Outcome.HONEST), (FLAGGED, Outcome.FLAGGED), ((1, 0, 1), Outcome.UNATTRIBUTED)],
)
def test_the_outcome_follows_the_outputs(b: Bench, outputs: tuple[int, int, int], outcome: Outcome) -> None:
    round = b.committed()
    told = b.evidence(round, outputs)
    receipt = b.rounds.prove(told.calls(3), sender=STRANGER)[-1]
    [(name, event)] = b.rounds.contract.events(receipt)
    assert name == "Verdict"
    assert (event["outcome"], event["flagged"], event["selected"]) == (outcome, outputs[1], outputs[2])
    assert event["sender"] == STRANGER
    assert event["aggregate"] == told.aggregate
    assert int.from_bytes(receipt.output, "big") == outcome
    assert b.rounds.outcome(round) is outcome
    assert b.rounds.contract.view("pendingOf", round.round_id) == outputs[1]
    b.wait()
    if outcome is not Outcome.FLAGGED:  # no slashing possible, whoever is asked for
        for clients in (0, 1, 0b11111, 2**256 - 1):
            with refused("NotPending"):
                b.rounds.slash(round, clients)


def test_a_verdict_is_given_once(b: Bench) -> None:
    round = b.judged(HONEST)
    for outputs in (HONEST, FLAGGED):
        for call in b.evidence(round, outputs).calls(2):
            with refused("AlreadyDecided", Outcome.HONEST):
                b.rounds.send(call)


def test_a_missing_commitment_stops_the_verdict(b: Bench) -> None:
    for missing in (0, 2, 4):
        round = b.opened()
        for i, commitment in enumerate(commitments(round)):
            if i != missing:
                b.rounds.commit(round, i, commitment)
        with refused("MissingCommitment", missing):
            b.rounds.send(b.evidence(round, HONEST).calls(2)[0])


@pytest.mark.parametrize("spent", [0, 1, 2, 3, 4])
def test_no_step_after_the_proof_deadline(b: Bench, spent: int) -> None:
    """The deadline may fall anywhere in a claim; the last moment counts."""
    round, start = b.committed(), b.chain.time
    calls = b.evidence(round, FLAGGED).calls(2)
    b.chain.time = start + 7200
    done = min(spent, len(calls) - 1)
    for call in calls[:done]:
        b.rounds.send(call)
    before = b.chain.snapshot()
    b.rounds.prove(calls[done:])
    assert b.rounds.outcome(round) is Outcome.FLAGGED
    b.chain.restore(before)
    b.chain.time = start + 7201
    for call in calls[done:]:
        with refused("TooLate", start + 7200):
            b.rounds.send(call)
    assert b.rounds.outcome(round) is Outcome.VOID


@pytest.mark.parametrize(
    "outputs",
    [
        (2, 0b1, 1), (P, 0, 1), (P + 1, 0b1, 1), (0, 0b1, 1), (1, 1 << 5, 1), (1, P + 1, 1), (0, P, 1),
        (0, 0, 1 << 5), (0, 0, P + 1), (2**256 - 1, 2**256 - 1, 2**256 - 1),
    ],
)  # fmt: skip
def test_outputs_that_no_circuit_gives_are_refused_whatever_the_proof(b: Bench, outputs: tuple[int, int, int]) -> None:
    *before, last = b.evidence(b.committed(), outputs).calls(2)
    b.rounds.prove(before)
    with refused("BadVerdict", *outputs):
        b.rounds.send(last)


def test_a_proof_of_another_verdict_is_refused(b: Bench) -> None:
    round = b.committed()
    told = b.evidence(round, FLAGGED)
    *before, last = told.calls(2)
    b.rounds.prove(before)
    for outputs in (HONEST, (1, 0b00100, 1), (1, 0b01100, 0b10), (1, 0, 1)):
        with refused("ProofRejected"):
            b.rounds.send(edited(last, lambda a, o=outputs: a.__setitem__(-1, o)))  # type: ignore[misc]
    assert b.rounds.outcome(round) is Outcome.NONE
    b.rounds.send(last)


def test_a_proof_of_another_round_is_refused(b: Bench) -> None:
    """Same leaves, hence the same proofs of shards; but commitments are made under another context."""
    round, other = b.committed(), b.committed()
    calls = b.evidence(round, FLAGGED).calls(2)
    here = int.from_bytes(other.round_id, "big")
    with refused("ProofRejected" if b.params.chunks == 1 else "OtherChains"):
        for call in calls:
            b.rounds.send(edited(call, lambda a: a.__setitem__(0, here)))
    *before, last = replace(b.evidence(other, FLAGGED), proof=b.evidence(round, FLAGGED).proof).calls(2)
    b.rounds.prove(before)
    with refused("ProofRejected"):
        b.rounds.send(last)
    assert b.rounds.outcome(other) is Outcome.NONE


@pytest.mark.parametrize("client", range(5))
def test_leaves_of_another_client_or_value_are_refused(b: Bench, client: int) -> None:
    """The proofs hold for these leaves; they are not what the client committed to."""
    round = b.committed()
    posted = commitments(round)
    for swap in (True, False):
        leaves = made_up_leaves(round)
        if swap:
            mine, its = client, (client + 1) % 5
            leaves[-1][mine], leaves[-1][its] = leaves[-1][its], leaves[-1][mine]
        else:
            leaves[-1][client] = (leaves[-1][client] + 1) % P
        *before, last = b.evidence(round, FLAGGED, leaves=leaves, committed=posted).calls(2)
        b.rounds.prove(before)
        with refused("OtherCommitment", min(mine, its) if swap else client):
            b.rounds.send(last)


def test_the_aggregate_is_bound(b: Bench) -> None:
    """Another leaf of the aggregate makes another A, hence another statement, under which the proof does not hold."""
    round = b.committed()
    posted = commitments(round)
    leaves = made_up_leaves(round)
    leaves[-1][-1] = (leaves[-1][-1] + 1) % P
    honest, other = b.evidence(round, FLAGGED), b.evidence(round, FLAGGED, leaves=leaves, committed=posted)
    assert honest.aggregate != other.aggregate
    *before, last = replace(other, proof=honest.proof).calls(2)
    b.rounds.prove(before)
    with refused("ProofRejected"):
        b.rounds.send(last)


def test_calls_of_the_other_form_are_refused(whole: Bench, sharded: Bench) -> None:
    one, many = whole.committed(), sharded.committed()
    submit = edited(
        whole.evidence(one, HONEST).submit(), lambda a: a.__setitem__(0, int.from_bytes(many.round_id, "big"))
    )
    with refused("OtherForm", 5):
        sharded.rounds.send(submit)
    for call in sharded.evidence(many, HONEST).calls(2):
        with refused("OtherForm", 1):
            whole.rounds.send(edited(call, lambda a: a.__setitem__(0, int.from_bytes(one.round_id, "big"))))


def test_words_beyond_the_field_are_refused_and_the_largest_is_taken(b: Bench) -> None:
    """A leaf plus p would be the same field element to the circuit and another one to SHA-256."""
    round = b.committed()
    for chunk, i in ((0, 1), (-1, 3), (0, b.params.n), (-1, b.params.n)):
        leaves = made_up_leaves(round)
        leaves[chunk][i] += P if leaves[chunk][i] + P < 2**256 else 0
        leaves[chunk][i] = max(leaves[chunk][i], P)
        told = Evidence(round, FLAGGED, leaves, b"", None)
        if b.params.chunks > 1:
            told = replace(b.evidence(round, FLAGGED), leaves=leaves)
        with refused("NotCanonical", leaves[chunk][i]):
            b.rounds.prove(told.calls(5))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_whole_round_has_as_many_leaves_as_clients(whole: Bench, change: int) -> None:
    round = whole.committed()
    submit = whole.evidence(round, HONEST).submit()
    leaves = made_up_leaves(round)[0][:-1]
    other = leaves[:-1] if change < 0 else [*leaves, 7]
    with refused("BadLength", 5 + change, 5):
        whole.rounds.send(edited(submit, lambda a: a.__setitem__(2, other)))


# Claims


def test_a_claim_goes_from_begin_to_conclude(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    nothing = ClaimState(Outcome.NONE, bytes(32), 0, FIRST_LINK, bytes(32))
    assert state(b, round) == nothing
    begin, first, second, third, conclude = told.calls(2)
    [(name, event)] = b.rounds.contract.events(b.rounds.send(begin))
    assert (name, event["sender"]) == ("ClaimBegun", OWNER)
    begun = state(b, round)
    assert (begun.next, begun.link, begun.chains) == (0, FIRST_LINK, bytes(32))
    assert begun.challenges != bytes(32)
    for call in (first, second, third):
        [(name, event)] = b.rounds.contract.events(b.rounds.send(call))
        assert (name, event["shards"]) == ("ShardsProved", call.shards.stop)
        now = state(b, round)
        assert (now.next, now.link) == (call.shards.stop, told.links[call.shards.stop])
    b.rounds.send(conclude)
    assert state(b, round) == replace(nothing, outcome=Outcome.FLAGGED)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_batches_of_any_size_lead_to_the_same_verdict(sharded: Bench, batch: int) -> None:
    round = sharded.committed()
    told = sharded.evidence(round, HONEST)
    receipt = sharded.rounds.prove(told.calls(batch))[-1]
    [(_, event)] = sharded.rounds.contract.events(receipt)
    assert event["aggregate"] == told.aggregate


def test_a_claim_is_its_callers_own(sharded: Bench) -> None:
    """Another's calls do not touch it, and cannot go on with it."""
    b, round = sharded, sharded.committed()
    begin, first, *rest = b.evidence(round, FLAGGED).calls(2)
    b.rounds.send(begin)
    b.rounds.send(first)
    before = state(b, round)
    for call in (first, *rest):
        with refused("NoClaim", STRANGER):
            b.rounds.send(call, STRANGER)
    poison = b.evidence(round, HONEST, seed="poison").calls(5)
    b.rounds.send(poison[0], STRANGER)
    b.rounds.send(poison[1], STRANGER)
    assert state(b, round) == before
    for call in rest:
        b.rounds.send(call)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_claims_race_and_the_first_to_conclude_decides(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    mine, theirs = b.evidence(round, FLAGGED).calls(2), b.evidence(round, FLAGGED, seed="other").calls(3)
    for k in range(4):
        b.rounds.send(mine[k])
        if k < 3:
            b.rounds.send(theirs[k], STRANGER)
    assert state(b, round).next == state(b, round, STRANGER).next == 5
    b.rounds.send(theirs[3], STRANGER)
    with refused("AlreadyDecided", Outcome.FLAGGED):
        b.rounds.send(mine[4])
    for call in mine:
        with refused("AlreadyDecided", Outcome.FLAGGED):
            b.rounds.send(call, OTHER)


def test_somebody_who_copies_the_calls_decides_the_same(sharded: Bench) -> None:
    round = sharded.committed()
    told = sharded.evidence(round, FLAGGED)
    sharded.rounds.prove(told.calls(2)[:-1])
    [(_, event)] = sharded.rounds.contract.events(sharded.rounds.prove(told.calls(5), STRANGER)[-1])
    assert (event["sender"], event["aggregate"]) == (STRANGER, told.aggregate)


def test_beginning_again_drops_the_claim(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    calls, anew = b.evidence(round, FLAGGED).calls(2), b.evidence(round, FLAGGED, seed="anew").calls(2)
    for call in calls[:3]:
        b.rounds.send(call)
    b.rounds.send(anew[0])
    assert (state(b, round).next, state(b, round).link) == (0, FIRST_LINK)
    with refused("OtherChallenges"):
        b.rounds.send(calls[3])
    with refused("BadLength", 6, 0):  # its chains are of a later shard
        b.rounds.send(anew[2])
    b.rounds.prove(anew[1:])
    # Beginning again with the same challenges starts anew, too.
    other = b.committed()
    again = b.evidence(other, FLAGGED).calls(2)
    b.rounds.prove([*again[:3], *again])
    assert b.rounds.outcome(other) is Outcome.FLAGGED


def test_shards_go_in_order_each_once(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    begin, *shards, conclude = told.calls(1)
    b.rounds.send(begin)
    for skipped in (shards[1], shards[4]):
        with refused("BadLength", 6, 0):
            b.rounds.send(skipped)
    b.rounds.send(shards[0])
    with refused("BadLength", 0, 6):  # again
        b.rounds.send(shards[0])
    b.rounds.send(shards[1])
    for other in (shards[1], shards[3]):
        with refused("OtherChains"):
            b.rounds.send(other)
    # The next shard's chains, but the proof of the one after it: its link does not start here.
    skipping = edited(shards[2], lambda a: a.__setitem__(3, shards[3].arguments[3]))
    with refused("ProofRejected"):
        b.rounds.send(skipping)
    with refused("ShardsMissing", 2, 5):
        b.rounds.send(conclude)
    b.rounds.prove(shards[2:])
    with refused("BadBatch", 1, 0):  # one too many
        b.rounds.send(edited(shards[4], lambda a: a.__setitem__(2, told.heads(5))))
    b.rounds.send(conclude)


def test_too_early_to_conclude_at_every_point(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    begin, *shards, conclude = b.evidence(round, FLAGGED).calls(1)
    with refused("NoClaim", OWNER):
        b.rounds.send(conclude)
    b.rounds.send(begin)
    for t, shard in enumerate(shards):
        with refused("ShardsMissing", t, 5):
            b.rounds.send(conclude)
        b.rounds.send(shard)
    b.rounds.send(conclude)


def test_an_empty_batch_and_one_beyond_the_end_are_refused(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    begin, whole, _ = b.evidence(round, FLAGGED).calls(5)
    b.rounds.send(begin)
    with refused("BadBatch", 0, 5):
        b.rounds.send(edited(whole, lambda a: a.__setitem__(3, [])))
    six = [*whole.arguments[3], whole.arguments[3][0]]  # type: ignore[index, misc]
    with refused("BadBatch", 6, 5):
        b.rounds.send(edited(whole, lambda a: a.__setitem__(3, six)))


@pytest.mark.parametrize("bad", range(4))
def test_a_batch_with_one_bad_proof_leaves_the_claim_as_it_was(sharded: Bench, bad: int) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    begin, first, rest, conclude = (told.begin(), told.prove(range(1)), told.prove(range(1, 5)), told.conclude())
    b.rounds.send(begin)
    b.rounds.send(first)
    before = state(b, round)

    def spoil(arguments: list[Any]) -> None:
        _, leaves, link = arguments[3][bad]
        arguments[3][bad] = (bytes(32), leaves, link)

    with refused("ProofRejected"):
        b.rounds.send(edited(rest, spoil))
    assert state(b, round) == before
    b.rounds.send(rest)
    b.rounds.send(conclude)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


@pytest.mark.parametrize("step", ["prove", "conclude"])
@pytest.mark.parametrize("word", range(6))
def test_challenges_and_chains_must_be_those_stored(sharded: Bench, step: str, word: int) -> None:
    """Other ρ, x or s' in the verdict than in the shards, or chains that were not walked."""
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    b.rounds.prove([told.begin(), told.prove(range(3))])
    call = told.prove(range(3, 5))
    if step == "conclude":
        b.rounds.send(call)
        call = told.conclude()
    for place, error in ((1, "OtherChallenges"), (2, "OtherChains")):

        def alter(a: list[Any], place: int = place) -> None:
            a[place][word] ^= 1

        def swap(a: list[Any], place: int = place) -> None:
            a[place][word], a[place][word - 1] = a[place][word - 1], a[place][word]

        for edit in (alter, swap):
            with refused(error):
                b.rounds.send(edited(call, edit))
    b.rounds.send(call)


@pytest.mark.parametrize("size", [0, 5, 7])
def test_challenges_and_chains_have_exactly_one_word_more_than_clients(sharded: Bench, size: int) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)

    def cut(place: int) -> Edit:
        return lambda a: a.__setitem__(place, (a[place] * 2)[:size])

    with refused("BadLength", size, 6):
        b.rounds.send(edited(told.begin(), cut(1)))
    b.rounds.send(told.begin())
    b.rounds.send(told.prove(range(3)))
    for place in (1, 2):
        with refused("BadLength", size, 6):
            b.rounds.send(edited(told.prove(range(3, 5)), cut(place)))
    b.rounds.send(told.prove(range(3, 5)))
    for place in (1, 2):
        with refused("BadLength", size, 6):
            b.rounds.send(edited(told.conclude(), cut(place)))


def test_before_the_first_shard_there_are_no_chains(sharded: Bench) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    b.rounds.send(told.begin())
    for size in (1, 6):
        with refused("BadLength", size, 0):
            b.rounds.send(edited(told.prove(range(5)), lambda a, s=size: a.__setitem__(2, [0] * s)))  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_shard_has_exactly_one_leaf_more_than_clients(sharded: Bench, size: int) -> None:
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    b.rounds.send(told.begin())

    def cut(a: list[Any]) -> None:
        proof, leaves, link = a[3][1]
        a[3][1] = (proof, (leaves * 2)[:size], link)

    with refused("BadLength", size, 6):
        b.rounds.send(edited(told.prove(range(2)), cut))


@pytest.mark.parametrize("word", range(6))
@pytest.mark.parametrize("more", [P, 2**256 - 1])
def test_challenges_beyond_the_field_are_refused(sharded: Bench, word: int, more: int) -> None:
    told = sharded.evidence(sharded.committed(), FLAGGED)
    with refused("NotCanonical", more):
        sharded.rounds.send(edited(told.begin(), lambda a: a[1].__setitem__(word, more)))


def test_a_link_beyond_the_field_is_refused(sharded: Bench) -> None:
    told = sharded.evidence(sharded.committed(), FLAGGED)
    sharded.rounds.send(told.begin())
    other = replace(told, links=[told.links[0], told.links[1] + P, *told.links[2:]])
    with refused("NotCanonical", told.links[1] + P):
        sharded.rounds.send(other.prove(range(2)))


def test_the_first_shard_starts_at_the_constant(sharded: Bench) -> None:
    """A proof that starts anywhere else is none: the contract puts c_0 in."""
    round = sharded.committed()
    told = sharded.evidence(round, FLAGGED)
    words = replace(told, links=[7, *told.links[1:]])
    other = sharded.proved(words, commitments(round))
    sharded.rounds.send(told.begin())
    with refused("ProofRejected"):
        sharded.rounds.send(other.prove(range(1)))


def test_the_verdict_starts_where_the_last_shard_ends(sharded: Bench) -> None:
    round = sharded.committed()
    told = sharded.evidence(round, FLAGGED)
    other = sharded.proved(replace(told, links=[*told.links[:-1], 7]), commitments(round))
    *before, last = replace(told, proof=other.proof).calls(2)
    sharded.rounds.prove(before)
    with refused("ProofRejected"):
        sharded.rounds.send(last)


def test_each_proof_is_asked_of_the_verifier_of_its_place(sharded: Bench) -> None:
    """A shard's proof where the last, shorter one belongs, and the other way round."""
    b, round = sharded, sharded.committed()
    told = b.evidence(round, FLAGGED)
    real = dict(b.verifiers)
    for pair in (("shard", "lastShard"), ("lastShard", "shard"), ("verdict", "shard"), ("shard", "verdict")):
        asked, answers = pair
        b.verifiers[asked] = real[answers]
        # Proofs of the wrong verifier's name.
        swapped = _renamed(b, told, asked, answers)
        with refused("ProofRejected"):
            b.rounds.prove(swapped.calls(5))
        b.verifiers.update(real)
    b.rounds.prove(told.calls(5))


def _renamed(b: Bench, told: Evidence, asked: str, answers: str) -> Evidence:
    stub = b.stub

    class Renamed(Bench):
        def stub(self, name: str, words: Any) -> bytes:
            return stub(answers if name == asked else name, words)

    other = Renamed(b.rounds, b.slasher, b.verifiers, b.params)
    return other.proved(told, commitments(told.round))


def test_a_claim_cannot_begin_before_all_have_committed(sharded: Bench) -> None:
    round = sharded.committed(count=4)
    begin = sharded.evidence(round, FLAGGED).begin()
    with refused("MissingCommitment", 4):
        sharded.rounds.send(begin)
    with refused("NoClaim"):
        sharded.rounds.send(sharded.evidence(round, FLAGGED).prove(range(1)))


def test_a_claim_of_one_round_is_nothing_in_another(sharded: Bench) -> None:
    b = sharded
    first, second = b.committed(), b.committed()
    b.rounds.send(b.evidence(first, FLAGGED).begin())
    with refused("NoClaim", OWNER):
        b.rounds.send(b.evidence(second, FLAGGED).prove(range(1)))


def test_after_a_reorganization_nothing_lands_in_another_round(sharded: Bench) -> None:
    """The chain drops the blocks in which the round was committed to.

    The calls that were sent are replayed on a round of the same id with another clip, and on the same round before its
    commitments are back."""
    b = sharded
    before, round = b.chain.snapshot(), b.round()
    b.rounds.open(round)
    for i, commitment in enumerate(commitments(round)):
        b.rounds.commit(round, i, commitment)
    calls = b.evidence(round, FLAGGED).calls(2)
    b.rounds.prove(calls[:3])
    b.chain.restore(before)
    other = replace(round, clip=2.0)
    b.rounds.open(other)
    for i, commitment in enumerate(commitments(other)):
        b.rounds.commit(other, i, commitment)
    with refused("OtherChains"):
        b.rounds.prove(calls)
    assert b.rounds.outcome(other) is Outcome.NONE
    b.chain.restore(before)
    b.rounds.open(round)
    with refused("MissingCommitment", 0):
        b.rounds.send(calls[0])
    for call in calls[1:]:
        with refused("NoClaim", OWNER):
            b.rounds.send(call)
    for i, commitment in enumerate(commitments(round)):
        b.rounds.commit(round, i, commitment)
    b.rounds.prove(calls)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_calldata_that_lie_about_their_lengths_are_refused(b: Bench) -> None:
    """Cut short, or with offsets that point beyond the end: the decoder refuses, and nothing has happened."""
    round = b.committed()
    calls = b.evidence(round, FLAGGED).calls(2)
    selectors = b.rounds.contract.contract.selectors
    for call in calls:
        data = call.data(selectors)
        for broken in (
            data[:-32],
            data[: len(data) // 2],
            data[:4] + b"\xff" * 32 + data[36:],
            data[:36] + b"\xff" * 64,
        ):
            with pytest.raises((RevertError, HaltError)):
                b.chain.send(OWNER, b.rounds.contract.address, broken, gas=10_000_000)
        b.rounds.send(call)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_trailing_calldata_change_nothing(b: Bench) -> None:
    round = b.committed()
    selectors = b.rounds.contract.contract.selectors
    for call in b.evidence(round, FLAGGED).calls(2):
        b.chain.send(OWNER, b.rounds.contract.address, call.data(selectors) + b"\xff" * 40)
    assert b.rounds.outcome(round) is Outcome.FLAGGED


def test_a_shape_whose_chunk_divides_d(contracts: dict[str, Contract]) -> None:
    b = bench(contracts, Params.of(n=5, d=42, chunk=21))
    round = b.committed()
    b.rounds.prove(b.evidence(round, FLAGGED).calls(1))
    assert b.rounds.outcome(round) is Outcome.FLAGGED
