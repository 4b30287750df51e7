"""The toolchain with the real nargo and bb, on a program of a few gates."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from zkkrum.cli.tools import doctor, setup
from zkkrum.errors import ConstraintError, InputError, ResourceError, ToolFailedError
from zkkrum.protocol import field, poseidon2
from zkkrum.protocol.sizes import points_for
from zkkrum.toolchain import PAIR, Proof, Toolchain, process, provision
from zkkrum.toolchain.service import Service

SOURCE = """\
fn main(x: Field, y: pub Field) -> pub Field {
    check(x, y);
    x * y
}

fn check(x: Field, y: Field) {
    assert(x != y, "x equals y");
    x.assert_max_bit_size::<8>();
}
"""


def inputs(package: Path, x: object, y: object, prover: str = "Prover") -> None:
    (package / f"{prover}.toml").write_text(f"x = {json.dumps(x)}\ny = {json.dumps(y)}\n")


def package_at(folder: Path, source: str = SOURCE) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "Nargo.toml").write_text('[package]\nname = "tiny"\ntype = "bin"\nauthors = [""]\n')
    (folder / "src" / "main.nr").write_text(source)
    return folder


@pytest.fixture(scope="module")
def package(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = package_at(tmp_path_factory.mktemp("tiny"))
    toolchain.nargo.compile(folder)
    return folder


@pytest.fixture(scope="module")
def artifact(package: Path) -> Path:
    return package / "target" / "tiny.json"


@pytest.fixture(scope="module")
def vk(toolchain: Toolchain, artifact: Path, crs: Path) -> bytes:
    key = toolchain.bb.write_vk(artifact, crs)
    (artifact.parent / "vk").write_bytes(key)
    return key


@pytest.fixture(scope="module")
def proof(toolchain: Toolchain, package: Path, artifact: Path, vk: bytes, crs: Path) -> Proof:
    inputs(package, "0x05", 3)
    witness = toolchain.nargo.execute(package)
    return toolchain.bb.prove(artifact, witness, artifact.parent / "vk", package / "out", crs, threads=1)


class TestNargo:
    def test_compile_error_names_file_and_line(self, toolchain: Toolchain, tmp_path: Path) -> None:
        package = package_at(tmp_path / "p", "fn main(x: Field) {\n    assert(x == z);\n}\n")
        with pytest.raises(ToolFailedError, match=r"cannot find `z`.*main\.nr:2"):
            toolchain.nargo.compile(package)
        assert not (package / "target").exists()

    def test_failed_assertion_gives_message_then_call_stack(self, toolchain: Toolchain, package: Path) -> None:
        inputs(package, 3, 3, "Lie")
        with pytest.raises(ConstraintError) as error:
            toolchain.nargo.execute(package, "lie", "Lie")
        message, *calls = error.value.message.splitlines()
        assert message == "x equals y"
        assert any("main.nr:7:" in call for call in calls)
        assert any("main.nr:2:" in call for call in calls)
        assert not (package / "target" / "lie.gz").exists()

    def test_range_check_is_told_by_its_line(self, toolchain: Toolchain, package: Path) -> None:
        inputs(package, 256, 1, "Wide")
        with pytest.raises(ConstraintError, match=r"main\.nr:8:"):
            toolchain.nargo.execute(package, "wide", "Wide")

    @pytest.mark.parametrize("text", ["x = 1\n", "x = 1\ny = true\n", "x = \n", f'x = 1\ny = "{field.P}"\n'])
    def test_bad_inputs_are_not_constraints(self, toolchain: Toolchain, package: Path, text: str) -> None:
        (package / "Bad.toml").write_text(text)
        with pytest.raises(ToolFailedError) as error:
            toolchain.nargo.execute(package, "bad", "Bad")
        assert not isinstance(error.value, ConstraintError)

    def test_integers_beyond_2_to_the_53(self, toolchain: Toolchain, package: Path) -> None:
        inputs(package, 7, 2**62 + 1, "Large")
        witness = toolchain.nargo.execute(package, "large", "Large")
        assert (7 * (2**62 + 1)).to_bytes(32, "big") in gzip.decompress(witness.read_bytes())

    def test_many_executes_share_one_process(self, toolchain: Toolchain, package: Path) -> None:
        service = toolchain.nargo._service
        if service is None:
            pytest.skip("a native nargo answers: it has no server")

        def job(k: int) -> bytes:
            inputs(package, k, 200, f"P{k}")
            return toolchain.nargo.execute(package, f"w{k}", f"P{k}").read_bytes()

        job(1)
        pid = service.pid
        with ThreadPoolExecutor(4) as pool:
            witnesses = list(pool.map(job, range(2, 10)))
        assert service.pid == pid
        assert len(set(witnesses)) == len(witnesses)

    def test_changed_artefact_is_noticed(self, toolchain: Toolchain, tmp_path: Path) -> None:
        package = package_at(tmp_path / "p")
        toolchain.nargo.compile(package)
        inputs(package, 3, 3)
        with pytest.raises(ConstraintError, match="x equals y"):
            toolchain.nargo.execute(package)
        (package / "src" / "main.nr").write_text(SOURCE.replace("x equals y", "other words"))
        toolchain.nargo.compile(package)
        with pytest.raises(ConstraintError, match="other words"):
            toolchain.nargo.execute(package)

    def test_killed_server_is_a_resource_error_and_comes_back(self, toolchain: Toolchain, package: Path) -> None:
        inputs(package, 5, 3, "Kill")
        toolchain.nargo.execute(package, "kill", "Kill")
        service = toolchain.nargo._service
        if service is None or service.pid is None:
            pytest.skip("a native nargo answers: it has no server")
        os.kill(service.pid, signal.SIGSTOP)
        pid = service.pid
        threading.Timer(0.2, lambda: os.kill(pid, signal.SIGKILL)).start()
        with pytest.raises(ResourceError, match="killed"):
            toolchain.nargo.execute(package, "kill", "Kill")
        toolchain.nargo.execute(package, "kill", "Kill")

    def test_witness_equals_the_packages_own(self, toolchain: Toolchain, package: Path) -> None:
        """Our encoder and acvm's compressWitnessStack agree to the byte, for every width of an index."""
        if toolchain.nargo._service is None:
            pytest.skip("a native nargo answers")
        for size in (3, 20, 200, 300):
            wide = package_at(
                package / f"wide{size}",
                f"fn main(x: [Field; {size}]) -> pub Field {{\n    x.fold(1, |a, b| a * b)\n}}\n",
            )
            toolchain.nargo.compile(wide)
            (wide / "Prover.toml").write_text(f"x = {list(range(1, size + 1))}\n")
            ours = toolchain.nargo.execute(wide).read_bytes()
            script = (
                "const { acvm } = require('@noir-lang/noir_js');"
                "const w = acvm.decompressWitnessStack(require('fs').readFileSync(process.argv[1]));"
                "process.stdout.write(Buffer.from(acvm.compressWitnessStack(w)));"
            )
            theirs = subprocess.run(
                ["node", "-e", script, str(wide / "target" / "witness.gz")],
                cwd=toolchain.tools,
                check=True,
                capture_output=True,
            ).stdout
            assert gzip.decompress(ours) == gzip.decompress(theirs)


class TestBb:
    def test_gates(self, toolchain: Toolchain, artifact: Path) -> None:
        assert 10 < toolchain.bb.gates(artifact) < points_for(toolchain.bb.gates(artifact)) <= 512

    def test_proof_verifies(self, toolchain: Toolchain, vk: bytes, proof: Proof) -> None:
        assert field.from_bytes(proof.public_inputs) == [3, 15]
        assert toolchain.bb.verify(vk, proof.proof, proof.public_inputs) is True

    def test_verification_needs_no_reference_string(
        self, toolchain: Toolchain, vk: bytes, proof: Proof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("CRS_PATH", raising=False)
        assert toolchain.bb.verify(vk, proof.proof, proof.public_inputs)

    @pytest.mark.parametrize("at", [0, 31, 512, 700, 1500, 3000, 5000, -1])
    def test_flipped_bit_of_the_proof(self, toolchain: Toolchain, vk: bytes, proof: Proof, at: int) -> None:
        for bit in (1, 128):
            flipped = bytearray(proof.proof)
            flipped[at] ^= bit
            assert toolchain.bb.verify(vk, bytes(flipped), proof.public_inputs) is False

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda p: p.proof[:-32], id="short"),
            pytest.param(lambda p: p.proof[:-1], id="not words"),
            pytest.param(lambda p: p.proof + bytes(32), id="long"),
            pytest.param(lambda p: b"", id="empty"),
            pytest.param(lambda p: bytes(len(p.proof)), id="zeros"),
            pytest.param(lambda p: b"\xff" * len(p.proof), id="not canonical"),
        ],
    )
    def test_malformed_proof_is_false(
        self, toolchain: Toolchain, vk: bytes, proof: Proof, change: Callable[[Proof], bytes]
    ) -> None:
        assert toolchain.bb.verify(vk, change(proof), proof.public_inputs) is False

    @pytest.mark.parametrize(
        "words", [[3, 16], [4, 15], [3], [3, 15, 0], [], [field.P + 3, 15], [3, field.P + 15], [15, 3]]
    )
    def test_other_public_inputs_are_false(
        self, toolchain: Toolchain, vk: bytes, proof: Proof, words: list[int]
    ) -> None:
        assert toolchain.bb.verify(vk, proof.proof, field.to_bytes(words)) is False

    def test_garbage_key_is_an_error(self, toolchain: Toolchain, vk: bytes, proof: Proof) -> None:
        broken = bytearray(vk)
        broken[200] ^= 1
        for key in (b"", vk[:-1], os.urandom(len(vk)), bytes(broken)):
            with pytest.raises(InputError, match="verification key"):
                toolchain.bb.verify(key, proof.proof, proof.public_inputs)

    @pytest.mark.parametrize("at", [31, 63, 95])
    def test_other_header_of_the_key_never_verifies(
        self, toolchain: Toolchain, vk: bytes, proof: Proof, at: int
    ) -> None:
        broken = bytearray(vk)
        broken[at] ^= 1
        with contextlib.suppress(ToolFailedError):
            assert toolchain.bb.verify(bytes(broken), proof.proof, proof.public_inputs) is False

    def test_missing_file(self, toolchain: Toolchain, artifact: Path, crs: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nothing\.gz does not exist"):
            toolchain.bb.prove(artifact, tmp_path / "nothing.gz", artifact, tmp_path, crs)

    def test_threads_verify_at_once(
        self, toolchain: Toolchain, vk: bytes, proof: Proof, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Four threads must stand at the start of bb together, or the barrier breaks: none waits for another's end."""
        together, true_run = threading.Barrier(4), process.run

        def meet(*arguments: Any, **options: Any) -> process.Completed:
            together.wait(timeout=60)
            return true_run(*arguments, **options)

        monkeypatch.setattr(process, "run", meet)
        with ThreadPoolExecutor(4) as pool:
            verdicts = list(pool.map(lambda _: toolchain.bb.verify(vk, proof.proof, proof.public_inputs), range(76)))
        assert all(verdicts)

    def test_killed_bb_is_a_resource_error(self, toolchain: Toolchain, artifact: Path, tmp_path: Path) -> None:
        """A key that cannot be read to its end (a pipe) holds bb until it is killed."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        def kill() -> None:
            for _ in range(200):
                for child in psutil.Process().children():
                    if "gates" in child.cmdline():
                        child.kill()
                        return
                time.sleep(0.02)

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(ResourceError, match="killed"):
            toolchain.bb._run("gates", "-b", pipe)
        thread.join()

    def test_solidity_verifier_compiles(self, toolchain: Toolchain, vk: bytes) -> None:
        source = toolchain.bb.write_solidity_verifier(vk)
        output = toolchain.solc(
            {
                "language": "Solidity",
                "sources": {"Verifier.sol": {"content": source}},
                "settings": {
                    "optimizer": {"enabled": True, "runs": 1},
                    "outputSelection": {"*": {"*": ["evm.deployedBytecode.object"]}},
                },
            }
        )
        sizes = [
            len(contract["evm"]["deployedBytecode"]["object"]) // 2
            for contract in output["contracts"]["Verifier.sol"].values()
        ]
        assert 0 < max(sizes) <= 24_576

    def test_solidity_errors(self, toolchain: Toolchain) -> None:
        source = {"language": "Solidity", "sources": {"A.sol": {"content": "contract A {"}}}
        with pytest.raises(ToolFailedError, match=r"ParserError[\s\S]*A\.sol:1"):
            toolchain.solc(source)


class TestHash:
    def test_equals_the_python_hash(self, toolchain: Toolchain) -> None:
        cases = [[], [0], [1, 2], [field.P - 1] * 3, list(range(40)), [2**252 - 1] * 7]
        assert toolchain.bb.hash_many(cases) == poseidon2.hash_many(cases)

    @pytest.mark.parametrize("word", [-1, field.P, 2**256])
    def test_refuses_what_is_no_field_element(self, toolchain: Toolchain, word: int) -> None:
        with pytest.raises(InputError, match="field elements"):
            toolchain.bb.hash_many([[1, word]])
        assert toolchain.bb.hash_many([[1, 2]]) == [poseidon2.hash_one([1, 2])]

    def test_threads_share_the_service(self, toolchain: Toolchain) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda k: toolchain.bb.hash_many([[k], [k, k]]), range(40)))
        assert found == [poseidon2.hash_many([[k], [k, k]]) for k in range(40)]

    def test_a_million_parameters_are_one_request(self, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
        """What makes it fast: the service is asked once, and nothing is hashed in Python."""
        asked: list[Any] = []
        true_ask = Service.ask

        def ask(service: Service, exchange: Callable[[Any, Any], Any]) -> Any:
            asked.append(exchange)
            return true_ask(service, exchange)

        monkeypatch.setattr(Service, "ask", ask)
        monkeypatch.setattr(poseidon2, "permute", None)
        (found,) = toolchain.bb.hash_many([[2**252 - k for k in range(1, 47_621)]])
        assert 0 < found < field.P
        assert len(asked) == 1


def test_setup_and_doctor_when_all_is_there(toolchain: Toolchain, crs: Path) -> None:
    result = CliRunner().invoke(setup, ["--json", "--points", "32768"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["nargo"], report["bb"]) == PAIR
    assert report["reference_string"] == str(crs)
    result = CliRunner().invoke(doctor, ["--json"])
    assert result.exit_code == 0, result.stdout


def test_killed_provisioning_leaves_nothing_half(toolchain: Toolchain, tmp_path: Path) -> None:
    """kill -9 in the middle of npm, then a second run: the first left no tools folder, the second is whole."""
    environment = {**os.environ, "ZKKRUM_CACHE": str(tmp_path)}
    script = "from zkkrum.toolchain import Toolchain; Toolchain.find(notify=lambda s: print(s, flush=True)).ready()"
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert b"installing" in first.stdout.readline()
        while not (npm := psutil.Process(first.pid).children(recursive=True)):
            time.sleep(0.01)
        first.kill()
        for child in npm:
            child.kill()
    tools = tmp_path / "tools" / provision.tools_dir().name
    assert not tools.exists()
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=300)
    assert (tools / "nargo.mjs").is_file()
    assert {p.name for p in tools.parent.iterdir()} == {".lock", tools.name}
