"""Shards proved by a real Dask cluster: scheduler and workers are processes of their own and share only the wire."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.proving import CHUNK, material_of, round_directory, vectors
from zkkrum import errors
from zkkrum.errors import ConstraintError, InputError, ToolMissingError, ZkkrumError
from zkkrum.proof.circuit import shard_circuit
from zkkrum.proof.form import shard_files
from zkkrum.proof.jobs import Job, dask_executor, run_job
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.proof.work import work_path
from zkkrum.toolchain import Toolchain

distributed = pytest.importorskip("distributed", reason="needs the extra zkkrum[dask]")

T = 9
D = T * CHUNK - 3


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Cluster:
    """A scheduler and its workers, each with a cache and temporary folder of its own.

    Parameters
    ----------
    folder
        For all of them.
    tools
        The provisioned tools, which every worker finds in its own cache.
    """

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        self.workers: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        arguments = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self.scheduler = self._start("scheduler", arguments, {})
        end = time.monotonic() + 120
        self.address = ""
        while not self.address and time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(file.read_text())["address"]
            time.sleep(0.05)
        assert self.address, (folder / "scheduler.log").read_text()

    def _start(self, command: str, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        name = f"worker-{len(self.workers)}" if command == "worker" else command
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", command, *arguments],
                env={**os.environ, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def worker(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until the scheduler knows it."""
        home = self.folder / f"home-{len(self.workers)}"
        for name in ("cache/tools", "tmp"):
            (home / name).mkdir(parents=True)
        (home / "cache" / "tools" / self.tools.name).symlink_to(self.tools)
        own = {"ZKKRUM_CACHE": str(home / "cache"), "TMPDIR": str(home / "tmp"), **env}
        options = ["--no-dashboard", "--local-directory", str(home), "--memory-limit", "0", *arguments]
        known = self.known()
        process = self._start("worker", [self.address, *options], own)
        self.workers.append(process)
        end = time.monotonic() + 120
        while self.known() <= known:
            assert time.monotonic() < end, (self.folder / f"worker-{len(self.workers) - 1}.log").read_text()
            time.sleep(0.1)
        return process

    def known(self) -> int:
        with distributed.Client(self.address, timeout=10) as client:
            return len(client.scheduler_info(n_workers=-1)["workers"])

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            for member in tree(process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait(timeout=60)

    def close(self) -> None:
        self.stop(*self.workers, self.scheduler)


PLAIN = ("--no-nanny", "--nthreads", "1", "--resources", "proof=1")


@pytest.fixture
def empty(toolchain: Toolchain, crs: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster", toolchain.tools)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def cluster(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), toolchain.tools)
    try:
        for _ in range(2):
            cluster.worker(*PLAIN)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def material(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Material:
    home = round_directory(tmp_path_factory.mktemp("dask") / "round", toolchain, values=vectors(1, d=D))
    return material_of(home, toolchain)


class TestCluster:
    def test_round(self, cluster: Cluster, material: Material, toolchain: Toolchain, tmp_path: Path) -> None:
        seen: list[int] = []
        proved = prove(
            material,
            tmp_path / "bundle",
            toolchain,
            ProveOptions(scheduler=cluster.address),
            progress=lambda what, done, total: seen.append(done) if what == "proofs" else None,
        )
        assert seen[: T + 2] == list(range(T + 2))
        assert proved.seconds["prove"] > 0
        checked = verify(tmp_path / "bundle", toolchain)
        assert checked.ok, checked.reason
        assert checked.verdict == proved.outcome.verdict
        assert sorted(p.name for p in tmp_path.iterdir()) == ["aggregate.npz", "bundle"]
        for k in range(2):  # both compiled for themselves: nothing was shared, and both worked
            home = cluster.folder / f"home-{k}"
            assert list((home / "cache" / "compiled").glob("*/shard/target/vk"))
            assert not list((home / "tmp").rglob("*.gz"))
            assert not list((home / "tmp").rglob("*.proof"))
            assert not [p for p in (home / "tmp").rglob("*.toml") if p.name != "Nargo.toml"]

    def test_only_what_is_missing(
        self, cluster: Cluster, material: Material, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        """A run begun here and finished by the cluster."""
        bundle, work = tmp_path / "bundle", work_path(tmp_path / "bundle")

        def stop(what: str, done: int, total: int) -> None:
            if what == "proofs" and done == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prove(material, bundle, toolchain, ProveOptions(jobs=1), progress=stop)
        before = {p.name: p.read_bytes() for p in (work / "shards").glob("*.proof")}
        assert len(before) == 4
        prove(material, bundle, toolchain, ProveOptions(scheduler=cluster.address, resume=True))
        assert all((bundle / "shards" / name).read_bytes() == data for name, data in before.items())
        assert verify(bundle, toolchain).ok

    def test_slots_are_the_declared_resource(self, cluster: Cluster) -> None:
        with dask_executor(cluster.address) as (_, at_once):
            assert at_once == 2

    def test_constraint_error_comes_back(self, cluster: Cluster, material: Material) -> None:
        """A lie is refused on the worker, and its words arrive here."""
        p = material.round.params
        names = ["rho", "scaled_s", "leaf_of_sum", "link_before", "link_after", "salt_of_sum"]
        names += ["form_before", "residue_before", "blind_before", "blind_after"]
        inputs = {
            **dict.fromkeys(names, 0),
            "scaled": [0] * (p.n - 1),
            "leaves": [0] * p.n,
            "salts": [0] * p.n,
            "values": [[0] * CHUNK] * p.n,
            "words_of_sum": [0] * -(-CHUNK // p.group),
        }
        job = Job("lie", shard_circuit(p, CHUNK), inputs, 1)
        with (
            dask_executor(cluster.address) as (executor, _),
            pytest.raises(ConstraintError, match="leaf"),
        ):
            executor.submit(run_job, job).result(timeout=60)


class TestLosses:
    def test_a_worker_is_killed(self, empty: Cluster, material: Material, toolchain: Toolchain, tmp_path: Path) -> None:
        """In the middle of its proof, for good: the other one finishes all of it."""
        doomed, _ = empty.worker(*PLAIN), empty.worker(*PLAIN)
        seen: list[int] = []

        def kill(what: str, done: int, total: int) -> None:
            if what != "proofs" or len(seen) > T + 1:
                return
            seen.append(done)
            if done == 3:
                doomed.send_signal(signal.SIGKILL)

        prove(
            material,
            tmp_path / "bundle",
            toolchain,
            ProveOptions(scheduler=empty.address),
            progress=kill,
        )
        assert doomed.wait(timeout=60) == -signal.SIGKILL
        assert seen == list(range(T + 2))  # each came once
        found = sorted(p.name for p in (tmp_path / "bundle" / "shards").iterdir())
        assert found == sorted(Path(name).name for t in range(T) for name in shard_files(t))
        assert verify(tmp_path / "bundle", toolchain).ok

    def test_nanny_starts_a_killed_worker_again(
        self, empty: Cluster, material: Material, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        """The only machine of the cluster, with two workers under nannies."""
        process = empty.worker("--nworkers", "2", "--nthreads", "1", "--resources", "proof=1")
        with dask_executor(empty.address) as (executor, _):
            pids = [executor.submit(os.getpid).result(timeout=30)]

        def kill(what: str, done: int, total: int) -> None:
            if what == "proofs" and done == 2 and pids:
                os.kill(pids.pop(), signal.SIGKILL)

        prove(
            material,
            tmp_path / "bundle",
            toolchain,
            ProveOptions(scheduler=empty.address),
            progress=kill,
        )
        assert not pids
        assert process.poll() is None
        assert verify(tmp_path / "bundle", toolchain).ok

    def test_the_scheduler_is_killed(
        self,
        empty: Cluster,
        material: Material,
        toolchain: Toolchain,
        tmp_path: Path,
    ) -> None:
        """The run ends with an error and can be finished here."""
        empty.worker(*PLAIN)

        def kill(what: str, done: int, total: int) -> None:
            if what == "proofs" and done == 2:
                empty.stop(empty.scheduler)

        with pytest.raises(errors.ResourceError, match="is gone"):
            prove(
                material,
                tmp_path / "bundle",
                toolchain,
                ProveOptions(scheduler=empty.address),
                progress=kill,
            )
        prove(material, tmp_path / "bundle", toolchain, ProveOptions(resume=True))
        assert verify(tmp_path / "bundle", toolchain).ok

    def test_tools_missing_on_a_worker(
        self, empty: Cluster, material: Material, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        empty.worker("--no-nanny", "--nthreads", "2", ZKKRUM_BB=str(shutil.which("true")))
        with pytest.raises(ToolMissingError, match="true: expected version") as error:
            prove(material, tmp_path / "bundle", toolchain, ProveOptions(scheduler=empty.address))
        assert error.value.hint
        assert not (tmp_path / "bundle").exists()

    def test_nobody_there(self, empty: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match="has no workers"), dask_executor(empty.address):
            pass
        monkeypatch.setattr("zkkrum.proof.jobs.SCHEDULER_TIMEOUT", 1)
        for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9"):
            with pytest.raises(InputError, match="no Dask scheduler answers"), dask_executor(address, insecure=True):
                pass


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ZkkrumError)]
)
def test_errors_travel(kind: type[ZkkrumError]) -> None:
    """Message, hint and exit code survive the way back from a worker."""
    arrived = pickle.loads(pickle.dumps(kind("what was found", "what to do")))
    assert type(arrived) is kind
    assert (arrived.message, arrived.hint, arrived.exit_code) == ("what was found", "what to do", kind.exit_code)
    assert str(arrived) == "what was found\n  what to do"
