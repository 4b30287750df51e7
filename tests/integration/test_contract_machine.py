"""Random sequences of calls against a model in Python: the contract accepts exactly what the model accepts.

The model is written from the protocol's text, not from the contract: sets, numbers and a clock. Whatever the machine
does, the invariants at its end hold: nobody is slashed who was not flagged, spared or slashed before, or too early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from support.onchain import OTHER, OWNER, STRANGER, VETOER, Bench, addresses, bench, commitments, compiled
from zkkrum.evm.chain import Receipt, RevertError
from zkkrum.evm.claims import Outcome
from zkkrum.evm.rounds import DEFAULT_SCHEDULE
from zkkrum.evm.solidity import Contract
from zkkrum.evm.transactions import Evidence
from zkkrum.protocol.params import Params, Round
from zkkrum.toolchain import Toolchain

N = 3
ONE_CHUNK = Params.of(n=N, d=8)
THREE_CHUNKS = Params.of(n=N, d=50, chunk=21)
OUTPUTS = [(0, 0, 1), (1, 0, 2), (1, 0b001, 2), (1, 0b110, 1), (0, 1, 1), (2, 0, 0), (1, 8, 1)]
WHICH = st.sampled_from([*[0] * 6, 1, 2])
"""Mostly the round opened last."""
CLAIMANTS = st.sampled_from([*[STRANGER] * 4, OWNER, OTHER])
SUBJECTS = [b"\1" * 32, b"\2" * 32]
SENDERS = [OWNER, STRANGER, OTHER]
CHALLENGE_DELAY = DEFAULT_SCHEDULE.challenge_delay
WINDOW, LATEST = 3600, DEFAULT_SCHEDULE.open_to_slashable - CHALLENGE_DELAY


@dataclass
class Claim:
    seed: str
    proved: int = 0


@dataclass
class Model:
    """A round as the protocol tells it."""

    round: Round
    commit_until: int
    prove_until: int
    committed: set[int] = field(default_factory=set)
    decided: Outcome = Outcome.NONE
    flagged: int = 0
    settled: int = 0
    slashable_from: int = 0
    claims: dict[str, Claim] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.committed) == N

    def outcome(self, now: int) -> Outcome:
        if self.decided is not Outcome.NONE:
            return self.decided
        dead = now > self.prove_until or (now > self.commit_until and not self.complete)
        return Outcome.VOID if dead else Outcome.NONE

    def provable(self, now: int) -> bool:
        return self.decided is Outcome.NONE and now <= self.prove_until

    @property
    def pending(self) -> int:
        return self.flagged & ~self.settled


def possible(outputs: tuple[int, int, int]) -> bool:
    malicious, flagged, selected = outputs
    return malicious <= 1 and flagged < 1 << N and selected < 1 << N and not (malicious == 0 and flagged)


def lowest(bits: int) -> int:
    return bits & -bits


class Machine(RuleBasedStateMachine):
    """One contract, a clock and everybody who may call."""

    contracts: dict[str, Contract]
    params: Params

    @initialize()
    def deploy(self) -> None:
        self.b: Bench = bench(self.contracts, self.params)
        self.models: list[Model] = []
        self.slashed: dict[str, int] = {}
        self.open_for_all()

    # Helpers

    def expect(self, allowed: bool, attempt: Callable[[], Receipt | list[Receipt]]) -> bool:
        """Do it, and check that it is accepted exactly if it should be."""
        before = self.b.chain.snapshot()
        refusal: RevertError | None = None
        try:
            attempt()
        except RevertError as error:
            self.b.chain.restore(before)
            refusal = error
        assert allowed is (refusal is None), f"the protocol says {allowed}, the contract {refusal}"
        return allowed

    @property
    def now(self) -> int:
        return self.b.chain.time

    def pick(self, k: int) -> Model | None:
        return self.models[-1 - k % min(3, len(self.models))] if self.models else None

    def told(self, model: Model, outputs: tuple[int, int, int], seed: str) -> Evidence:
        return self.b.evidence(model.round, outputs, seed=seed)

    # Rules

    @rule(seconds=st.sampled_from([*[1] * 8, 1800, 3601, 7200, CHALLENGE_DELAY - 1, CHALLENGE_DELAY]))
    def wait(self, seconds: int) -> None:
        self.b.chain.time += seconds

    @rule(
        sender=st.sampled_from([*[OWNER] * 7, STRANGER]),
        subject=st.sampled_from([*[bytes(32)] * 3, *SUBJECTS]),
        window=st.sampled_from([*[WINDOW] * 6, WINDOW - 1, 2 * WINDOW]),
        after=st.sampled_from([*[3600] * 3, *[LATEST - WINDOW] * 3, 0, LATEST]),
        again=st.sampled_from([*[False] * 7, True]),
    )
    def open(self, sender: str, subject: bytes, window: int, after: int, again: bool) -> None:
        reuse = self.models[-1].round.round_id if again and self.models else None
        round = self.b.round(subject=subject, roster=addresses(N), **({"round_id": reuse} if reuse else {}))
        taken = any(
            m.round.subject == subject and m.outcome(self.now) is not Outcome.VOID for m in self.models if any(subject)
        )
        allowed = sender == OWNER and not reuse and not taken and window >= WINDOW and 0 < after <= LATEST - window

        def attempt() -> Receipt:
            who = self.b.rounds if sender == OWNER else type(self.b.rounds)(self.b.rounds.contract, sender, VETOER)
            return who.open(round, window, window + after)

        if self.expect(allowed, attempt):
            self.models.append(Model(round, self.now + window, self.now + window + after))

    @rule(k=WHICH, client=st.integers(0, N - 1), mine=st.sampled_from([True, True, True, False]))
    def commit(self, k: int, client: int, mine: bool) -> None:
        if model := self.pick(k):
            sender = model.round.roster[client if mine else (client + 1) % N]
            arguments = (model.round.round_id, model.round.context, client, commitments(model.round)[client])
            allowed = mine and self.now <= model.commit_until and client not in model.committed
            if self.expect(allowed, lambda: self.b.rounds.contract.send(sender, "commit", *arguments)):
                model.committed.add(client)

    @rule(k=WHICH)
    def everybody_commits(self, k: int) -> None:
        if model := self.pick(k):
            for client in set(range(N)) - model.committed:
                self.commit(k, client, True)

    @rule()
    def open_for_all(self) -> None:
        """Open a round in which everybody commits at once, so that there is mostly one to be judged."""
        self.open(OWNER, bytes(32), WINDOW, LATEST - WINDOW, False)
        self.everybody_commits(0)

    @rule(k=WHICH, sender=st.sampled_from(SENDERS), outputs=st.sampled_from(OUTPUTS))
    def submit(self, k: int, sender: str, outputs: tuple[int, int, int]) -> None:
        if model := self.pick(k):
            call = Evidence(model.round, outputs, [[1] * (N + 1)], b"").submit()
            if self.params.chunks == 1:
                call = self.told(model, outputs, "").submit()
            one = self.params.chunks == 1
            allowed = one and model.complete and model.provable(self.now) and possible(outputs)
            if self.expect(allowed, lambda: self.b.rounds.send(call, sender)):
                self.decide(model, outputs)

    @rule(k=WHICH, sender=CLAIMANTS, seed=st.sampled_from(["a", "b"]))
    def begin(self, k: int, sender: str, seed: str) -> None:
        if (model := self.pick(k)) and self.params.chunks > 1:
            call = self.told(model, (0, 0, 1), seed).begin()
            if self.expect(model.complete and model.provable(self.now), lambda: self.b.rounds.send(call, sender)):
                model.claims[sender] = Claim(seed)

    @rule(
        k=WHICH,
        sender=CLAIMANTS,
        seed=st.sampled_from([*[""] * 6, "a", "b"]),
        start=st.sampled_from([*[None] * 8, 0, 1, 2]),
        count=st.integers(1, 3),
        spoil=st.sampled_from([*[False] * 7, True]),
    )
    def prove(self, k: int, sender: str, seed: str, start: int | None, count: int, spoil: bool) -> None:
        model = self.pick(k)
        if model is None or self.params.chunks == 1:
            return
        claim = model.claims.get(sender)
        first = start if start is not None else claim.proved if claim else 0
        if first >= self.params.chunks:
            return
        shards = range(first, min(first + count, self.params.chunks))
        told = self.told(model, (0, 0, 1), seed or (claim.seed if claim else "a"))
        if spoil:
            proofs = [*told.shard_proofs]
            proofs[shards[-1]] = bytes(32)
            told = Evidence(told.round, told.outputs, told.leaves, told.proof, told.public, told.links, proofs)
        fits = claim is not None and claim.proved == first and (not seed or seed == claim.seed)
        allowed = fits and not spoil and model.provable(self.now)
        if self.expect(allowed, lambda: self.b.rounds.send(told.prove(shards), sender)):
            assert claim is not None
            claim.proved = shards.stop

    @rule(
        k=WHICH,
        sender=CLAIMANTS,
        seed=st.sampled_from([*[""] * 6, "a", "b"]),
        outputs=st.sampled_from(OUTPUTS),
    )
    def conclude(self, k: int, sender: str, seed: str, outputs: tuple[int, int, int]) -> None:
        model = self.pick(k)
        if model is None or self.params.chunks == 1:
            return
        claim = model.claims.get(sender)
        call = self.told(model, outputs, seed or (claim.seed if claim else "a")).conclude()
        fits = claim is not None and claim.proved == self.params.chunks and (not seed or seed == claim.seed)
        allowed = fits and model.provable(self.now) and possible(outputs)
        if self.expect(allowed, lambda: self.b.rounds.send(call, sender)):
            del model.claims[sender]
            self.decide(model, outputs)

    @rule(k=WHICH, sender=st.sampled_from(SENDERS), outputs=st.sampled_from(OUTPUTS[:4]))
    def judge(self, k: int, sender: str, outputs: tuple[int, int, int]) -> None:
        """Go all the way in one step, so that decided rounds are not rare."""
        if model := self.pick(k):
            calls = self.told(model, outputs, "a").calls(2)
            if self.expect(model.complete and model.provable(self.now), lambda: self.b.rounds.prove(calls, sender)):
                model.claims.pop(sender, None)
                self.decide(model, outputs)

    def decide(self, model: Model, outputs: tuple[int, int, int]) -> None:
        malicious, model.flagged, _ = outputs
        model.decided = Outcome.HONEST
        if malicious:
            model.decided = Outcome.FLAGGED if model.flagged else Outcome.UNATTRIBUTED
            model.slashable_from = self.now + CHALLENGE_DELAY

    @rule(k=WHICH)
    def void(self, k: int) -> None:
        if model := self.pick(k):
            allowed = model.decided is Outcome.NONE and model.outcome(self.now) is Outcome.VOID
            if self.expect(allowed, lambda: self.b.rounds.void(model.round)):
                model.decided = Outcome.VOID

    @rule(
        k=WHICH,
        clients=st.none() | st.integers(0, 2**N),
        sender=st.sampled_from([VETOER, VETOER, VETOER, OWNER]),
    )
    def veto(self, k: int, clients: int | None, sender: str) -> None:
        if model := self.pick(k):
            clients = lowest(model.pending) if clients is None else clients
            allowed = sender == VETOER and clients and not clients & ~model.pending and self.now < model.slashable_from
            contract = self.b.rounds.contract
            if self.expect(bool(allowed), lambda: contract.send(sender, "veto", model.round.round_id, clients)):
                model.settled |= clients

    @rule(
        k=WHICH,
        clients=st.none() | st.integers(0, 2**N),
        sender=st.sampled_from(SENDERS),
        patient=st.booleans(),
    )
    def slash(self, k: int, clients: int | None, sender: str, patient: bool) -> None:
        if model := self.pick(k):
            clients = lowest(model.pending) if clients is None else clients
            if patient and model.pending:
                self.b.chain.time = max(self.now, model.slashable_from)
            allowed = clients and not clients & ~model.pending and self.now >= model.slashable_from
            if self.expect(bool(allowed), lambda: self.b.rounds.slash(model.round, clients, sender)):
                model.settled |= clients
                for i in range(N):
                    client = model.round.roster[i]
                    self.slashed[client] = self.slashed.get(client, 0) + (clients >> i & 1)

    # What always holds

    @invariant()
    def the_contract_shows_what_the_model_knows(self) -> None:
        for model in getattr(self, "models", [])[-3:]:
            shown: dict[str, Any] = self.b.rounds.contract.view("roundOf", model.round.round_id)
            assert Outcome(shown["outcome"]) is model.outcome(self.now)
            assert (shown["flagged"], shown["settled"]) == (model.flagged, model.settled)
            assert {i for i, word in enumerate(shown["commitments"]) if any(word)} == model.committed
            for sender in SENDERS if self.params.chunks > 1 else ():
                claim = model.claims.get(sender)
                state = self.b.rounds.claim(model.round, sender)
                assert (any(state.challenges), state.next) == (claim is not None, claim.proved if claim else 0)

    @invariant()
    def nobody_is_slashed_but_by_a_flag(self) -> None:
        for client, times in getattr(self, "slashed", {}).items():
            assert self.b.slasher.view("slashed", client) == times
            flags = sum(m.flagged >> m.round.roster.index(client) & 1 for m in self.models)
            assert times <= flags


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.mark.parametrize("params", [ONE_CHUNK, THREE_CHUNKS], ids=["whole", "sharded"])
def test_the_contract_does_what_the_model_says(contracts: dict[str, Contract], params: Params) -> None:
    machine = type("Bound", (Machine,), {"contracts": contracts, "params": params})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
