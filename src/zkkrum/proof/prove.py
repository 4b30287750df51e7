"""Proving a round: load and check, run the reference, prove one circuit or many shards, verify, write the bundle.

Must not print. Nothing is written before the proof has been checked against the reference and by the verifier.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError, ReferenceStringError, ToolFailedError
from zkkrum.files import whole_folder
from zkkrum.progress import Progress, silent
from zkkrum.proof.build import build, gates, verification_key
from zkkrum.proof.bundle import Manifest, is_bundle, write
from zkkrum.proof.circuit import round_circuit
from zkkrum.proof.form import PROOF, PUBLIC_INPUTS, Form, Plan, plan
from zkkrum.proof.jobs import Job, default_jobs, run_job
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.shards import prove_shards
from zkkrum.proof.statement import Words, encode, round_words, verdict_words
from zkkrum.proof.verify import Verification, verify
from zkkrum.proof.witness import round_inputs
from zkkrum.proof.work import Work, work_directory
from zkkrum.protocol import forecast
from zkkrum.protocol.commitment import fresh_secret
from zkkrum.protocol.float_rule import FloatOutcome, float_krum
from zkkrum.protocol.krum import Krum, Outcome
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.quantize import clipped_share
from zkkrum.toolchain import Toolchain, gates_for, points_available, points_for

DEFAULT_OPTIONS = ProveOptions()


@dataclass(frozen=True, eq=False)
class Proved:
    """What came of proving; ``outcome`` and ``float_outcome`` are private to the server.

    ``seconds`` by step (``witness`` and ``prove`` summed over proofs, ``wall`` in all); ``clipped`` is the share of
    clipped entries by client, where raw updates are present.
    """

    bundle: Path
    round: Round
    outcome: Outcome
    float_outcome: FloatOutcome | None
    clipped: Mapping[str, float]
    by_clients: bool
    plan: Plan
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
    """Prove a round and write the bundle.

    Parameters
    ----------
    material
        From `load`, or made in memory.
    bundle
        Folder to write; an earlier bundle there is replaced, anything else is refused.

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
    decided = plan(p, options.form)
    _require_reference_string(p, decided.form, tools)
    outcome = Krum(p)(material.q)
    words: Words
    with work_directory(
        bundle, material, decided.form, resume=options.resume, restart=options.restart, keep=options.keep
    ) as work:
        if decided.form is Form.ROUND:
            data, seconds = _one_circuit(material, outcome, tools, work, options.keep, progress)
        else:
            data, seconds = prove_shards(material, outcome, tools, work, options, progress)
        words = _expected_words(material, outcome, decided.form, data)
        counts = {}
        for name, circuit in decided.form.circuits(p).items():
            built = build(circuit, tools)
            counts[name], data[name] = gates(built, tools), verification_key(built, tools)
        manifest = Manifest.describe(
            round,
            form=decided.form,
            by_clients=material.by_clients,
            commitments=material.commitments,
            verdict=outcome.verdict,
            words=words,
            gates=counts,
            files=data,
            seconds=seconds,
        )
        with whole_folder(bundle) as folder:
            write(folder, manifest, data)
            checked = verify(folder, tools, jobs=default_jobs(2), progress=progress)
            if not checked.ok:
                raise ToolFailedError(f"the new proof does not verify: {checked.reason}", "nothing was written")
    updates = material.updates
    return Proved(
        bundle,
        round,
        outcome,
        float_krum(np.stack([u.vector for u in updates]), p) if updates else None,
        {u.client: clipped_share(u.vector, round.clip) for u in updates or []},
        material.by_clients,
        decided,
        counts,
        1 if decided.form is Form.ROUND else p.chunks + 1,
        {**seconds, "wall": time.perf_counter() - started},
        checked,
        work.path if options.keep else None,
    )


def _require_reference_string(params: Params, form: Form, tools: Toolchain) -> None:
    """Look for the points of the largest circuit before anything runs; say what fits where they are too few."""
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
            + (", more in shards" if form is Form.ROUND and d else ""),
            error.hint,
        ) from error


def _expected_words(material: Material, outcome: Outcome, form: Form, data: Mapping[str, bytes]) -> Words:
    """Return the public inputs by the reference; refuse where the circuit's differ."""
    found = data[PUBLIC_INPUTS]
    if form is Form.ROUND:
        words = round_words(material.round, material.commitments, outcome.verdict)
    else:
        n = material.round.params.n
        rho, link = (int.from_bytes(found[32 * k : 32 * k + 32], "big") for k in (n + 1, n + 3))
        words = verdict_words(material.round, material.commitments, rho, link, outcome.verdict)
    if found != encode(words):
        raise ToolFailedError(
            "the circuit's outputs and the NumPy reference differ: this is a bug, and nothing was written",
            "please report it with the parameters of the round",
        )
    return words


# The two forms


def _one_circuit(
    material: Material, outcome: Outcome, tools: Toolchain, work: Work, keep: bool, progress: Progress
) -> tuple[dict[str, bytes], dict[str, float]]:
    progress("proof", 0, 1)
    round = material.round
    inputs = round_inputs(round, material.openings, material.commitments, outcome, fresh_secret(), tools.bb.hash_many)
    job = Job("round", round_circuit(round.params), inputs, threads=default_jobs(1 << 30))
    done = run_job(job, work.path, tools, keep)
    progress("proof", 1, 1)
    return {PROOF: done.proof, PUBLIC_INPUTS: done.public_inputs}, {
        "witness": done.witness,
        "prove": done.prove,
    }
