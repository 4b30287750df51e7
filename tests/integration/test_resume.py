"""Sharded runs that are killed, interrupted or run out of disk, and finished afterwards: real processes and signals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from support.processes import ended, stop
from support.proving import (
    CHUNK,
    CLIP,
    in_memory,
    material_of,
    round_directory,
    updates_directory,
    vectors,
)
from zkkrum.cli import main
from zkkrum.errors import InputError, ResourceError
from zkkrum.proof.form import shard_files
from zkkrum.proof.material import Material, load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.proof.work import load_unfinished, work_path
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.parties import Terms
from zkkrum.toolchain import Toolchain

D = 9 * CHUNK - 3
T = 9

RUN = """\
import sys
from pathlib import Path
from zkkrum.rounds.parties import Terms
from zkkrum.proof.form import Form
from zkkrum.proof.material import load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.work import load_unfinished
from zkkrum.proof.prove import prove
from zkkrum.toolchain import Toolchain

directory, bundle, jobs, resume = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"

def say(what, done, total):
    print(what, done, total, flush=True)

with Toolchain.find() as tools:
    hash = tools.bb.hash_many
    material = load_unfinished(directory, bundle, hash) if resume else None
    material = material or load(directory, hash, Terms(clip=4.0, overrides={"chunk": 21}))
    print("loaded", flush=True)
    prove(material, bundle, tools, ProveOptions(jobs=jobs, resume=resume), say)
print("finished", flush=True)
"""


class Run:
    """The run above in a process of its own."""

    def __init__(self, directory: Path, bundle: Path, *, jobs: int = 2, resume: bool = False) -> None:
        mode = "resume" if resume else "new"
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(directory), str(bundle), str(jobs), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, *starts: str) -> str:
        """Read what it says until a line that starts so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith(starts):
                return line.strip()
        assert self.process.stderr is not None
        raise AssertionError(f"ended before saying {starts}: {self.lines} {self.process.stderr.read()}")

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def wait_for(self, *names: str, seconds: float = 60) -> list[psutil.Process]:
        """Wait until a child of each name runs; return all children."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            children = self.children()
            with contextlib.suppress(psutil.NoSuchProcess):
                if set(names) <= {child.name() for child in children}:
                    return children
            time.sleep(0.002)
        raise AssertionError(f"no {names} within {seconds} s")

    def finish(self) -> None:
        """Wait for a good end."""
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Processes to be ended whatever happens."""
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            run.kill()
        for stream in (run.process.stdout, run.process.stderr):
            if stream:
                stream.close()


@pytest.fixture(scope="session")
def pristine(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of nine shards, its shapes compiled."""
    folder = tmp_path_factory.mktemp("resume")
    home = round_directory(folder / "round", toolchain, values=vectors(1, d=D))
    prove(material_of(home, toolchain), folder / "bundle", toolchain)
    return home.path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "round")
    return tmp_path / "round"


def saved(work: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every finished shard's proof."""
    found = {}
    for t in range(T):
        name = shard_files(t)[0]
        if all((work / part).is_file() for part in shard_files(t)):
            found[name] = ((work / name).stat().st_mtime_ns, (work / name).read_bytes())
    return found


class TestKilled:
    def test_finishes_without_redoing(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]
    ) -> None:
        bundle, work = tmp_path / "bundle", work_path(tmp_path / "bundle")
        runs.append(run := Run(folder, bundle))
        run.until("proofs 4 ")
        run.kill()
        assert not bundle.exists()
        before = saved(work)
        assert 4 <= len(before) < T
        private = [p for p in work.rglob("*") if p.is_file()]
        assert work.stat().st_mode & 0o077 == 0
        assert private

        seen: list[int] = []
        proved = prove(
            material_of(RoundDirectory(folder), toolchain),
            bundle,
            toolchain,
            ProveOptions(resume=True, keep=True),
            progress=lambda what, done, total: seen.append(done) if what == "proofs" else None,
        )
        assert seen[0] == len(before)
        after = saved(work)
        assert {name: after[name] for name in before} == before
        for name, (_, content) in before.items():
            assert (bundle / name).read_bytes() == content
        assert len(after) == T
        assert proved.proofs == T + 1
        assert verify(bundle, toolchain, commitments=folder / "commitments").ok

    def test_killed_again_and_again(self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]) -> None:
        bundle, work = tmp_path / "bundle", work_path(tmp_path / "bundle")
        counts = []
        for k in range(3):
            runs.append(run := Run(folder, bundle, resume=k > 0))
            run.until(f"proofs {2 * k + 2} ")
            run.kill()
            counts.append(len(saved(work)))
        assert counts == sorted(counts)
        runs.append(run := Run(folder, bundle, resume=True))
        run.finish()
        assert verify(bundle, toolchain).ok
        assert not work.exists()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["aggregate.npz", "bundle", "round"]

    def test_before_anything_was_proved(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]
    ) -> None:
        bundle = tmp_path / "bundle"
        runs.append(run := Run(folder, bundle))
        run.until("loaded")
        run.kill()
        material = material_of(RoundDirectory(folder), toolchain)
        if work_path(bundle).exists():  # it may have come so far
            prove(material, bundle, toolchain, ProveOptions(resume=True))
        else:
            prove(material, bundle, toolchain)
        assert verify(bundle, toolchain).ok

    def test_asks_before_it_goes_on_or_begins_anew(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]
    ) -> None:
        bundle, work = tmp_path / "bundle", work_path(tmp_path / "bundle")
        runs.append(run := Run(folder, bundle))
        run.until("proofs 2 ")
        run.kill()
        before = saved(work)
        material = material_of(RoundDirectory(folder), toolchain)
        with pytest.raises(InputError, match="an unfinished run is in") as error:
            prove(material, bundle, toolchain)
        assert "--resume" in error.value.hint
        assert "--restart" in error.value.hint
        assert saved(work) == before
        prove(material, bundle, toolchain, ProveOptions(restart=True))
        assert all((bundle / name).read_bytes() != content for name, (_, content) in before.items())
        assert verify(bundle, toolchain).ok

    def test_one_run_at_a_time(self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]) -> None:
        bundle = tmp_path / "bundle"
        runs.append(run := Run(folder, bundle))
        run.until("proofs 1 ")
        run.process.send_signal(signal.SIGSTOP)  # it holds its directory, however slow we are
        try:
            material = material_of(RoundDirectory(folder), toolchain)
            for option in ("resume", "restart"):
                with pytest.raises(InputError, match="another run is at work"):
                    prove(material, bundle, toolchain, ProveOptions(**{option: True}))  # type: ignore[arg-type]
        finally:
            run.process.send_signal(signal.SIGCONT)
        run.finish()
        assert verify(bundle, toolchain).ok


class TestWhatIsLeft:
    """What a killed run leaves, damaged or changed before it is taken up again."""

    @pytest.fixture
    def half(self, folder: Path, tmp_path: Path, runs: list[Run]) -> Path:
        runs.append(run := Run(folder, tmp_path / "bundle"))
        run.until("proofs 4 ")
        run.kill()
        return tmp_path / "bundle"

    def test_damaged_proofs_are_made_again(self, folder: Path, half: Path, toolchain: Toolchain) -> None:
        work = work_path(half)
        names = sorted(saved(work))
        data = (work / names[0]).read_bytes()
        (work / names[0]).write_bytes(b"")
        (work / names[1]).write_bytes(data)
        (work / names[2]).with_suffix(".public_inputs").unlink()
        prove(
            material_of(RoundDirectory(folder), toolchain),
            half,
            toolchain,
            ProveOptions(resume=True),
        )
        assert (half / names[0]).read_bytes() not in (b"", data)
        assert verify(half, toolchain).ok

    def test_another_round(self, half: Path, tmp_path: Path, toolchain: Toolchain) -> None:
        before = saved(work_path(half))
        other = round_directory(tmp_path / "other", toolchain, values=vectors(1, d=D))
        with pytest.raises(InputError, match="belongs to other inputs"):
            prove(material_of(other, toolchain), half, toolchain, ProveOptions(resume=True))
        assert saved(work_path(half)) == before

    def test_one_client_commits_anew(self, folder: Path, half: Path, toolchain: Toolchain) -> None:
        material = material_of(RoundDirectory(folder), toolchain)
        fresh = in_memory(material.round, vectors(1, d=D), toolchain)
        changed = replace(
            material,
            openings=[fresh.openings[0], *material.openings[1:]],
            leaves=[fresh.leaves[0], *material.leaves[1:]],
        )
        with pytest.raises(InputError, match="belongs to other inputs"):
            prove(changed, half, toolchain, ProveOptions(resume=True))

    def test_other_parameters(self, folder: Path, half: Path, toolchain: Toolchain) -> None:
        """Thresholds are in the context, hence the commitments do not fit any more."""
        path = folder / "round.toml"
        path.write_text(path.read_text().replace('z = "5"', 'z = "6"'))
        with pytest.raises(InputError, match="committed under another context"):
            load(folder, toolchain.bb.hash_many)

    def test_changed_update(self, folder: Path, half: Path, toolchain: Toolchain) -> None:
        path = folder / "updates" / "carol.npy"
        value = np.load(path)
        value[100] += 1
        np.save(path, value)
        with pytest.raises(InputError, match="client 'carol': its opening is not its update: at index 100"):
            load(folder, toolchain.bb.hash_many)


class TestUpdatesOnly:
    """Commitments made on the spot are kept with the unfinished run: their salts are nowhere else."""

    @pytest.fixture
    def half(self, tmp_path: Path, pristine: Path, runs: list[Run]) -> Path:
        updates_directory(tmp_path / "round", vectors(1, d=D))
        runs.append(run := Run(tmp_path / "round", tmp_path / "bundle"))
        run.until("proofs 3 ")
        run.kill()
        return tmp_path / "bundle"

    def test_terms_that_the_unfinished_run_decides_otherwise(self, half: Path) -> None:
        """There is no round.toml yet: they would be dropped in silence."""
        words = ["prove", str(half.parent / "round"), "-o", str(half), "--resume", "--bits"]
        refused = CliRunner().invoke(main, [*words, "8"])
        assert refused.exit_code == 3
        assert "--bits 8: " in refused.stderr
        assert "decides it otherwise, as 12" in refused.stderr
        assert CliRunner().invoke(main, [*words, "12"]).exit_code == 0

    def unfinished(self, half: Path, toolchain: Toolchain) -> Material | None:
        return load_unfinished(half.parent / "round", half, toolchain.bb.hash_many)

    def test_resume(self, half: Path, toolchain: Toolchain) -> None:
        before = saved(work_path(half))
        material = self.unfinished(half, toolchain)
        assert material is not None
        assert not material.by_clients
        assert material.updates is not None
        prove(material, half, toolchain, ProveOptions(resume=True))
        assert all((half / name).read_bytes() == content for name, (_, content) in before.items())
        checked = verify(half, toolchain)
        assert checked.ok
        assert checked.commitments_by == "server"
        assert not work_path(half).exists()

    def test_in_a_process(self, half: Path, toolchain: Toolchain, runs: list[Run]) -> None:
        runs.append(run := Run(half.parent / "round", half, resume=True))
        run.finish()
        assert verify(half, toolchain).ok

    def test_committing_anew_is_another_round(self, half: Path, toolchain: Toolchain) -> None:
        terms = Terms(clip=CLIP, overrides={"chunk": CHUNK})
        material = load(half.parent / "round", toolchain.bb.hash_many, terms)
        with pytest.raises(InputError, match="belongs to other inputs"):
            prove(material, half, toolchain, ProveOptions(resume=True))

    def test_changed_update(self, half: Path, toolchain: Toolchain) -> None:
        path = half.parent / "round" / "updates" / "bob.npy"
        value = np.load(path)
        value[3] += 0.1
        np.save(path, value)
        with pytest.raises(InputError, match="client 'bob': its opening is not its update: at index 3"):
            self.unfinished(half, toolchain)

    def test_private_files(self, half: Path) -> None:
        work = work_path(half)
        assert work.stat().st_mode & 0o777 == 0o700
        for path in [work / "run.json", *(work / "round" / "openings").iterdir()]:
            assert path.stat().st_mode & 0o777 == 0o600

    def test_killed_before_it_was_written_down(self, half: Path, toolchain: Toolchain) -> None:
        (work_path(half) / "run.json").unlink()
        assert self.unfinished(half, toolchain) is None


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("child", ["bb", "node"])
    def test_children_are_killed(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run], number: int, child: str
    ) -> None:
        bundle = tmp_path / "bundle"
        runs.append(run := Run(folder, bundle))
        run.until("proofs 2 ")
        try:
            children = run.wait_for(child)
        except AssertionError:
            if child == "node":
                pytest.skip("a native nargo answers: there is no server")
            raise
        stop(children)
        run.process.send_signal(number)
        ended(children)
        run.process.communicate(timeout=60)
        assert run.process.returncode != 0
        assert not bundle.exists()
        assert saved(work_path(bundle))
        prove(
            material_of(RoundDirectory(folder), toolchain),
            bundle,
            toolchain,
            ProveOptions(resume=True),
        )
        assert verify(bundle, toolchain).ok

    def test_command_line(self, folder: Path, tmp_path: Path, toolchain: Toolchain, runs: list[Run]) -> None:
        """The same through `zkkrum prove`: no traceback, and --resume."""
        bundle = tmp_path / "bundle"
        command = [sys.executable, "-c", "from zkkrum.cli import main; main()"]
        arguments = ["prove", str(folder), "-o", str(bundle), "--jobs", "1"]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 60
            while not saved(work_path(bundle)) and time.monotonic() < end and process.poll() is None:
                time.sleep(0.005)
            children = psutil.Process(process.pid).children(recursive=True)
            stop(children)
            process.send_signal(signal.SIGINT)
            ended(children)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert "Traceback" not in err
        assert process.returncode != 0, err
        done = subprocess.run(
            [*command, *arguments, "--resume", "--json"], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        assert verify(bundle, toolchain).ok

    def test_jobs_that_wait_are_dropped(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C as the main thread sees it, while proofs run in others."""
        started: list[str] = []
        true_prove = toolchain.bb.prove

        def spy(artifact: Path, witness: Path, *arguments: Any, **options: Any) -> Any:
            started.append(witness.name)
            if len(started) == 3:
                threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            return true_prove(artifact, witness, *arguments, **options)

        monkeypatch.setattr(toolchain.bb, "prove", spy)
        material = material_of(RoundDirectory(folder), toolchain)
        with pytest.raises(KeyboardInterrupt):
            prove(material, tmp_path / "bundle", toolchain, ProveOptions(jobs=2))
        assert len(started) <= 5
        monkeypatch.undo()
        prove(material, tmp_path / "bundle", toolchain, ProveOptions(resume=True))
        assert verify(tmp_path / "bundle", toolchain).ok


FULL = """\
import sys
from pathlib import Path
from zkkrum.errors import ResourceError
from zkkrum.proof.form import Form
from zkkrum.proof.material import load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.work import work_path
from zkkrum.toolchain import Toolchain

directory, disk, kilobytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
bundle, ballast = disk / "bundle", disk / "ballast"

def fill(what, done, total):
    if what == "proofs" and done == 3 and not ballast.exists():
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - kilobytes * 1024))

with Toolchain.find() as tools:
    material = load(directory, tools.bb.hash_many)
    try:
        prove(material, bundle, tools, ProveOptions(jobs=2), fill)
    except ResourceError as error:
        print("refused:", error.message)
    assert not bundle.exists()
    work = work_path(bundle)
    finished = {p.name: p.read_bytes() for p in (work / "shards").glob("*.proof")}
    assert len(finished) >= 3, finished.keys()
    ballast.unlink()
    prove(material, bundle, tools, ProveOptions(jobs=2, resume=True))
    kept = [n for n, data in finished.items() if (bundle / "shards" / n).read_bytes() == data]
    print("kept", len(kept), "of", len(finished))
"""


def namespace() -> list[str]:
    """Return how to start a command that may mount a disk nobody else sees; empty where that is not allowed."""
    for options in (["-m"], ["-U", "-r", "-m"]):
        command = ["unshare", *options, "--"]
        with contextlib.suppress(OSError):
            if not subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode:
                return command
    return []


class TestFullDisk:
    @pytest.mark.parametrize("kilobytes", [0, 16, 80])
    def test_leaves_a_state_to_resume(self, folder: Path, tmp_path: Path, toolchain: Toolchain, kilobytes: int) -> None:
        """A disk of two megabytes that fills up after three shards but for some kilobytes."""
        prefix = namespace()
        if not prefix:
            pytest.skip("needs leave to mount a small disk (root, or user namespaces)")
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = f'mount -t tmpfs -o size=2m tmpfs "{disk}" && exec "$@"'
        done = subprocess.run(
            [*prefix, "sh", "-c", mount, "sh", sys.executable, "-c", FULL, str(folder), str(disk), str(kilobytes)],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        refused, kept = done.stdout.strip().splitlines()
        assert refused.startswith("refused:")
        assert "disk" in refused
        _, count, _, finished = kept.split()
        assert count == finished

    def test_before_it_begins(
        self, folder: Path, tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        material = material_of(RoundDirectory(folder), toolchain)
        monkeypatch.setattr("zkkrum.proof.jobs.shutil.copyfile", full)
        with pytest.raises(ResourceError, match="no space left on the disk"):
            prove(material, tmp_path / "bundle", toolchain)
        assert sorted(p.name for p in tmp_path.iterdir()) == [".bundle.work", "round"]
