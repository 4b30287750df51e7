"""Test vectors of the protocol: every number from context to the last link of a few small rounds.

    python scripts/vectors.py            write tests/vectors.json
    python scripts/vectors.py --check    exit 1 if the file is not what would be written

For implementers in other languages and for our own tests, which check the same file against plain Python, bb's hash
and the circuits. The secrets in it are fixed, for tests only. Large integers are hexadecimal strings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from zkkrum.protocol.commitment import Opening, leaf_salts, leaves
from zkkrum.protocol.field import P, hex_of, to_hex
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Acceptance, Detection, Params, Round, Score
from zkkrum.protocol.poseidon2 import hash_many, hash_one, stream
from zkkrum.protocol.transcript import Secrets, Transcript
from zkkrum.protocol.widths import Widths
from zkkrum.rounds.roundfile import RoundFile

PATH = Path(__file__).resolve().parents[1] / "tests" / "vectors.json"
NAMES = ("alice", "bob", "carol", "dave", "eve", "zoë")


def number(text: str) -> int:
    """Return a field element that nobody chose."""
    return int.from_bytes(hashlib.sha256(f"zkkrum test vector: {text}".encode()).digest(), "big") % P


def rounds() -> dict[str, Round]:
    """Return the rounds by name."""
    leaves_params = Params.of(5, 40, 8, chunk=31)
    all_pairs = Params.of(6, 3, score=Score.ALL_PAIRS, gamma=Fraction(1, 3), m=4, acceptance=Acceptance.SELECTED)
    on_chain = Params.of(3, 20, 16, detection=Detection.BRACKETS, z=Fraction("1.25"))
    return {
        "two leaves, the second partial": Round(leaves_params, 4.0, NAMES[:5], bytes(range(32))),
        "all-pairs": Round(all_pairs, 0.1, NAMES, hashlib.sha256(b"round").digest(), hashlib.sha256(b"model").digest()),
        "on chain": Round(
            on_chain,
            2.0**-20,
            tuple(f"0x{i:02X}{'aB' * 19}" for i in range(3)),
            hashlib.sha256(b"on chain").digest(),
            chain_id=31337,
            contract=bytes(range(1, 21)),
        ),
    }


def updates(params: Params) -> np.ndarray[Any, Any]:
    """Return quantized updates that reach both ends of the range."""
    half = 1 << params.b - 1
    i, k = np.indices((params.n, params.d))
    q: np.ndarray[Any, Any] = (((i + 1) * (7 * k + 3) * (half // 16 + 1)) % (2 * half) - half).astype(np.int64)
    q[0, 0], q[-1, -1] = -half, half - 1
    return q


def case(name: str, round: Round) -> dict[str, Any]:
    """Return the vectors of one round."""
    p, q = round.params, updates(round.params)
    openings = [Opening(row, number(f"{name}, salt {i}")) for i, row in enumerate(q)]
    links = p.chunks if p.chunks > 1 else 0
    secrets = Secrets(
        number(f"{name}, blind"),
        number(f"{name}, salt of the aggregate"),
        tuple(number(f"{name}, blind of link {t + 1}") for t in range(links)),
    )
    outcome = Krum(p)(q)
    made = Transcript.of(round, openings, [leaves(o, p) for o in openings], outcome, secrets, hash_many)
    return {
        "name": name,
        "round": RoundFile.of(round).model_dump(mode="json"),
        "context": hex_of(round.context),
        "clients": [
            {
                "q": opening.q.tolist(),
                "salt": to_hex(opening.salt),
                "leaf_salts": [to_hex(x) for x in leaf_salts(opening.salt, p.chunks)],
                "leaves": [to_hex(x) for x in own],
                "commitment": hex_of(commitment),
            }
            for opening, own, commitment in zip(openings, made.leaves, made.commitments, strict=False)
        ],
        "outputs": [to_hex(x) for x in outcome.verdict.public_words()],
        "accepted": list(made.accepted),
        "aggregate": {
            "sum": made.aggregate.total.tolist(),
            "salt": to_hex(made.aggregate.salt),
            "sum_bits": p.sum_bits,
            "leaves": [to_hex(x) for x in made.leaves[-1]],
            "commitment": hex_of(made.commitments[-1]),
        },
        "statement": to_hex(made.statement),
        "slot_bits": Widths.of(p).distance,
        "claims": [to_hex(x) for x in made.claims],
        "blind": to_hex(secrets.blind),
        "rho": to_hex(made.challenge.rho),
        "combined": to_hex(made.challenge.combined),
        "x": [to_hex(x) for x in made.challenge.x],
        "scaled_s": to_hex(made.challenge.scaled_s),
        "links": [
            {"form": to_hex(form), "residue": to_hex(residue), "blind": to_hex(blind), "link": to_hex(link)}
            for form, residue, blind, link in zip(*(vars(made.links).values() if made.links else [()] * 4), strict=True)
        ],
    }


def vectors() -> dict[str, Any]:
    """Return all vectors."""
    words = [1, 2, P - 1, 2**252 - 1, 5, 6, 7]
    return {
        "about": "Test vectors of zkkrum, written by scripts/vectors.py. The secrets are for tests only.",
        "hash": [{"input": [to_hex(x) for x in words[:k]], "output": to_hex(hash_one(words[:k]))} for k in range(8)],
        "stream": {"seed": to_hex(3), "output": [to_hex(x) for x in stream(3, 7)]},
        "rounds": [case(name, round) for name, round in rounds().items()],
    }


def render() -> str:
    """Return the text of the file."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file in the place of writing it")
    if not parser.parse_args().check:
        PATH.write_text(render(), encoding="utf-8")
    elif PATH.read_text(encoding="utf-8") != render():
        print(f"{PATH} is stale: run python scripts/vectors.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
