"""The shipped key table belongs to the current sources (without tools: key ids only)."""

from __future__ import annotations

import re

from support.scripts import load_script
from zkkrum.proof.keys import key_table


def test_every_entry_is_of_the_current_sources() -> None:
    script = load_script("key_table")
    assert set(key_table()) == {circuit.key_id for circuit in script.common()}, "run python scripts/key_table.py"


def test_entries_are_hashes_of_different_keys() -> None:
    hashes = list(key_table().values())
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    assert len(set(hashes)) == len(hashes)
