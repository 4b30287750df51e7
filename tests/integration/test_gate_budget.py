"""No circuit grows past its recorded budget (`scripts/gate_budget.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zkkrum.toolchain import Toolchain

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gate_budget.py"


@pytest.fixture(scope="module")
def budget() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_budget", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_circuits_keep_to_the_budget(budget: ModuleType, toolchain: Toolchain) -> None:
    found = budget.measure(toolchain)
    assert not budget.problems(found, budget.recorded()), budget.table(found, budget.recorded())


class TestCheck:
    """The check itself, on counts made up."""

    def test_recorded_counts_pass(self, budget: ModuleType) -> None:
        assert budget.problems(budget.recorded(), budget.recorded()) == []

    def test_one_gate_more_is_noticed(self, budget: ModuleType) -> None:
        grown = budget.recorded() | {"verdict n=20": budget.recorded()["verdict n=20"] + 1}
        (problem,) = budget.problems(grown, budget.recorded())
        assert problem.startswith("verdict n=20: grew from")

    def test_a_limit_holds_whatever_is_recorded(self, budget: ModuleType) -> None:
        grown = {name: 2 * count for name, count in budget.recorded().items()}
        found = budget.problems(grown, grown)
        limits = [problem for problem in found if "limit" in problem]
        assert len(limits) == 4 + len(budget.SLOPES)
        assert sum("forecast" in problem for problem in found) == len(grown)

    def test_a_circuit_without_a_budget_is_noticed(self, budget: ModuleType) -> None:
        budgets = budget.recorded()
        del budgets["verdict n=10"]
        (problem,) = budget.problems(budget.recorded(), budgets)
        assert "verdict n=10" in problem
