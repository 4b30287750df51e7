"""The shapes whose verification keys ship with the package: rounds that people start with.

Must not know tools or keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from zkkrum.proof.circuit import Circuit
from zkkrum.proof.form import Form
from zkkrum.protocol.forecast import default_chunk
from zkkrum.protocol.params import Detection, Params, Score

CLIENTS = (5, 6, 10, 20)
DIGITS, LENET5 = 650, 61_706
"""Coordinates of softmax regression on the digits, and of LeNet-5."""
COORDINATES = (DIGITS, 100, 540)
BITS = (8, 12, 14)


def _rounds() -> Iterator[Params]:
    for n, d, b in product(CLIENTS, COORDINATES, BITS):
        yield Params.of(n, d, b)
    for score, b in product(Score, BITS):  # the original's example
        yield Params.of(6, 2, b, score=score, detection=Detection.BRACKETS)
    for b in BITS:
        yield Params.of(10, LENET5, b)


def common_shapes() -> Iterator[Params]:
    """Yield the parameters of common rounds: of one circuit that fits 2^15, and of LeNet-5 in shards."""
    for whole in _rounds():
        params = replace(whole, chunk=default_chunk(whole))
        if Form.of(params) is Form.ROUND or params.d == LENET5:
            yield params


def common_circuits() -> list[Circuit]:
    """Return the circuits of the common shapes, each once."""
    found = {c.key_id: c for params in common_shapes() for c in Form.of(params).circuits(params).values()}
    return list(found.values())
