"""Fixtures that need the real tools (`support.tools` for missing ones); signal handlers of a run, and no deadlines."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from support.tools import POINTS, SHARED_CRS, unavailable
from zkkrum.errors import ReferenceStringError, ToolMissingError
from zkkrum.toolchain import Toolchain

# No example fails because the machine is busy; what CI finds once, it finds again.
hypothesis.settings.register_profile("zkkrum", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("zkkrum")


def pytest_configure() -> None:
    """Take the default handler of SIGINT: a run started in the background of a script inherits that it is ignored,
    and so would every child that the tests interrupt. Workers of xdist call this too."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def toolchain() -> Iterator[Toolchain]:
    """The pinned tools, installed if need be."""
    try:
        tools = Toolchain.find(notify=print).ready()
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
