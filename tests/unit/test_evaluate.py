"""Detection quality over grids of rounds: seeds, what is known of the rules, tables, the command."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zkkrum.cli.learning import evaluate as command
from zkkrum.errors import InputError
from zkkrum.learning.evaluate import RULES, Cell, Grid, Rule, attackers, evaluate, percent, to_csv, to_markdown

SMALL = Grid(
    clients=(8,), dimensions=(60,), rounds=4, shares=(0.0, 0.25), attacks=("scale", "mimic"), heterogeneity=(0.0, 0.5)
)


def pick(cells: list[Cell], rule: str, attack: str, heterogeneity: float = 0.0) -> Cell:
    (cell,) = [c for c in cells if (c.rule, c.attack, c.heterogeneity) == (rule, attack, heterogeneity)]
    return cell


def test_same_seed_same_cells_whatever_else_is_in_the_grid() -> None:
    cells = evaluate(SMALL)
    assert cells == evaluate(SMALL)
    alone = evaluate(
        Grid(clients=(8,), dimensions=(60,), rounds=4, shares=(0.25,), attacks=("mimic",), heterogeneity=(0.5,))
    )
    assert alone == [pick(cells, str(rule), "mimic", 0.5) for rule in RULES]


def test_another_seed_gives_other_rounds() -> None:
    grid = Grid(clients=(10,), dimensions=(30,), rounds=30, shares=(0.0,), heterogeneity=(0.5,))
    other = Grid(clients=(10,), dimensions=(30,), rounds=30, shares=(0.0,), heterogeneity=(0.5,), seed=1)
    assert evaluate(grid) != evaluate(other)


def test_what_is_known_of_the_rules() -> None:
    grid = Grid(rounds=20, dimensions=(400,), shares=(0.0, 0.2, 0.3), attacks=("gaussian", "alie", "mimic"))
    cells = {(c.rule, c.attack, c.k, c.heterogeneity): c for c in evaluate(grid)}
    mad, brackets = "krum-2017/mad", "krum-2017/brackets"
    assert cells[mad, "gaussian", 6, 0.0].attackers_flagged == 1
    assert cells[mad, "gaussian", 6, 0.0].honest_flagged == 0
    assert cells[brackets, "gaussian", 6, 0.0].attackers_flagged == 0  # never fires beyond about 28 %
    half = cells[brackets, "gaussian", 4, 0.0].attackers_flagged  # at 20 %
    assert half is not None
    assert 0.2 < half < 0.8
    assert cells[mad, "none", 0, 0.0].false_flag_rounds == 0
    assert cells[mad, "none", 0, 0.25].false_flag_rounds > 0.5  # unequal clients: calibrate
    for attack in ("alie", "mimic"):
        assert cells[mad, attack, 4, 0.0].attackers_flagged == 0
        assert cells[mad, attack, 4, 0.0].winner_honest < 0.5


def test_a_thousand_rounds_cost_less_than_a_minute() -> None:
    """CPU time, which others on the machine do not add to; a hundred times what it takes, so only a loop over
    coordinates in Python passes the bound."""
    start = time.process_time()
    evaluate(Grid(rounds=1000, dimensions=(1000,), shares=(0.2,), attacks=("sign-flip",), heterogeneity=(0.0,)))
    assert time.process_time() - start < 60


def test_progress_reaches_its_end() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(SMALL, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 24) for i in range(24)]


def test_tables() -> None:
    cells = evaluate(SMALL)
    rows = list(csv.DictReader(io.StringIO(to_csv(cells))))
    assert len(rows) == len(cells)
    assert rows[0]["attackers_flagged"] == ""
    assert float(rows[-1]["heterogeneity"]) == 0.5
    text = to_markdown(cells)
    assert "**krum-2017**, n = 8, d = 60, f = 2, 4 rounds" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_shapes_become_columns_where_they_vary() -> None:
    cells = evaluate(Grid(clients=(6, 8), dimensions=(3, 9), rounds=1, shares=(0.0,), heterogeneity=(0.0,)))
    lines = [line for line in to_markdown(cells).splitlines() if line.startswith("| ")]
    assert lines[0].split()[1:6] == ["n", "|", "d", "|", "f"]
    assert [line.split("|")[1:3] for line in lines[2:6]] == [
        [" 6 ", " 3 "],
        [" 6 ", " 9 "],
        [" 8 ", " 3 "],
        [" 8 ", " 9 "],
    ]


def test_rows_beyond_f_are_marked() -> None:
    cells = evaluate(
        Grid(clients=(10,), dimensions=(20,), rounds=1, shares=(0.3, 0.4), attacks=("scale",), heterogeneity=(0.0,))
    )
    counts = [line.split("|")[3].strip() for line in to_markdown(cells).splitlines() if "scale" in line]
    assert counts == ["3", "4*", "3", "4"]


def test_rounding() -> None:
    assert [attackers(20, s) for s in (0, 0.1, 0.2, 0.3, 0.4, 0.45)] == [0, 2, 4, 6, 8, 9]
    assert [percent(x) for x in (0.0, 0.004, 0.5, 0.996, 1.0)] == ["0", "<1", "50", ">99", "100"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"rounds": 0}, "rounds must be >= 1"),
        ({"shares": (1.0,)}, r"shares must be in \[0, 1\)"),
        ({"attacks": ("zap",)}, "attacks must be among"),
        ({"clients": (4,)}, "mad needs n >= 5"),
        ({"clip": float("nan")}, "clip must be finite"),
        ({"f": 9}, "2f \\+ 2 < n"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_bad_grids_are_refused(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**grid)


def test_unknown_rules_are_refused() -> None:
    for text in ("krum", "krum-2017/", "mad/krum-2017", "krum-2017/mad/x"):
        with pytest.raises(InputError, match="expected SCORE/DETECTION"):
            Rule.parse(text)


def test_the_command(tmp_path: Path) -> None:
    args = ["-n", "8", "-d", "40", "--rounds", "2", "--share", "0", "--share", "0.25", "--attack", "scale"]
    done = CliRunner().invoke(command, [*args, "--json", "--csv", str(tmp_path / "t.csv")])
    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)
    assert len(cells) == 2 * 2 * 4
    assert (tmp_path / "t.csv").read_text().count("\n") == 17
    done = CliRunner().invoke(command, args)
    assert "| scale" in done.stdout
