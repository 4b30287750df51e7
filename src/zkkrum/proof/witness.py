"""The inputs of each circuit: public words and the advice that the circuit asserts, as a ``Prover.toml``.

Must not know files or processes. The formulas of the rules are in `zkkrum.protocol.krum`; here is only what a
prover adds for the circuit to check them: members and pivots, medians, bits, inverses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zkkrum.protocol.challenge import Chain, challenges, rho
from zkkrum.protocol.commitment import Opening, circuit_values, leaf_salts
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import Mad, Outcome, lower_median, nearest, pair_list
from zkkrum.protocol.params import Params, Round, Score
from zkkrum.protocol.poseidon2 import Hash

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


def round_inputs(
    round: Round, openings: Sequence[Opening], commitments: Sequence[int], outcome: Outcome, blind: int, hash: Hash
) -> Inputs:
    """Return all inputs of the `round` circuit."""
    p = round.params
    distances = pair_list(outcome.distances)
    return {
        "context": round.context,
        "commitments": commitments,
        "values": [circuit_values(o.q, p.b).tolist() for o in openings],
        "salts": [leaf_salts(o.salt, p.chunks, hash) for o in openings],
        "blind": blind,
        "distances": distances,
        "last_challenge": challenges(rho(p, commitments, distances, blind, hash), p.n)[-1],
        **rule_inputs(outcome, p),
    }


def shard_inputs(
    round: Round,
    t: int,
    openings: Sequence[Opening],
    chain: Chain,
    leaves: Sequence[int],
    hash: Hash,
) -> Inputs:
    """Return all inputs of the `shard` circuit of chunk t; ``leaves`` are those of this chunk, one a client."""
    p, chunk = round.params, round.params.chunk_range(t)
    return {
        "_context": round.context,
        "t": t,
        "rho": chain.rho,
        "leaves": leaves,
        "link_before": chain.links[t],
        "link_after": chain.links[t + 1],
        "values": [circuit_values(o.q[chunk.start : chunk.stop], p.b).tolist() for o in openings],
        "salts": hash([(o.salt, t) for o in openings]),
        "last_challenge": challenges(chain.rho, p.n)[-1],
        "sum_before": chain.sums[t],
        "blind_before": chain.blinds[t],
        "blind_after": chain.blinds[t + 1],
    }


def verdict_inputs(round: Round, commitments: Sequence[int], outcome: Outcome, chain: Chain) -> Inputs:
    """Return all inputs of the `verdict` circuit."""
    p = round.params
    return {
        "_context": round.context,
        "commitments": commitments,
        "rho": chain.rho,
        "chunks": p.chunks,
        "link": chain.links[-1],
        "blind": chain.blind,
        "link_blind": chain.blinds[-1],
        "distances": pair_list(outcome.distances),
        "last_challenge": challenges(chain.rho, p.n)[-1],
        **rule_inputs(outcome, p),
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
