"""No circuit grows past its recorded budget (`scripts/gate_budget.py`)."""

from __future__ import annotations

from types import ModuleType

import pytest

from support.scripts import load_script
from zkkrum.toolchain import Toolchain


@pytest.fixture(scope="module")
def budget() -> ModuleType:
    return load_script("gate_budget")


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
        assert len(limits) == sum(entry.limit is not None for entry in budget.ENTRIES.values()) + len(budget.SLOPES)
        assert sum("forecast" in problem for problem in found) == len(grown)

    def test_a_circuit_without_a_budget_is_noticed(self, budget: ModuleType) -> None:
        budgets = budget.recorded()
        del budgets["verdict n=10"]
        (problem,) = budget.problems(budget.recorded(), budgets)
        assert "verdict n=10" in problem
