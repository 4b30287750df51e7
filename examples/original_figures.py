"""The original zk-Krum's figures anew: 1,000 two-dimensional clients, of whom 0 %, 10 % and 51 % are malicious.

    python examples/original_figures.py [OUT.png]

Above, the updates; below, their scores (`all-pairs`) with the brackets around the mean that decide. 253 clients are
the most a proof takes; these pictures use only the reference's formulas, which have no such bound. They also show what
the rule cannot do: with 51 % the sybils are the crowd, and nothing tells them from honest clients.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from zkkrum.learning.attacks import attack
from zkkrum.protocol.krum import Brackets, squared_distances
from zkkrum.protocol.params import N_MAX, Detection, Params, Score
from zkkrum.protocol.quantize import quantize, step

CLIENTS, CLIP, BITS, SEED = 1000, 64.0, 16, 1
CENTRE = np.array([10.0, 20.0])
SHARES = ((0, "gaussian"), (10, "gaussian"), (51, "sybil"))
KINDS = (("honest", ".", "#34607f"), ("malicious", "x", "#c0392b"))
"""Label, shape and colour: colour is not the only thing that tells them apart."""
RULE = Params.of(n=N_MAX, d=2, b=BITS, score=Score.ALL_PAIRS, detection=Detection.BRACKETS)
"""`Brackets` reads the threshold z from it and takes n from the scores."""


def draw_round(percent: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return updates of shape (1000, 2), and which of them are malicious."""
    rng = np.random.default_rng(SEED)
    k = CLIENTS * percent // 100
    updates = CENTRE + rng.standard_normal((CLIENTS, 2))
    updates[CLIENTS - k :] = attack(name, updates[: CLIENTS - k], updates[CLIENTS - k :], rng, 1.0)
    return updates, np.arange(CLIENTS) >= CLIENTS - k


def judge(updates: np.ndarray) -> tuple[list[int], Brackets]:
    """Return all-pairs scores and what the brackets say of them, exactly."""
    scores = [sum(row) for row in squared_distances(quantize(updates, CLIP, BITS)).tolist()]
    return scores, Brackets.of(scores, RULE)


def main(out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.4), layout="constrained")
    panels = figure.subplots(2, len(SHARES))
    for (percent, name), (plane, picture) in zip(SHARES, panels.T, strict=True):
        updates, bad = draw_round(percent, name)
        exact, found = judge(updates)
        scores = np.array(exact, dtype=float) * step(CLIP, BITS) ** 2
        mean, sigma = scores.mean(), scores.std()
        index = np.arange(CLIENTS)
        for mask, (label, marker, colour) in zip((~bad, bad), KINDS, strict=True):
            plane.scatter(*updates[mask].T, s=14, c=colour, marker=marker, lw=0.7, label=label)
            picture.scatter(index[mask], scores[mask], s=14, c=colour, marker=marker, lw=0.7)
        for label, value, style in (
            ("µ", mean, "-"),
            ("µ - σ/2", mean - sigma / 2, ":"),
            ("µ + 3σ/2", mean + 1.5 * sigma, "--"),
            ("µ + 2σ", mean + 2 * sigma, "-."),
        ):
            picture.axhline(value, color="#7d3c98", ls=style, lw=1.2, label=label)
        verdict = "malicious" if found.malicious else "honest"
        right = int(bad[list(found.flagged)].sum()) if found.flagged else 0
        plane.set_title(f"{percent} % malicious")
        picture.set_title(f"low {found.low}, high {found.high}: {verdict}; flagged {len(found.flagged)}", fontsize=10)
        picture.set_xlabel("client")
        print(
            f"{percent:3d} %: low {found.low}, high {found.high}: {verdict}; "
            f"flagged {right} of {int(bad.sum())} malicious and {len(found.flagged) - right} honest clients"
        )
    kinds, lines = (panel.get_legend_handles_labels() for panel in panels[:, 0])
    figure.legend(*kinds, loc="outside upper center", ncols=2, frameon=False, markerscale=2)
    figure.legend(*lines, loc="outside lower center", ncols=4, frameon=False)
    panels[0, 0].set_ylabel("update")
    panels[1, 0].set_ylabel("score (all-pairs)")
    figure.savefig(out, dpi=90, metadata={"Software": None})
    print(f"written: {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "original_figures.png"))
