"""Proving a round: load and check, run the reference, prove one circuit or many shards, verify, write the bundle.

Must not print. Nothing is written before the proof has been checked against the reference and by the verifier.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from zkkrum import bundle as files
from zkkrum import gates as forecast
from zkkrum.bundle import Manifest
from zkkrum.circuit import (
    build,
    gates,
    round_circuit,
    round_inputs,
    shard_circuit,
    shard_inputs,
    verdict_circuit,
    verdict_inputs,
    verification_key,
)
from zkkrum.commitment import Chain, Opening, commit, fresh_secret, leaves
from zkkrum.errors import InputError, ReferenceStringError, ToolFailedError
from zkkrum.field import from_hex, to_bytes, to_hex
from zkkrum.files import explained, whole_folder, write_whole
from zkkrum.jobs import Job, JobProof, dask_executor, default_jobs, local_executor, run_all, run_job
from zkkrum.krum import FloatOutcome, Krum, Outcome, float_krum, squared_distances
from zkkrum.params import Params, Round
from zkkrum.parties import DEFAULT_TERMS, Terms, commit_update, default_clip, open_round
from zkkrum.poseidon2 import Hash
from zkkrum.quantize import clipped_share, quantize
from zkkrum.rounds import (
    RoundDirectory,
    clients_of_updates,
    load_commitments,
    load_round,
    save_round,
)
from zkkrum.toolchain import Toolchain, gates_for, points_available, points_for
from zkkrum.updates import Update, check_same_layout, layout_hash
from zkkrum.verify import Progress, Verification, silent, verify

# What is proved


@dataclass(frozen=True, eq=False)
class Material:
    """Everything a proof is made from, checked: openings fit their commitments, updates fit the openings.

    ``by_clients`` is False where the server itself made the commitments; ``updates`` is None where none are present.
    """

    round: Round
    openings: Sequence[Opening]
    commitments: Sequence[int]
    by_clients: bool
    updates: Sequence[Update] | None = None


def load(directory: Path, hash: Hash, terms: Terms = DEFAULT_TERMS, progress: Progress = silent) -> Material:
    """Load a round directory and check all of it.

    Raises
    ------
    InputError
        Naming file, client and index, if anything is missing, extra, damaged or does not fit.
    """
    home = RoundDirectory(directory)
    if not home.path.is_dir():
        raise InputError(f"{directory}: no such folder", "`zkkrum simulate` makes a round to try")
    if home.commitments.is_dir() and not home.openings.is_dir():
        raise InputError(
            f"{home.openings}: no such folder, but clients have committed",
            "ask them for their openings; without them the round is void",
        )
    if not home.openings.is_dir():
        return _commit_here(home, hash, terms, progress)
    round = load_round(home.round_file)
    commitments = load_commitments(home.commitments, round)
    openings = home.load_openings(round)
    for i, (client, opening) in enumerate(zip(round.roster, openings, strict=True)):
        progress("commitments", i, len(openings))
        if commit(round, i, opening, hash) != commitments[i]:
            raise InputError(
                f"client {client!r}: its opening does not match its published commitment",
                "ask the client for the right opening; without it the round is void",
            )
    updates = home.load_updates(round.roster)
    for opening, update in zip(openings, updates or [], strict=False):
        _same_as_update(round, opening, update)
    return Material(round, openings, commitments, True, updates)


def load_unfinished(directory: Path, bundle: Path, hash: Hash) -> Material | None:
    """Load what an interrupted run committed on the spot, checked against the updates; None where it did not."""
    saved = RoundDirectory(work_path(bundle) / "round")
    if not saved.openings.is_dir() or not Work(work_path(bundle)).secrets.is_file():
        return None
    material = load(saved.path, hash)
    updates = RoundDirectory(directory).load_updates(material.round.roster)
    for opening, update in zip(material.openings, updates or [], strict=False):
        _same_as_update(material.round, opening, update)
    return replace(material, by_clients=False, updates=updates)


def _same_as_update(round: Round, opening: Opening, update: Update) -> None:
    if update.vector.size != round.params.d:
        raise InputError(
            f"updates: client {update.client!r}: expected {round.params.d} values, found {update.vector.size}"
        )
    expected = quantize(update.vector, round.clip, round.params.b)
    if (different := np.flatnonzero(expected != opening.q)).size:
        k = different[0]
        raise InputError(
            f"client {update.client!r}: its opening is not its update: at index {k} the update quantizes to "
            f"{expected[k]}, the opening has {opening.q[k]}"
        )


def _commit_here(home: RoundDirectory, hash: Hash, terms: Terms, progress: Progress) -> Material:
    """Quantize and commit raw updates on the spot: the commitments are the server's own."""
    if not home.updates.is_dir():
        raise InputError(f"{home.path}: expected openings/ or updates/, found neither")
    stated = load_round(home.round_file) if home.round_file.is_file() else None
    roster = stated.roster if stated else clients_of_updates(home.updates)
    updates = home.load_updates(roster)
    assert updates is not None
    check_same_layout(updates)
    round = stated or open_round(
        roster,
        updates[0].vector.size,
        terms.clip or default_clip(updates),
        terms,
        subject=layout_hash(updates[0].layout),
    )
    pairs = []
    for i, update in enumerate(updates):
        progress("commitments", i, len(updates))
        pairs.append(commit_update(round, update.client, update, hash))
    return Material(round, [o for o, _ in pairs], [c for _, c in pairs], False, updates)


# How it is proved


@dataclass(frozen=True)
class Plan:
    """One circuit or shards, and why."""

    form: str
    reason: str


def plan(params: Params, form: str = "auto", ceiling: int = forecast.SHARD_GATES) -> Plan:
    """Decide whether a round is proved in one circuit or in shards.

    Parameters
    ----------
    form
        ``"auto"``: one circuit where the forecast stays below ``ceiling``; ``"round"`` or ``"sharded"`` force it.
    """
    expected = forecast.round_gates(params)
    if form != "auto":
        return Plan(form, f"as asked for; one circuit would have about {expected:,} gates")
    if expected <= ceiling:
        return Plan(files.ROUND, f"one circuit of about {expected:,} gates fits {ceiling:,}")
    return Plan(
        files.SHARDED,
        f"one circuit would have about {expected:,} gates, more than {ceiling:,}: "
        f"{params.chunks:,} shards of {params.chunk:,} coordinates and a verdict",
    )


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
    *,
    form: str = "auto",
    jobs: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    restart: bool = False,
    keep: bool = False,
    progress: Progress = silent,
) -> Proved:
    """Prove a round and write the bundle.

    Parameters
    ----------
    material
        From `load`, or made in memory.
    bundle
        Folder to write; an earlier bundle there is replaced, anything else is refused.
    form
        See `plan`.
    jobs
        Proofs at once; by default from cores and memory.
    scheduler
        Address of a Dask scheduler that runs the shards instead of this machine.
    resume, restart
        Finish, or throw away, what an interrupted run left beside the bundle.
    keep
        Keep the private work directory.

    Raises
    ------
    ToolFailedError
        If the circuit's outputs and the reference differ, or the proof does not verify. Nothing is written.
    InputError, ReferenceStringError, ResourceError
    """
    started = time.perf_counter()
    bundle = Path.cwd() / bundle  # a name of its own even for "."
    if bundle.is_symlink() or (
        bundle.exists() and not files.is_bundle(bundle) and (not bundle.is_dir() or any(bundle.iterdir()))
    ):
        raise InputError(f"{bundle}: exists and is not a bundle, or not only that", "choose another path with -o")
    round, p = material.round, material.round.params
    decided = plan(p, form)
    _require_reference_string(p, decided.form, tools)
    outcome = Krum(p)(np.stack([o.q for o in material.openings]))
    words: files.Words
    with _work_directory(bundle, material, decided.form, resume, restart, keep) as work:
        if decided.form == files.ROUND:
            data, seconds = _one_circuit(material, outcome, tools, work, keep, progress)
        else:
            data, seconds = _shards(material, outcome, tools, work, jobs, scheduler, keep, progress)
        words = _expected_words(material, outcome, decided.form, data)
        counts = {}
        for name, circuit in files.circuits(p, decided.form).items():
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
            files.write(folder, manifest, data)
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
        1 if decided.form == files.ROUND else p.chunks + 1,
        {**seconds, "wall": time.perf_counter() - started},
        checked,
        work.path if keep else None,
    )


def _require_reference_string(params: Params, form: str, tools: Toolchain) -> None:
    """Look for the points of the largest circuit before anything runs; say what fits where they are too few."""
    if form == files.ROUND:
        largest = forecast.round_gates(params)
    else:
        largest = max(forecast.verdict_gates(params), forecast.shard_gates(params, params.chunk))
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
            + (", more in shards" if form == files.ROUND and d else ""),
            error.hint,
        ) from error


def _expected_words(material: Material, outcome: Outcome, form: str, data: Mapping[str, bytes]) -> files.Words:
    """Return the public inputs by the reference; refuse where the circuit's differ."""
    found = data[files.PUBLIC_INPUTS]
    if form == files.ROUND:
        words = files.round_words(material.round, material.commitments, outcome.verdict)
    else:
        n = material.round.params.n
        rho, link = (int.from_bytes(found[32 * k : 32 * k + 32], "big") for k in (n + 1, n + 3))
        words = files.verdict_words(material.round, material.commitments, rho, link, outcome.verdict)
    if found != files.encode(words):
        raise ToolFailedError(
            "the circuit's outputs and the NumPy reference differ: this is a bug, and nothing was written",
            "please report it with the parameters of the round",
        )
    return words


# The work directory: private, beside the bundle, gone when the run ends well


@dataclass(frozen=True)
class Work:
    """The private folder of a run (mode 0700)."""

    path: Path

    @property
    def secrets(self) -> Path:
        """Blinds of a sharded run and what it was started for."""
        return self.path / "run.json"


STATE_VERSION = 1
LOCK_SECONDS = 0.5


def _fingerprint(material: Material, form: str) -> str:
    keys = [circuit.key_id for circuit in files.circuits(material.round.params, form).values()]
    digest = hashlib.sha256(to_bytes([material.round.context, *material.commitments]))
    digest.update(json.dumps([form, *keys]).encode())
    return digest.hexdigest()


def work_path(bundle: Path) -> Path:
    """Return where the run that makes this bundle keeps its private files."""
    return bundle.with_name(f".{bundle.name}.work")


@contextlib.contextmanager
def _work_directory(
    bundle: Path, material: Material, form: str, resume: bool, restart: bool, keep: bool
) -> Iterator[Work]:
    """Give the work directory; it survives an interrupted sharded run, for ``--resume``."""
    work = Work(work_path(bundle))
    fingerprint = _fingerprint(material, form)
    anything = work.path.exists()
    if anything and (restart or not work.secrets.is_file()):
        with _alone(work):
            shutil.rmtree(work.path)
    fresh = not work.path.exists()
    if fresh:
        if resume and not anything:
            raise InputError(f"nothing to resume: {work.path} does not exist", "run it without --resume")
        with explained(work.path):
            work.path.mkdir(parents=True, mode=0o700)
    with _alone(work):
        try:
            if not fresh:
                _check_unfinished(work, fingerprint, resume)
            elif form == files.SHARDED:
                _begin(work, material, fingerprint)
            yield work
        except BaseException:
            if not keep and not work.secrets.is_file():
                shutil.rmtree(work.path, ignore_errors=True)
            raise
        work.secrets.unlink(missing_ok=True)  # nothing is left to resume
        if not keep:
            shutil.rmtree(work.path)


@contextlib.contextmanager
def _alone(work: Work) -> Iterator[None]:
    """Keep other runs out of the work directory; the system gives it free when we end, however we end."""
    folder = os.open(work.path, os.O_RDONLY)
    try:
        # A child that was being started when its parent was killed holds the lock until it becomes another program.
        patience = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience:
                    hint = "wait for it, or choose another path with -o"
                    raise InputError(f"another run is at work in {work.path}", hint) from None
                time.sleep(0.05)
        if not work.path.exists():
            raise InputError(f"the other run in {work.path} has just ended", "run it again")
        yield
    finally:
        os.close(folder)


def _begin(work: Work, material: Material, fingerprint: str) -> None:
    """Write down what a sharded run needs to be resumed."""
    blinds = [to_hex(fresh_secret()) for _ in range(material.round.params.chunks + 1)]
    state = {"version": STATE_VERSION, "fingerprint": fingerprint, "blind": blinds[0], "blinds": blinds[1:]}
    if not material.by_clients:
        _save(work.path / "round", material)
    write_whole(work.secrets, json.dumps(state).encode(), mode=0o600)


def _check_unfinished(work: Work, fingerprint: str, resume: bool) -> None:
    """Refuse to go on with what was begun for something else, or unasked."""
    if not resume:
        raise InputError(f"an unfinished run is in {work.path}", "finish it with --resume, or drop it with --restart")
    if json.loads(work.secrets.read_text()).get("fingerprint") != fingerprint:
        raise InputError(
            f"{work.path}: belongs to other inputs (round, commitments or circuits have changed since)",
            "restore them, or drop the unfinished run with --restart",
        )


def _save(path: Path, material: Material) -> None:
    """Write commitments made on the spot: their salts exist nowhere else."""
    home = RoundDirectory(path)
    round = material.round
    save_round(home.round_file, round)
    for client, opening, commitment in zip(round.roster, material.openings, material.commitments, strict=True):
        home.save_commitment(round, client, opening, commitment)


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
    return {files.PROOF: done.proof, files.PUBLIC_INPUTS: done.public_inputs}, {
        "witness": done.witness,
        "prove": done.prove,
    }


def _shards(
    material: Material,
    outcome: Outcome,
    tools: Toolchain,
    work: Work,
    jobs: int | None,
    scheduler: str | None,
    keep: bool,
    progress: Progress,
) -> tuple[dict[str, bytes], dict[str, float]]:
    round, p, hash = material.round, material.round.params, tools.bb.hash_many
    state = json.loads(work.secrets.read_text())
    q = np.stack([o.q for o in material.openings])
    ranges = [p.chunk_range(t) for t in range(p.chunks)]
    chain = Chain.of(
        p,
        material.commitments,
        [squared_distances(q[:, c.start : c.stop]) for c in ranges],
        from_hex(state["blind"]),
        [from_hex(x) for x in state["blinds"]],
        hash,
    )
    all_leaves = [leaves(o, p, hash) for o in material.openings]

    expected = {
        t: files.encode(files.shard_words(round, t, chain.rho, [own[t] for own in all_leaves], *chain.links[t : t + 2]))
        for t in range(p.chunks)
    }
    data: dict[str, bytes] = {}
    seconds = {"witness": 0.0, "prove": 0.0}
    for t in range(p.chunks):  # what an earlier run finished, and no crash has damaged
        names = files.shard_files(t)
        with contextlib.suppress(OSError):
            proof, public_inputs = ((work.path / name).read_bytes() for name in names)
            key = verification_key(build(shard_circuit(p, len(ranges[t])), tools), tools)
            if public_inputs == expected[t] and tools.bb.verify(key, proof, public_inputs):
                data |= zip(names, (proof, public_inputs), strict=True)
    missing = [t for t in range(p.chunks) if files.shard_files(t)[0] not in data]
    total = p.chunks + 1

    def finished(done: JobProof) -> None:
        if done.name == "verdict":
            names = (files.PROOF, files.PUBLIC_INPUTS)
        else:
            t = int(done.name)
            names = files.shard_files(t)
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
    for circuit in files.circuits(p, files.SHARDED).values():  # compile each shape once, before the jobs want it
        build(circuit, tools)
    executor: Executor
    if scheduler:
        with dask_executor(scheduler) as (executor, at_once):
            run_all(all_jobs(1), executor, run_job, at_once, finished)
    else:
        at_once = jobs or default_jobs(len(missing) + 1)
        run_here = partial(run_job, home=work.path, tools=tools, keep=keep)
        with local_executor(at_once) as executor:
            run_all(all_jobs(max(1, default_jobs(1 << 30) // at_once)), executor, run_here, at_once, finished)
    return data, seconds
