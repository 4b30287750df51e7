"""The test vectors against bb's hash and the circuits: what other languages rely on is what is proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.circuits import Workshop
from support.vectors_file import ROUNDS, VECTORS, round_of
from zkkrum.proof.circuit import round_circuit, shard_circuit, verdict_circuit
from zkkrum.proof.witness import rule_inputs
from zkkrum.protocol.field import P, pack
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.poseidon2 import hash_one
from zkkrum.toolchain import Toolchain

case_by_name = pytest.mark.parametrize("case", ROUNDS.values(), ids=list(ROUNDS))


@pytest.fixture(scope="module")
def workshop(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(toolchain, tmp_path_factory.mktemp("programs"))


def inputs_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a round circuit, every hash as the file says."""
    p, clients = round_of(case).params, case["clients"]
    q = np.array([client["q"] for client in clients])
    return {
        "context": case["context"],
        "commitments": [client["commitment"] for client in clients],
        "values": (q + 2 ** (p.b - 1)).tolist(),
        "salts": [client["leaf_salts"] for client in clients],
        "blind": case["blind"],
        "distances": case["distances"],
        "last_challenge": case["challenges"][-1],
        **rule_inputs(Krum(p)(q), p),
    }


def test_hash_of_bb(toolchain: Toolchain) -> None:
    found = toolchain.bb.hash_many([x["input"] for x in VECTORS["hash"]])
    assert found == [x["output"] for x in VECTORS["hash"]]


@case_by_name
def test_round_by_the_hash_of_bb(toolchain: Toolchain, case: dict[str, Any]) -> None:
    hash_many = toolchain.bb.hash_many
    for i, client in enumerate(case["clients"]):
        assert hash_many([[client["salt"], t] for t in range(len(client["leaves"]))]) == client["leaf_salts"]
        assert hash_many([[case["context"], i, *client["leaves"]]]) == [client["commitment"]]
    commitments = [client["commitment"] for client in case["clients"]]
    words = pack(case["distances"], case["distance_bits"])
    assert hash_many([[*commitments, *words, case["blind"]]]) == [case["rho"]]


@case_by_name
def test_round_circuit(workshop: Workshop, case: dict[str, Any]) -> None:
    p = round_of(case).params
    q = np.array([client["q"] for client in case["clients"]])
    program = workshop.program(round_circuit(p))
    assert program.outputs(inputs_of(case), Krum(p)(q).verdict.public_words())


def test_shard_and_verdict_circuits(workshop: Workshop) -> None:
    """Here leaves and ρ are public inputs of their own."""
    case = ROUNDS["two leaves, the second partial"]
    p, r, whole = round_of(case).params, case["challenges"], inputs_of(case)
    assert p.chunks == 2
    total, link = 0, hash_one([0, 0, 0])
    for t in range(p.chunks):
        chunk = p.chunk_range(t)
        values = [row[chunk.start : chunk.stop] for row in whole["values"]]
        before, before_link = total, link
        total += sum(sum(x * row[k] for x, row in zip(r, values, strict=True)) ** 2 for k in range(len(chunk)))
        link = hash_one([t + 1, total % P, 50 + t])
        workshop.program(shard_circuit(p, len(chunk))).execute(
            {
                "_context": case["context"],
                "t": t,
                "rho": case["rho"],
                "leaves": [client["leaves"][t] for client in case["clients"]],
                "link_before": before_link,
                "link_after": link,
                "values": values,
                "salts": [client["leaf_salts"][t] for client in case["clients"]],
                "last_challenge": r[-1],
                "sum_before": before % P,
                "blind_before": 49 + t if t else 0,
                "blind_after": 50 + t,
            }
        )
    shared = {name: whole[name] for name in ("commitments", "blind", "distances", "score", "selection", "detection")}
    end = {"chunks": p.chunks, "link": link, "link_blind": 49 + p.chunks}
    inputs = {"_context": case["context"], "rho": case["rho"], "last_challenge": r[-1], **shared, **end}
    workshop.program(verdict_circuit(p)).execute(inputs)
