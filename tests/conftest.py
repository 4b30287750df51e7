"""Fixtures that need the real tools. Where `ZKKRUM_REQUIRE_TOOLS=1` a missing tool fails the test, else it skips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from zkkrum.errors import ReferenceStringError, ToolMissingError, ZkkrumError
from zkkrum.toolchain import Toolchain

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED_CRS = CHECKOUT.parent / "shared" / "crs"
POINTS = 2**15
"""Serves every circuit of the tests."""


def unavailable(error: ZkkrumError) -> NoReturn:
    """Fail or skip, with the error's words."""
    if os.environ.get("ZKKRUM_REQUIRE_TOOLS") == "1":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def toolchain() -> Iterator[Toolchain]:
    """The pinned tools, installed if need be."""
    try:
        tools = Toolchain.find(notify=print)
    except ToolMissingError as error:
        unavailable(error)
    with tools:
        yield tools


@pytest.fixture(scope="session")
def crs(toolchain: Toolchain) -> Path:
    """A folder with 2^15 points: `CRS_PATH`, else `shared/crs` beside the checkout, else what bb has or downloads."""
    if "CRS_PATH" not in os.environ and SHARED_CRS.is_dir():
        os.environ["CRS_PATH"] = str(SHARED_CRS)
    try:
        return toolchain.reference_string(POINTS)
    except ReferenceStringError as error:
        unavailable(error)
