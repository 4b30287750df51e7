"""The whole way with nothing simulated: circuit, proof, bb's Solidity verifier, KrumRounds, a real EVM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from support.onchain import OWNER, STRANGER, VETOER, compiled
from zkkrum.cli import main
from zkkrum.errors import InputError
from zkkrum.evm import demo, export
from zkkrum.evm.chain import Chain, Deployed, HaltError, RevertError
from zkkrum.evm.demo import PlainKrum, Stage
from zkkrum.evm.rounds import Outcome, Rounds, deploy_verifier
from zkkrum.evm.solidity import CODE_SIZE_MAX, Contract
from zkkrum.proof.material import Material
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import Krum, Verdict
from zkkrum.protocol.params import Detection, Params, Round, Score
from zkkrum.protocol.quantize import Integers
from zkkrum.toolchain import Toolchain

PARAMS = Params.of(n=5, d=60)


@dataclass(frozen=True, eq=False)
class Case:
    """An opened round with all commitments on chain, and the proof of its verdict."""

    stage: Stage
    material: Material
    verdict: Verdict
    proof: bytes
    bundle: Path

    @property
    def round(self) -> Round:
        return self.material.round

    @property
    def outputs(self) -> list[int]:
        return self.verdict.public_words()

    @property
    def words(self) -> list[int]:
        return [self.round.context, *self.material.commitments, *self.outputs]

    def verifies(self, proof: bytes, words: Sequence[int]) -> bool:
        """Ask the verifier itself; a refusal is a revert, or all gas gone in a precompile (a point off the curve)."""
        try:
            answer = self.stage.verifier.view("verify", proof, [w.to_bytes(32, "big") for w in words])
        except (RevertError, HaltError):
            return False
        assert answer is True
        return True


def honest(seed: int, params: Params = PARAMS) -> Integers:
    rng = np.random.default_rng(seed)
    return rng.integers(-200, 201, size=(params.n, params.d))


def attacked(seed: int, params: Params = PARAMS) -> Integers:
    q = honest(seed, params)
    q[3] = 2047
    return q


def committed(stage: Stage, round: Round, q: Integers, tools: Toolchain) -> Material:
    return Material.commit_values(round, q, tools.bb.hash_many, by_clients=True)


def post(rounds: Rounds, material: Material) -> None:
    rounds.open(material.round)
    for i, commitment in enumerate(material.commitments):
        rounds.commit(material.round, i, commitment)


def proved(stage: Stage, q: Integers, tools: Toolchain, bundle: Path) -> Case:
    material = committed(stage, stage.round(clip=1.0), q, tools)
    post(stage.rounds, material)
    proof = stage.proof_of(material, tools, bundle)
    return Case(stage, material, Krum(stage.params)(q).verdict, proof, bundle)


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


@pytest.fixture(scope="module")
def stage(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract]) -> Stage:
    return Stage.set_up(PARAMS, toolchain)


@pytest.fixture(scope="module")
def flagged(stage: Stage, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Committed and proved, not submitted."""
    return proved(stage, attacked(1), toolchain, tmp_path_factory.mktemp("flagged") / "bundle")


@pytest.fixture(scope="module")
def clean(stage: Stage, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An honest round, committed and proved, not submitted."""
    return proved(stage, honest(2), toolchain, tmp_path_factory.mktemp("honest") / "bundle")


@pytest.fixture(autouse=True)
def unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what a test does to the shared chain."""
    if not {"flagged", "clean", "stage"} & set(request.fixturenames):
        yield
        return
    cases = [request.getfixturevalue(name) for name in ("flagged", "clean") if name in request.fixturenames]
    chain = cases[0].stage.chain if cases else request.getfixturevalue("stage").chain
    before = chain.snapshot()
    yield
    chain.restore(before)


# The two verdicts


def test_a_flagged_round_to_the_end(flagged: Case) -> None:
    rounds, round = flagged.stage.rounds, flagged.round
    assert flagged.verdict == Verdict(True, (3,), flagged.verdict.selected)
    rounds.submit(round, flagged.proof, flagged.outputs, sender=STRANGER)
    assert rounds.outcome(round) is Outcome.FLAGGED
    flagged.stage.chain.time += 7 * 24 * 3600
    rounds.slash(round, 0b01000, sender=STRANGER)
    assert [flagged.stage.slasher.view("slashed", c) for c in round.roster] == [0, 0, 0, 1, 0]


def test_an_honest_round_to_the_end(clean: Case) -> None:
    rounds, round = clean.stage.rounds, clean.round
    assert not clean.verdict.malicious
    rounds.submit(round, clean.proof, clean.outputs)
    assert rounds.outcome(round) is Outcome.HONEST
    clean.stage.chain.time += 7 * 24 * 3600
    for clients in (0b00001, 0b11111):
        with pytest.raises(RevertError, match="NotPending"):
            rounds.slash(round, clients)


def test_an_unattributed_round_slashes_nobody(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    params = Params.of(n=6, d=2, score=Score.ALL_PAIRS, detection=Detection.BRACKETS)
    rng = np.random.default_rng(0)
    while True:
        q = rng.integers(-100, 101, size=(params.n, params.d))
        verdict = Krum(params)(q).verdict
        if verdict.malicious and not verdict.flagged:
            break
    case = proved(Stage.set_up(params, toolchain), q, toolchain, tmp_path / "bundle")
    case.stage.rounds.submit(case.round, case.proof, case.outputs)
    assert case.stage.rounds.outcome(case.round) is Outcome.UNATTRIBUTED
    case.stage.chain.time += 7 * 24 * 3600
    with pytest.raises(RevertError, match="NotPending"):
        case.stage.rounds.slash(case.round, 1)


# Forgeries at the verifier


def test_each_public_input_altered_is_refused(flagged: Case) -> None:
    assert flagged.verifies(flagged.proof, flagged.words)
    for k, word in enumerate(flagged.words):
        for other in ((word + 1) % P, (word - 1) % P, word ^ 1, 0 if word else 7):
            altered = [*flagged.words[:k], other, *flagged.words[k + 1 :]]
            assert not flagged.verifies(flagged.proof, altered), f"public input {k}"


def test_public_inputs_that_are_not_canonical_are_refused(flagged: Case) -> None:
    for k, word in enumerate(flagged.words):
        if word + P < 2**256:
            altered = [*flagged.words[:k], word + P, *flagged.words[k + 1 :]]
            assert not flagged.verifies(flagged.proof, altered), f"public input {k}"


def test_too_few_or_many_public_inputs_are_refused(flagged: Case) -> None:
    for altered in (flagged.words[:-1], [*flagged.words, 0], [], flagged.words[::-1]):
        assert not flagged.verifies(flagged.proof, altered)


def test_a_flipped_byte_of_the_proof_is_refused(flagged: Case) -> None:
    for start in range(0, len(flagged.proof), 32):
        for at, bit in ((start, 0x40), (start + 31, 0x01)):
            proof = bytearray(flagged.proof)
            proof[at] ^= bit
            assert not flagged.verifies(bytes(proof), flagged.words), f"byte {at}"


def test_a_proof_of_another_length_is_refused(flagged: Case) -> None:
    proof = flagged.proof
    for other in (b"", proof[:-32], proof + bytes(32), proof[:-1], proof + b"\0", bytes(len(proof))):
        assert not flagged.verifies(other, flagged.words)


# Forgeries at the contract


def refuse(rounds: Rounds, round: Round, proof: bytes, outputs: Sequence[int]) -> None:
    with pytest.raises(RevertError):
        rounds.submit(round, proof, outputs)
    assert rounds.outcome(round) is Outcome.NONE


def test_a_false_verdict_is_refused(flagged: Case, clean: Case) -> None:
    selected = flagged.outputs[2]
    for outputs in ((0, 0, selected), (1, 0, selected), (1, 0b01100, selected), (1, 0b00100, selected), (1, 8, 8)):
        refuse(flagged.stage.rounds, flagged.round, flagged.proof, outputs)
    for outputs in ((1, 0b01000, clean.outputs[2]), (1, 0, clean.outputs[2]), (0, 0, 0b11111)):
        refuse(clean.stage.rounds, clean.round, clean.proof, outputs)


def test_a_damaged_proof_is_refused(flagged: Case) -> None:
    for at in (0, len(flagged.proof) // 2, len(flagged.proof) - 1):
        proof = bytearray(flagged.proof)
        proof[at] ^= 1
        refuse(flagged.stage.rounds, flagged.round, bytes(proof), flagged.outputs)


def test_a_proof_of_another_round_is_refused(flagged: Case, clean: Case) -> None:
    refuse(flagged.stage.rounds, flagged.round, clean.proof, clean.outputs)
    refuse(clean.stage.rounds, clean.round, flagged.proof, flagged.outputs)


@pytest.mark.parametrize("client", range(PARAMS.n))
def test_a_proof_for_other_commitments_is_refused(flagged: Case, client: int) -> None:
    """One client posted something else than the server proved: in a round alike in all else."""
    rounds, chain = flagged.stage.rounds, flagged.stage.chain
    fresh = replace(flagged.stage, chain=Chain(chain.chain_id))
    twin = twin_of(fresh, rounds)
    assert twin.address == rounds.address
    twin.open(flagged.round)
    for i, commitment in enumerate(flagged.material.commitments):
        twin.commit(flagged.round, i, commitment + (i == client))
    refuse(twin, flagged.round, flagged.proof, flagged.outputs)


def twin_of(stage: Stage, like: Rounds, before: int = 0) -> Rounds:
    """Deploy everything again in the same order, hence at the same addresses, ``before`` deployments later."""
    chain = stage.chain
    for _ in range(before):
        Deployed.create(chain, stage.slasher.contract, like.operator, STRANGER)
    verifier = deploy_verifier(chain, like.operator, stage.verifier.contract, {})
    slasher = Deployed.create(chain, stage.slasher.contract, like.operator, stage.slasher.view("AVS"))
    code = like.contract.contract
    return Rounds.deploy(chain, code, stage.params, verifier.address, slasher.address, like.operator, VETOER)


def test_replays_are_refused_and_the_twin_that_changes_nothing_accepts(flagged: Case) -> None:
    """Same commitments, same proof: under another round id, on another chain, in another contract."""
    stage, material = flagged.stage, flagged.material
    same = twin_of(replace(stage, chain=Chain(stage.chain.chain_id)), stage.rounds)
    chain = twin_of(replace(stage, chain=Chain(stage.chain.chain_id + 1)), stage.rounds)
    contract = twin_of(replace(stage, chain=Chain(stage.chain.chain_id)), stage.rounds, before=1)
    assert same.address == chain.address == stage.rounds.address != contract.address
    other_id = replace(flagged.round, round_id=bytes(32))
    for rounds, round in ((stage.rounds, other_id), (chain, flagged.round), (contract, flagged.round)):
        post(rounds, replace(material, round=round))
        refuse(rounds, round, flagged.proof, flagged.outputs)
    post(same, material)
    same.submit(flagged.round, flagged.proof, flagged.outputs)
    assert same.outcome(flagged.round) is Outcome.FLAGGED
    with pytest.raises(RevertError, match="AlreadyDecided"):
        same.submit(flagged.round, flagged.proof, flagged.outputs)


@pytest.mark.parametrize("change", [{"clip": 1.5}, {"subject": b"\1" * 32}])
def test_another_clip_or_subject_is_refused(flagged: Case, change: dict[str, Any]) -> None:
    rounds = twin_of(replace(flagged.stage, chain=Chain(flagged.stage.chain.chain_id)), flagged.stage.rounds)
    round = replace(flagged.round, **change)
    post(rounds, replace(flagged.material, round=round))
    refuse(rounds, round, flagged.proof, flagged.outputs)


def test_a_roster_in_another_order_is_refused(flagged: Case) -> None:
    rounds = twin_of(replace(flagged.stage, chain=Chain(flagged.stage.chain.chain_id)), flagged.stage.rounds)
    first, second, *rest = flagged.round.roster
    round = replace(flagged.round, roster=(second, first, *rest))
    post(rounds, replace(flagged.material, round=round))
    refuse(rounds, round, flagged.proof, flagged.outputs)


def test_a_verifier_of_other_constants_refuses(flagged: Case, toolchain: Toolchain) -> None:
    other = Stage.set_up(replace(PARAMS, m=2), toolchain)
    material = replace(flagged.material, round=replace(flagged.round, params=other.params))
    post(other.rounds, material)
    refuse(other.rounds, material.round, flagged.proof, flagged.outputs)


# Cost


def test_gas_at_ten_clients(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract]) -> None:
    life = demo.life(Params.of(n=10, d=540, b=14), toolchain, byzantine=2)
    assert life.outcome is Outcome.FLAGGED
    assert life.verify_gas <= 900_000
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


# Export


@pytest.mark.parametrize("optimized", [True, False])
def test_an_exported_bundle_works_on_chain(
    flagged: Case, toolchain: Toolchain, tmp_path: Path, optimized: bool
) -> None:
    """Deploy from the exported artefacts alone and send the exported calldata."""
    out = tmp_path / "onchain"
    done = export.export_bundle(flagged.bundle, out, toolchain, optimized=optimized)
    assert done.bound
    assert all(size <= CODE_SIZE_MAX for size in done.sizes.values())
    assert export.check(out, toolchain) == []

    def artifact(name: str) -> Contract:
        data = json.loads((out / "artifacts" / f"{name}.json").read_text())
        links = {library: tuple(at) for library, at in data["links"].items()}
        return Contract(name, data["abi"], bytes.fromhex(data["bytecode"][2:]), 0, {}, links)

    chain = flagged.stage.chain
    code = artifact("HonkVerifier")
    verifier = deploy_verifier(chain, OWNER, code, {name: artifact(name) for name in code.links})
    receipt = chain.send(STRANGER, verifier.address, bytes.fromhex((out / "calldata.hex").read_text()[2:]))
    assert int.from_bytes(receipt.output, "big") == 1
    submit = bytes.fromhex((out / "submit.hex").read_text()[2:])
    chain.send(STRANGER, flagged.stage.rounds.contract.address, submit)
    assert flagged.stage.rounds.outcome(flagged.round) is Outcome.FLAGGED

    named = json.loads((out / "calldata.json").read_text())
    names = [
        "context",
        *(f"commitment[{client}]" for client in flagged.round.roster),
        "malicious",
        "flagged",
        "selected",
    ]
    assert [entry["name"] for entry in named["public_inputs"]] == names
    assert [int(entry["value"], 16) for entry in named["public_inputs"]] == flagged.words
    assert named["submit"]["data"] == "0x" + submit.hex()
    encoded = flagged.stage.rounds.contract.calldata("submit", flagged.round.round_id, flagged.proof, *flagged.outputs)
    assert submit == encoded


def test_exported_compiler_input_gives_the_exported_code(flagged: Case, toolchain: Toolchain, tmp_path: Path) -> None:
    export.export_bundle(flagged.bundle, tmp_path / "x", toolchain)
    for name, source in (("KrumRounds", "KrumRounds.sol"), ("HonkVerifier", "Verifier.sol")):
        file = "KrumRounds" if name == "KrumRounds" else "Verifier"
        output = toolchain.solc(json.loads((tmp_path / "x" / "compiler" / f"{file}.json").read_text()))
        code = json.loads((tmp_path / "x" / "artifacts" / f"{name}.json").read_text())["bytecode"]
        assert "0x" + output["contracts"][source][name]["evm"]["bytecode"]["object"] == code
        assert (tmp_path / "x" / source).read_text() == json.loads(
            (tmp_path / "x" / "compiler" / f"{file}.json").read_text()
        )["sources"][source]["content"]


def test_the_constructor_template_fits_the_constructor(flagged: Case, toolchain: Toolchain, tmp_path: Path) -> None:
    export.export_bundle(flagged.bundle, tmp_path / "x", toolchain)
    template = json.loads((tmp_path / "x" / "constructor.json").read_text())
    abi = json.loads((tmp_path / "x" / "artifacts" / "KrumRounds.json").read_text())["abi"]
    inputs = next(entry for entry in abi if entry["type"] == "constructor")["inputs"]
    assert list(template) == [entry["name"] for entry in inputs]
    for entry in inputs:
        if entry["type"] == "tuple":
            assert list(template[entry["name"]]) == [c["name"] for c in entry["components"]]


def test_check_finds_every_change(flagged: Case, toolchain: Toolchain, tmp_path: Path) -> None:
    out = tmp_path / "x"
    export.export_bundle(flagged.bundle, out, toolchain)
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        good, name = path.read_bytes(), path.relative_to(out).as_posix()
        if name in ("vk", "calldata.json", "export.json"):
            continue
        path.write_bytes(good.replace(b"0", b"1", 1) if b"0" in good else good + b" ")
        assert export.check(out, toolchain) == [f"{name}: differs from what this zkkrum renders"]
        path.unlink()
        assert export.check(out, toolchain) == [f"{name}: missing"]
        path.write_bytes(good)
    (out / "Extra.sol").write_text("")
    assert export.check(out, toolchain) == ["Extra.sol: not part of the export"]
    (out / "Extra.sol").unlink()

    key = (out / "vk").read_bytes()
    (out / "vk").write_bytes(key[:-1] + bytes([key[-1] ^ 1]))
    assert "not the verification key" in export.check(out, toolchain)[0]
    (out / "vk").write_bytes(key)

    manifest = (out / "export.json").read_text()
    other = manifest.replace('"m": 1', '"m": 2')
    assert other != manifest
    (out / "export.json").write_text(other)  # the verifier of one shape, the constants of another
    assert "not the verification key" in export.check(out, toolchain)[0]
    (out / "export.json").write_text(manifest)

    named = json.loads((out / "calldata.json").read_text())
    named["public_inputs"][1]["value"] = named["public_inputs"][2]["value"]
    (out / "calldata.json").write_text(json.dumps(named))
    assert any("does not hold" in line for line in export.check(out, toolchain))


def test_a_forged_bundle_is_not_exported(flagged: Case, toolchain: Toolchain, tmp_path: Path) -> None:
    manifest = (flagged.bundle / "manifest.json").read_text()
    proof = (flagged.bundle / "proof").read_bytes()
    (tmp_path / "b").mkdir()
    for name in ("vk", "public_inputs"):
        (tmp_path / "b" / name).write_bytes((flagged.bundle / name).read_bytes())
    (tmp_path / "b" / "manifest.json").write_text(manifest)
    (tmp_path / "b" / "proof").write_bytes(proof[:-1] + bytes([proof[-1] ^ 1]))
    with pytest.raises(InputError, match="does not verify"):
        export.export_bundle(tmp_path / "b", tmp_path / "x", toolchain)
    assert not (tmp_path / "x").exists()


# Commands


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_demo_command(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract], tmp_path: Path) -> None:
    shape = ("-n", "5", "-d", "60")
    told = json.loads(invoke("onchain-demo", *shape, "--byzantine", "1", "--json", "-o", str(tmp_path / "b")))
    assert told["outcome"] == "flagged"
    assert len(told["flagged"]) == 1
    assert [s["name"] for s in told["steps"] if s["gas"]] == [
        "deploy verifier", "deploy KrumRounds", "open", "commit", "submit", "slash",
    ]  # fmt: skip
    text = invoke("onchain-demo", *shape, "--byzantine", "0")
    assert "outcome on chain: Honest; flagged: nobody" in text
    assert re.search(r"submit +\d{3},\d{3}", text)
    invoke("verify", str(tmp_path / "b"), "--expect", "malicious")


def test_the_export_command(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract], tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    told = json.loads(invoke("export", "-n", "5", "-d", "60", "-o", out, "--json"))
    assert told["bound"] is None
    assert "calldata.json" not in told["files"]
    assert "exactly what this zkkrum renders" in invoke("export", "--check", out)
    (tmp_path / "x" / "KrumRounds.sol").write_text("")
    assert json.loads(invoke("export", "--check", out, "--json", code=9)) == {
        "ok": False,
        "differences": ["KrumRounds.sol: differs from what this zkkrum renders"],
    }
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    invoke("export", "-n", "5", "-d", "60", "-o", str(tmp_path / "precious"), code=3)
    invoke("export", code=2)
    invoke("export", "-n", "5", code=2)
    assert (tmp_path / "precious" / "file").exists()
