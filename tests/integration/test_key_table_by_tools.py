"""Entries of the shipped key table are the hashes of the keys that bb computes."""

from __future__ import annotations

from pathlib import Path

from support.scripts import load_script
from zkkrum.proof.keys import key_table
from zkkrum.toolchain import Toolchain


def test_rebuilt_keys_are_those_of_the_table(toolchain: Toolchain, crs: Path) -> None:
    script = load_script("key_table")
    rebuilt = script.table(script.samples(), toolchain)
    assert len(rebuilt) == 2
    assert rebuilt.items() <= key_table().items(), "run python scripts/key_table.py"
