"""Exports for a chain: they work from the artefacts alone, are checked strictly, and go on where a claim stands."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from support.onchain import OWNER, STRANGER, VETOER, compiled
from support.proving import example
from zkkrum.cli import main
from zkkrum.errors import EXIT_DIFFERENT, InputError
from zkkrum.evm import export, verifiers
from zkkrum.evm.chain import Chain, Deployed, RevertError
from zkkrum.evm.claims import ClaimState, Outcome, first_missing
from zkkrum.evm.demo import Stage
from zkkrum.evm.evidence import verified_evidence
from zkkrum.evm.gas import batch_size
from zkkrum.evm.rehearsal import rehearse
from zkkrum.evm.rounds import DEFAULT_SLASHING, Rounds, deploy_verifier
from zkkrum.evm.solidity import CODE_SIZE_MAX, Contract
from zkkrum.proof.form import Form
from zkkrum.proof.material import Material
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Toolchain

WHOLE, SHARDED = Params.of(n=5, d=60), Params.of(n=5, d=60, chunk=21)


@pytest.fixture(scope="module")
def contracts(toolchain: Toolchain) -> dict[str, Contract]:
    return compiled(toolchain)


class Case:
    """A round on a chain and its bundle, not sent."""

    def __init__(self, params: Params, tools: Toolchain, bundle: Path) -> None:
        self.stage, self.bundle, self.tools = Stage.set_up(params, tools), bundle, tools
        q = np.random.default_rng(1).integers(-200, 201, size=(params.n, params.d))
        q[3] = 2047
        self.material = Material.commit_values(self.stage.round(1.0), q, tools.bb.hash_many, by_clients=True)
        self.told = self.stage.evidence(self.material, tools, bundle)


@pytest.fixture(autouse=True)
def compiled_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` compiles anew, which takes long: here once for each set of keys.

    That it takes nothing from the cache is a test of its own (test_contract_sources.py).
    """
    render = export._render

    def remembered(params: Params, keys: Any, tools: Toolchain, *, optimized: bool, fresh: bool) -> Any:
        key = (params, optimized, *sorted(keys.items()))
        if not fresh or key not in _rendered:
            _rendered[key] = render(params, keys, tools, optimized=optimized, fresh=fresh)
        return replace(_rendered[key], files=dict(_rendered[key].files))

    monkeypatch.setattr(export, "_render", remembered)


_rendered: dict[Any, Any] = {}


@pytest.fixture(scope="module", params=[WHOLE, SHARDED], ids=["whole", "sharded"])
def case(
    request: pytest.FixtureRequest,
    toolchain: Toolchain,
    crs: Path,
    contracts: dict[str, Contract],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    return Case(request.param, toolchain, tmp_path_factory.mktemp("case") / "bundle")


@pytest.fixture(scope="module")
def exported(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "onchain"
    export.export_bundle(case.bundle, out, case.tools)
    return out


def artifact(folder: Path, name: str) -> Contract:
    data = json.loads((folder / "artifacts" / f"{name}.json").read_text())
    links = {library: tuple(at) for library, at in data["links"].items()}
    return Contract(data["contractName"], data["abi"], bytes.fromhex(data["bytecode"][2:]), 0, {}, links)


def hex_file(path: Path) -> bytes:
    return bytes.fromhex(path.read_text().strip().removeprefix("0x"))


def deployed_from(folder: Path, case: Case, chain: Chain, slasher: Contract) -> Rounds:
    """Deploy from the exported artefacts and constructor arguments alone, and put it where the round says."""
    template = json.loads((folder / "constructor.json").read_text())
    for name, address in template["verifiers_"].items():
        if address is None:
            code = artifact(folder, name)
            libraries = {library: artifact(folder, f"{name}.{library}") for library in code.links}
            template["verifiers_"][name] = deploy_verifier(chain, OWNER, code, libraries).address
    taker = Deployed.create(chain, slasher, OWNER, DEFAULT_SLASHING.avs)
    circuit = {k: bytes.fromhex(v[2:]) if isinstance(v, str) else v for k, v in template["circuit"].items()}
    words = {**DEFAULT_SLASHING.words(taker.address)}
    assert set(template["slashing_"]) == set(words)
    arguments = (template["verifiers_"], circuit, words, template["schedule_"], OWNER, VETOER)
    made = Deployed.create(chain, artifact(folder, "KrumRounds"), OWNER, *arguments)
    there = "0x" + case.material.round.contract.hex()
    chain.move(made.address, there)
    selectors = case.stage.rounds.contract.contract.selectors
    contract = replace(made.contract, selectors=selectors)
    return Rounds(Deployed(chain, contract, there), OWNER, VETOER)


@pytest.mark.parametrize("optimized", [True, False])
def test_an_exported_bundle_works_on_chain(
    case: Case, contracts: dict[str, Contract], tmp_path: Path, optimized: bool
) -> None:
    """Deploy from the exported artefacts alone and send the exported transactions."""
    out = tmp_path / "onchain"
    done = export.export_bundle(case.bundle, out, case.tools, optimized=optimized)
    assert done.bound
    assert all(size <= CODE_SIZE_MAX for size in done.sizes.values())
    assert export.check(out, case.tools) == []
    chain, round = Chain(case.material.round.chain_id), case.material.round
    rounds = deployed_from(out, case, chain, contracts["MockSlasher"])
    rounds.open(round)
    for i, commitment in enumerate(case.material.commitments):
        rounds.commit(round, i, commitment)
    listed = json.loads((out / "transactions.json").read_text())
    assert listed["to"] == rounds.contract.address
    for k, entry in enumerate(listed["transactions"]):
        assert Path(entry["file"]).name.startswith(f"{k:04d}-")
        data = hex_file(out / entry["file"])
        receipt = chain.send(STRANGER, listed["to"], data)
        assert len(data) == entry["bytes"] < 128 * 1024
        assert receipt.gas < 2**24
        if optimized:  # what is forecast is bb's optimized verifier
            assert entry["gasForecast"] == pytest.approx(receipt.gas, rel=0.005)
    assert rounds.outcome(round) is Outcome.FLAGGED
    assert [planned.file for planned in done.transactions] == [entry["file"] for entry in listed["transactions"]]


def test_public_inputs_are_named(case: Case, exported: Path) -> None:
    named = json.loads((exported / "public_inputs.json").read_text())
    roster = case.material.round.roster
    top = [entry["name"] for entry in named["round" if case.told.public is None else "verdict"]]
    assert top[0] == "statement"
    assert top[-3:] == ["malicious", "flagged", "selected"]
    if case.told.public is None:
        assert list(named) == ["round"]
        assert top[1:-3] == [*(f"leaf[{client}]" for client in roster), "leaf_of_aggregate"]
    else:
        assert list(named) == ["shard 0", "shard 1", "shard 2", "verdict"]
        assert int(named["shard 0"][-2]["value"], 16) == FIRST_LINK
    for name, _, words in case.told.questions(case.material.commitments):
        of = {"shard": "shard 0", "lastShard": "shard 2"}.get(name, name)
        assert [int(entry["value"], 16) for entry in named[of]] == words


def test_the_verifier_alone_takes_its_exported_call(case: Case, exported: Path) -> None:
    if case.told.public is not None:
        assert not (exported / "verify.hex").exists()
        return
    chain = Chain()
    verifier = deploy_verifier(chain, OWNER, artifact(exported, "round"), {})
    receipt = chain.send(STRANGER, verifier.address, hex_file(exported / "verify.hex"))
    assert int.from_bytes(receipt.output, "big") == 1


def test_exported_compiler_input_gives_the_exported_code(case: Case, exported: Path) -> None:
    names = {"KrumRounds": ("KrumRounds", "KrumRounds.sol")}
    names |= dict.fromkeys(case.stage.verifiers, ("HonkVerifier", "Verifier.sol"))
    for file, (contract, source) in names.items():
        compiler = json.loads((exported / "compiler" / f"{file}.json").read_text())
        output = case.tools.solc(compiler)
        code = json.loads((exported / "artifacts" / f"{file}.json").read_text())["bytecode"]
        assert "0x" + output["contracts"][source][contract]["evm"]["bytecode"]["object"] == code
        shown = exported / (source if file == "KrumRounds" else f"verifiers/{file}.sol")
        assert shown.read_text() == compiler["sources"][source]["content"]


def test_filled_in_arguments_stay_and_are_no_difference(case: Case, exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "onchain"))
    arguments = json.loads((folder / "constructor.json").read_text())
    arguments["operator"] = arguments["vetoer"] = "0x" + "12" * 20
    arguments["schedule_"]["commitWindow"] += 1
    (folder / "constructor.json").write_text(json.dumps(arguments))
    assert export.check(folder, case.tools) == []
    export.export_bundle(case.bundle, folder, case.tools)
    assert json.loads((folder / "constructor.json").read_text()) == arguments
    said = CliRunner().invoke(main, ["export", "--check", str(folder)]).stdout
    assert f'operator: "{arguments["operator"]}"' in said
    assert '"commitWindow": ' in said
    for name, value in (("n", 7), ("score", "0x" + "00" * 32), ("more", 1)):
        changed = {**arguments, "circuit": {**arguments["circuit"], name: value}}
        (folder / "constructor.json").write_text(json.dumps(changed))
        assert export.check(folder, case.tools) == ["constructor.json: differs from what this zkkrum renders"]
        with pytest.raises(InputError, match="has been filled in, for a contract of other constants"):
            export.export_bundle(case.bundle, folder, case.tools)
    schedule = {**arguments["schedule_"], "commitWindow": 0}
    for changed in (
        {**arguments, "operator": {"a": 1}},
        {**arguments, "schedule_": schedule},
        {**arguments, "vetoer": "\x1b[2J"},
    ):
        (folder / "constructor.json").write_text(json.dumps(changed))
        assert export.check(folder, case.tools) == ["constructor.json: differs from what this zkkrum renders"]


def test_the_constructor_template_fits_the_constructor(exported: Path) -> None:
    template = json.loads((exported / "constructor.json").read_text())
    abi = json.loads((exported / "artifacts" / "KrumRounds.json").read_text())["abi"]
    inputs = next(entry for entry in abi if entry["type"] == "constructor")["inputs"]
    assert list(template) == [entry["name"] for entry in inputs]
    for entry in inputs:
        if entry["type"] == "tuple":
            assert list(template[entry["name"]]) == [c["name"] for c in entry["components"]]


# Check


def test_check_finds_every_change(case: Case, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    shutil.copytree(exported, out)
    assert export.check(out, case.tools) == []
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        good, name = path.read_bytes(), path.relative_to(out).as_posix()
        path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
        found = _check(out, case.tools)
        assert found, name
        assert found[0].startswith((name, "bundle:", "export.json", f"{out / 'export.json'}")), found
        path.unlink()
        found = _check(out, case.tools)
        assert found, name
        assert "No such file" in found[0] or "missing" in found[0] or "not a bundle" in found[0], found
        path.write_bytes(good)
    assert export.check(out, case.tools) == []
    (out / "Extra.sol").write_text("")
    assert export.check(out, case.tools) == ["Extra.sol: not part of the export"]
    (out / "Extra.sol").unlink()
    (out / "bundle" / "shards2").mkdir()
    (out / "bundle" / "shards2" / "x").symlink_to("/etc/passwd")
    assert export.check(out, case.tools) == ["bundle/shards2/x: not part of the export"]


def _check(folder: Path, tools: Toolchain) -> list[str]:
    try:
        return export.check(folder, tools)
    except InputError as error:
        return [error.message]


def tampered(exported: Path, out: Path, edit: Callable[[Path], None]) -> Path:
    shutil.copytree(exported, out)
    edit(out)
    return out


def _swap_labels(folder: Path) -> None:
    """Two public inputs change names; the manifest's hashes are of the files, so it must be read."""
    path = folder / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    first, second = manifest["public_inputs"][1:3]
    first["name"], second["name"] = second["name"], first["name"]
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def _no_inputs(folder: Path) -> None:
    path = folder / "bundle" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"public_inputs": []}))


def _other_client(folder: Path) -> None:
    path = folder / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["commitments"][0], manifest["commitments"][1] = manifest["commitments"][1], manifest["commitments"][0]
    path.write_text(json.dumps(manifest))


def _empty_inputs_file(folder: Path) -> None:
    (folder / "bundle" / "public_inputs").write_bytes(b"")


def _not_json(folder: Path) -> None:
    (folder / "bundle" / "manifest.json").write_text("[" * 100_000)


def _start(folder: Path) -> None:
    path = folder / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"start": 99}))


def test_a_key_twice_in_the_manifest_is_refused(case: Case, exported: Path, tmp_path: Path) -> None:
    def edit(folder: Path) -> None:
        path = folder / "export.json"
        path.write_text(path.read_text().replace("{", '{"verifier": "plain",', 1))

    with pytest.raises(InputError, match="key 'verifier' stands twice"):
        export.check(tampered(exported, tmp_path / "x", edit), case.tools)


def _other_shape(folder: Path) -> None:
    path = folder / "export.json"
    path.write_text(path.read_text().replace('"m": 1', '"m": 2'))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_swap_labels, "bundle: manifest: its named public inputs are not those of the proof"),
        (_no_inputs, "bundle: manifest: its named public inputs are not those of the proof"),
        (_other_client, "bundle: manifest: its commitments are not those of the roster"),
        (_empty_inputs_file, "bundle: public_inputs: expected"),
        (_not_json, "bundle: manifest:"),
        (_start, "export.json: start: 99 is no shard of this round"),
        (_other_shape, "not the verification key of these parameters"),
    ],
)
def test_check_reads_as_strictly_as_verify(
    case: Case, exported: Path, tmp_path: Path, edit: Callable[[Path], None], says: str
) -> None:
    [found] = export.check(tampered(exported, tmp_path / "x", edit), case.tools)
    assert says in found


def test_every_verifier_is_covered(case: Case, exported: Path, tmp_path: Path) -> None:
    """The verifier of one key, its source exchanged for another's, all hashes put right."""
    for name in case.stage.verifiers:
        out = tmp_path / name
        shutil.copytree(exported, out)
        key = bytearray((out / "keys" / f"{name}.vk").read_bytes())
        key[-1] ^= 1
        (out / "keys" / f"{name}.vk").write_bytes(key)
        [found] = export.check(out, case.tools)
        assert found.startswith(f"keys/{name}.vk: not the verification key")


def test_what_is_not_an_export_is_no_export(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an export"):
        export.check(tmp_path, toolchain)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(InputError, match="format"):
        export.check(tmp_path, toolchain)


def test_a_forged_bundle_is_not_exported(case: Case, tmp_path: Path) -> None:
    shutil.copytree(case.bundle, tmp_path / "b")
    proof = (tmp_path / "b" / "proof").read_bytes()
    (tmp_path / "b" / "proof").write_bytes(proof[:-1] + bytes([proof[-1] ^ 1]))
    with pytest.raises(InputError, match="does not verify"):
        export.export_bundle(tmp_path / "b", tmp_path / "x", case.tools)
    assert not (tmp_path / "x").exists()


def test_plain_verifiers_cost_what_is_forecast(case: Case, tmp_path: Path) -> None:
    found = export.export_bundle(case.bundle, tmp_path / "x", case.tools, optimized=False, rehearsed=True)
    assert len(found.measured) == len(found.transactions)
    for planned, measured in zip(found.transactions, found.measured, strict=True):
        assert planned.gas == pytest.approx(measured, rel=0.08), planned.title


@pytest.mark.parametrize("optimized", [True, False])
def test_a_rehearsed_refusal_of_a_verifier_is_named(case: Case, optimized: bool) -> None:
    """The plain verifier's errors stand in its ABI, the optimized one's in its assembly alone."""
    params = case.told.round.params
    rendered = verifiers.render(params, verifiers.keys_of(params, case.tools), case.tools, optimized=optimized)
    forged = replace(case.told, proof=case.told.proof[:-1] + bytes([case.told.proof[-1] ^ 1]))
    with pytest.raises(RevertError) as caught:
        rehearse(forged, forged.calls(2), case.material.commitments, rendered, case.tools)
    assert caught.value.error, str(caught.value)


# Going on with a claim


def state_of(case: Case, sender: str = STRANGER) -> ClaimState:
    return case.stage.rounds.claim(case.material.round, sender)


def test_an_interrupted_submission_goes_on_where_it_stopped(case: Case, tmp_path: Path) -> None:
    """Whatever was sent: what is exported next leads to the verdict."""
    rounds, chain, round = case.stage.rounds, case.stage.chain, case.material.round
    before = chain.snapshot()
    case.stage.post(case.material)
    ready = chain.snapshot()
    calls = case.told.calls(2)
    for sent in range(len(calls)):
        chain.restore(ready)
        rounds.prove(calls[:sent], STRANGER)
        state = state_of(case)
        out = tmp_path / str(sent)
        done = export.export_bundle(case.bundle, out, case.tools, state=state, rehearsed=True)
        assert done.claim
        assert export.check(out, case.tools) == []
        for k, planned in enumerate(done.transactions):
            gas = chain.send(STRANGER, rounds.contract.address, hex_file(out / planned.file)).gas
            assert done.measured[k] == pytest.approx(gas, rel=0.001)
        assert rounds.outcome(round) is Outcome.FLAGGED
        with pytest.raises(InputError, match="decided on chain: flagged"):
            export.export_bundle(case.bundle, tmp_path / "late", case.tools, state=state_of(case))
    chain.restore(before)


def test_a_claim_of_another_proof_is_begun_again(case: Case) -> None:
    if case.told.public is None:
        pytest.skip("a whole round has no claims")
    told, zero = case.told, bytes(32)
    n = told.round.params.n
    nothing = ClaimState(Outcome.NONE, zero, 0, FIRST_LINK, zero)
    assert first_missing(told, nothing) == (None, "nothing of it was sent")
    other = ClaimState(Outcome.NONE, b"\1" * 32, 1, told.links[1], zero)
    assert first_missing(told, other)[0] is None
    rounds, chain = case.stage.rounds, case.stage.chain
    before = chain.snapshot()
    case.stage.post(case.material)
    rounds.prove(told.calls(1)[:2], STRANGER)
    good = state_of(case)
    chain.restore(before)
    assert first_missing(told, good) == (1, "1 of 3 shards are proved")
    for change in ({"link": 7}, {"chains": zero}, {"next": 2}, {"next": 4}):
        if change == {"next": 4}:
            change = {"next": n + 4}
        assert first_missing(told, replace(good, **change))[0] is None


@pytest.mark.parametrize("answer", ["", "0x", "0x12", "zz", "0x" + "00" * 159, "0x" + "00" * 161, "0x" + "ff" * 160])
def test_a_state_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(InputError, match="five 32-byte words"):
        ClaimState.parse(answer)


# Commands


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_export_command(case: Case, tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    told = json.loads(invoke("export", str(case.bundle), "-o", out, "--rehearse", "--json"))
    assert told["bound"] is True
    assert [t["gas"] for t in told["transactions"]] == pytest.approx(told["measured_gas"], rel=0.005)
    text = invoke("export", str(case.bundle), "-o", out, "--rehearse")
    assert re.search(r"0000-(begin|submit)\.hex", text)
    assert "measured" in text
    assert "exactly what this zkkrum renders" in invoke("export", "--check", out)
    (tmp_path / "x" / "KrumRounds.sol").write_text("")
    assert json.loads(invoke("export", "--check", out, "--json", code=EXIT_DIFFERENT)) == {
        "schema": "zkkrum-export-1",
        "ok": False,
        "differences": ["KrumRounds.sol: differs from what this zkkrum renders"],
        "filled_in": {},
    }
    state = "0x" + bytes(96).hex() + FIRST_LINK.to_bytes(32, "big").hex() + bytes(32).hex()
    assert "nothing of it was sent" in invoke("export", str(case.bundle), "--next", state, "-o", str(tmp_path / "n"))
    invoke("export", str(case.bundle), "--next", "0x00", "-o", out, code=3)


def test_the_export_command_for_a_shape(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    told = json.loads(invoke("export", "-n", "5", "-d", "60", "-o", out, "--json"))
    assert told["bound"] is None
    assert "transactions.json" not in told["files"]
    assert "exactly what this zkkrum renders" in invoke("export", "--check", out)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file.json").write_text("")
    invoke("export", "-n", "5", "-d", "60", "-o", str(tmp_path / "precious"), code=3)
    (tmp_path / "x" / "mine.json").write_text("")  # an export with something else in it is not replaced
    invoke("export", "-n", "5", "-d", "60", "-o", out, code=3)
    assert (tmp_path / "precious" / "file.json").exists()
    for wrong in ((), ("-n", "5"), ("-n", "5", "-d", "60", "--next", "0x"), ("-n", "5", "-d", "60", "--rehearse")):
        invoke("export", *wrong, code=2)


def test_a_bundle_of_no_chain_says_so(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    made = example(tmp_path, toolchain, Form.ROUND)
    told = json.loads(invoke("export", str(made.bundle), "-o", str(tmp_path / "x"), "--json"))
    assert told["bound"] is False
    invoke("export", str(made.bundle), "-o", str(tmp_path / "y"), "--rehearse", code=3)


def test_the_demo_command(toolchain: Toolchain, crs: Path, contracts: dict[str, Contract], tmp_path: Path) -> None:
    shape = ("-n", "5", "-d", "60")
    told = json.loads(invoke("onchain-demo", *shape, "--byzantine", "1", "--json", "-o", str(tmp_path / "b")))
    assert told["outcome"] == "flagged"
    assert len(told["flagged"]) == 1
    assert [s["name"] for s in told["steps"] if s["gas"]] == [
        "deploy round verifier", "deploy KrumRounds", "open", "commit", "submit", "slash",
    ]  # fmt: skip
    text = invoke("onchain-demo", *shape, "--byzantine", "0")
    assert "outcome on chain: Honest; flagged, by their place in the roster: nobody" in text
    assert re.search(r"submit +\d{3},\d{3}", text)
    invoke("verify", str(tmp_path / "b"), "--expect", "malicious")


def test_the_demo_command_plays_a_sharded_round(
    toolchain: Toolchain, crs: Path, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    arguments = ("-n", "5", "-d", "60", "--byzantine", "1", "--shard-gates", "2100", "--json")
    told = json.loads(invoke("onchain-demo", *arguments, "-o", str(tmp_path / "b")))
    names = [s["name"] for s in told["steps"] if s["gas"]]
    assert names[-4] == "begin"
    assert names[-3].startswith("prove shards 0 to")
    assert names[-2:] == ["conclude", "slash"]
    assert told["outcome"] == "flagged"
    verified = verified_evidence(tmp_path / "b", toolchain)
    assert batch_size(verified.round.params) >= 2


def test_the_estimate_command_on_chain() -> None:
    told = json.loads(invoke("estimate", "-n", "10", "-d", "61706", "--on-chain", "--json"))["on_chain"]
    assert told["batch"] == 14
    assert told["transactions"] == 8
    assert told["verdict_gas"] < told["osaka_verdict_gas"] < 73_000_000
    by_points = {entry["points"]: entry["gas"] for entry in told["larger_shards"]}
    assert by_points[2**18] < 12_000_000 < by_points[2**15]
    text = invoke("estimate", "-n", "10", "-d", "540", "--on-chain")
    assert re.search(r"submit +9\d\d,\d{3} +8,996", text)
    assert "with 65,536 points" not in text  # one circuit is as cheap as it gets
