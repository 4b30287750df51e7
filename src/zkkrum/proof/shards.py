"""Proving a round in shards: every shard and the verdict as jobs, finished ones kept, here or on a cluster.

Must not print, nor know how the bundle is written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial

from zkkrum.errors import ToolFailedError
from zkkrum.files import write_whole
from zkkrum.progress import Progress
from zkkrum.proof.build import build, verification_key
from zkkrum.proof.circuit import shard_circuit, verdict_circuit
from zkkrum.proof.form import PROOF, PUBLIC_INPUTS, Form, shard_files
from zkkrum.proof.jobs import Job, JobProof, dask_executor, default_jobs, local_executor, run_all, run_job
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.statement import encode, shard_words
from zkkrum.proof.witness import shard_inputs, verdict_inputs
from zkkrum.proof.work import Work
from zkkrum.protocol.challenge import Chain
from zkkrum.protocol.commitment import leaves
from zkkrum.protocol.field import from_hex
from zkkrum.protocol.krum import Outcome, squared_distances
from zkkrum.toolchain import Toolchain


def prove_shards(
    material: Material, outcome: Outcome, tools: Toolchain, work: Work, options: ProveOptions, progress: Progress
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Prove every shard and the verdict; return the files of the bundle and the seconds spent on each step.

    What an earlier run left in the work directory is verified and kept; each new proof is written there as it comes.

    Raises
    ------
    ToolFailedError
        If a shard's public inputs differ from the reference's.
    InputError, ResourceError
        From the executor: no scheduler, no workers, no memory.
    """
    round, p, hash = material.round, material.round.params, tools.bb.hash_many
    state = json.loads(work.secrets.read_text())
    ranges = [p.chunk_range(t) for t in range(p.chunks)]
    chain = Chain.of(
        p,
        material.commitments,
        [squared_distances(material.q[:, c.start : c.stop]) for c in ranges],
        from_hex(state["blind"]),
        [from_hex(x) for x in state["blinds"]],
        hash,
    )
    all_leaves = [leaves(o, p, hash) for o in material.openings]

    expected = {
        t: encode(shard_words(round, t, chain.rho, [own[t] for own in all_leaves], *chain.links[t : t + 2]))
        for t in range(p.chunks)
    }
    data: dict[str, bytes] = {}
    seconds = {"witness": 0.0, "prove": 0.0}
    for t in range(p.chunks):  # what an earlier run finished, and no crash has damaged
        names = shard_files(t)
        with contextlib.suppress(OSError):
            proof, public_inputs = ((work.path / name).read_bytes() for name in names)
            key = verification_key(build(shard_circuit(p, len(ranges[t])), tools), tools)
            if public_inputs == expected[t] and tools.bb.verify(key, proof, public_inputs):
                data |= zip(names, (proof, public_inputs), strict=True)
    missing = [t for t in range(p.chunks) if shard_files(t)[0] not in data]
    total = p.chunks + 1

    def finished(done: JobProof) -> None:
        if done.name == "verdict":
            names = (PROOF, PUBLIC_INPUTS)
        else:
            t = int(done.name)
            names = shard_files(t)
            if done.public_inputs != expected[t]:
                raise ToolFailedError(
                    f"shard {t}: the circuit's public inputs differ from the reference's: this is a bug"
                )
        for name, content in zip(names, (done.proof, done.public_inputs), strict=True):
            data[name] = content
            if done.name != "verdict":
                write_whole(work.path / name, content)
        seconds["witness"] += done.witness
        seconds["prove"] += done.prove
        progress("proofs", sum(name.endswith("proof") for name in data), total)

    def all_jobs(threads: int) -> Iterator[Job]:
        for t in missing:
            circuit = shard_circuit(p, len(ranges[t]))
            inputs = shard_inputs(round, t, material.openings, chain, [own[t] for own in all_leaves], hash)
            yield Job(f"{t:05d}", circuit, inputs, threads)
        yield Job("verdict", verdict_circuit(p), verdict_inputs(round, material.commitments, outcome, chain), threads)

    progress("proofs", p.chunks - len(missing), total)
    for circuit in Form.SHARDED.circuits(p).values():  # compile each shape once, before the jobs want it
        build(circuit, tools)
    executor: Executor
    if options.scheduler:
        with dask_executor(options.scheduler) as (executor, at_once):
            run_all(all_jobs(1), executor, run_job, at_once, finished)
    else:
        at_once = options.jobs or default_jobs(len(missing) + 1)
        run_here = partial(run_job, home=work.path, tools=tools, keep=options.keep)
        with local_executor(at_once) as executor:
            run_all(all_jobs(max(1, default_jobs(1 << 30) // at_once)), executor, run_here, at_once, finished)
    return data, seconds
