"""One self-contained HTML page about a round: verdict per client, score picture, distances, parameters, timings.

Must not load anything from elsewhere, nor run scripts. What is private (scores, distances) comes from a round
directory only; a bundle has none of it, and its page none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkkrum.errors import InputError
from zkkrum.proof.bundle import Manifest, read_manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.protocol.explain import Explanation, explain
from zkkrum.protocol.krum import Krum, Outcome, Verdict
from zkkrum.protocol.params import Round
from zkkrum.protocol.quantize import clipped_share, step
from zkkrum.rounds.directory import RoundDirectory, read_truth
from zkkrum.rounds.history import load_past_round


@dataclass(frozen=True, eq=False)
class Private:
    """What only the server may see.

    Parameters
    ----------
    outcome
        Of the reference, on the quantized updates.
    explanation
        Why each client is flagged or not, in squared quantization steps.
    unit
        Value of a quantization step, in units of the update.
    clipped
        Share of clipped entries by client, where raw updates are present.
    byzantine
        From ``truth.json``, where the round is simulated.
    """

    outcome: Outcome
    explanation: Explanation
    unit: float
    clipped: Mapping[str, float]
    byzantine: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Page:
    """What a page shows; ``proof`` says in words what stands behind the verdict, ``manifest`` is the bundle's."""

    title: str
    round: Round
    verdict: Verdict
    proof: str
    manifest: Manifest | None = None
    private: Private | None = None


def of_path(path: Path, verified: str | None = None) -> Page:
    """Read a round directory or a bundle.

    Parameters
    ----------
    path
        A folder with ``round.toml``, or with ``manifest.json``.
    verified
        For a bundle: what a verification just answered, in words; None where none was made.

    Raises
    ------
    InputError
        If it is neither, or something in it is damaged.
    """
    if (path / MANIFEST).is_file():
        return _of_bundle(path, verified)
    if RoundDirectory(path).round_file.is_file():
        return _of_round(path)
    raise InputError(f"{path}: expected a round (round.toml) or a bundle ({MANIFEST}), found neither")


def _of_bundle(path: Path, verified: str | None) -> Page:
    manifest = _manifest(path)
    round = manifest.round.round()
    position = {client: i for i, client in enumerate(round.roster)}
    claim = manifest.verdict
    try:
        flagged, selected = (tuple(sorted(position[c] for c in names)) for names in (claim.flagged, claim.selected))
    except KeyError as error:
        raise InputError(f"{path}: the verdict names {error}, who is not in the roster") from error
    proof = verified or "NOT VERIFIED for this page: this is only what the bundle claims."
    return Page(path.name, round, Verdict(claim.malicious, flagged, selected), proof, manifest)


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except ValueError as error:
        raise InputError(f"{path}: {MANIFEST}: {error}") from error


def _of_round(path: Path) -> Page:
    home = RoundDirectory(path)
    round, q = load_past_round(path)
    outcome = Krum(round.params)(q)
    updates = home.load_updates(round.roster, round.params.d) or []
    truth = read_truth(home).byzantine if home.truth.is_file() else None
    private = Private(
        outcome,
        explain(outcome, round.params),
        step(round.clip, round.params.b),
        {update.client: clipped_share(update.vector, round.clip) for update in updates},
        truth,
    )
    proof = "Computed by the reference from the server’s own files; no commitment or proof was checked for this page."
    manifest = None
    if (path / "bundle" / MANIFEST).is_file():
        found = _manifest(path / "bundle")
        if found.round.round().context == round.context:
            manifest = found
            proof += " The round’s bundle makes " + (
                "the same claim."
                if _same(found, round, outcome.verdict)
                else "ANOTHER claim: one of the two does not belong to these files."
            )
    return Page(path.resolve().name, round, outcome.verdict, proof, manifest, private)


def _same(manifest: Manifest, round: Round, verdict: Verdict) -> bool:
    def names(clients: Sequence[int]) -> tuple[str, ...]:
        return tuple(round.roster[i] for i in clients)

    claim = manifest.verdict
    return (claim.malicious, claim.flagged, claim.selected) == (
        verdict.malicious,
        names(verdict.flagged),
        names(verdict.selected),
    )
