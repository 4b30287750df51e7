"""What a page about a round or a bundle shows: verdict and reasons per client, what was checked, parameters.

Must not know HTML. What is private (scores, distances) comes from a round directory only; a bundle has none of it, and
its page none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkkrum.errors import InputError
from zkkrum.proof.bundle import Manifest, load_manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.proof.verify import Verification
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


@dataclass(frozen=True)
class Comparison:
    """One thing that a page says of a bundle's proof; ``source`` is None where nothing was compared."""

    what: str
    source: str | None
    meaning: str


@dataclass(frozen=True, eq=False)
class Page:
    """What a page shows.

    Parameters
    ----------
    title, round, verdict
        The folder's name; what it is about.
    verified
        Whether a proof was verified for this page.
    proof
        What stands behind the verdict, in words.
    statement
        What the proof states, or claims to.
    comparisons
        What a bundle was compared with; empty for a round.
    manifest
        The bundle's.
    private
        For the server's eyes: of a round only.
    """

    title: str
    round: Round
    verdict: Verdict
    verified: bool
    proof: str
    statement: str = ""
    comparisons: tuple[Comparison, ...] = ()
    manifest: Manifest | None = None
    private: Private | None = None


def of_path(path: Path, answer: Verification | None = None) -> Page:
    """Read a round directory or a bundle.

    Parameters
    ----------
    path
        A folder with ``round.toml``, or with ``manifest.json``.
    answer
        For a bundle: what a verification just answered, a yes; None where none was made.

    Raises
    ------
    InputError
        If it is neither, or something in it is damaged.
    """
    if (path / MANIFEST).is_file():
        return _of_bundle(path, answer)
    if RoundDirectory(path).round_file.is_file():
        return _of_round(path)
    raise InputError(
        f"{path}: expected a round (round.toml), a bundle ({MANIFEST}) or a run (rounds/), found none of them"
    )


def _of_bundle(path: Path, answer: Verification | None) -> Page:
    manifest, title = load_manifest(path), path.resolve().name
    if answer is None:
        try:
            round = manifest.round.round()
        except InputError as error:
            raise InputError(f"{path}: its manifest is not valid: {error.message}", error.hint) from error
        position = {client: i for i, client in enumerate(round.roster)}
        claim = manifest.verdict
        try:
            flagged, selected = (tuple(sorted(position[c] for c in names)) for names in (claim.flagged, claim.selected))
        except KeyError as error:
            raise InputError(f"{path}: the verdict names {error}, who is not in the roster") from error
        said = "Nothing was verified for this page: all of it is only what the bundle claims."
        return Page(title, round, Verdict(claim.malicious, flagged, selected), False, said, manifest=manifest)
    assert answer.ok
    assert answer.round is not None
    assert answer.verdict is not None
    return Page(
        title,
        answer.round,
        answer.verdict,
        True,
        "The proof was verified when this page was made: the verdict is the one that these rules give on the updates "
        "behind these commitments, whatever you think of it.",
        answer.statement,
        tuple(_comparisons(answer)),
        manifest,
    )


def _comparisons(answer: Verification) -> Sequence[Comparison]:
    def source(path: Path | None) -> str | None:
        return str(path) if path else None

    return (
        Comparison(
            "parameters and roster",
            source(answer.round_file),
            "they are those that the operator published"
            if answer.round_compared
            else "they are the bundle’s own: compare with the published round.toml (--round)",
        ),
        Comparison(
            "commitments",
            source(answer.commitments),
            "they are those that the clients published"
            if answer.commitments_compared
            else "they are the bundle’s own: compare with what the clients published (--commitments)",
        ),
        Comparison(
            "aggregate",
            source(answer.aggregate_file),
            "the sum in this file is what A commits to"
            if answer.aggregate_compared
            else "no model update was checked: compare with the file you were sent (--aggregate)",
        ),
    )


def _of_round(path: Path) -> Page:
    home = RoundDirectory(path)
    round, q = load_past_round(path)
    outcome = Krum(round.params)(q)
    updates = home.load_updates(round.roster, round.params.d) or []
    truth = read_truth(home).byzantine if home.truth.is_file() else None
    private = Private(
        outcome,
        explain(outcome, round.params, step(round.clip, round.params.b)),
        step(round.clip, round.params.b),
        {update.client: clipped_share(update.vector, round.clip) for update in updates},
        truth,
    )
    proof = "Computed by the reference from the server’s own files; no commitment or proof was checked for this page."
    manifest = None
    if (path / "bundle" / MANIFEST).is_file():
        found = load_manifest(path / "bundle")
        if found.round.round().context == round.context:
            manifest = found
            proof += " The round’s bundle makes " + (
                "the same claim."
                if _same(found, round, outcome.verdict)
                else "ANOTHER claim: one of the two does not belong to these files."
            )
    return Page(path.resolve().name, round, outcome.verdict, False, proof, manifest=manifest, private=private)


def _same(manifest: Manifest, round: Round, verdict: Verdict) -> bool:
    def names(clients: Sequence[int]) -> tuple[str, ...]:
        return tuple(round.roster[i] for i in clients)

    claim = manifest.verdict
    return (claim.malicious, claim.flagged, claim.selected) == (
        verdict.malicious,
        names(verdict.flagged),
        names(verdict.selected),
    )
