"""The shipped key table belongs to the current sources (without tools: key ids only)."""

from __future__ import annotations

import re

from zkkrum.proof.keys import key_table
from zkkrum.proof.shapes import common_circuits


def test_every_entry_is_of_the_current_sources() -> None:
    assert set(key_table()) == {circuit.key_id for circuit in common_circuits()}, "run python scripts/key_table.py"


def test_entries_are_hashes_of_different_keys() -> None:
    hashes = list(key_table().values())
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    assert len(set(hashes)) == len(hashes)
