"""The page itself: one self-contained HTML file, without scripts.

Must not load anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from zkkrum.proof.bundle import Manifest
from zkkrum.proof.statement import sentence
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Round
from zkkrum.report.page import Page
from zkkrum.report.pictures import distance_picture, score_picture
from zkkrum.rounds.roundfile import parse_bytes

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
        ", ".join(repr(page.round.roster[i]) for i in who) or "nobody"
        for who in (page.verdict.flagged, page.verdict.selected)
    )
    return f"Flagged: {flagged}. Selected by {'Krum' if page.round.params.m == 1 else 'Multi-Krum'}: {selected}."


def _clients(page: Page) -> str:
    private, verdict = page.private, page.verdict
    head = ["client", "verdict"]
    if private:
        head += ["score", "threshold", "excess"] + (["clipped"] if private.clipped else [])
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
            why = private.explanation.clients[i]
            row += [f"{x * private.unit**2:.6g}" for x in (why.score, private.explanation.threshold)]
            row.append("" if why.excess is None else f"{100 * why.excess:+.1f} %")
            if private.clipped:
                row.append(f"{100 * private.clipped[client]:.2f} %")
            if private.byzantine is not None:
                row.append("Byzantine" if client in private.byzantine else "")
        rows.append(row)
    return _table(head, rows, numbers=("score", "threshold", "excess", "clipped"))


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
        ("context", f"<code>{hex_of(round.context)}</code>"),
    ]
    if round.chain_id or any(round.contract):
        rows += [("chain", f"{round.chain_id}"), ("contract", f"<code>0x{round.contract.hex()}</code>")]
    return _table(["parameter", "value"], [(escape(name), value) for name, value in rows])


def _proof(manifest: Manifest, chunks: int) -> str:
    rows = [
        ("form", "one circuit" if manifest.form == "round" else f"{chunks:,} shards and a verdict"),
        ("committed by*", "the clients" if manifest.commitments_by == "clients" else "the server on their behalf"),
        ("made with*", f"zkkrum {manifest.zkkrum}, Noir {manifest.noir}, bb {manifest.bb}"),
        *((f"gates*, {name}", f"{circuit.gates:,}") for name, circuit in manifest.circuits.items()),
        *((f"time*, {name}", f"{seconds:.2f} s") for name, seconds in manifest.seconds.items()),
    ]
    claims = '<p class="soft">* by the bundle’s own word: nothing can verify it.</p>'
    return _table(["proof", ""], [(escape(name), escape(value)) for name, value in rows]) + claims


def _said(page: Page) -> str:
    """Return what the bundle of the page states, or where there is none who was flagged."""
    if page.private or not page.manifest:
        return _names(page)
    return sentence(page.round, page.verdict, parse_bytes(page.manifest.aggregate, 32, "aggregate"))


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
        f"<p>{escape(page.proof)}</p><p>{escape(_said(page))}</p></div>",
        "<p>A client that is flagged is far from the others under this rule, with these thresholds. "
        "That is not proof of malicious intent.</p>",
    ]
    if private:
        parts.append(
            '<p class="private"><strong>Private.</strong> Scores and distances give away the geometry of the updates: '
            "this page is for the server. For everybody else, make the page from the bundle.</p>"
        )
        why = private.explanation
        parts.append(f"<p>Flagged is who scores above {escape(why.line)}; the excess says by how much.</p>")
        if why.nobody:
            parts.append(f"<p><strong>Here nobody is flagged: {escape(why.nobody)}.</strong></p>")
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
