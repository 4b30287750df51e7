"""docs/onchain.md: its tables are what docs/onchain.json says, and a figure that is off is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from support.scripts import load_script

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("onchain")


def problems(script: ModuleType, report: dict[str, Any], page: str | None = None) -> list[str]:
    if page is None:
        page = script.written(script.PAGE.read_text(encoding="utf-8"), report)
    return list(script.stale(report, page))


def test_the_page_is_fresh(script: ModuleType) -> None:
    assert problems(script, json.loads(script.FIGURES.read_text())) == []
    assert script.main(["--check"]) == 0


def test_an_altered_page_is_noticed(script: ModuleType) -> None:
    report, page = json.loads(script.FIGURES.read_text()), script.PAGE.read_text(encoding="utf-8")
    assert "147,771" in page
    assert problems(script, report, page.replace("147,771", "147,772", 1)) == [
        "the page is not what docs/onchain.json says"
    ]
    assert problems(script, report, page.replace("<!-- end -->", "", 1))[0].startswith("expected one block each of")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r["rounds"]["with"].update(bb="1.0"), "rounds: measured with bb 1.0, this is"),
        (lambda r: r["lenet5_toy"]["with"].update(solc="0.8.1"), "lenet5_toy: measured with solc 0.8.1, this is"),
        (lambda r: r["rounds"]["rows"][0].update(verdict=930_000), "rounds, n = 5, d = 1300: verdict: 930,000 was"),
        (lambda r: r["rounds"]["rows"][-1].update(verdict=3_207_164), "rounds, n = 5, d = 60: verdict: 3,207,164 was"),
        (lambda r: r["lenet5"]["rows"][0].update(gates=31_000), "lenet5, n = 10, d = 61706: gates: 31,000 was"),
        (lambda r: r["lenet5"]["rows"][0]["steps"].pop(1), "lenet5, n = 10, d = 61706: transactions: 7 was"),
        (lambda r: r["lenet5"]["rows"][0]["steps"][1].update(gas=12_000_000), "d = 61706: prove shards 0 to 13: 12,0"),
    ],
    ids=["bb", "solc", "verdict", "fork", "gates", "transactions", "a step"],
)
def test_figures_of_other_versions_or_off_the_forecast_are_named(
    script: ModuleType, change: Change, expected: str
) -> None:
    report = copy.deepcopy(json.loads(script.FIGURES.read_text()))
    change(report)
    assert any(expected in problem for problem in problems(script, report))
