"""Pictures of a round: scores with their thresholds, distances, as SVG.

Must not know bundles or HTML.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
from numpy.typing import NDArray

from zkkrum.extras import require
from zkkrum.protocol.float_rule import BracketLines, MadLines
from zkkrum.protocol.params import DEFAULT_GAMMA, Detection, Params, Round, default_z
from zkkrum.report.page import Private

FLAGGED, SELECTED, OTHER = "#c0392b", "#1e8449", "#34607f"
LABELLED_CLIENTS = 40
"""Up to so many clients are named on the axes of the pictures."""


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
        axis.set_ticks(range(len(roster)), names, fontsize=7, parse_math=False)
        if axis.axis_name == "x":
            axis.set_tick_params(rotation=60)
    else:
        axis.set_label_text("position in the roster")


def _svg(figure: Any, salt: str) -> str:
    """Return a figure as an SVG element: text stays text, the same input gives the same bytes."""
    out = io.StringIO()
    with require("matplotlib", "plot").rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from font")  # the reader's font draws it: text stays text
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
