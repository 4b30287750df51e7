"""The whole way with nothing simulated, in both forms: circuits, proofs, bb's verifiers, KrumRounds, a real EVM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.onchain import STRANGER, compiled, refused
from support.scripts import load_script
from zkkrum.evm import demo, gas
from zkkrum.evm.chain import Chain, Deployed, HaltError, RevertError
from zkkrum.evm.claims import Outcome
from zkkrum.evm.demo import VETOER, PlainKrum, Stage
from zkkrum.evm.rounds import DEFAULT_SCHEDULE, DEFAULT_SLASHING, Rounds, deploy_verifier
from zkkrum.evm.solidity import CODE_SIZE_MAX, Contract
from zkkrum.evm.transactions import Evidence
from zkkrum.proof.material import Material
from zkkrum.proof.prove import aggregate_path
from zkkrum.protocol.field import P
from zkkrum.protocol.forecast import default_chunk
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Detection, Params, Round, Score
from zkkrum.protocol.quantize import Integers
from zkkrum.rounds.aggregate import load_aggregate
from zkkrum.toolchain import Toolchain

WHOLE, SHARDED = Params.of(n=5, d=60), Params.of(n=5, d=60, chunk=21)
"""One circuit; two full shards and a shorter last."""


@dataclass(frozen=True, eq=False)
class Case:
    """An opened round with all commitments on chain, and the proofs of its verdict."""

    stage: Stage
    material: Material
    told: Evidence
    bundle: Path

    @property
    def round(self) -> Round:
        return self.material.round

    @property
    def rounds(self) -> Rounds:
        return self.stage.rounds

    def asked(self, name: str) -> tuple[bytes, list[int]]:
        """The proof and the public inputs that the contract hands a verifier."""
        return next((proof, words) for of, proof, words in self.told.questions(self.material.commitments) if of == name)

    def verifies(self, name: str, proof: bytes, words: Sequence[int]) -> bool:
        """Ask a verifier itself; a refusal is a revert, or all gas gone in a precompile (a point off the curve)."""
        try:
            answer = self.stage.verifiers[name].view("verify", proof, [w.to_bytes(32, "big") for w in words])
        except (RevertError, HaltError):
            return False
        assert answer is True
        return True


def honest(seed: int, params: Params) -> Integers:
    rng = np.random.default_rng(seed)
    return rng.integers(-200, 201, size=(params.n, params.d))


def attacked(seed: int, params: Params) -> Integers:
    q = honest(seed, params)
    q[3] = 2047
    return q


def proved(stage: Stage, q: Integers, tools: Toolchain, bundle: Path) -> Case:
    material = Material.commit_values(stage.round(clip=1.0), q, tools.bb.hash_many, by_clients=True)
    stage.post(material)
    return Case(stage, material, stage.evidence(material, tools, bundle), bundle)


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture(scope="module", params=[WHOLE, SHARDED], ids=["whole", "sharded"])
def stage(request: pytest.FixtureRequest, toolchain: Toolchain, crs: Path, contracts: dict[str, Contract]) -> Stage:
    return Stage.set_up(request.param, toolchain)


@pytest.fixture(scope="module")
def flagged(stage: Stage, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Committed and proved, not sent."""
    return proved(stage, attacked(1, stage.params), toolchain, tmp_path_factory.mktemp("flagged") / "bundle")


@pytest.fixture(scope="module")
def clean(stage: Stage, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An honest round, committed and proved, not sent."""
    return proved(stage, honest(2, stage.params), toolchain, tmp_path_factory.mktemp("honest") / "bundle")


@pytest.fixture(autouse=True)
def unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what a test does to the shared chain."""
    if not {"flagged", "clean"} & set(request.fixturenames):
        yield
        return
    for name in ("flagged", "clean"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    chain = request.getfixturevalue("stage").chain
    before = chain.snapshot()
    yield
    chain.restore(before)


# The verdicts


def test_a_flagged_round_to_the_end(flagged: Case) -> None:
    rounds, round = flagged.rounds, flagged.round
    assert flagged.told.outputs[:2] == (1, 0b01000)
    [*_, last] = rounds.prove(flagged.told.calls(2), STRANGER)
    [(name, event)] = rounds.contract.events(last)
    assert (name, event["aggregate"]) == ("Verdict", flagged.told.aggregate)
    assert rounds.outcome(round) is Outcome.FLAGGED
    flagged.stage.chain.time += DEFAULT_SCHEDULE.challenge_delay
    rounds.slash(round, 0b01000, sender=STRANGER)
    assert [flagged.stage.slasher.view("slashed", c) for c in round.roster] == [0, 0, 0, 1, 0]


def test_an_honest_round_to_the_end(clean: Case) -> None:
    rounds, round = clean.rounds, clean.round
    rounds.prove(clean.told.calls(1))
    assert rounds.outcome(round) is Outcome.HONEST
    clean.stage.chain.time += DEFAULT_SCHEDULE.challenge_delay
    for clients in (0b00001, 0b11111):
        with refused("NotPending"):
            rounds.slash(round, clients)


def test_the_logged_aggregate_is_that_of_the_bundle(flagged: Case, toolchain: Toolchain) -> None:
    """Whoever has (S, σ) and the log can check the model."""
    [*_, last] = flagged.rounds.prove(flagged.told.calls(2))
    [(_, event)] = flagged.rounds.contract.events(last)
    found = load_aggregate(aggregate_path(flagged.bundle), flagged.round.params.d)
    assert found.aggregate.commitment(flagged.round, toolchain.bb.hash_many) == event["aggregate"]


def test_an_unattributed_round_slashes_nobody(
    toolchain: Toolchain, crs: Path, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    params = Params.of(n=6, d=2, score=Score.ALL_PAIRS, detection=Detection.BRACKETS)
    rng = np.random.default_rng(0)
    while True:
        q = rng.integers(-100, 101, size=(params.n, params.d))
        verdict = Krum(params)(q).verdict
        if verdict.malicious and not verdict.flagged:
            break
    case = proved(Stage.set_up(params, toolchain), q, toolchain, tmp_path / "bundle")
    case.rounds.prove(case.told.calls(1))
    assert case.rounds.outcome(case.round) is Outcome.UNATTRIBUTED
    case.stage.chain.time += DEFAULT_SCHEDULE.challenge_delay
    with refused("NotPending"):
        case.rounds.slash(case.round, 1)


# Forgeries at the verifiers


def test_each_public_input_altered_is_refused(flagged: Case) -> None:
    for name in flagged.stage.verifiers:
        proof, words = flagged.asked(name)
        assert flagged.verifies(name, proof, words)
        for k, word in enumerate(words):
            for other in ((word + 1) % P, word ^ 1, 0 if word else 7):
                altered = [*words[:k], other, *words[k + 1 :]]
                assert not flagged.verifies(name, proof, altered), f"{name}: public input {k}"


def test_public_inputs_that_are_not_canonical_are_refused(flagged: Case) -> None:
    for name in flagged.stage.verifiers:
        proof, words = flagged.asked(name)
        for k, word in enumerate(words):
            if word + P < 2**256:
                assert not flagged.verifies(name, proof, [*words[:k], word + P, *words[k + 1 :]]), f"{name}: {k}"


def test_too_few_or_many_public_inputs_are_refused(flagged: Case) -> None:
    for name in flagged.stage.verifiers:
        proof, words = flagged.asked(name)
        for altered in (words[:-1], [*words, 0], [], words[::-1]):
            assert not flagged.verifies(name, proof, altered)


def test_a_flipped_byte_of_a_proof_is_refused(flagged: Case) -> None:
    for name in flagged.stage.verifiers:
        good, words = flagged.asked(name)
        for start in range(0, len(good), 32 if name == "round" else 256):
            for at, bit in ((start, 0x40), (start + 31, 0x01)):
                proof = bytearray(good)
                proof[at] ^= bit
                assert not flagged.verifies(name, bytes(proof), words), f"{name}: byte {at}"


def test_a_proof_of_another_length_is_refused(flagged: Case) -> None:
    for name in flagged.stage.verifiers:
        proof, words = flagged.asked(name)
        for other in (b"", proof[:-32], proof + bytes(32), proof[:-1], proof + b"\0", bytes(len(proof))):
            assert not flagged.verifies(name, other, words)


def test_the_verifiers_take_no_proof_of_another_circuit(flagged: Case) -> None:
    names = list(flagged.stage.verifiers)
    for asked in names:
        for of in names:
            assert flagged.verifies(asked, *flagged.asked(of)) is (asked == of)


# Forgeries at the contract


def refuse(rounds: Rounds, told: Evidence) -> None:
    """Send all the calls of some evidence: one of them is refused, and the round stays undecided."""
    before = rounds.chain.snapshot()
    with pytest.raises(RevertError):
        rounds.prove(told.calls(2))
    assert rounds.outcome(told.round) is Outcome.NONE
    rounds.chain.restore(before)


def test_a_false_verdict_is_refused(flagged: Case, clean: Case) -> None:
    selected = flagged.told.outputs[2]
    for outputs in ((0, 0, selected), (1, 0, selected), (1, 0b01100, selected), (1, 0b00100, selected), (1, 8, 8)):
        refuse(flagged.rounds, replace(flagged.told, outputs=outputs))
    selected = clean.told.outputs[2]
    for outputs in ((1, 0b01000, selected), (1, 0, selected), (0, 0, 0b11111)):
        refuse(clean.rounds, replace(clean.told, outputs=outputs))


def test_a_damaged_proof_is_refused(flagged: Case) -> None:
    def damaged(proof: bytes, at: int) -> bytes:
        return proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]

    for at in (0, len(flagged.told.proof) // 2, len(flagged.told.proof) - 1):
        refuse(flagged.rounds, replace(flagged.told, proof=damaged(flagged.told.proof, at)))
        for t, proof in enumerate(flagged.told.shard_proofs):
            proofs = [*flagged.told.shard_proofs]
            proofs[t] = damaged(proof, at)
            refuse(flagged.rounds, replace(flagged.told, shard_proofs=proofs))


def test_a_proof_of_another_round_is_refused(flagged: Case, clean: Case) -> None:
    """All of it, or the last proof alone, or the shards alone."""
    for mine, other in ((flagged, clean), (clean, flagged)):
        refuse(mine.rounds, replace(other.told, round=mine.round))
        refuse(mine.rounds, replace(mine.told, proof=other.told.proof, outputs=other.told.outputs))
        if mine.told.shard_proofs:
            shards = replace(mine.told, shard_proofs=other.told.shard_proofs, links=other.told.links)
            refuse(mine.rounds, shards)
            refuse(mine.rounds, replace(shards, leaves=other.told.leaves, public=other.told.public))


def test_a_verdict_alone_decides_nothing(flagged: Case) -> None:
    """Without the shards its distances are free."""
    if flagged.told.public is None:
        pytest.skip("a whole round has one proof")
    flagged.rounds.send(flagged.told.begin())
    with refused("ShardsMissing", 0, 3):
        flagged.rounds.send(flagged.told.conclude())


@pytest.mark.parametrize("client", range(WHOLE.n))
def test_a_proof_for_other_commitments_is_refused(flagged: Case, client: int) -> None:
    """One client posted something else than the server proved: in a round alike in all else."""
    fresh = replace(flagged.stage, chain=Chain(flagged.stage.chain.chain_id))
    twin = twin_of(fresh, flagged.rounds)
    assert twin.address == flagged.rounds.address
    twin.open(flagged.round)
    for i, commitment in enumerate(flagged.material.commitments):
        twin.commit(flagged.round, i, commitment[:-1] + bytes([commitment[-1] ^ (i == client)]))
    refuse(twin, flagged.told)


def twin_of(stage: Stage, like: Rounds, before: int = 0) -> Rounds:
    """Deploy everything again in the same order, hence at the same addresses, ``before`` deployments later."""
    chain = stage.chain
    for _ in range(before):
        Deployed.create(chain, stage.slasher.contract, like.operator, STRANGER)
    where = {name: deploy_verifier(chain, like.operator, v.contract, {}).address for name, v in stage.verifiers.items()}
    slasher = Deployed.create(chain, stage.slasher.contract, like.operator, DEFAULT_SLASHING.avs)
    code = like.contract.contract
    return Rounds.deploy(chain, code, stage.params, where, slasher.address, (like.operator, VETOER))


def post(rounds: Rounds, material: Material) -> None:
    rounds.open(material.round)
    for i, commitment in enumerate(material.commitments):
        rounds.commit(material.round, i, commitment)


def test_replays_are_refused_and_the_twin_that_changes_nothing_accepts(flagged: Case) -> None:
    """Same commitments, same proofs: under another round id, on another chain, in another contract."""
    stage, material = flagged.stage, flagged.material
    same = twin_of(replace(stage, chain=Chain(stage.chain.chain_id)), stage.rounds)
    chain = twin_of(replace(stage, chain=Chain(stage.chain.chain_id + 1)), stage.rounds)
    contract = twin_of(replace(stage, chain=Chain(stage.chain.chain_id)), stage.rounds, before=1)
    assert same.address == chain.address == stage.rounds.address != contract.address
    id_, number, address = b"\7" * 32, stage.chain.chain_id + 1, contract.address
    for rounds, round in (
        (stage.rounds, replace(flagged.round, round_id=id_)),
        (chain, replace(flagged.round, chain_id=number)),
        (contract, replace(flagged.round, contract=address)),
    ):
        # The clients commit anew, as their contexts differ; or the very same words are posted.
        for posted in (replace(material, round=round), Posted(round, material.commitments)):
            before = rounds.chain.snapshot()
            post(rounds, posted)  # type: ignore[arg-type]
            refuse(rounds, replace(flagged.told, round=round))
            rounds.chain.restore(before)
    post(same, material)
    same.prove(flagged.told.calls(3))
    assert same.outcome(flagged.round) is Outcome.FLAGGED
    with refused("AlreadyDecided"):
        same.prove(flagged.told.calls(3))


@dataclass(frozen=True)
class Posted:
    """Commitments as they were made for another round."""

    round: Round
    commitments: Sequence[bytes]


@pytest.mark.parametrize("change", [{"clip": 1.5}, {"subject": b"\1" * 32}])
def test_another_clip_or_subject_is_refused(flagged: Case, change: dict[str, Any]) -> None:
    rounds = twin_of(replace(flagged.stage, chain=Chain(flagged.stage.chain.chain_id)), flagged.rounds)
    round = replace(flagged.round, **change)
    post(rounds, replace(flagged.material, round=round))
    refuse(rounds, replace(flagged.told, round=round))


def test_a_roster_in_another_order_is_refused(flagged: Case) -> None:
    rounds = twin_of(replace(flagged.stage, chain=Chain(flagged.stage.chain.chain_id)), flagged.rounds)
    first, second, *rest = flagged.round.roster
    round = replace(flagged.round, roster=(second, first, *rest))
    post(rounds, replace(flagged.material, round=round))
    refuse(rounds, replace(flagged.told, round=round))


def test_verifiers_of_other_constants_refuse(flagged: Case, toolchain: Toolchain) -> None:
    other = Stage.set_up(replace(flagged.stage.params, m=2), toolchain)
    round = replace(flagged.round, params=other.params, contract=other.rounds.address)
    post(other.rounds, replace(flagged.material, round=round))
    refuse(other.rounds, replace(flagged.told, round=round))


# Cost


def test_gas_at_ten_clients(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract]) -> None:
    params = Params.of(n=10, d=540, b=14)
    life = demo.life(params, toolchain, byzantine=2)
    assert life.outcome is Outcome.FLAGGED
    assert life.verify_gas["round"] <= 900_000
    assert life.gas("submit") <= 950_000
    assert life.gas("open") <= 180_000
    assert life.gas("commit") <= 53_000
    assert max(life.sizes.values()) <= CODE_SIZE_MAX
    refused = {step.name: step.note for step in life.steps if not step.gas}
    assert refused == {
        "submit a false verdict": "refused: SumcheckFailed",
        "submit a damaged proof": "refused: ShpleminiFailed",
        "slash before the challenge delay": "refused: TooEarly",
        "slash again": "refused: NotPending",
    }
    assert_forecast(life)


def assert_forecast(life: demo.Life) -> None:
    """Every forecast is within half a percent of what was paid, deployments within two."""
    found = gas.forecast(life.params)
    expected = [cost.gas for cost in found.verdict for _ in range(cost.count)]
    assert life.proving == pytest.approx(expected, rel=0.005)
    sizes = [step.bytes for step in life.steps if step.bytes and step.gas]
    assert sizes == [cost.bytes for cost in found.verdict for _ in range(cost.count)]
    opening, commit = found.round
    assert life.gas("open") == pytest.approx(opening.gas, rel=0.005)
    assert life.gas("commit") == pytest.approx(commit.gas, rel=0.005)
    deployed = [step.gas for step in life.steps if step.name.startswith("deploy")]
    assert sorted(deployed) == pytest.approx(sorted(cost.gas for cost in found.deployment), rel=0.02)


def test_a_sharded_life_costs_what_is_forecast_and_the_same_on_another_evm(
    toolchain: Toolchain, crs: Path, contracts: dict[str, Contract]
) -> None:
    pytest.importorskip("eth.vm.forks.cancun", reason="needs py-evm (zkkrum[test])")
    life = demo.life(SHARDED, toolchain, byzantine=1)
    assert_forecast(life)
    replayed = load_script("replay_evm").PyEvm(life.chain.chain_id).replay(life.chain.history)
    assert replayed == [sent.gas for sent in life.chain.history]


def test_budgets_of_large_rounds_are_kept_by_forecast() -> None:
    """What LeNet-5 costs is measured by `scripts/lenet_on_chain.py`; its forecast met it to 0.01 %."""
    for ceiling, most in ((32_700, 73_000_000), (int(2**18 * 0.997), 12_000_000)):
        params = Params.of(n=10, d=61_706)
        params = replace(params, chunk=default_chunk(params, ceiling))
        found = gas.forecast(params)
        assert found.verdict_gas <= most
        assert max(cost.gas for cost in found.verdict) < 2**24
        assert max(cost.bytes for cost in found.verdict) < 128 * 1024
        shards = [cost for cost in found.verdict if cost.title.startswith("prove")]
        if ceiling == 32_700:
            assert found.batch == 14
            assert all(cost.gas / 14 <= 880_000 for cost in shards)


@pytest.mark.parametrize(("n", "d"), [(6, 2), (10, 100), (7, 37)])
@pytest.mark.parametrize("packed", [False, True])
def test_krum_on_chain_for_comparison_is_krum(
    toolchain: Toolchain,
    contracts: dict[str, Contract],
    n: int,
    d: int,
    packed: bool,
) -> None:
    params = Params.of(n=n, d=d)
    rng = np.random.default_rng(n + d)
    v = rng.integers(0, 4096, size=(n, d))
    v[1] = 4095 * (np.arange(d) % 2)
    outcome = Krum(params)(v)
    gas, winner, flags, scores = PlainKrum(toolchain.solc)(v, params, packed=packed)
    assert scores == list(outcome.scores)
    assert (winner,) == outcome.verdict.selected
    assert flags == outcome.verdict.public_words()[1]
    assert gas > 21_000
