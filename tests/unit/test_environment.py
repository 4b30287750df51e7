"""The page of environment variables names each one that the code reads, and none that it does not."""

from __future__ import annotations

import re

from support.tools import CHECKOUT

PAGE = CHECKOUT / "docs" / "reference" / "environment.md"
READ = re.compile(r"""\b(?:environ(?:\.get\(|\[)|_named\()\s*["'](\w+)["']|["'](\w+)["'] (?:not )?in os\.environ""")
BY_LIBRARIES = {"XDG_CACHE_HOME"}
"""Read by platformdirs."""


def test_the_page_names_what_is_read() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    files = [*(CHECKOUT / "src").rglob("*.py"), CHECKOUT / "tests" / "support" / "tools.py"]
    read = {
        name for file in files for found in READ.findall(file.read_text(encoding="utf-8")) for name in found if name
    }
    assert documented == read | BY_LIBRARIES
