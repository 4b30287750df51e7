"""Verification: decides whether a bundle proves what it claims, trusting nothing in it.

Must not know how proofs are made, and never prints. A negative answer is a `Verification` with the first thing that
fails; an exception means that nothing could be decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from zkkrum.errors import InputError
from zkkrum.progress import Progress, silent
from zkkrum.proof.bundle import Manifest, read_file, read_manifest
from zkkrum.proof.form import PUBLIC_INPUTS, Form, Part, shard_files
from zkkrum.proof.keys import expected_key_hash
from zkkrum.proof.statement import ShardInputs, Words, encode, round_words, statement, verdict_words
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.commitment import of_leaves
from zkkrum.protocol.field import from_bytes, from_hex, to_hex
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Round
from zkkrum.rounds.directory import read_commitments
from zkkrum.rounds.roundfile import load_round
from zkkrum.toolchain import Toolchain


@dataclass(frozen=True)
class Verification:
    """The answer: whether the proof holds, and if not the first thing that fails.

    Parameters
    ----------
    ok, reason
        The answer; ``reason`` is empty where it is yes.
    statement
        What was proved, in words; empty where nothing was.
    round, verdict, commitments
        What the proof is about, where the manifest could be read.
    commitments_compared, round_compared
        Whether an outside source was compared; without both, the bundle is only consistent with itself.
    """

    ok: bool
    reason: str = ""
    statement: str = ""
    round: Round | None = None
    verdict: Verdict | None = None
    form: Form | None = None
    commitments_by: str = ""
    commitments_compared: bool = False
    round_compared: bool = False


class _Rejected(Exception):
    """The bundle is refuted; the message is the reason."""


def verify(
    path: Path,
    tools: Toolchain,
    *,
    commitments: Path | None = None,
    round_file: Path | None = None,
    expect: str | None = None,
    jobs: int = 2,
    progress: Progress = silent,
) -> Verification:
    """Verify a bundle.

    Parameters
    ----------
    path
        The bundle's folder.
    commitments
        Folder of commitments that the clients published, to compare with.
    round_file
        The round's published ``round.toml``, to compare with.
    expect
        ``"honest"`` or ``"malicious"``: reject a valid proof of the other verdict.
    jobs
        Proofs verified at once.

    Raises
    ------
    InputError
        If the bundle's folder, ``commitments`` or ``round_file`` cannot be read.
    ReferenceStringError
        If the key must be rebuilt and there are no points for it.
    """
    claimed: Manifest | None = None
    try:
        claimed = _manifest(path)
        return _verify(path, claimed, tools, commitments, round_file, expect, jobs, progress)
    except _Rejected as rejected:
        return Verification(False, str(rejected), form=Form(claimed.form) if claimed else None)


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except ValueError as error:
        raise _Rejected(f"manifest: {error}") from error


def _verify(
    path: Path,
    claimed: Manifest,
    tools: Toolchain,
    commitments_folder: Path | None,
    round_file: Path | None,
    expect: str | None,
    jobs: int,
    progress: Progress,
) -> Verification:
    form = Form(claimed.form)
    round, commitments, verdict = _claims(claimed)
    if round_file:
        _same_round(round, load_round(round_file), round_file)
    if commitments_folder:
        published = read_commitments(commitments_folder, round.roster)
        for client, ours, (context, theirs) in zip(round.roster, commitments, published, strict=True):
            if context != round.context:
                raise _Rejected(
                    f"commitment of {client!r}: published under another context than the bundle's "
                    "(another round, roster or parameters)"
                )
            if ours != theirs:
                raise _Rejected(f"commitment of {client!r}: the bundle's is not the one in {commitments_folder}")

    data = _read_files(path, claimed, round)
    words = (
        round_words(round, commitments, verdict)
        if form is Form.ROUND
        else _check_chain(round, commitments, verdict, data)
    )
    _same_words(words, data[PUBLIC_INPUTS])
    if [(w.name, w.value) for w in claimed.public_inputs] != [(name, to_hex(value)) for name, value in words]:
        raise _Rejected("manifest: its named public inputs are not those of the proof")

    gates = form.gates(round.params)
    for name, circuit in form.circuits(round.params).items():
        progress("keys", 0, 0)
        if hashlib.sha256(data[name]).hexdigest() != expected_key_hash(circuit, gates[name], tools):
            raise _Rejected(f"{name}: not the verification key of this statement (circuit {circuit.crate!r})")
    _check_proofs(form, round, data, tools, jobs, progress)

    if expect and verdict.malicious != (expect == "malicious"):
        raise _Rejected(f"verdict: the proof is valid, but its verdict is not the expected {expect!r}")
    return Verification(
        True,
        statement=statement(round, verdict),
        round=round,
        verdict=verdict,
        form=form,
        commitments_by=claimed.commitments_by,
        commitments_compared=commitments_folder is not None,
        round_compared=round_file is not None,
    )


def _claims(claimed: Manifest) -> tuple[Round, list[int], Verdict]:
    """Turn the manifest's claims into checked values."""
    try:
        round = claimed.round.round()
    except InputError as error:
        raise _Rejected(f"manifest: {error.message}") from error
    if [entry.client for entry in claimed.commitments] != list(round.roster):
        raise _Rejected("manifest: its commitments are not those of the roster, in roster order")
    position = {client: i for i, client in enumerate(round.roster)}
    try:
        commitments = [from_hex(entry.commitment) for entry in claimed.commitments]
        flagged, selected = (
            tuple(sorted(position[client] for client in clients))
            for clients in (claimed.verdict.flagged, claimed.verdict.selected)
        )
    except ValueError as error:
        raise _Rejected(f"manifest: commitment: {error}") from error
    except KeyError as error:
        raise _Rejected(f"manifest: verdict: client {error} is not in the roster") from error
    if len(set(flagged)) != len(flagged) or len(set(selected)) != len(selected):
        raise _Rejected("manifest: verdict: a client is named twice")
    return round, commitments, Verdict(claimed.verdict.malicious, flagged, selected)


def _same_round(ours: Round, published: Round, source: Path) -> None:
    if ours.context == published.context:
        return
    pairs = [("parameters", ours.params, published.params)]
    pairs += [
        (name, getattr(ours, name), getattr(published, name)) for name in ("clip", "roster", "round_id", "subject")
    ]
    pairs += [(name, getattr(ours, name), getattr(published, name)) for name in ("chain_id", "contract")]
    different = [name for name, a, b in pairs if a != b]
    raise _Rejected(f"round: {', '.join(different)} of the bundle differ from {source}")


def _read_files(path: Path, claimed: Manifest, round: Round) -> dict[str, bytes]:
    """Read exactly the files this form has, and compare them with the manifest's hashes."""
    p = round.params
    form = Form(claimed.form)
    if form is Form.SHARDED:
        shards = sum(name.endswith(".proof") for name in claimed.files)
        if shards != p.chunks:
            raise _Rejected(f"shards: d = {p.d} in chunks of {p.chunk} makes {p.chunks}, found {shards}")
    wanted = form.files(p)
    if different := set(wanted) ^ set(claimed.files):
        name = min(different)
        shown = name if name.isprintable() else ascii(name)
        raise _Rejected(f"manifest: {shown} is {'missing' if name in wanted else 'not a file of this form'}")
    data = {}
    for name in wanted:
        try:
            data[name] = read_file(path / name)
        except OSError as error:
            raise _Rejected(f"{name}: {error.strerror}") from error
        if hashlib.sha256(data[name]).hexdigest() != claimed.files[name]:
            raise _Rejected(f"{name}: its hash is not the one in the manifest")
    return data


def _same_words(words: Words, found: bytes) -> None:
    """Compare the public inputs we assembled with the bundle's, byte by byte."""
    if found == encode(words):
        return
    if len(found) != 32 * len(words):
        raise _Rejected(f"public_inputs: expected {32 * len(words)} bytes, found {len(found)}")
    name = next(name for (name, ours), theirs in zip(words, from_bytes(found), strict=True) if ours != theirs)
    raise _Rejected(f"public_inputs: {name} is not that of this round")


def _check_chain(round: Round, commitments: Sequence[int], verdict: Verdict, data: Mapping[str, bytes]) -> Words:
    """Check everything that links the shards to the commitments and the verdict; return the verdict's words."""
    p = round.params
    verdict_found = from_bytes(data[PUBLIC_INPUTS]) if len(data[PUBLIC_INPUTS]) % 32 == 0 else []
    if len(verdict_found) != p.n + 7:
        raise _Rejected(f"public_inputs: expected {32 * (p.n + 7)} bytes, found {len(data[PUBLIC_INPUTS])}")
    rho = verdict_found[p.n + 1]
    leaves: list[tuple[int, ...]] = []
    link = FIRST_LINK
    for t in range(p.chunks):
        name = shard_files(t)[1]
        try:
            shard = ShardInputs.parse(data[name], p.n)
        except ValueError as error:
            raise _Rejected(f"{name}: {error}") from error
        if shard.t != t:
            raise _Rejected(f"shard {t}: its proof is for shard {shard.t}")
        if from_bytes(data[name])[0] != round.context:
            raise _Rejected(f"shard {t}: its context is not that of this round")
        if shard.rho != rho:
            raise _Rejected(f"shard {t}: its rho is not the verdict's")
        if shard.before != link:
            where = "the constant c_0" if t == 0 else f"where shard {t - 1} ends"
            raise _Rejected(f"shard {t}: the chain is broken: it does not start at {where}")
        link = shard.after
        leaves.append(shard.leaves)
    for i, client in enumerate(round.roster):
        if of_leaves(round.context, i, [leaf[i] for leaf in leaves]) != commitments[i]:
            raise _Rejected(f"commitment of {client!r}: the leaves of the shards do not make it up")
    if verdict_found[p.n + 3] != link:
        raise _Rejected("verdict: the chain is broken: it does not start where the last shard ends")
    return verdict_words(round, commitments, rho, link, verdict)


def _check_proofs(
    form: Form, round: Round, data: Mapping[str, bytes], tools: Toolchain, jobs: int, progress: Progress
) -> None:
    """Run bb on every proof under the key that belongs to it."""
    work = list(form.parts(round.params))

    def holds(part: Part) -> bool:
        return tools.bb.verify(data[part.key], data[part.proof], data[part.public_inputs])

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for done, (part, ok) in enumerate(zip(work, pool.map(holds, work), strict=True), start=1):
            if not ok:
                pool.shutdown(cancel_futures=True)
                raise _Rejected(f"{part.name}: bb refutes it: the proof does not hold for these public inputs")
            progress("proofs", done, len(work))
