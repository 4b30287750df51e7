"""The committed test vectors, with hexadecimal strings as integers."""

from __future__ import annotations

import json
from typing import Any

from support.tools import CHECKOUT
from zkkrum.protocol.params import Round
from zkkrum.rounds.roundfile import RoundFile

PATH = CHECKOUT / "tests" / "vectors.json"


def numbers(x: Any) -> Any:
    """Turn hexadecimal strings into integers, all the way down."""
    if isinstance(x, dict):
        return {name: value if name == "round" else numbers(value) for name, value in x.items()}
    if isinstance(x, list):
        return [numbers(value) for value in x]
    return int(x, 16) if isinstance(x, str) and x.startswith("0x") else x


VECTORS: dict[str, Any] = numbers(json.loads(PATH.read_text(encoding="utf-8")))
ROUNDS: dict[str, dict[str, Any]] = {case["name"]: case for case in VECTORS["rounds"]}


def round_of(case: dict[str, Any]) -> Round:
    return RoundFile.model_validate(case["round"]).round()
