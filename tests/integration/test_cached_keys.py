"""Keys from the cache and elsewhere, with the real tools: what is damaged or planted is made again or found out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zkkrum.cli import main
from zkkrum.errors import EXIT_UNEXPECTED, ToolFailedError
from zkkrum.proof import build as building
from zkkrum.proof import keys
from zkkrum.proof.circuit import Circuit, round_circuit
from zkkrum.proof.verify import verify
from zkkrum.protocol.forecast import round_gates
from zkkrum.protocol.params import Params
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round
from zkkrum.toolchain import Toolchain, cache_dir, process, provision
from zkkrum.toolchain import crs as reference


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def proved(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proved round of a shape that is in no shipped table."""
    home = tmp_path_factory.mktemp("proved") / "r"
    assert run("simulate", home, "-n", 5, "-d", 13, "--byzantine", 1).exit_code == 0
    result = run("prove", home)
    assert result.exit_code == 0, result.output
    return home


@pytest.fixture
def params(proved: Path) -> Params:
    return load_round(RoundDirectory(proved).round_file).params


@pytest.fixture
def circuit(params: Params) -> Circuit:
    found = round_circuit(params)
    assert found.key_id not in keys.key_table()
    return found


@pytest.fixture
def own_cache(toolchain: Toolchain, crs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the tools, and nothing compiled."""
    folder = tmp_path / "cache"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / provision.tools_name()).symlink_to(toolchain.tools)
    monkeypatch.setenv("ZKKRUM_CACHE", str(folder))
    return folder


@pytest.fixture
def built(own_cache: Path, circuit: Circuit, toolchain: Toolchain) -> building.Built:
    made = building.build(circuit, toolchain)
    assert made.folder.is_relative_to(own_cache / "compiled")
    building.verification_key(made, toolchain)
    return made


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which commands of nargo and bb are started from here on."""
    started: list[str] = []
    really = process.start

    def start(command: list[str | Path], **options: object) -> object:
        started.append(" ".join(map(str, command)))
        return really(command, **options)

    monkeypatch.setattr(process, "start", start)
    return started


class TestCachedKeys:
    def test_are_used(
        self, built: building.Built, proved: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = recorded(monkeypatch)
        assert verify(proved / "bundle", toolchain).ok
        assert len(started) == 1
        assert " verify " in started[0]

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda b: b.vk.write_bytes(b""), id="empty key"),
            pytest.param(lambda b: b.vk.write_bytes(b.vk.read_bytes()[:-1]), id="short key"),
            pytest.param(lambda b: b.vk.unlink(), id="no key"),
            pytest.param(lambda b: b.vk.with_name("key.made.json").write_bytes(b""), id="empty note of the key"),
            pytest.param(lambda b: b.vk.with_name("key.made.json").write_text("[1]"), id="odd note of the key"),
            pytest.param(lambda b: b.vk.with_name("gates.made.json").write_bytes(b""), id="empty gates"),
            pytest.param(lambda b: b.vk.with_name("gates.made.json").write_text('{"gates": "x"}'), id="odd gates"),
            pytest.param(lambda b: b.artifact.write_bytes(b""), id="empty artefact"),
            pytest.param(lambda b: b.artifact.write_bytes(b.artifact.read_bytes()[:-100]), id="short artefact"),
            pytest.param(lambda b: b.artifact.unlink(), id="no artefact"),
            pytest.param(lambda b: b.artifact.with_name("artifact.made.json").unlink(), id="no note of the artefact"),
        ],
    )
    def test_that_are_damaged_are_made_again(
        self, damage: Callable[[building.Built], object], built: building.Built, proved: Path, toolchain: Toolchain
    ) -> None:
        def content() -> tuple[bytes, str]:
            return built.vk.read_bytes(), json.loads(built.artifact.read_bytes())["bytecode"]

        good = content()
        damage(built)
        assert verify(proved / "bundle", toolchain).ok
        assert content() == good
        assert building.gates(built, toolchain) > 1000

    def test_a_planted_one_is_not_believed(
        self, built: building.Built, proved: Path, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        """The key of another circuit, in the cache and in a bundle, as if it were this one's."""
        other = building.verification_key(building.build(round_circuit(Params.of(5, 14)), toolchain), toolchain)
        built.vk.write_bytes(other)
        bundle = tmp_path / "bundle"
        shutil.copytree(proved / "bundle", bundle)
        (bundle / "vk").write_bytes(other)
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"]["vk"] = hashlib.sha256(other).hexdigest()
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        checked = verify(bundle, toolchain)
        assert not checked.ok
        assert "not the verification key of this statement" in checked.reason

    def test_one_made_from_another_reference_string_is_made_again(
        self, built: building.Built, proved: Path, toolchain: Toolchain
    ) -> None:
        good, note = built.vk.read_bytes(), built.vk.with_name("key.made.json")
        wrong = bytearray(good)
        wrong[-1] ^= 1
        built.vk.write_bytes(wrong)
        noted = {**json.loads(note.read_text()), "sha256": hashlib.sha256(wrong).hexdigest()}
        assert noted["points_sha256"] == reference.PREFIXES[noted["points"]]
        note.write_text(json.dumps({**noted, "points_sha256": "ab" * 32}))
        assert building.verification_key(built, toolchain) == good

    def test_that_others_can_write_are_refused(self, built: building.Built, proved: Path, toolchain: Toolchain) -> None:
        for path in (built.vk, built.artifact, built.folder, built.folder.parent, built.folder.parent.parent):
            path.chmod(path.stat().st_mode | 0o002)
            result = run("verify", proved / "bundle")
            assert result.exit_code == 7
            assert f"others may write to {path} " in result.stderr
            path.chmod(path.stat().st_mode & ~0o002)
        assert run("verify", proved / "bundle").exit_code == 0

    def test_rebuild_takes_nothing_from_the_cache(
        self,
        built: building.Built,
        proved: Path,
        toolchain: Toolchain,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whoever writes as this very user can forge all of the cache; --rebuild finds that out."""
        good, note = built.vk.read_bytes(), built.vk.with_name("key.made.json")
        other = building.verification_key(building.build(round_circuit(Params.of(5, 14)), toolchain), toolchain)
        built.vk.write_bytes(other)
        noted = {**json.loads(note.read_text()), "sha256": hashlib.sha256(other).hexdigest()}
        note.write_text(json.dumps(noted))
        assert run("verify", proved / "bundle").exit_code == 1
        notes = [path for path in cache_dir().rglob("checked/*") if path.is_file()]
        for path in notes:
            path.unlink()
        reference._checked.clear()
        before = sorted(cache_dir().rglob("*"))
        started = recorded(monkeypatch)
        result = run("verify", proved / "bundle", "--rebuild")
        assert result.exit_code == 0, result.output
        assert [line for line in started if " compile " in line]
        assert [line for line in started if " write_vk " in line]
        assert sorted(cache_dir().rglob("*")) == before
        assert built.vk.read_bytes() == other != good

    def test_rebuild_compares_with_the_shipped_table(
        self, params: Params, circuit: Circuit, own_cache: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keys, "key_table", lambda: {circuit.key_id: "ab" * 32})
        gates = round_gates(params)
        assert keys.expected_key_hash(circuit, gates, toolchain) == "ab" * 32
        with pytest.raises(ToolFailedError, match="the shipped table says abab"):
            keys.expected_key_hash(circuit, gates, toolchain, rebuild=True)


class TestReferenceString:
    def test_a_wrong_one_refutes_nothing_and_leaves_no_key(
        self, own_cache: Path, proved: Path, crs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = bytearray((crs / "bn254_g1.dat").read_bytes())
        data[64 * 5 : 64 * 6], data[64 * 6 : 64 * 7] = data[64 * 6 : 64 * 7], data[64 * 5 : 64 * 6]
        (tmp_path / "crs").mkdir()
        (tmp_path / "crs" / "bn254_g1.dat").write_bytes(data)
        good = os.environ["CRS_PATH"]
        monkeypatch.setenv("CRS_PATH", str(tmp_path / "crs"))
        for command in (["verify", proved / "bundle"], ["prove", proved, "-o", tmp_path / "b"]):
            result = run(*command)
            assert result.exit_code == 5, result.output
            assert f"{tmp_path / 'crs' / 'bn254_g1.dat'}: not the reference string" in result.stderr
        assert not list(own_cache.glob("compiled/*/round/target/vk"))
        monkeypatch.setenv("CRS_PATH", good)
        assert run("verify", proved / "bundle").exit_code == 0

    def test_is_the_one_of_everybody(self, crs: Path) -> None:
        data = (crs / "bn254_g1.dat").read_bytes()[: 64 * 32_769]
        if len(data) < 64 * 32_769:
            pytest.skip("too short")
        assert hashlib.sha256(data).hexdigest() == "d769ac6c98f8fab858a7e9967f2b7f181d8ad9fdcdf55438c915696febf0e99c"
        for count, digest in reference.PREFIXES.items():
            assert hashlib.sha256(reference.compressed(data[: 64 * count])).hexdigest() == digest

    def test_the_pinned_bb_has_the_same_pins_of_whole_chunks(self, toolchain: Toolchain) -> None:
        program = toolchain.bb.path.read_bytes()
        assert bytes.fromhex("".join(reference.CHUNKS)) in program


class TestVerifyStartsLittle:
    @pytest.fixture(autouse=True)
    def table(self, proved: Path, circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if this shape were one whose key ships with the package."""
        digest = hashlib.sha256((proved / "bundle" / "vk").read_bytes()).hexdigest()
        monkeypatch.setattr(keys, "key_table", lambda: {circuit.key_id: digest})

    def test_only_bb_where_the_package_knows_the_key(
        self, proved: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))  # neither Node.js nor nargo
        monkeypatch.setattr(provision, "_wheel_root", lambda: None)
        monkeypatch.setenv("CRS_PATH", str(tmp_path))
        started = recorded(monkeypatch)
        assert run("verify", proved / "bundle").exit_code == 0
        assert [line.split()[:2] for line in started] == [[str(toolchain.bb.path), "verify"]]

    def test_a_cache_that_cannot_be_written_is_enough(
        self, proved: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
        before = sorted(own_cache.rglob("*"))
        assert run("verify", proved / "bundle").exit_code == 0
        assert sorted(own_cache.rglob("*")) == before


class TestExpect:
    def test_the_other_verdict_has_a_code_of_its_own(self, proved: Path) -> None:
        found = json.loads(run("verify", proved / "bundle", "--json").stdout)
        said, other = ("malicious", "honest") if found["malicious"] else ("honest", "malicious")
        found = json.loads(run("verify", proved / "bundle", "--json", "--expect", said).stdout)
        assert (found["ok"], found["as_expected"]) == (True, True)
        result = run("verify", proved / "bundle", "--expect", other)
        assert result.exit_code == EXIT_UNEXPECTED == 8
        assert result.stdout.startswith("VERIFIED")
        assert f"NOT AS EXPECTED: the proof is valid, but its verdict is not the expected '{other}'" in result.stdout
        found = json.loads(run("verify", proved / "bundle", "--json", "--expect", other).stdout)
        assert (found["ok"], found["expected"], found["as_expected"]) == (True, other, False)

    def test_an_invalid_proof_is_invalid_whatever_was_expected(self, proved: Path, tmp_path: Path) -> None:
        shutil.copytree(proved / "bundle", tmp_path / "b")
        (tmp_path / "b" / "proof").write_bytes(bytes(100))
        assert run("verify", tmp_path / "b", "--expect", "honest").exit_code == 1


def test_a_scheduler_for_one_circuit_is_said_to_be_idle(proved: Path, crs: Path, tmp_path: Path) -> None:
    result = run("prove", proved, "-o", tmp_path / "b", "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 0
    assert "--scheduler: this round is one circuit, proved here" in result.stderr
