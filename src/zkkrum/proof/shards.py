"""Proving a round in shards: every shard and the verdict as jobs, finished ones kept, here or on a cluster.

Must not print, nor know how the bundle is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from functools import partial

from zkkrum.errors import ToolFailedError
from zkkrum.files import write_whole
from zkkrum.progress import Progress
from zkkrum.proof.build import build, verification_key
from zkkrum.proof.circuit import shard_circuit, verdict_circuit
from zkkrum.proof.form import TOP, Form, Part, shard_part
from zkkrum.proof.jobs import Job, JobProof, dask_executor, default_jobs, local_executor, run_all, run_job
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.statement import PublicChallenge, Words, encode, shard_words, verdict_words
from zkkrum.proof.witness import shard_inputs, verdict_inputs
from zkkrum.proof.work import Work
from zkkrum.protocol.transcript import Transcript
from zkkrum.toolchain import Toolchain


def prove_shards(
    transcript: Transcript, tools: Toolchain, work: Work, options: ProveOptions, progress: Progress
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Prove every shard and the verdict; return the files of the bundle and the seconds spent on each step.

    What an earlier run left in the work directory is verified and kept; each new proof is written there as it comes.

    Raises
    ------
    ToolFailedError
        If a proof's public inputs differ from the reference's.
    InputError, ResourceError
        From the executor: no scheduler, no workers, no memory.
    """
    p, hash = transcript.round.params, tools.bb.hash_many
    expected = {part.name: encode(words) for part, words in public_words(transcript)}
    parts = {part.name: part for part in Form.SHARDED.parts(p)}
    data: dict[str, bytes] = {}
    seconds = {"witness": 0.0, "prove": 0.0}
    for part in _kept(transcript, expected, tools, work):
        data |= {name: (work.path / name).read_bytes() for name in (part.proof, part.public_inputs)}
    missing = [t for t in range(p.chunks) if shard_part(p, t).proof not in data]
    finished_before, total = p.chunks - len(missing), Form.SHARDED.proofs(p)

    def finished(done: JobProof) -> None:
        nonlocal finished_before
        part = parts[done.name]
        if done.public_inputs != expected[part.name]:
            raise ToolFailedError(
                f"{part.name}: the circuit's public inputs and the NumPy reference differ: this is a bug, and nothing "
                "was written",
                "please report it with the parameters of the round",
            )
        for name, content in ((part.proof, done.proof), (part.public_inputs, done.public_inputs)):
            data[name] = content
            if part is not TOP:
                write_whole(work.path / name, content)
        seconds["witness"] += done.witness
        seconds["prove"] += done.prove
        finished_before += 1
        progress("proofs", finished_before, total)

    def all_jobs(threads: int) -> Iterator[Job]:
        for t in missing:
            circuit = shard_circuit(p, len(p.chunk_range(t)))
            yield Job(shard_part(p, t).name, circuit, shard_inputs(transcript, t, hash), threads)
        yield Job(TOP.name, verdict_circuit(p), verdict_inputs(transcript), threads)

    progress("proofs", finished_before, total)
    for circuit in Form.SHARDED.circuits(p).values():  # compile each shape once, before the jobs want it
        build(circuit, tools)
    executor: Executor
    if options.scheduler:
        with dask_executor(options.scheduler, options.insecure_scheduler) as (executor, at_once):
            run_all(all_jobs(1), executor, run_job, at_once, finished)
    else:
        at_once = options.jobs or default_jobs(len(missing) + 1)
        run_here = partial(run_job, home=work.path, tools=tools, keep=options.keep)
        with local_executor(at_once) as executor:
            run_all(all_jobs(max(1, default_jobs(1 << 30) // at_once)), executor, run_here, at_once, finished)
    return data, seconds


def public_words(transcript: Transcript) -> Iterator[tuple[Part, Words]]:
    """Yield every proof of a sharded round with its public inputs by the reference, the verdict's first."""
    round, links = transcript.round, transcript.sharded_links.links
    public = PublicChallenge.of(transcript.challenge)
    yield TOP, verdict_words(round, transcript.statement, public, links[-1], transcript.outcome.verdict)
    for t in range(round.params.chunks):
        words = shard_words(round, public, transcript.leaves_of_chunk(t), links[t], links[t + 1])
        yield shard_part(round.params, t), words


def _kept(transcript: Transcript, expected: Mapping[str, bytes], tools: Toolchain, work: Work) -> Iterator[Part]:
    """Yield the shards that an earlier run finished and no crash has damaged."""
    p = transcript.round.params
    for t in range(p.chunks):
        part = shard_part(p, t)
        with contextlib.suppress(OSError):
            proof, public_inputs = ((work.path / name).read_bytes() for name in (part.proof, part.public_inputs))
            key = verification_key(build(shard_circuit(p, len(p.chunk_range(t))), tools), tools)
            if public_inputs == expected[part.name] and tools.bb.verify(key, proof, public_inputs):
                yield part
