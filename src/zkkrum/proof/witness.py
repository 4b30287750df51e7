"""The inputs of each circuit: public words and the advice that the circuit asserts, as a ``Prover.toml``.

Must not know files or processes. The formulas of the rules are in `zkkrum.protocol.krum`; here is only what a
prover adds for the circuit to check them: members and pivots, medians, bits, inverses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zkkrum.protocol.commitment import circuit_values
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import Mad, Outcome, lower_median, nearest
from zkkrum.protocol.params import Params, Score
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.protocol.transcript import Transcript

Inputs = Mapping[str, Any]
"""Inputs of a circuit: integers, nested sequences of them, or nested mappings (Noir structs)."""


# Advice: private inputs that the circuit asserts


def score_advice(outcome: Outcome, params: Params) -> Inputs:
    """Return the scores and, under krum-2017, who is near whom and a pivot per row."""
    advice: dict[str, Any] = {"scores": outcome.scores}
    if params.score is Score.KRUM_2017:
        near, pivots = [], []
        for i in range(params.n):
            members = nearest(outcome.distances, i, params.neighbours)
            near.append([int(j in members) for j in range(params.n) if j != i])
            pivots.append(int(outcome.distances[i, members[-1]]))
        advice |= {"near": near, "pivots": pivots}
    return advice


def selection_advice(outcome: Outcome, params: Params) -> Inputs:
    """Return who is selected and the largest selected key s_i·n + i."""
    selected = outcome.verdict.selected
    pivot = max(outcome.scores[i] * params.n + i for i in selected)
    return {"chosen": [int(i in selected) for i in range(params.n)], "pivot": pivot}


def _inverse_or_zero(x: int) -> int:
    return pow(x, -1, P) if x else 0


def _median_advice(values: Sequence[int]) -> Inputs:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    low = order[: (len(values) - 1) // 2 + 1]
    return {"value": lower_median(values), "low": [int(i in low) for i in range(len(values))]}


def detection_advice(outcome: Outcome) -> Inputs:
    """Return the advice of the outcome's detection rule: medians and their members, or sides of the mean; bits."""
    rule, scores = outcome.detection, outcome.scores
    if isinstance(rule, Mad):
        return {
            "median": _median_advice(scores),
            "deviation": _median_advice([abs(s - rule.median) for s in scores]),
            "median_inverse": _inverse_or_zero(rule.median),
            "beyond": [int(x) for x in rule.beyond],
            "excess": [int(x) for x in rule.excess],
            "flagged_inverse": _inverse_or_zero(len(rule.flagged)),
        }
    return {
        "below": [int(x < 0) for x in rule.deltas],
        "above": [int(x > 0) for x in rule.deltas],
        "near": [int(x) for x in rule.near],
        "beyond": [int(x) for x in rule.beyond],
        "malicious": int(rule.malicious),
    }


def rule_inputs(outcome: Outcome, params: Params) -> Inputs:
    """Return the advice of score, selection and detection together."""
    return {
        "score": score_advice(outcome, params),
        "selection": selection_advice(outcome, params),
        "detection": detection_advice(outcome),
    }


def _opened_chunk(transcript: Transcript, t: int, hash: Hash) -> dict[str, Any]:
    """Return the inputs that open the leaves of chunk t."""
    p, chunk = transcript.round.params, transcript.round.params.chunk_range(t)
    *salts, salt_of_sum = hash(
        [(salt, t) for salt in (*(o.salt for o in transcript.openings), transcript.secrets.salt)]
    )
    *own, leaf_of_sum = transcript.leaves_of_chunk(t)
    return {
        "leaves": own,
        "leaf_of_sum": leaf_of_sum,
        "values": [circuit_values(o.q[chunk.start : chunk.stop], p.b).tolist() for o in transcript.openings],
        "salts": salts,
        "words_of_sum": transcript.aggregate.words(p, t),
        "salt_of_sum": salt_of_sum,
    }


def _scaled(transcript: Transcript) -> dict[str, Any]:
    return {"scaled": transcript.challenge.x[1:], "scaled_s": transcript.challenge.scaled_s}


def _claimed(transcript: Transcript) -> dict[str, Any]:
    return {"blind": transcript.secrets.blind, "claims": transcript.claims, "combined": transcript.challenge.combined}


def round_inputs(transcript: Transcript, hash: Hash) -> Inputs:
    """Return all inputs of the `round` circuit."""
    return {
        "statement": transcript.statement,
        **_opened_chunk(transcript, 0, hash),
        **_claimed(transcript),
        **_scaled(transcript),
        **rule_inputs(transcript.outcome, transcript.round.params),
    }


def shard_inputs(transcript: Transcript, t: int, hash: Hash) -> Inputs:
    """Return all inputs of the `shard` circuit of chunk t."""
    links = transcript.sharded_links
    return {
        "rho": transcript.challenge.rho,
        **_scaled(transcript),
        **_opened_chunk(transcript, t, hash),
        "link_before": links.links[t],
        "link_after": links.links[t + 1],
        "form_before": links.forms[t],
        "residue_before": links.residues[t],
        "blind_before": links.blinds[t],
        "blind_after": links.blinds[t + 1],
    }


def verdict_inputs(transcript: Transcript) -> Inputs:
    """Return all inputs of the `verdict` circuit."""
    links = transcript.sharded_links
    return {
        "statement": transcript.statement,
        "rho": transcript.challenge.rho,
        **_scaled(transcript),
        "link": links.links[-1],
        **_claimed(transcript),
        "form": links.forms[-1],
        "residue": links.residues[-1],
        "blind_of_link": links.blinds[-1],
        **rule_inputs(transcript.outcome, transcript.round.params),
    }


def to_toml(inputs: Inputs) -> str:
    """Render inputs as a ``Prover.toml``: integers as hexadecimal strings, structs as tables."""

    def value(x: Any) -> str:
        if isinstance(x, Sequence):
            return "[" + ", ".join(map(value, x)) + "]"
        return json.dumps(hex(x))

    tables = {k: v for k, v in inputs.items() if isinstance(v, Mapping)}
    lines = [f"{k} = {value(v)}" for k, v in inputs.items() if k not in tables]

    def table(name: str, fields: Inputs) -> None:
        lines.append(f"\n[{name}]")
        lines.extend(f"{k} = {value(v)}" for k, v in fields.items() if not isinstance(v, Mapping))
        for k, v in fields.items():
            if isinstance(v, Mapping):
                table(f"{name}.{k}", v)

    for name, fields in tables.items():
        table(name, fields)
    return "\n".join(lines) + "\n"
