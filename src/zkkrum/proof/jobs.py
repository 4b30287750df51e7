"""One proof as a job that any executor can run: solve the witness, prove, clean up. Locally or on another machine.

Must not know rounds or bundles. A job carries everything it needs; the machine that runs it finds its own tools,
compiles the circuit into its own cache, and returns bytes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import InputError, ResourceError
from zkkrum.extras import require
from zkkrum.files import ScratchFolder, explained
from zkkrum.proof.build import Built, build, gates, verification_key
from zkkrum.proof.circuit import Circuit
from zkkrum.proof.estimate import PROOF_MEGABYTES
from zkkrum.proof.witness import Inputs, to_toml
from zkkrum.protocol.sizes import points_for
from zkkrum.toolchain import Toolchain

SCHEDULER_TIMEOUT = 10
"""Seconds to wait for a Dask scheduler to answer."""


@dataclass(frozen=True)
class Job:
    """A circuit and its private inputs; ``name`` is unique in a run, ``threads`` the cores bb may use."""

    name: str
    circuit: Circuit
    inputs: Inputs
    threads: int


@dataclass(frozen=True)
class JobProof:
    """The result of a `Job`; ``witness`` and ``prove`` in seconds."""

    name: str
    proof: bytes
    public_inputs: bytes
    witness: float
    prove: float


@cache
def process_tools() -> Toolchain:
    """Return the toolchain of this process, for jobs that arrive from elsewhere."""
    return Toolchain.find()


@cache
def _process_home() -> ScratchFolder:
    return ScratchFolder()


_preparing = threading.Lock()
"""Each shape is compiled, given its key and staged by one thread, while the others wait for it."""


def _stage(built: Built, home: Path) -> Path:
    """Copy a compiled program into a private folder, where its inputs may stand beside it."""
    folder = home / built.circuit.key_id[:16]
    if not folder.is_dir():
        scratch = folder.with_suffix(".partial")
        shutil.rmtree(scratch, ignore_errors=True)
        for path in built.folder.parent.rglob("*"):  # copytree would hide that a disk is full
            if path.is_file():
                target = scratch / path.relative_to(built.folder.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        scratch.rename(folder)
    return folder / built.circuit.crate


def run_job(job: Job, home: Path | None = None, tools: Toolchain | None = None, keep: bool = False) -> JobProof:
    """Prove one circuit.

    Parameters
    ----------
    job
        What to prove.
    home
        Private folder (mode 0700) for inputs and witness; a temporary one of this process by default.
    tools
        The toolchain; that of this process by default.
    keep
        Leave inputs and witness in ``home``.

    Raises
    ------
    ConstraintError
        If the inputs do not satisfy the circuit.
    ResourceError
        If memory or disk ran out.
    """
    tools, home = tools or process_tools(), home or Path(_process_home().name)
    with explained(home):
        return _run_job(job, home, tools, keep)


def _run_job(job: Job, home: Path, tools: Toolchain, keep: bool) -> JobProof:
    with _preparing:
        built = build(job.circuit, tools)
        verification_key(built, tools)
        folder = _stage(built, home)
    # Nobody else writes here: after a kill -9 a bb of the earlier run may still be at work on the same job.
    name = f"{job.name.replace(' ', '-')}-{secrets.token_hex(4)}"
    inputs, out = folder / f"{name}.toml", folder / "target" / name
    witness: Path | None = None
    try:
        inputs.touch(mode=0o600)
        inputs.write_text(to_toml(job.inputs))
        started = time.perf_counter()
        witness = tools.nargo.execute(folder, witness=name, prover=name)
        solved = time.perf_counter()
        crs = tools.reference_string(points_for(gates(built, tools)))
        proof = tools.bb.prove(built.artifact, witness, built.vk, out, crs, threads=job.threads)
        return JobProof(job.name, proof.proof, proof.public_inputs, solved - started, time.perf_counter() - solved)
    finally:
        if not keep:
            for path in (inputs, witness):
                if path:
                    path.unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)


def default_jobs(count: int) -> int:
    """Return how many proofs to run at once: one a core, as far as memory goes for twice what each takes."""
    memory = psutil.virtual_memory().available // (2 * PROOF_MEGABYTES * 1_000_000)
    return int(max(1, min(os.cpu_count() or 1, memory, count)))


@contextlib.contextmanager
def local_executor(jobs: int) -> Iterator[Executor]:
    """Give threads that drive the tools' processes; on an error what has not started is dropped."""
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="zkkrum")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def require_private(address: str, insecure: bool = False) -> None:
    """Raise `InputError` unless what is sent to an address stays private: a job carries clients' openings.

    Parameters
    ----------
    address
        Of a Dask scheduler or worker, such as ``tls://10.0.0.1:8786``.
    insecure
        Send it in the clear all the same.
    """
    scheme, _, rest = address.rpartition("://")
    host = rest.rpartition("@")[2].split("/")[0].rpartition(":")[0] or rest
    host = host.strip("[]").split("%")[0]
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not (insecure or here or scheme in ("tls", "wss", "inproc")):
        raise InputError(
            f"Dask at {address}: openings of clients would travel there in the clear",
            "use tls:// (Dask's configuration has the certificates), or on a network you trust --insecure-scheduler",
        )


@contextlib.contextmanager
def dask_executor(address: str, insecure: bool = False) -> Iterator[tuple[Executor, int]]:
    """Give the executor of an existing Dask cluster (extra ``zkkrum[dask]``) and how many proofs it runs at once.

    Workers that declare the resource ``proof`` (``dask worker --resources proof=2``) run as many proofs at once;
    where none does, the cluster's threads decide.

    Parameters
    ----------
    address
        Of the scheduler.
    insecure
        Whether openings may travel in the clear to a scheduler or workers elsewhere (`require_private`).

    Raises
    ------
    InputError
        If no scheduler answers at ``address``, it has no workers, or openings would travel in the clear.
    ToolMissingError
        If Dask is not installed.
    ResourceError
        If scheduler or workers are lost for good.
    """
    require_private(address, insecure)
    distributed = require("distributed", "dask")
    try:
        client = distributed.Client(address, timeout=SCHEDULER_TIMEOUT)
    except TypeError as error:  # Dask's word for a TLS address without certificates
        hint = "name certificates in Dask's configuration (distributed.comm.tls)"
        raise InputError(f"no Dask scheduler answers at {address}: {error}", hint) from error
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}", "start one with `dask scheduler`") from error
    with client:
        found = client.scheduler_info(n_workers=-1)["workers"]
        workers = found.values()
        if not workers:
            raise InputError(f"the Dask scheduler at {address} has no workers", "start some with `dask worker`")
        for worker in found:
            require_private(worker, insecure)
        slots = sum(int(w.get("resources", {}).get("proof", 0)) for w in workers)
        options: dict[str, Any] = {"resources": {"proof": 1}} if slots else {}
        # A worker that dies costs no retry: the scheduler hands its jobs to others.
        executor = client.get_executor(pure=False, retries=1, **options)
        try:
            yield executor, slots or sum(int(w["nthreads"]) for w in workers)
        except distributed.KilledWorker as error:
            raise ResourceError(
                f"the Dask workers died again and again: {error}", "give them more memory; then --resume"
            ) from error
        except CancelledError as error:
            raise ResourceError(
                f"the Dask scheduler at {address} dropped the proofs, or is gone", "start it again; then --resume"
            ) from error
        finally:
            executor.shutdown(wait=False)


def run_all(
    jobs: Iterable[Job],
    executor: Executor,
    run: Callable[[Job], JobProof],
    at_once: int,
    finished: Callable[[JobProof], None],
) -> None:
    """Run jobs as they can be taken, a bounded number prepared ahead, and hand over each proof as it comes.

    The first error stops the rest; what was handed over before stays.
    """
    source = iter(jobs)
    pending: set[Future[JobProof]] = set()
    try:
        while True:
            for job in source:
                pending.add(executor.submit(run, job))
                if len(pending) >= 2 * at_once:
                    break
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                finished(future.result())
    except BaseException:
        for future in pending:
            future.cancel()
        raise
