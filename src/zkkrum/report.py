"""One self-contained HTML page about a round: verdict per client, score picture, distances, parameters, timings.

Must not load anything from elsewhere, nor run scripts. What is private (scores, distances) comes from a round
directory only; a bundle has none of it, and its page none either.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.bundle import MANIFEST, Manifest, read_manifest
from zkkrum.errors import InputError
from zkkrum.extras import require
from zkkrum.field import to_hex
from zkkrum.history import load_past_round
from zkkrum.krum import BracketLines, Krum, MadLines, Outcome, Verdict
from zkkrum.params import DEFAULT_GAMMA, Detection, Params, Round, default_z
from zkkrum.quantize import clipped_share, step
from zkkrum.rounds import RoundDirectory
from zkkrum.simulate import read_truth
from zkkrum.verify import statement

FLAGGED, SELECTED, OTHER = "#c0392b", "#1e8449", "#34607f"
LABELLED_CLIENTS = 40
"""Up to so many clients are named on the axes of the pictures."""


@dataclass(frozen=True, eq=False)
class Private:
    """What only the server may see.

    Parameters
    ----------
    outcome
        Of the reference, on the quantized updates.
    unit
        Value of a quantization step, in units of the update.
    clipped
        Share of clipped entries by client, where raw updates are present.
    byzantine
        From ``truth.json``, where the round is simulated.
    """

    outcome: Outcome
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
    updates = home.load_updates(round.roster) or []
    truth = read_truth(home).byzantine if home.truth.is_file() else None
    private = Private(
        outcome,
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


# Pictures


@dataclass(frozen=True)
class Line:
    """A horizontal line in the score picture; ``decides`` where the round's own rule compares with it."""

    label: str
    value: float
    colour: str
    style: str
    decides: bool


def lines(scores: NDArray[np.float64], params: Params) -> list[Line]:
    """Return what the rules compare scores with: µ and its brackets, and the threshold of ``mad``.

    For the rule that the round does not use, the default thresholds are drawn.
    """
    own = params.detection
    z = float(params.z if own is Detection.BRACKETS else default_z(params.n, Detection.BRACKETS))
    mad_z = float(params.z if own is Detection.MAD else default_z(params.n, Detection.MAD))
    gamma = float(params.gamma if own is Detection.MAD else DEFAULT_GAMMA[Detection.MAD])
    bracket_lines, mad_lines = BracketLines.of(scores, z), MadLines.of(scores, mad_z, gamma)
    brackets, mad = own is Detection.BRACKETS, own is Detection.MAD
    return [
        Line("µ", bracket_lines.mean, "#7d3c98", "-", brackets),
        Line("µ - σ/2", bracket_lines.low, "#7d3c98", ":", brackets),
        Line("µ + 3σ/2", bracket_lines.high, "#7d3c98", "--", brackets),
        Line(f"µ + {z:g}σ (brackets flag above)", bracket_lines.threshold, "#b9770e", "-.", brackets),
        Line("median M", mad_lines.median, "#117a65", ":", mad),
        Line(f"mad flags above (z = {mad_z:g}, γ = {gamma:g})", mad_lines.threshold, "#117a65", "-.", mad),
    ]


def score_picture(round: Round, private: Private) -> str:
    """Return the score scatter as inline SVG; scores in squared units of the update."""
    p, verdict = round.params, private.outcome.verdict
    scores = np.array(private.outcome.scores, dtype=np.float64) * private.unit**2
    figure = require("matplotlib.figure", "plot").Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    n = np.arange(p.n)
    flagged = np.isin(n, verdict.flagged)
    selected = np.isin(n, verdict.selected) & ~flagged
    for mask, marker, colour, label in (
        (~flagged & ~selected, "o", OTHER, "not flagged"),
        (selected, "*", SELECTED, "selected"),
        (flagged, "X", FLAGGED, f"flagged under {p.detection.value}"),
    ):
        if mask.any():
            axes.scatter(n[mask], scores[mask], marker=marker, c=colour, s=90 if marker == "*" else 45, label=label)
    positive = scores[scores > 0]
    if positive.size and scores.max() > 20 * np.median(positive):
        axes.set_yscale("log")
        axes.set_ylim(bottom=float(positive.min()) / 2)
    for line in lines(scores, p):
        if axes.get_yscale() == "linear" or line.value > 0:
            width, alpha = (1.6, 0.95) if line.decides else (1.0, 0.45)
            axes.axhline(line.value, color=line.colour, ls=line.style, lw=width, alpha=alpha, label=line.label)
    axes.set_ylabel(f"score ({p.score.value})")
    _name_clients(axes.xaxis, round.roster)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return _svg(figure, "scores")


def distance_picture(round: Round, private: Private) -> str:
    """Return the heat map of Euclidean distances between clients as inline SVG, in units of the update."""
    distances = np.sqrt(private.outcome.distances.astype(np.float64)) * private.unit
    figure = require("matplotlib.figure", "plot").Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(distances, cmap="viridis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="Euclidean distance")
    for axis in (axes.xaxis, axes.yaxis):
        _name_clients(axis, round.roster)
    return _svg(figure, "distances")


def _name_clients(axis: Any, roster: Sequence[str]) -> None:
    if len(roster) <= LABELLED_CLIENTS:
        names = [client if len(client) <= 14 else f"{client[:6]}…{client[-4:]}" for client in roster]
        axis.set_ticks(range(len(roster)), names, fontsize=7)
        if axis.axis_name == "x":
            axis.set_tick_params(rotation=60)
    else:
        axis.set_label_text("position in the roster")


def _svg(figure: Any, salt: str) -> str:
    """Return a figure as an SVG element: text stays text, the same input gives the same bytes."""
    out = io.StringIO()
    with require("matplotlib", "plot").rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


# The page

STYLE = """
:root { color-scheme: light; --ink: #1c2833; --soft: #5d6d7e; --line: #d5d8dc; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; background: #f8f9f9; }
.honest { border-color: #1e8449; } .malicious { border-color: #c0392b; }
.private { background: #fdf2e9; border: 1px solid #e59866; padding: .4rem .8rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } tr { border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.flagged { color: #c0392b; font-weight: 600; } .selected { color: #1e8449; font-weight: 600; }
code { font-size: .85em; overflow-wrap: anywhere; } .soft { color: var(--soft); }
svg { max-width: 100%; height: auto; }
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Return a table; cells are HTML already, and set to the right in the columns ``numbers``."""

    def cell(column: str, text: str) -> str:
        return f'<td class="number">{text}</td>' if column in numbers else f"<td>{text}</td>"

    top = "".join(f"<th>{escape(column)}</th>" for column in head)
    body = "".join("<tr>" + "".join(map(cell, head, row)) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"


def _headline(round: Round, verdict: Verdict) -> str:
    rule = round.params.detection.value
    if verdict.flagged:
        return f"{len(verdict.flagged)} of {round.params.n} clients flagged under {rule}"
    if verdict.malicious:
        return f"Malicious under {rule}, but unattributed: nobody is flagged"
    return f"Honest: nobody is flagged under {rule}"


def _names(page: Page) -> str:
    """Say who is flagged and selected, where no commitment was looked at."""
    flagged, selected = (
        ", ".join(page.round.roster[i] for i in who) or "nobody"
        for who in (page.verdict.flagged, page.verdict.selected)
    )
    return f"Flagged: {flagged}. Selected by {'Krum' if page.round.params.m == 1 else 'Multi-Krum'}: {selected}."


def _clients(page: Page) -> str:
    private, verdict = page.private, page.verdict
    head = ["client", "verdict"]
    if private:
        head += ["score"] + (["clipped"] if private.clipped else [])
        head += ["in truth (simulated)"] if private.byzantine is not None else []
    rows = []
    for i, client in enumerate(page.round.roster):
        said = [
            f'<span class="{word}">{word}</span>'
            for word, who in (("flagged", verdict.flagged), ("selected", verdict.selected))
            if i in who
        ]
        row = [escape(client), ", ".join(said) or "not flagged"]
        if private:
            row.append(f"{private.outcome.scores[i] * private.unit**2:.6g}")
            if private.clipped:
                row.append(f"{100 * private.clipped[client]:.2f} %")
            if private.byzantine is not None:
                row.append("Byzantine" if client in private.byzantine else "")
        rows.append(row)
    return _table(head, rows, numbers=("score", "clipped"))


def _parameters(page: Page) -> str:
    round, p = page.round, page.round.params
    rows = [
        ("n, clients", f"{p.n}"),
        ("d, coordinates", f"{p.d:,}"),
        ("b, bits", f"{p.b}"),
        ("clip", f"{round.clip:g}"),
        ("chunk", f"{p.chunk:,} ({p.chunks} in all)"),
        ("score", f"{p.score.value}, f = {p.f}"),
        ("selection", f"m = {p.m}"),
        ("detection", f"{p.detection.value}, z = {p.z}" + (f", γ = {p.gamma}" if p.gamma else "")),
        ("round id", f"<code>0x{round.round_id.hex()}</code>"),
        ("subject", f"<code>0x{round.subject.hex()}</code>"),
        ("context", f"<code>{to_hex(round.context)}</code>"),
    ]
    if round.chain_id or any(round.contract):
        rows += [("chain", f"{round.chain_id}"), ("contract", f"<code>0x{round.contract.hex()}</code>")]
    return _table(["parameter", "value"], [(escape(name), value) for name, value in rows])


def _proof(manifest: Manifest, chunks: int) -> str:
    rows = [
        ("form", "one circuit" if manifest.form == "round" else f"{chunks:,} shards and a verdict"),
        ("committed by", "the clients" if manifest.commitments_by == "clients" else "the server on their behalf"),
        ("made with", f"zkkrum {manifest.zkkrum}, Noir {manifest.noir}, bb {manifest.bb}"),
        *((f"gates, {name}", f"{circuit.gates:,}") for name, circuit in manifest.circuits.items()),
        *((f"time, {name}", f"{seconds:.2f} s") for name, seconds in manifest.seconds.items()),
    ]
    return _table(["proof", ""], [(escape(name), escape(value)) for name, value in rows])


def render(page: Page) -> str:
    """Return the page.

    Raises
    ------
    ToolMissingError
        Without matplotlib (extra ``plot``), where there are pictures to draw.
    """
    round, verdict, private = page.round, page.verdict, page.private
    parts = [
        f"<h1>{escape(_headline(round, verdict))}</h1>",
        f'<p class="soft">Round “{escape(page.title)}”, rules {round.params.score.value} and '
        f"{round.params.detection.value}</p>",
        f'<div class="verdict {"malicious" if verdict.malicious else "honest"}" id="verdict">'
        f"<p>{escape(page.proof)}</p><p>{escape(statement(round, verdict) if not private else _names(page))}</p></div>",
        "<p>A client that is flagged is far from the others under this rule, with these thresholds. "
        "That is not proof of malicious intent.</p>",
    ]
    if private:
        parts.append(
            '<p class="private"><strong>Private.</strong> Scores and distances give away the geometry of the updates: '
            "this page is for the server. For everybody else, make the page from the bundle.</p>"
        )
        if private.outcome.scores_carry_no_scale:
            parts.append("<p><strong>The median score is zero, so mad flags nobody: is clip too large?</strong></p>")
    parts += ["<h2>Clients</h2>", _clients(page)]
    if private:
        parts += [
            "<h2>Scores</h2>",
            "<p>Bold lines: what the round’s own rule compares with.</p>",
            score_picture(round, private),
            "<h2>Distances between clients</h2>",
            distance_picture(round, private),
        ]
    parts += ["<h2>Parameters</h2>", _parameters(page)]
    if page.manifest:
        parts += ["<h2>Proof and timings</h2>", _proof(page.manifest, round.params.chunks)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>zkkrum: {escape(page.title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
