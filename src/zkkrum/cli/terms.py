"""The options by which whoever opens a round decides its terms, and that a ``round.toml`` decides them already.

Only parses; must not know commands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from zkkrum.cli.console import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, given, refuse_together, say_fallback
from zkkrum.errors import InputError
from zkkrum.learning.simulate import client_names
from zkkrum.proof import estimate as forecasts
from zkkrum.protocol.forecast import SHARD_GATES
from zkkrum.protocol.params import BITS, MAD_N_MIN, Acceptance, Detection, Params, Round, Score, parse_fraction
from zkkrum.rounds.parties import Terms, open_round

TERMS_OPTIONS = (
    click.option("--bits", "-b", type=click.Choice([str(b) for b in BITS]), default="12", show_default=True),
    click.option(
        "--clip",
        type=POSITIVE,
        help="Quantization bound c [default, where updates are at hand: 4 rms of the median client].",
    ),
    click.option(
        "--tolerated",
        "-f",
        "f",
        type=NOT_NEGATIVE,
        help="Byzantine clients tolerated [default: floor((n-3)/2)].",
    ),
    click.option(
        "--select",
        "-m",
        "m",
        type=AT_LEAST_ONE,
        default=1,
        show_default=True,
        help="Clients selected (Multi-Krum).",
    ),
    click.option("--score", type=click.Choice([s.value for s in Score]), default="krum-2017", show_default=True),
    click.option(
        "--detection",
        type=click.Choice([d.value for d in Detection]),
        help=f"[default: mad; brackets where n < {MAD_N_MIN}]",
    ),
    click.option(
        "--accept",
        type=click.Choice([a.value for a in Acceptance]),
        default="unflagged",
        show_default=True,
        help="Who is aggregated: the unflagged, or the selected that are not flagged (-m n-f: Multi-Krum).",
    ),
    click.option("--z", help="Detection threshold, such as 5, 4.5 or 9/2."),
    click.option("--gamma", help="Least relative excess over the median (mad only)."),
    click.option(
        "--shard-gates",
        type=AT_LEAST_ONE,
        default=SHARD_GATES,
        show_default=True,
        help="Largest circuit; sets chunk.",
    ),
    click.option(
        "--max-memory",
        type=AT_LEAST_ONE,
        metavar="MB",
        help="Choose --shard-gates for this much memory a proof.",
    ),
)
"""What whoever opens a round decides."""


def terms_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `TERMS_OPTIONS`; the command receives them as one `Terms`."""

    @wraps(command)
    def with_terms(
        bits: str,
        clip: float | None,
        f: int | None,
        m: int,
        score: str,
        detection: str | None,
        accept: str,
        z: str | None,
        gamma: str | None,
        shard_gates: int,
        max_memory: int | None,
        **others: Any,
    ) -> Any:
        overrides = {
            "f": f,
            "m": m,
            "score": Score(score),
            "detection": Detection(detection) if detection else None,
            "z": parse_fraction(z, "--z") if z else None,
            "gamma": parse_fraction(gamma, "--gamma") if gamma else None,
            "acceptance": Acceptance(accept),
        }
        if max_memory:
            refuse_together("--max-memory chooses it", "shard_gates")
        ceiling = forecasts.gates_within(max_memory) if max_memory else shard_gates
        return command(terms=Terms(int(bits), clip, overrides, ceiling), **others)

    decorated: Callable[..., Any] = with_terms
    for option in reversed(TERMS_OPTIONS):
        decorated = option(decorated)
    return decorated


TERMS = ("bits", "clip", "f", "m", "score", "detection", "accept", "z", "gamma", "shard_gates", "max_memory")
"""The parameters of `TERMS_OPTIONS`."""


def params_of(clients: int, dimension: int, terms: Terms) -> Params:
    """Return the parameters of a round of n clients and d coordinates on these terms; a fallback is said."""
    Params.of(clients, dimension)  # whatever is out of bounds is said before there are names for so many
    params = open_round(client_names(clients), dimension, terms.clip or 1.0, terms).params
    say_fallback(params)
    return params


def agree(round: Round, file: Path) -> None:
    """Refuse terms on the command line that a ``round.toml`` decides otherwise: they would be ignored."""
    p, typed = round.params, click.get_current_context().params
    decided: dict[str, tuple[object, Callable[[Any], object]]] = {
        "accept": (p.acceptance.value, str),
        "bits": (str(p.b), str),
        "clip": (round.clip, float),
        "f": (p.f, int),
        "m": (p.m, int),
        "score": (p.score.value, str),
        "detection": (p.detection.value, str),
        "z": (p.z, lambda text: parse_fraction(text, "--z")),
        "gamma": (p.gamma, lambda text: parse_fraction(text, "--gamma")),
    }
    for name in TERMS:
        for flag in given(name):
            if name not in decided:
                raise InputError(f"{flag}: {file} decides chunk already, as {p.chunk}", f"leave {flag} out")
            value, parse = decided[name]
            if parse(typed[name]) != value:
                raise InputError(f"{flag} {typed[name]}: {file} decides it otherwise, as {value}", f"leave {flag} out")
