"""The test vectors against bb's hash and the circuits: what other languages rely on is what is proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.circuits import Workshop
from support.vectors_file import ROUNDS, VECTORS, round_of
from zkkrum.proof.circuit import round_circuit, shard_circuit, verdict_circuit
from zkkrum.proof.witness import rule_inputs
from zkkrum.protocol.field import pack
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.poseidon2 import hash_one
from zkkrum.toolchain import Toolchain

case_by_name = pytest.mark.parametrize("case", ROUNDS.values(), ids=list(ROUNDS))


@pytest.fixture(scope="module")
def workshop(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(toolchain, tmp_path_factory.mktemp("programs"))


def values_of(case: dict[str, Any]) -> list[list[int]]:
    """Return v = q + 2^(b-1), client by client."""
    half = 2 ** (round_of(case).params.b - 1)
    return [[q + half for q in client["q"]] for client in case["clients"]]


def opened(case: dict[str, Any], t: int) -> dict[str, Any]:
    """Return the inputs that open the leaves of chunk t, every hash as the file says."""
    p, aggregate = round_of(case).params, case["aggregate"]
    chunk = slice(p.chunk_range(t).start, p.chunk_range(t).stop)
    return {
        "leaves": [client["leaves"][t] for client in case["clients"]],
        "leaf_of_sum": aggregate["leaves"][t],
        "values": [row[chunk] for row in values_of(case)],
        "salts": [client["leaf_salts"][t] for client in case["clients"]],
        "words_of_sum": pack(aggregate["sum"][chunk], aggregate["sum_bits"]),
        "salt_of_sum": hash_one([aggregate["salt"], t]),
    }


def shared(case: dict[str, Any]) -> dict[str, Any]:
    """Return what a round and a verdict have in common."""
    p = round_of(case).params
    names = ("statement", "blind", "claims", "combined", "scaled_s")
    rules = rule_inputs(Krum(p)(np.array([client["q"] for client in case["clients"]])), p)
    return {**{name: case[name] for name in names}, "scaled": case["x"][1:], **rules}


def test_hash_of_bb(toolchain: Toolchain) -> None:
    found = toolchain.bb.hash_many([x["input"] for x in VECTORS["hash"]])
    assert found == [x["output"] for x in VECTORS["hash"]]


@case_by_name
def test_round_by_the_hash_of_bb(toolchain: Toolchain, case: dict[str, Any]) -> None:
    hash_many = toolchain.bb.hash_many
    for client in case["clients"]:
        assert hash_many([[client["salt"], t] for t in range(len(client["leaves"]))]) == client["leaf_salts"]
    words = pack(case["claims"], case["slot_bits"])
    assert hash_many([[case["statement"], *words, case["blind"]]]) == [case["rho"]]
    links = [[link["form"], link["residue"], link["blind"]] for link in case["links"]]
    assert hash_many(links) == [link["link"] for link in case["links"]]


@case_by_name
def test_circuits(workshop: Workshop, case: dict[str, Any]) -> None:
    p = round_of(case).params
    if p.chunks == 1:
        inputs = {**shared(case), **opened(case, 0)}
        assert workshop.program(round_circuit(p)).outputs(inputs, case["outputs"])
        return
    links = case["links"]
    public = {"rho": case["rho"], "scaled": case["x"][1:], "scaled_s": case["scaled_s"]}
    for t in range(p.chunks):
        ends = {
            "link_before": links[t]["link"],
            "link_after": links[t + 1]["link"],
            "form_before": links[t]["form"],
            "residue_before": links[t]["residue"],
            "blind_before": links[t]["blind"],
            "blind_after": links[t + 1]["blind"],
        }
        workshop.program(shard_circuit(p, len(p.chunk_range(t)))).execute({**public, **opened(case, t), **ends})
    last = links[-1]
    end = {"link": last["link"], "form": last["form"], "residue": last["residue"], "blind_of_link": last["blind"]}
    assert workshop.program(verdict_circuit(p)).outputs({**shared(case), **public, **end}, case["outputs"])
