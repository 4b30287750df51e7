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
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.challenge import Challenge, claims, combination, evaluations, rho
from zkkrum.protocol.commitment import Opening, commit, leaf_salts, leaves, statement
from zkkrum.protocol.field import P
from zkkrum.protocol.poseidon2 import hash_one, stream
from zkkrum.protocol.widths import Widths

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
        """Functions of the package, one by one, on the numbers before them in the file."""
        round = round_of(case)
        p, q = round.params, np.array([client["q"] for client in case["clients"]])
        assert round.context == word(case["context"])
        assert Widths.of(p).distance == case["slot_bits"]
        for i, client in enumerate(case["clients"]):
            opening = Opening(q[i], client["salt"])
            assert leaf_salts(opening.salt, p.chunks) == client["leaf_salts"]
            assert leaves(opening, p) == client["leaves"]
            assert commit(round, i, opening) == word(client["commitment"])
        aggregate = Aggregate(np.array(case["aggregate"]["sum"]), case["aggregate"]["salt"])
        assert aggregate.commitment(round) == word(case["aggregate"]["commitment"])
        assert (
            statement(
                round.context, [word(c["commitment"]) for c in case["clients"]], word(case["aggregate"]["commitment"])
            )
            == case["statement"]
        )
        assert claims(q, p.b) == case["claims"]
        assert rho(p, case["statement"], case["claims"], case["blind"]) == case["rho"]
        values = evaluations(p, q, aggregate, case["rho"])
        assert combination(p, case["rho"], values) == case["combined"]
        made = Challenge.of(case["rho"], case["blind"], case["combined"], case["accepted"], p.n)
        assert (list(made.x), made.scaled_s) == (case["x"], case["scaled_s"])


def word(x: int) -> bytes:
    return x.to_bytes(32, "big")


@case_by_name
class TestSpecification:
    def test_context(self, case: dict[str, Any]) -> None:
        r, p = case["round"], case["round"]["parameters"]
        z, gamma = Fraction(p["z"]), Fraction(p["gamma"])

        def encoded(x: int | str | bytes) -> bytes:
            if isinstance(x, str):
                return x.encode("ascii") + bytes(32 - len(x))
            return x.to_bytes(32, "big") if isinstance(x, int) else x

        def client(name: str) -> bytes:
            is_address = name.startswith("0x") and len(name) == 42
            return bytes(12) + bytes.fromhex(name[2:]) if is_address else hashlib.sha256(name.encode("utf-8")).digest()

        words = [
            "zkkrum-2",
            p["score"],
            p["detection"],
            p["acceptance"],
            p["n"],
            p["d"],
            p["b"],
            p["chunk"],
            p["f"],
            p["m"],
        ]
        words += [z.numerator, z.denominator, gamma.numerator, gamma.denominator]
        words += [struct.unpack(">Q", struct.pack(">d", r["clip"]))[0]]
        words += [hashlib.sha256(b"".join(map(client, r["roster"]))).digest()]
        words += [bytes.fromhex(r["subject"][2:]), bytes.fromhex(r["round_id"][2:])]
        words += [int(r["chain_id"]), bytes(12) + bytes.fromhex(r["contract"][2:])]
        digest = hashlib.sha256(b"".join(map(encoded, words))).digest()
        assert int.from_bytes(digest, "big") == case["context"]

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
            assert client["commitment"] == chained(case["context"], i, client["leaves"])

    def test_aggregate_and_statement(self, case: dict[str, Any]) -> None:
        p, found = case["round"]["parameters"], case["aggregate"]
        b, width = p["b"], (p["n"] * (2 ** p["b"] - 1)).bit_length()
        assert found["sum_bits"] == width
        flagged, selected = case["outputs"][1:]
        pool = [i for i in range(p["n"]) if p["acceptance"] == "unflagged" or selected >> i & 1]
        assert case["accepted"] == [i for i in pool if not flagged >> i & 1]
        total = [sum(case["clients"][i]["q"][k] + 2 ** (b - 1) for i in case["accepted"]) for k in range(p["d"])]
        assert found["sum"] == total
        leaves = []
        for t, start in enumerate(range(0, p["d"], p["chunk"])):
            words = packed(total[start : start + p["chunk"]], width)
            leaves.append(hash_one([*words, hash_one([found["salt"], t])]))
        assert found["leaves"] == leaves
        assert found["commitment"] == chained(case["context"], p["n"], leaves)
        joined = b"".join(
            map(word, [case["context"], *(c["commitment"] for c in case["clients"]), found["commitment"]])
        )
        assert case["statement"] == int.from_bytes(hashlib.sha256(joined).digest(), "big") % P

    def test_challenges(self, case: dict[str, Any]) -> None:
        clients, p = case["clients"], case["round"]["parameters"]
        n, half = p["n"], 2 ** (p["b"] - 1)
        values = [[q + half for q in client["q"]] for client in clients]
        distances = [sum((x - y) ** 2 for x, y in zip(*pair, strict=True)) for pair in combinations(values, 2)]
        norms = [sum(x * x for x in row) for row in values]
        assert case["claims"] == [*distances, *norms]
        words = packed(case["claims"], case["slot_bits"])
        assert case["rho"] == hash_one([case["statement"], *words, case["blind"]])
        r = [1, *stream(case["rho"], n - 1)]
        assert case["combined"] == sum(c * polynomial(row, case) for c, row in zip(r, values, strict=True)) % P
        s = hash_one([case["rho"], case["combined"], case["blind"]])
        y = [(c + s * (i in case["accepted"])) % P for i, c in enumerate(r)]
        assert [x * y[0] % P for x in case["x"]] == y
        assert case["x"][0] == 1
        assert case["scaled_s"] * y[0] % P == s
        x = case["x"]
        u = [sum(c * row[k] for c, row in zip(x, values, strict=True)) for k in range(p["d"])]
        form = sum(x[i] * x[j] * d for (i, j), d in zip(combinations(range(n), 2), distances, strict=True))
        whole = (sum(x) * sum(c * norm for c, norm in zip(x, norms, strict=True)) - form) % P
        assert sum(c * c for c in u) % P == whole
        residue = (polynomial(u, case) - case["scaled_s"] * polynomial(case["aggregate"]["sum"], case)) % P
        assert y[0] * residue % P == case["combined"]
        for t, link in enumerate(case["links"]):
            assert link["link"] == hash_one([link["form"], link["residue"], link["blind"]])
            before = u[: t * p["chunk"]]
            assert link["form"] == sum(c * c for c in before) % P
            done = polynomial(before, case) - case["scaled_s"] * polynomial(
                case["aggregate"]["sum"][: len(before)], case
            )
            assert link["residue"] == done % P
        if case["links"]:
            assert (case["links"][-1]["form"], case["links"][-1]["residue"]) == (whole, residue)
            assert case["links"][0]["blind"] == 0


def packed(values: list[int], width: int) -> list[int]:
    per = 252 // width
    groups = (values[k : k + per] for k in range(0, len(values), per))
    return [sum(v * 2 ** (width * j) for j, v in enumerate(group)) for group in groups]


def chained(context: int, i: int, leaves: list[int]) -> int:
    head = word(context) + word(i)
    for leaf in leaves:
        head = hashlib.sha256(head + word(leaf)).digest()
    return int.from_bytes(head, "big")


def polynomial(values: list[int], case: dict[str, Any]) -> int:
    """Words like the aggregate's, restarting at every chunk, at β = ρ by Horner's rule."""
    total, chunk = 0, case["round"]["parameters"]["chunk"]
    for start in range(0, len(values), chunk):
        for w in packed(values[start : start + chunk], case["aggregate"]["sum_bits"]):
            total = (total * case["rho"] + w) % P
    return total
