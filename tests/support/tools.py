"""What a test does without its tools: fails where they must be there (`ZKKRUM_REQUIRE_TOOLS=1`), else skips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from zkkrum.errors import ZkkrumError

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED_CRS = CHECKOUT.parent / "shared" / "crs"
POINTS = 2**15
"""Serves every circuit of the tests."""


def unavailable(error: ZkkrumError) -> NoReturn:
    """Fail or skip, with the error's words."""
    if os.environ.get("ZKKRUM_REQUIRE_TOOLS") == "1":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))
