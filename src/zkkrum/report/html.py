"""The pages themselves: self-contained HTML files, without scripts, light and dark, from a telephone's width on.

Must not load anything from elsewhere, nor put a text into a page unescaped: Jinja escapes all but what is marked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from zkkrum.proof.audit import State
from zkkrum.protocol.explain import rules
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Round
from zkkrum.report.page import Page, Private
from zkkrum.report.pictures import Scale, anchor, shade_paths, ticks
from zkkrum.report.run_page import RunPage
from zkkrum.version import __version__


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("zkkrum.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    made.filters["hex"] = hex_of
    made.filters["quoted"] = repr
    made.globals["version"] = __version__
    return made


def _visible(value: object) -> object:
    """Escape, in what is not markup yet, characters that turn or hide text: names may be a stranger's."""
    if type(value) is not str:
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def render(page: Page) -> str:
    """Return the page about a round or a bundle."""
    round, manifest = page.round, page.manifest
    commitments = {entry.client: entry.commitment for entry in manifest.commitments} if manifest else {}
    return (
        _environment()
        .get_template("round.html")
        .render(
            page=page,
            params=round.params,
            verdict=page.verdict,
            headline=headline(page),
            accepted=page.verdict.accepted(round.params),
            rules=rules(round.params),
            parameters=list(_parameters(round)),
            commitments=commitments,
            timings=list(_timings(page)),
            clipped=page.private.clipped if page.private and any(page.private.clipped.values()) else None,
            why=_reasons(page.private) if page.private else None,
            distances=_distances(page.private) if page.private else None,
        )
    )


def render_run(page: RunPage) -> str:
    """Return the page about a run."""
    count = len(page.found.rounds)
    return (
        _environment()
        .get_template("run.html")
        .render(
            page=page,
            count=count,
            labelled=ticks(count),
            rows=[(client, list(_presence(page, client))) for client in page.clients],
            places={number: (number - 0.5) / count * 100 for number in range(1, count + 1)},
            curve=[(number, 100 * value) for number, value in sorted(page.accuracy.items()) if 1 <= number <= count],
            rules=rules(page.verified[-1].round.params) if page.verified and page.verified[-1].round else [],
            State=State,
        )
    )


def headline(page: Page) -> str:
    """Return the verdict in a line."""
    rule, verdict = page.round.params.detection.value, page.verdict
    if verdict.flagged:
        return f"{len(verdict.flagged)} of {page.round.params.n} clients flagged under {rule}"
    if verdict.malicious:
        return f"Malicious under {rule}, but unattributed: nobody is flagged"
    return f"Honest: nobody is flagged under {rule}"


# Rules, a sentence each


# What stands in tables


def _parameters(round: Round) -> Iterator[tuple[str, str]]:
    p = round.params
    yield "n, clients", f"{p.n}"
    yield "d, coordinates", f"{p.d:,}"
    yield "b, bits", f"{p.b}"
    yield "clip", f"{round.clip:g}"
    yield "chunk", f"{p.chunk:,} ({p.chunks:,} in all)"
    yield "round id", hex_of(round.round_id)
    yield "subject", hex_of(round.subject)
    yield "context", hex_of(round.context)
    if round.chain_id or any(round.contract):
        yield "chain", f"{round.chain_id}"
        yield "contract", hex_of(round.contract)


def _timings(page: Page) -> Iterator[tuple[str, str]]:
    made = page.manifest
    if made is None:
        return
    yield "form", "one circuit" if made.form == "round" else f"{page.round.params.chunks:,} shards and a verdict"
    yield "committed by*", "the clients" if made.commitments_by == "clients" else "the server on their behalf"
    yield "made with*", f"zkkrum {made.zkkrum}, Noir {made.noir}, bb {made.bb}"
    for name, circuit in made.circuits.items():
        yield f"gates*, {name}", f"{circuit.gates:,}"
    for name, seconds in made.seconds.items():
        yield f"time*, {name}", f"{seconds:.2f} s"


def _reasons(private: Private) -> dict[str, Any]:
    """Return scores and the threshold in force in squared units of the update, and where they are drawn."""
    found = private.explanation
    scale = Scale.of([reason.score for reason in found.clients], found.threshold)
    place = scale.place(found.threshold)
    return {
        "line": found.line,
        "threshold": f"{found.threshold:.5g}",
        "place": place,
        "anchor": anchor(place),
        "logarithmic": scale.logarithmic,
        "nobody": found.nobody,
        "clients": [
            {
                "score": f"{reason.score:.5g}",
                "excess": "" if reason.excess is None else f"{100 * reason.excess:+.1f} %",
                "above": reason.excess is not None and reason.excess > 0,
                "place": scale.place(reason.score),
            }
            for reason in found.clients
        ],
    }


def _distances(private: Private) -> dict[str, Any]:
    distances = np.sqrt(private.outcome.distances.astype(np.float64)) * private.unit
    n = len(distances)
    return {
        "n": n,
        "paths": shade_paths(distances),
        "labelled": ticks(n),
        "places": {k: (k - 0.5) / n * 100 for k in range(1, n + 1)},
        "largest": f"{distances.max():.5g}",
    }


def _presence(page: RunPage, client: str) -> Iterator[tuple[int, str]]:
    """Yield (round, what a client was in it); of rounds that prove nothing it is a gap."""
    for row in page.found.rounds:
        if row.round is None:
            yield row.number, "gap"
        elif client not in row.round.roster:
            yield row.number, "absent"
        else:
            flagged, accepted = client in row.flagged, client in row.accepted
            yield row.number, "flagged" if flagged else "accepted" if accepted else "left"
