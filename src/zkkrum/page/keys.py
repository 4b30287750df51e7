"""The verification keys a page knows: SHA-256 by the name of the circuit, as the page itself can derive it.

Must not know bundles. A page cannot hash the circuits' sources, so every key it is to know is written into it.
"""

from __future__ import annotations

from collections.abc import Iterable

from zkkrum.proof.form import VK, Form, shard_key
from zkkrum.proof.keys import expected_key_hash, key_table
from zkkrum.proof.shapes import common_shapes
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Toolchain


def circuit_names(params: Params) -> dict[str, str]:
    """Return, for each key file of a round, everything its key depends on as text; ``web/src/form.ts`` writes the same.

    Examples
    --------
    >>> circuit_names(Params.of(n=10, d=650))["vk"]
    'round n=10 d=650 b=12 f=3 m=1 krum-2017 mad z=5 gamma=1/4 unflagged'
    """
    p = params
    rules = f"{p.score.value} {p.detection.value} z={p.z} gamma={p.gamma} {p.acceptance.value}"
    constants = f"n={p.n} d={p.d} b={p.b} f={p.f} m={p.m} {rules}"
    if Form.of(p) is Form.ROUND:
        return {VK: f"round {constants}"}
    shards = {shard_key(p, t): f"shard n={p.n} b={p.b} coordinates={len(p.chunk_range(t))}" for t in (0, p.chunks - 1)}
    return {VK: f"verdict {constants}", **shards}


def known_keys(shapes: Iterable[Params], tools: Toolchain) -> dict[str, str]:
    """Return SHA-256 of the keys of the shipped table and of further shapes, by name of the circuit, in order.

    Raises
    ------
    ReferenceStringError
        If a key must be built and there are no points for it.
    """
    found: dict[str, str] = {}
    for params in common_shapes():
        circuits = Form.of(params).circuits(params)
        found |= {name: key_table()[circuits[file].key_id] for file, name in circuit_names(params).items()}
    for params in shapes:
        form = Form.of(params)
        circuits, gates = form.circuits(params), form.gates(params)
        for file, name in circuit_names(params).items():
            if name not in found:
                found[name] = expected_key_hash(circuits[file], gates[file], tools)
    return dict(sorted(found.items()))
