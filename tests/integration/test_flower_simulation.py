"""The example as its users run it: `flwr run` in Flower's own simulation, where every client is a process of Ray's."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from support.processes import PATIENCE, ended
from support.tools import CHECKOUT
from zkkrum.proof.audit import audit
from zkkrum.toolchain import Toolchain

pytest.importorskip("ray", reason="Flower's simulation needs zkkrum[simulation]")

EXAMPLE = CHECKOUT / "examples" / "flower_digits"
PROGRAMS = Path(sys.executable).parent


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass(frozen=True)
class Flower:
    """A SuperLink of the tests' own, and the environment in which ``flwr`` finds it."""

    environment: dict[str, str]

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [PROGRAMS / "flwr", *arguments],
            cwd=EXAMPLE,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=10 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def status(self, log: str) -> str:
        """How a run ended, by the log of its start."""
        found = re.search(r"Successfully started run (\d+)", log)
        assert found
        listed = json.loads(self.flwr("ls", "--run-id", found[1], "--format", "json"))
        return str(listed["runs"][0]["status"])


@pytest.fixture(scope="module")
def flower(crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    home = tmp_path_factory.mktemp("flwr")
    http, control = free_ports(2)
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": http,
        "FLWR_LOCAL_CONTROL_API_PORT": control,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "CRS_PATH": str(crs),
    }
    command: list[str | Path] = [
        PROGRAMS / "flower-superlink",
        "--insecure",
        "--simulation",
        "--isolation",
        "subprocess",
    ]
    command += ["--disable-runtime-dependency-installation", "--host", "127.0.0.1", "--port", http]
    command += ["--control-api-address", f"127.0.0.1:{control}"]
    with (home / "superlink.log").open("wb") as log:
        superlink = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for(int(http), superlink, home / "superlink.log")
            yield Flower(environment)
        finally:
            family = [psutil.Process(superlink.pid), *psutil.Process(superlink.pid).children(recursive=True)]
            superlink.terminate()
            superlink.wait()
            ended(family)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on port {port}: {log.read_text()}")


def test_the_default_of_two_supernodes_stops_at_once_and_says_what_to_run(flower: Flower, tmp_path: Path) -> None:
    log = flower.flwr("run", ".", "--run-config", f"output='{tmp_path / 'output'}'", "--stream")
    assert "no round fits 2 clients" in log
    assert 'flwr run . --federation-config "num-supernodes=10"' in log
    assert "[ROUND 1/" not in log
    assert flower.status(log) == "finished:failed"
    assert not (tmp_path / "output").exists()


def test_clients_verify_and_the_run_can_be_audited(flower: Flower, toolchain: Toolchain, tmp_path: Path) -> None:
    config = f"output='{tmp_path / 'output'}' num-server-rounds=2"
    log = flower.flwr("run", ".", "--federation-config", "num-supernodes=10", "--run-config", config, "--stream")
    assert flower.status(log) == "finished:completed", log
    verified = set(re.findall(r"client '(node-\d+)': verified rounds 1", log))
    assert len(verified) == 10
    done = audit(tmp_path / "output" / "run", toolchain, final=tmp_path / "output" / "model.safetensors")
    assert done.ok, done.reason
    assert not done.gaps
    assert [len(found.accepted) for found in done.rounds] == [8, 8]
