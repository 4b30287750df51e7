"""Look-ups, messages and process handling of the toolchain, without any of the tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from support.points import compressed_points, folder_of, points
from support.processes import ended
from zkkrum import toolchain
from zkkrum.cli.tools import doctor as doctor_command
from zkkrum.errors import (
    ConstraintError,
    InputError,
    ReferenceStringError,
    ResourceError,
    ToolFailedError,
    ToolMissingError,
)
from zkkrum.protocol.sizes import gates_for, points_for
from zkkrum.toolchain import Toolchain, crs, process, provision
from zkkrum.toolchain.bb import KEY_BYTES, check_key
from zkkrum.toolchain.nargo import Nargo
from zkkrum.toolchain.process import Completed


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and home, and none of the user's overrides."""
    monkeypatch.setenv("ZKKRUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ZKKRUM_BB", "ZKKRUM_NARGO", "CRS_PATH"):
        monkeypatch.delenv(name, raising=False)


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_tools() -> Path:
    """A tools folder that looks whole."""
    tools = provision.tools_dir()
    program(provision.bb_path(tools), f"echo {toolchain.BB_VERSION}")
    (tools / "nargo.mjs").write_text("")
    return tools


class TestLookUp:
    def test_nothing_installed(self) -> None:
        with pytest.raises(ToolMissingError, match="zkkrum setup"):
            Toolchain.find(provision=False).ready()

    def test_nargo_of_another_version_on_the_path_is_ignored_with_a_notice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_tools()
        nargo = program(tmp_path / "bin" / "nargo", "echo nargo version = 0.39.0")
        program(tmp_path / "bin" / "node", "echo v22.0.0")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        notices: list[str] = []
        with Toolchain.find(provision=False, notify=notices.append) as tools:
            assert tools.nargo.command[-1] == provision.tools_dir() / "nargo.mjs"
        assert notices == [f"ignoring {nargo}: expected nargo {toolchain.NOIR_VERSION}, found 0.39.0"]

    def test_native_nargo_of_the_pinned_version_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_tools()
        nargo = program(tmp_path / "bin" / "nargo", f"echo nargo version = {toolchain.NOIR_VERSION}")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        with Toolchain.find(provision=False) as tools:
            assert tools.nargo.command == (nargo,)

    def test_named_tools_must_be_the_pinned_pair(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_tools()
        monkeypatch.setenv("ZKKRUM_NARGO", str(program(tmp_path / "nargo", "echo nargo version = 1.0.0")))
        with pytest.raises(ToolMissingError, match=r"ZKKRUM_NARGO: expected version 1\.0\.0-beta\.26, found 1\.0\.0"):
            Toolchain.find(provision=False).ready()
        monkeypatch.setenv(
            "ZKKRUM_NARGO", str(program(tmp_path / "nargo", f"echo nargo version = {toolchain.NOIR_VERSION}"))
        )
        monkeypatch.setenv("ZKKRUM_BB", str(program(tmp_path / "bb", "echo 4.0.0")))
        with pytest.raises(ToolMissingError, match=f"expected version {toolchain.BB_VERSION}, found '4.0.0'"):
            Toolchain.find(provision=False).ready()

    def test_named_tools_need_no_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nargo = program(tmp_path / "nargo", f"echo nargo version = {toolchain.NOIR_VERSION}")
        monkeypatch.setenv("ZKKRUM_NARGO", str(nargo))
        monkeypatch.setenv("ZKKRUM_BB", str(program(tmp_path / "bb", f"echo {toolchain.BB_VERSION}")))
        with Toolchain.find() as tools:
            assert (tools.nargo.version, tools.bb.version) == toolchain.PAIR
        assert not provision.tools_dir().exists()

    def test_platform_without_bb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        with pytest.raises(ToolMissingError, match=r"bb: there is no binary for \w+ "):
            Toolchain.find().ready()

    def test_bb_that_does_not_start_here(self, tmp_path: Path) -> None:
        bb = program(tmp_path / "bb", "echo \"version 'GLIBC_2.99' not found\" >&2; exit 1")
        with pytest.raises(ToolMissingError, match="C library is newer"):
            provision.check_bb(bb)

    def test_old_node_and_no_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        node = program(tmp_path / "bin" / "node", "echo v16.1.0")
        monkeypatch.setenv("PATH", str(node.parent))
        monkeypatch.setattr(provision, "_wheel_root", lambda: None)
        with pytest.raises(ToolMissingError, match=f"found 16.1.0 at {node}") as error:
            provision.find_node()
        assert "zkkrum[node]" in error.value.hint

    def test_node_of_the_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        node = program(tmp_path / "wheel" / "bin" / "node", "echo v24.1.0")
        npm = program(tmp_path / "wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "")
        monkeypatch.setenv("PATH", str(program(tmp_path / "bin" / "node", "exec wheel-node").parent))
        monkeypatch.setattr(provision, "_wheel_root", lambda: tmp_path / "wheel")
        assert provision.find_node() == provision.Node(node, (node, npm), "24.1.0")


class TestProvision:
    @pytest.fixture
    def npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        program(tmp_path / "bin" / "node", "echo v22.0.0")
        monkeypatch.setattr(provision, "_wheel_root", lambda: None)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        return tmp_path / "bin" / "npm"

    @property
    def installs(self) -> str:
        bb = provision.bb_path(Path())
        return f"mkdir -p {bb.parent}\nprintf '#!/bin/sh\\necho {toolchain.BB_VERSION}\\n' > {bb}"

    def test_installs_once_and_restores_the_mode(self, npm: Path, tmp_path: Path) -> None:
        program(npm, f'echo "$@" >> {tmp_path}/calls\n{self.installs}')
        said: list[str] = []
        tools = provision.provision(said.append)
        assert provision.provision(said.append) == tools
        assert os.access(provision.bb_path(tools), os.X_OK)
        assert len((tmp_path / "calls").read_text().splitlines()) == 1
        assert "--ignore-scripts" in (tmp_path / "calls").read_text()
        assert len(said) == 2

    def test_failure_leaves_nothing_and_names_the_log(self, npm: Path) -> None:
        program(npm, "echo npm error code ENOTFOUND >&2; exit 1")
        with pytest.raises(ToolMissingError, match="ENOTFOUND") as error:
            provision.provision()
        assert "zkkrum setup" in error.value.hint
        log = Path(error.value.hint.partition("log: ")[2])
        assert "ENOTFOUND" in log.read_text()
        assert [p.name for p in provision.tools_dir().parent.iterdir()] == [".lock"]

    def test_full_disk(self, npm: Path) -> None:
        program(npm, "echo npm error code ENOSPC >&2; exit 1")
        with pytest.raises(ResourceError, match="the disk is full"):
            provision.provision()

    def test_what_a_killed_run_left_is_removed(self, npm: Path) -> None:
        stale = provision.tools_dir().parent / ".partial-old"
        stale.mkdir(parents=True)
        program(npm, self.installs)
        provision.provision()
        assert not stale.exists()

    def test_two_at_once_install_once(self, npm: Path, tmp_path: Path) -> None:
        program(npm, f"echo call >> {tmp_path}/calls\nsleep 0.3\n{self.installs}")
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: provision.provision(), range(2))
        assert first == second
        assert (tmp_path / "calls").read_text() == "call\n"


class TestReferenceString:
    def test_first_folder_that_is_long_enough(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CRS_PATH", str(folder_of(tmp_path / "short", points(256))))
        home = folder_of(tmp_path / "home" / ".bb-crs", points(512))
        assert toolchain.Toolchain.find().reference_string(256) == tmp_path / "short"
        assert toolchain.Toolchain.find().reference_string(512) == home
        assert toolchain.points_available() == 512

    def test_compressed_points_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folder_of(tmp_path / "crs", compressed_points(512), compressed=True)
        monkeypatch.setenv("CRS_PATH", str(folder))
        assert toolchain.Toolchain.find().reference_string(512) == folder

    def test_too_short_says_what_was_found_and_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_tools()
        monkeypatch.setenv("CRS_PATH", str(folder_of(tmp_path / "short", points(300))))
        monkeypatch.setattr(crs, "network_looks_up", lambda: False)
        with Toolchain.find(provision=False) as tools, pytest.raises(ReferenceStringError) as error:
            tools.reference_string(32768)
        assert "needs 32,768 points (2,097,152 bytes of bn254_g1.dat)" in error.value.message
        assert (
            f"{tmp_path / 'short'}: 256 points, enough for circuits of 247 gates (300 are there" in error.value.message
        )
        assert f"{tmp_path / 'home' / '.bb-crs'}: none (no network)" in error.value.message
        assert "zkkrum setup --points 32768" in error.value.hint
        assert "CRS_PATH" in error.value.hint

    @pytest.mark.parametrize(("gates", "expected"), [(1, 256), (247, 256), (248, 512), (32759, 2**15), (32760, 2**16)])
    def test_points_for(self, gates: int, expected: int) -> None:
        assert points_for(gates) == expected
        assert gates_for(expected) >= gates


class TestProcesses:
    @pytest.mark.parametrize(
        ("done", "kind", "words"),
        [
            (Completed(-9, "", ""), ResourceError, "killed"),
            (Completed(134, "", "terminate called: std::bad_alloc"), ResourceError, "out of memory"),
            (Completed(134, "", "FATAL ERROR: JavaScript heap out of memory"), ResourceError, "out of memory"),
            (Completed(1, "", "write: No space left on device"), ResourceError, "disk is full"),
            (Completed(1, "", "no such thing"), ToolFailedError, "exit code 1: no such thing"),
            (Completed(-11, "", ""), ToolFailedError, "signal 11"),
        ],
    )
    def test_failures(self, done: Completed, kind: type[Exception], words: str) -> None:
        error = process.failure("bb prove", done)
        assert isinstance(error, kind)
        assert words in error.message
        assert Path(error.hint.partition("log: ")[2]).is_file()

    def test_missing_program(self) -> None:
        with pytest.raises(ToolMissingError, match="cannot start /nowhere/bb"):
            process.run(("/nowhere/bb",))

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_children_die_with_us(self, number: int, code: int, tmp_path: Path) -> None:
        """The main thread and a worker each run a process that has a child of its own; all of them end.

        The bounds only end a hanging run: the children sleep so long that none ends by itself within them.
        """
        script = textwrap.dedent(f"""
            import sys
            from concurrent.futures import ThreadPoolExecutor
            from zkkrum.toolchain import process
            process.guard()
            def job(k):
                process.run(("sh", "-c", f"sleep 600 & echo $! > {tmp_path}/{{k}}; wait"))
            try:
                with ThreadPoolExecutor(1) as pool:
                    future = pool.submit(job, 0)
                    job(1)
            except KeyboardInterrupt:
                sys.exit(130)
        """)
        running = subprocess.Popen([sys.executable, "-c", script])
        deadline = time.monotonic() + 60
        while sum(1 for k in (0, 1) if (tmp_path / str(k)).is_file() and (tmp_path / str(k)).read_text()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        children = [psutil.Process(int((tmp_path / str(k)).read_text())) for k in (0, 1)]
        running.send_signal(number)
        assert running.wait(timeout=60) == code
        ended(children)

    def test_worker_threads_start_nothing_once_told_to_stop(self) -> None:
        process._stopping.set()
        caught: list[BaseException] = []

        def job() -> None:
            try:
                process.run(("true",))
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
        assert isinstance(caught[0], KeyboardInterrupt)
        process.run(("true",))  # the main thread may begin anew
        assert not process.stopping()


class TestNativeNargo:
    """Words of a native nargo are read like those of the Node script."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        (tmp_path / "target").mkdir()
        (tmp_path / "Nargo.toml").write_text('[package]\nname = "tiny"\n')
        (tmp_path / "target" / "tiny.json").write_text("{}")
        return tmp_path

    def test_failed_assertion(self, package: Path) -> None:
        words = (
            "error: Assertion failed: x equals y\n  ┌─ src/main.nr:6:12\nFailed to solve program: 'Failed assertion'"
        )
        nargo = Nargo((program(package / "nargo", f'echo "{words}" >&2; exit 1'),), serves=False, version="")
        with pytest.raises(ConstraintError) as error:
            nargo.execute(package)
        assert error.value.message.splitlines()[0] == "x equals y"
        assert "src/main.nr:6:12" in error.value.message

    def test_other_failures_are_not_constraints(self, package: Path) -> None:
        words = "error: cannot read Prover.toml"
        nargo = Nargo((program(package / "nargo", f'echo "{words}" >&2; exit 1'),), serves=False, version="")
        with pytest.raises(ToolFailedError, match=r"cannot read Prover\.toml") as error:
            nargo.execute(package)
        assert not isinstance(error.value, ConstraintError)

    def test_not_compiled(self, package: Path) -> None:
        (package / "target" / "tiny.json").unlink()
        with pytest.raises(InputError, match="not compiled"):
            Nargo(("true",), serves=False, version="").execute(package)


@pytest.mark.parametrize("key", [b"", bytes(KEY_BYTES), bytes(KEY_BYTES + 1), b"\xff" * KEY_BYTES])
def test_garbage_is_not_a_key(key: bytes) -> None:
    with pytest.raises(InputError, match="verification key"):
        check_key(key)


class TestDoctor:
    def test_names_the_first_broken_thing_and_its_repair(self) -> None:
        result = CliRunner().invoke(doctor_command, ["--json"])
        report = json.loads(result.stdout)
        checks = {check["name"]: check for check in report["checks"]}
        assert not report["ok"]
        assert result.exit_code == ToolMissingError.exit_code
        assert not checks["bb"]["ok"]
        assert "zkkrum setup" in checks["bb"]["repair"]
        assert not checks["reference string"]["ok"]
        assert checks["reference string"]["exit_code"] == ReferenceStringError.exit_code
        assert checks["python"] | {"found": ""} == {
            "name": "python",
            "ok": True,
            "found": "",
            "expected": ">= 3.10",
            "repair": "",
            "required": True,
            "exit_code": 4,
        }

    def test_changes_nothing(self, tmp_path: Path) -> None:
        CliRunner().invoke(doctor_command, [])
        assert list(tmp_path.iterdir()) == []
