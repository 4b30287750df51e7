"""Proving a round: run the reference, prove one circuit or many shards, verify, write bundle and aggregate.

Must not print. Nothing is written before the proof has been checked against the reference and by the verifier.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError, ReferenceStringError, ToolFailedError
from zkkrum.files import whole_folder
from zkkrum.progress import Progress, silent
from zkkrum.proof.build import build, gates, verification_key
from zkkrum.proof.bundle import Manifest, is_bundle, write
from zkkrum.proof.circuit import round_circuit
from zkkrum.proof.form import PROOF, PUBLIC_INPUTS, Form
from zkkrum.proof.jobs import Job, default_jobs, run_job
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.shards import prove_shards, public_words
from zkkrum.proof.statement import Words, encode, round_words
from zkkrum.proof.verify import Verification, verify
from zkkrum.proof.witness import round_inputs
from zkkrum.proof.work import Work, work_directory
from zkkrum.protocol import forecast
from zkkrum.protocol.float_rule import FloatOutcome, float_krum
from zkkrum.protocol.krum import Krum, Outcome
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.quantize import clipped_share
from zkkrum.protocol.sizes import gates_for, points_for
from zkkrum.protocol.transcript import Secrets, Transcript
from zkkrum.rounds.aggregate import AggregateFile
from zkkrum.toolchain import Toolchain, points_available

DEFAULT_OPTIONS = ProveOptions()


@dataclass(frozen=True, eq=False)
class Proved:
    """What came of proving; ``outcome`` and ``float_outcome`` are private to the server.

    ``aggregate`` is the file of (S, σ), for whoever may hold it; ``accepted`` are the clients it sums. ``seconds`` by
    step (``witness`` and ``prove`` summed over proofs, ``wall`` in all); ``clipped`` is the share of clipped entries by
    client, where raw updates are present.
    """

    bundle: Path
    aggregate: Path
    round: Round
    outcome: Outcome
    accepted: tuple[int, ...]
    float_outcome: FloatOutcome | None
    clipped: Mapping[str, float]
    by_clients: bool
    gates: Mapping[str, int]
    proofs: int
    seconds: Mapping[str, float]
    verification: Verification
    kept: Path | None


def prove(
    material: Material,
    bundle: Path,
    tools: Toolchain,
    options: ProveOptions = DEFAULT_OPTIONS,
    progress: Progress = silent,
) -> Proved:
    """Prove a round and write the bundle, and beside it the aggregate (`aggregate_path`).

    Parameters
    ----------
    material
        From `load`, or made in memory.
    bundle
        Folder to write; an earlier bundle there is replaced, anything else is refused.
    tools
        They run nargo and bb.
    options
        How many proofs at once, where, and what becomes of an interrupted run.
    progress
        Told as witnesses and proofs are made.

    Raises
    ------
    ToolFailedError
        If the circuit's outputs and the reference differ, or the proof does not verify. Nothing is written.
    InputError, ReferenceStringError, ResourceError
    """
    started = time.perf_counter()
    bundle = Path.cwd() / bundle  # a name of its own even for "."
    if bundle.is_symlink() or (
        bundle.exists() and not is_bundle(bundle) and (not bundle.is_dir() or any(bundle.iterdir()))
    ):
        raise InputError(f"{bundle}: exists and is not a bundle, or not only that", "choose another path with -o")
    round, p = material.round, material.round.params
    form = Form.of(p)
    _require_reference_string(p, tools)
    outcome = Krum(p)(material.q)
    with work_directory(bundle, material, resume=options.resume, restart=options.restart, keep=options.keep) as work:
        secrets = Secrets.fresh(p) if form is Form.ROUND else work.secrets()
        transcript = Transcript.of(round, material.openings, material.leaves, outcome, secrets, tools.bb.hash_many)
        if form is Form.ROUND:
            data, seconds = _one_circuit(transcript, tools, work, options.keep, progress)
        else:
            data, seconds = prove_shards(transcript, tools, work, options, progress)
        counts = {}
        for name, circuit in form.circuits(p).items():
            built = build(circuit, tools)
            counts[name], data[name] = gates(built, tools), verification_key(built, tools)
        manifest = Manifest.describe(
            round,
            by_clients=material.by_clients,
            commitments=material.commitments,
            aggregate=transcript.commitments[-1],
            verdict=outcome.verdict,
            words=_top_words(transcript),
            gates=counts,
            files=data,
            seconds=seconds,
        )
        with whole_folder(bundle) as folder:
            write(folder, manifest, data)
            checked = verify(folder, tools, jobs=default_jobs(2), progress=progress)
            if not checked.ok:
                raise ToolFailedError(f"the new proof does not verify: {checked.reason}", "nothing was written")
            # Before the bundle takes its name: σ exists nowhere else.
            aggregate = aggregate_path(bundle)
            layout = material.layout or ()
            opened = AggregateFile(transcript.aggregate, len(transcript.accepted), p.b, round.clip, layout)
            opened.save(aggregate)
    updates = material.updates
    return Proved(
        bundle,
        aggregate,
        round,
        outcome,
        transcript.accepted,
        float_krum(np.stack([u.vector for u in updates]), p) if updates else None,
        {u.client: clipped_share(u.vector, round.clip) for u in updates or []},
        material.by_clients,
        counts,
        form.proofs(p),
        {**seconds, "wall": time.perf_counter() - started},
        replace(checked, opened=opened),
        work.path if options.keep else None,
    )


def aggregate_path(bundle: Path) -> Path:
    """Return where the aggregate of a bundle goes: beside it, and named after it unless it is called ``bundle``."""
    return bundle.with_name("aggregate.npz" if bundle.name == "bundle" else f"{bundle.name}.aggregate.npz")


def _require_reference_string(params: Params, tools: Toolchain) -> None:
    """Look for the points of the largest circuit before anything runs; say what fits where they are too few."""
    form = Form.of(params)
    largest = max(form.gates(params).values())
    try:
        tools.reference_string(points_for(largest))
    except ReferenceStringError as error:
        available = gates_for(points_available())
        if not available:
            raise
        d = forecast.largest_dimension(params, available)
        fits = f"d <= {d:,} (n·d = {params.n * d:,})" if d else "no d"
        raise ReferenceStringError(
            f"a circuit of about {largest:,} gates is needed: {error.message}; "
            f"at n = {params.n} and b = {params.b} the points at hand prove {fits} in one circuit"
            + (f", more in shards: open the round with --shard-gates {available}" if form is Form.ROUND else ""),
            error.hint,
        ) from error


def _top_words(transcript: Transcript) -> Words:
    """Return the public inputs of the proof that has the outputs, by the reference."""
    if transcript.links is None:
        leaves, verdict = transcript.leaves_of_chunk(0), transcript.outcome.verdict
        return round_words(transcript.round, transcript.statement, leaves, verdict)
    return next(words for _, words in public_words(transcript))


def _one_circuit(
    transcript: Transcript, tools: Toolchain, work: Work, keep: bool, progress: Progress
) -> tuple[dict[str, bytes], dict[str, float]]:
    progress("proofs", 0, 1)
    inputs = round_inputs(transcript, tools.bb.hash_many)
    job = Job("round", round_circuit(transcript.round.params), inputs, threads=default_jobs(1 << 30))
    done = run_job(job, work.path, tools, keep)
    if done.public_inputs != encode(_top_words(transcript)):
        raise ToolFailedError(
            "the circuit's outputs and the NumPy reference differ: this is a bug, and nothing was written",
            "please report it with the parameters of the round",
        )
    progress("proofs", 1, 1)
    return {PROOF: done.proof, PUBLIC_INPUTS: done.public_inputs}, {"witness": done.witness, "prove": done.prove}
