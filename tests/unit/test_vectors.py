"""The test vectors against the package, and against the specification written out once more.

`TestSpecification` uses nothing of the package but Poseidon2 and the field: an implementer's reading.
"""

from __future__ import annotations

import hashlib
import runpy
import struct
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from support.vectors_file import PATH, ROUNDS, VECTORS, round_of
from zkkrum.protocol.challenge import challenges, rho
from zkkrum.protocol.commitment import Opening, commit, leaf_salts, leaves
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import pair_list, squared_distances
from zkkrum.protocol.poseidon2 import hash_one, stream

SCRIPT = PATH.parents[1] / "scripts" / "vectors.py"

case_by_name = pytest.mark.parametrize("case", ROUNDS.values(), ids=list(ROUNDS))


def test_the_file_is_what_the_script_writes() -> None:
    assert runpy.run_path(str(SCRIPT))["render"]() == PATH.read_text(encoding="utf-8")


class TestPackage:
    def test_hash_and_stream(self) -> None:
        assert [hash_one(x["input"]) for x in VECTORS["hash"]] == [x["output"] for x in VECTORS["hash"]]
        assert stream(VECTORS["stream"]["seed"], 7) == VECTORS["stream"]["output"]

    @case_by_name
    def test_round(self, case: dict[str, Any]) -> None:
        round = round_of(case)
        p = round.params
        assert round.context == case["context"]
        assert p.distance_bits == case["distance_bits"]
        for i, client in enumerate(case["clients"]):
            opening = Opening(np.array(client["q"]), client["salt"])
            assert leaf_salts(opening.salt, p.chunks) == client["leaf_salts"]
            assert leaves(opening, p) == client["leaves"]
            assert commit(round, i, opening) == client["commitment"]
        distances = pair_list(squared_distances(np.array([client["q"] for client in case["clients"]])))
        assert distances == case["distances"]
        commitments = [client["commitment"] for client in case["clients"]]
        assert rho(p, commitments, distances, case["blind"]) == case["rho"]
        assert challenges(case["rho"], p.n) == case["challenges"]


@case_by_name
class TestSpecification:
    def test_context(self, case: dict[str, Any]) -> None:
        r, p = case["round"], case["round"]["parameters"]
        z, gamma = Fraction(p["z"]), Fraction(p["gamma"])

        def word(x: int | str | bytes) -> bytes:
            if isinstance(x, str):
                return x.encode("ascii") + bytes(32 - len(x))
            return x.to_bytes(32, "big") if isinstance(x, int) else x

        def client(name: str) -> bytes:
            is_address = name.startswith("0x") and len(name) == 42
            return bytes(12) + bytes.fromhex(name[2:]) if is_address else hashlib.sha256(name.encode("utf-8")).digest()

        words = ["zkkrum-1", p["score"], p["detection"], p["n"], p["d"], p["b"], p["chunk"], p["f"], p["m"]]
        words += [z.numerator, z.denominator, gamma.numerator, gamma.denominator]
        words += [struct.unpack(">Q", struct.pack(">d", r["clip"]))[0]]
        words += [hashlib.sha256(b"".join(map(client, r["roster"]))).digest()]
        words += [bytes.fromhex(r["subject"][2:]), bytes.fromhex(r["round_id"][2:])]
        words += [int(r["chain_id"]), bytes(12) + bytes.fromhex(r["contract"][2:])]
        digest = hashlib.sha256(b"".join(map(word, words))).digest()
        assert int.from_bytes(digest, "big") % P == case["context"]

    def test_leaves_and_commitments(self, case: dict[str, Any]) -> None:
        p = case["round"]["parameters"]
        b, pack = p["b"], 252 // p["b"]
        for i, client in enumerate(case["clients"]):
            values = [q + 2 ** (b - 1) for q in client["q"]]
            chunks = [values[k : k + p["chunk"]] for k in range(0, p["d"], p["chunk"])]
            for t, chunk in enumerate(chunks):
                filled = chunk + [2 ** (b - 1)] * (-len(chunk) % pack)
                words = [
                    sum(v * 2 ** (b * j) for j, v in enumerate(filled[k : k + pack]))
                    for k in range(0, len(filled), pack)
                ]
                assert client["leaf_salts"][t] == hash_one([client["salt"], t])
                assert client["leaves"][t] == hash_one([*words, client["leaf_salts"][t]])
            assert len(chunks) == len(client["leaves"])
            assert client["commitment"] == hash_one([case["context"], i, *client["leaves"]])

    def test_rho_and_challenges(self, case: dict[str, Any]) -> None:
        clients, width = case["clients"], case["distance_bits"]
        n, per = len(clients), 252 // width
        distances = [
            sum((x - y) ** 2 for x, y in zip(clients[i]["q"], clients[j]["q"], strict=True))
            for i, j in combinations(range(n), 2)
        ]
        assert distances == case["distances"]
        words = [
            sum(x * 2 ** (width * j) for j, x in enumerate(distances[k : k + per]))
            for k in range(0, len(distances), per)
        ]
        assert case["rho"] == hash_one([*(client["commitment"] for client in clients), *words, case["blind"]])
        r = case["challenges"]
        assert r[0] == 1
        assert r[1:-1] == stream(case["rho"], n - 2)
        assert sum(r) % P == 0
        form = sum(
            sum(x * (client["q"][k]) for x, client in zip(r, clients, strict=True)) ** 2
            for k in range(len(clients[0]["q"]))
        )
        products = (r[i] * r[j] for i, j in combinations(range(n), 2))
        assert (form + sum(x * y for x, y in zip(products, distances, strict=True))) % P == 0
