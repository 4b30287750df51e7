"""docs/detection.md: the tables that are made in seconds are what their command prints today."""

from __future__ import annotations

import pytest

from support.scripts import load_script


def test_the_quick_tables_are_fresh() -> None:
    assert load_script("detection").main(check=True) == 0, "run python scripts/detection.py"


def test_an_altered_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("detection")
    assert [block for block in script.BLOCK.finditer(script.DOCUMENT.read_text()) if script.quick(block["command"])]
    monkeypatch.setattr(script, "run", lambda command: "another table\n")
    assert script.main(check=True) == 1
