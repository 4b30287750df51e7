"""Verification: decides whether a bundle proves what it claims, trusting nothing in it.

Must not know how proofs are made, and never prints. A negative answer is a `Verification` with the first thing that
fails; an exception means that nothing could be decided.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zkkrum.errors import InputError, UnknownCharacterError
from zkkrum.progress import Progress, silent
from zkkrum.proof.bundle import Manifest, read_manifest
from zkkrum.proof.form import PUBLIC_INPUTS, Form, Part, shard_part
from zkkrum.proof.keys import expected_key_hash
from zkkrum.proof.statement import (
    RoundInputs,
    ShardInputs,
    VerdictInputs,
    encode,
    round_words,
    sentence,
    verdict_words,
)
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.commitment import chain, statement
from zkkrum.protocol.field import from_bytes, to_hex
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import N_MAX, Params, Round
from zkkrum.protocol.sizes import proof_bytes
from zkkrum.rounds.aggregate import AggregateFile, load_aggregate
from zkkrum.rounds.directory import read_commitments
from zkkrum.rounds.foreign import open_inside, read_all, size_of
from zkkrum.rounds.roundfile import load_round, parse_bytes
from zkkrum.toolchain import KEY_BYTES, Toolchain, rows_of

UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
"""The machine's trouble with a file, not the file's."""
PART_BYTES_MAX = max(KEY_BYTES, proof_bytes(2**31), 32 * (2 * N_MAX + 4))
"""No file of a bundle but the manifest is larger; each one's own size is known exactly."""


@dataclass(frozen=True)
class Verification:
    """The answer: whether the proof holds, and if not the first thing that fails.

    Parameters
    ----------
    ok, reason
        The answer; ``reason`` is empty where it is yes.
    statement
        What was proved, in words; empty where nothing was.
    round, verdict, form, aggregate
        What was proved; ``aggregate`` is A.
    commitments, round_file, aggregate_file
        The outside sources that were compared; without the first two, the bundle is only consistent with itself.
    claims
        What the bundle says of itself and nothing verifies: who committed, times, circuits, versions.
    opened
        The aggregate's file, where one was given and is what A commits to; without it nothing is known of any model.
        Its layout is the sender's word: what binds tensors is the round's subject.
    """

    ok: bool
    reason: str = ""
    statement: str = ""
    round: Round | None = None
    verdict: Verdict | None = None
    form: Form | None = None
    aggregate: bytes = b""
    commitments: Path | None = None
    round_file: Path | None = None
    aggregate_file: Path | None = None
    opened: AggregateFile | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def commitments_by(self) -> str:
        """Who committed, by the bundle's own word."""
        return str(self.claims.get("commitments_by", ""))

    @property
    def commitments_compared(self) -> bool:
        """Whether the commitments were compared with those that the clients published."""
        return self.commitments is not None

    @property
    def round_compared(self) -> bool:
        """Whether parameters and roster were compared with those that were published."""
        return self.round_file is not None

    @property
    def aggregate_compared(self) -> bool:
        """Whether (S, σ) was compared with A."""
        return self.opened is not None

    @property
    def not_compared(self) -> tuple[str, ...]:
        """What a strict verifier must compare with an outside source, and nobody did."""
        compared = (("commitments", self.commitments_compared), ("round", self.round_compared))
        return tuple(name for name, done in compared if not done)


class _Rejected(Exception):
    """The bundle is refuted; the message is the reason."""


def verify(
    path: Path,
    tools: Toolchain,
    *,
    commitments: Path | None = None,
    round_file: Path | None = None,
    aggregate: Path | None = None,
    jobs: int = 2,
    rebuild: bool = False,
    progress: Progress = silent,
) -> Verification:
    """Verify a bundle.

    Parameters
    ----------
    path
        The bundle's folder.
    tools
        bb; for a shape whose key the package does not know, nargo as well.
    commitments
        Folder of commitments that the clients published, to compare with.
    round_file
        The round's published ``round.toml``, to compare with.
    aggregate
        An ``aggregate.npz``, to compare with what was proved.
    jobs
        Proofs verified at once.
    rebuild
        Compile the circuits anew for their keys: nothing is taken from the shipped table or the cache.
    progress
        Told as keys and proofs are checked.

    Raises
    ------
    InputError
        If the bundle's folder, ``commitments``, ``round_file`` or ``aggregate`` cannot be read, or the bundle is of
        another protocol.
    ReferenceStringError
        If the key must be rebuilt and there are no points for it.
    """
    form: Form | None = None
    try:
        claimed = _manifest(path)
        form = Form(claimed.form)
        claim = _claims(claimed)
        if round_file:
            _same_round(claim.round, load_round(round_file), round_file)
        if commitments:
            _same_commitments(claim, commitments)
        files = _files(path, claimed, claim.round)
        data = _read_known(files, claim.round.params)
        _check_words(claimed, claim, data)
        _check_keys(form, claim.round, data, tools, rebuild, progress)
        _check_proofs(form, claim.round, files, data, tools, jobs, progress)
        opened = _open_aggregate(claim, aggregate, tools) if aggregate else None
    except _Rejected as rejected:
        return Verification(False, str(rejected), form=form)
    return Verification(
        True,
        statement=sentence(claim.round, claim.verdict, claim.aggregate),
        round=claim.round,
        verdict=claim.verdict,
        form=form,
        aggregate=claim.aggregate,
        commitments=commitments,
        round_file=round_file,
        aggregate_file=aggregate,
        opened=opened,
        claims=claimed.unverified,
    )


@dataclass(frozen=True)
class _Claim:
    """What the manifest says was proved, well-formed and not yet believed."""

    round: Round
    commitments: Sequence[bytes]
    aggregate: bytes
    verdict: Verdict

    @property
    def statement(self) -> int:
        return statement(self.round.context, self.commitments, self.aggregate)


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except ValueError as error:
        raise _Rejected(f"manifest: {error}") from error


def _claims(claimed: Manifest) -> _Claim:
    """Turn the manifest's claims into checked values."""
    try:
        round = claimed.round.round()
        if [entry.client for entry in claimed.commitments] != list(round.roster):
            raise _Rejected("manifest: its commitments are not those of the roster, in roster order")
        commitments = [parse_bytes(entry.commitment, 32, "commitment") for entry in claimed.commitments]
        aggregate = parse_bytes(claimed.aggregate, 32, "aggregate")
    except UnknownCharacterError as error:  # which refutes nothing
        raise InputError(f"manifest: {error.message}", error.hint) from error
    except InputError as error:
        raise _Rejected(f"manifest: {error.message}") from error
    if claimed.form != Form.of(round.params).value:
        chunks = f"d = {round.params.d} in chunks of {round.params.chunk} makes {round.params.chunks}"
        raise _Rejected(f"manifest: form: {chunks}, so it is not {claimed.form!r}")
    position = {client: i for i, client in enumerate(round.roster)}

    def numbers(clients: Sequence[str]) -> tuple[int, ...]:
        if strangers := [client for client in clients if client not in position]:
            raise _Rejected(f"manifest: verdict: client {strangers[0][:80]!a} is not in the roster")
        if len(set(clients)) != len(clients):
            raise _Rejected("manifest: verdict: a client is named twice")
        return tuple(sorted(position[client] for client in clients))

    said = claimed.verdict
    verdict = Verdict(said.malicious, numbers(said.flagged), numbers(said.selected))
    if numbers(said.accepted) != verdict.accepted(round.params):
        raise _Rejected("manifest: verdict: accepted does not follow from flagged and selected")
    return _Claim(round, commitments, aggregate, verdict)


def _same_round(ours: Round, published: Round, source: Path) -> None:
    if ours.context == published.context:
        return
    names = ("clip", "roster", "round_id", "subject", "chain_id", "contract")
    pairs = [("parameters", ours.params, published.params)]
    pairs += [(name, getattr(ours, name), getattr(published, name)) for name in names]
    different = [name for name, a, b in pairs if a != b]
    raise _Rejected(f"round: {', '.join(different)} of the bundle differ from {source}")


def _same_commitments(claim: _Claim, folder: Path) -> None:
    published = read_commitments(folder, claim.round.roster)
    for client, ours, (context, theirs) in zip(claim.round.roster, claim.commitments, published, strict=True):
        if context != claim.round.context:
            raise _Rejected(
                f"commitment of {client!r}: published under another context than the bundle's "
                "(another round, roster or parameters)"
            )
        if ours != theirs:
            raise _Rejected(f"commitment of {client!r}: the bundle's is not the one in {folder}")


@dataclass(frozen=True)
class _Files:
    """The files of a bundle, each of exactly the size it must have and with the hash that the manifest gives it."""

    path: Path
    hashes: Mapping[str, str]

    def look(self, name: str, most: int) -> None:
        """See that a file is there and not too large, without reading it."""
        with self._explained(name), open_inside(self.path, name) as file:
            if (size := size_of(file)) > most:
                raise _Rejected(f"{name}: expected at most {most:,} bytes, found {size:,}")

    def read(self, name: str, size: int) -> bytes:
        """Read a file."""
        with self._explained(name), open_inside(self.path, name) as file:
            if (found := size_of(file)) != size:
                raise _Rejected(f"{name}: expected {size:,} bytes, found {found:,}")
            data = read_all(file, size)
        if hashlib.sha256(data).hexdigest() != self.hashes[name]:
            raise _Rejected(f"{name}: its hash is not the one in the manifest")
        return data

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in UNREADABLE:  # nothing is refuted where nothing can be read
                raise InputError(f"{self.path / name}: cannot be read: {error.strerror}") from error
            raise _Rejected(f"{name}: {error.strerror}") from error


def _files(path: Path, claimed: Manifest, round: Round) -> _Files:
    """See that a bundle has exactly the files of its form, none larger than it can be."""
    p = round.params
    form = Form.of(p)
    if form is Form.SHARDED:
        shards = sum(name.startswith("shards/") and name.endswith(".proof") for name in claimed.files)
        if shards != p.chunks:
            raise _Rejected(
                f"shards: d = {p.d} in chunks of {p.chunk} makes {p.chunks}, found {shards}: a verdict without all its "
                "shards proves nothing"
            )
    wanted = form.files(p)
    if different := set(wanted) ^ set(claimed.files):
        name = min(different)
        if name in wanted:
            raise _Rejected(f"manifest: {name} is missing")
        raise _Rejected(f"manifest: {name[:80]!a} is not a file of this form")
    files = _Files(path, claimed.files)
    for name in wanted:
        files.look(name, PART_BYTES_MAX)
    return files


def _read_known(files: _Files, params: Params) -> dict[str, bytes]:
    """Read keys and public inputs, whose sizes are known; those of the proofs follow from the keys."""
    form = Form.of(params)
    keys = {name: files.read(name, KEY_BYTES) for name in form.circuits(params)}
    parts = form.parts(params)
    return keys | {part.public_inputs: files.read(part.public_inputs, 32 * form.words(params, part)) for part in parts}


def _check_words(claimed: Manifest, claim: _Claim, data: Mapping[str, bytes]) -> None:
    """Check every public input: what we know we assemble, what we cannot know must fit together."""
    round, n = claim.round, claim.round.params.n
    found = data[PUBLIC_INPUTS]
    try:
        if Form.of(round.params) is Form.ROUND:
            leaves = RoundInputs.parse(found, n).leaves
            _check_leaves(claim, [leaves])
            words = round_words(round, claim.statement, leaves, claim.verdict)
        else:
            top = VerdictInputs.parse(found, n)
            _check_leaves(claim, _leaves_of_chain(round, top, data))
            words = verdict_words(round, claim.statement, top.public, top.link, claim.verdict)
    except ValueError as error:
        raise _Rejected(f"{PUBLIC_INPUTS}: {error}") from error
    if found != encode(words):
        name = next(name for (name, ours), theirs in zip(words, from_bytes(found), strict=True) if ours != theirs)
        raise _Rejected(f"{PUBLIC_INPUTS}: {name} is not that of this round")
    if [(w.name, w.value) for w in claimed.public_inputs] != [(name, to_hex(value)) for name, value in words]:
        raise _Rejected("manifest: its named public inputs are not those of the proof")


def _leaves_of_chain(round: Round, top: VerdictInputs, data: Mapping[str, bytes]) -> list[tuple[int, ...]]:
    """Check that every shard has the verdict's challenges and starts where the one before ends; return the leaves."""
    leaves = []
    link = FIRST_LINK
    for t in range(round.params.chunks):
        part = shard_part(round.params, t)
        try:
            shard = ShardInputs.parse(data[part.public_inputs], round.params.n)
        except ValueError as error:
            raise _Rejected(f"{part.public_inputs}: {error}") from error
        for (name, ours), (_, theirs) in zip(top.public.words(round), shard.public.words(round), strict=True):
            if ours != theirs:
                raise _Rejected(f"shard {t}: its {name} is not the verdict's")
        if shard.before != link:
            where = "the constant c_0" if t == 0 else f"where shard {t - 1} ends"
            raise _Rejected(f"shard {t}: the chain is broken: it does not start at {where}")
        link = shard.after
        leaves.append(shard.leaves)
    if top.link != link:
        raise _Rejected("verdict: the chain is broken: it does not start where the last shard ends")
    return leaves


def _check_leaves(claim: _Claim, leaves: Sequence[Sequence[int]]) -> None:
    """Check that commitments and A are the chains over the leaves, which are given by chunk."""
    context, roster = claim.round.context, claim.round.roster
    for i, own in enumerate(zip(*leaves, strict=True)):
        if i == len(roster):
            if chain(context, i, own) != claim.aggregate:
                raise _Rejected("aggregate: the leaves of the proof do not make up A")
        elif chain(context, i, own) != claim.commitments[i]:
            raise _Rejected(f"commitment of {roster[i]!r}: the leaves of the proof do not make it up")


def _check_keys(
    form: Form, round: Round, data: Mapping[str, bytes], tools: Toolchain, rebuild: bool, progress: Progress
) -> None:
    """Compare each key with the one that this installed package stands for."""
    gates = form.gates(round.params)
    circuits = form.circuits(round.params)
    for done, (name, circuit) in enumerate(circuits.items()):
        progress("keys", done, len(circuits))
        if hashlib.sha256(data[name]).hexdigest() != expected_key_hash(circuit, gates[name], tools, rebuild=rebuild):
            raise _Rejected(f"{name}: not the verification key of this statement (circuit {circuit.crate!r})")
    progress("keys", len(circuits), len(circuits))


def _check_proofs(
    form: Form,
    round: Round,
    files: _Files,
    data: Mapping[str, bytes],
    tools: Toolchain,
    jobs: int,
    progress: Progress,
) -> None:
    """Run bb on every proof, read when its turn comes, under the key that belongs to it."""
    work = list(form.parts(round.params))

    def holds(part: Part) -> bool:
        proof = files.read(part.proof, proof_bytes(rows_of(data[part.key])))
        return tools.bb.verify(data[part.key], proof, data[part.public_inputs])

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for done, (part, ok) in enumerate(zip(work, pool.map(holds, work), strict=True), start=1):
            if not ok:
                pool.shutdown(cancel_futures=True)
                raise _Rejected(f"{part.name}: bb refutes it: the proof does not hold for these public inputs")
            progress("proofs", done, len(work))


def _open_aggregate(claim: _Claim, path: Path, tools: Toolchain) -> AggregateFile:
    """Read and check an aggregate's file against what was proved: the range of S, then A, then how many it sums."""
    found = load_aggregate(path, claim.round.params.d)
    try:
        found.check(claim.round, str(path))
    except InputError as error:
        raise _Rejected(f"aggregate: {error.message}") from error
    if found.aggregate.commitment(claim.round, tools.bb.hash_many) != claim.aggregate:
        raise _Rejected(f"aggregate: {path} is not what A commits to")
    if found.count != (count := len(claim.verdict.accepted(claim.round.params))):
        raise _Rejected(f"aggregate: {path} counts {found.count} accepted clients, the proof {count}")
    return found
