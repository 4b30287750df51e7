"""docs/training.md: its commands and programs run as they stand, top to bottom, and its limits are the forecast's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tools import CHECKOUT
from zkkrum.protocol.forecast import SHARD_GATES, verdict_gates
from zkkrum.protocol.params import Params
from zkkrum.rounds.models import load_model, subject_of

PAGE = (CHECKOUT / "docs" / "training.md").read_text(encoding="utf-8")


def blocks() -> Iterator[tuple[str, str]]:
    """Give (kind, text) of every block, in order."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.M | re.S)


def test_every_block_is_of_a_kind_that_is_run_or_only_shown() -> None:
    kinds = [kind for kind, _ in blocks()]
    assert PAGE.count("```") == 2 * len(kinds)
    assert set(kinds) == {"python", "console", "text"}
    for kind, text in blocks():
        if kind == "console":
            assert all(line.startswith("$ ") for line in text.splitlines())


@pytest.mark.usefixtures("toolchain", "crs")
def test_the_page_runs(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for kind, text in blocks():
        if kind == "python":
            (tmp_path / text.split()[1]).write_text(text)
        for line in text.splitlines() if kind == "console" else ():
            command = ["bash", "-e", "-o", "pipefail", "-c", line.removeprefix("$ ")]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    final = load_model(tmp_path / "final.npz")
    assert subject_of(final) != subject_of(load_model(tmp_path / "next.npz"))


@pytest.mark.parametrize(
    ("n", "d", "b", "fits"),
    [
        (49, 10**7, 12, True),
        (49, 10**6, 14, True),
        (49, 10**7, 14, False),
        (55, 61_706, 12, True),
        (56, 61_706, 12, False),
    ],
)
def test_how_many_clients_a_verdict_holds(n: int, d: int, b: int, fits: bool) -> None:
    assert (verdict_gates(Params.of(n=n, d=d, b=b)) <= SHARD_GATES) is fits


def test_a_distance_fits_42_bits_where_the_page_says_so() -> None:
    assert Params.of(n=55, d=61_706, b=12).distance_bits <= 42
