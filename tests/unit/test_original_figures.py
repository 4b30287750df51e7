"""The example that draws the original zk-Krum's figures: what they show, and a picture."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from support.pictures import frame

EXAMPLE = Path(__file__).parents[2] / "examples" / "original_figures.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


@pytest.mark.parametrize(("percent", "name", "malicious"), [(0, "gaussian", False), (10, "gaussian", True)])
def test_what_the_original_shows(example: dict[str, Any], percent: int, name: str, malicious: bool) -> None:
    updates, bad = example["draw_round"](percent, name)
    scores, found = example["judge"](updates)
    assert len(scores) == 1000
    assert bad.sum() == 10 * percent
    assert found.malicious is malicious
    assert all(bad[i] for i in found.flagged)


def test_a_majority_of_sybils_passes_for_honest(example: dict[str, Any]) -> None:
    _, found = example["judge"](example["draw_round"](51, "sybil")[0])
    assert not found.malicious


def test_the_picture(example: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra plot)")
    example["main"](tmp_path / "out.png")
    assert frame(tmp_path / "out.png") == {(255, 255, 255)}
    shapes = [shape for _, shape, _ in example["KINDS"]]
    assert len(set(shapes)) == len(shapes)
