"""A verified bundle, read as what `KrumRounds` is told.

Must not know a chain. Whoever calls this has verified the bundle.
"""

from __future__ import annotations

from pathlib import Path

from zkkrum.errors import InputError
from zkkrum.evm.transactions import Evidence
from zkkrum.proof.bundle import read_file
from zkkrum.proof.form import TOP, Form, shard_part
from zkkrum.proof.statement import RoundInputs, ShardInputs, VerdictInputs
from zkkrum.proof.verify import Verification, verify
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.toolchain import Toolchain


def verified_evidence(path: Path, tools: Toolchain) -> Evidence:
    """Verify a bundle and return what the contract is told of it.

    Raises
    ------
    InputError
        If the bundle is not valid.
    """
    checked = verify(path, tools)
    if not checked.ok:
        raise InputError(f"{path}: refusing a bundle that does not verify: {checked.reason}")
    return evidence_of(path, checked)


def evidence_of(path: Path, checked: Verification) -> Evidence:
    """Return what the contract is told of a bundle, given that this is what came of verifying it."""
    round, verdict = checked.round, checked.verdict
    assert round is not None
    assert verdict is not None
    outputs, n = verdict.public_words(), round.params.n
    proof, public_inputs = (read_file(path / name) for name in (TOP.proof, TOP.public_inputs))
    if checked.form is Form.ROUND:
        return Evidence(round, outputs, [RoundInputs.parse(public_inputs, n).leaves], proof)
    parts = [shard_part(round.params, t) for t in range(round.params.chunks)]
    shards = [ShardInputs.parse(read_file(path / part.public_inputs), n) for part in parts]
    return Evidence(
        round,
        outputs,
        [shard.leaves for shard in shards],
        proof,
        VerdictInputs.parse(public_inputs, n).public,
        [FIRST_LINK, *(shard.after for shard in shards)],
        [read_file(path / part.proof) for part in parts],
    )
