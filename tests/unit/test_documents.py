"""What can be said of documents without running them: links lead somewhere, the README is short, limits are true."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from support.pages import PAGES, Command, anchors, check_options, commands, links
from support.tools import CHECKOUT
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.commitment import Opening
from zkkrum.protocol.forecast import SHARD_GATES, verdict_gates
from zkkrum.protocol.params import Params
from zkkrum.rounds.aggregate import AggregateFile
from zkkrum.rounds.directory import save_opening
from zkkrum.rounds.tensors import TensorSpec

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), (path.name, anchor)


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.split()) <= 1200
    glossary = README.partition("## Words")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| (?!word|---)", glossary, flags=re.M)) == 10
    proved = README.partition("## What is proved")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d+\. ", proved, flags=re.M)) == 10


def test_nothing_stale() -> None:
    everything = "\n".join((CHECKOUT / page).read_text(encoding="utf-8") for page in PAGES)
    for gone in ("models of any size", "never fires once", "pip install zkkrum", "pip install 'zkkrum"):
        assert gone not in everything.lower()
    assert not re.search(r"\b(MEASURED|TODO|TBD|XXX)\b", everything)


LIMITS = (CHECKOUT / "docs" / "limits.md").read_text(encoding="utf-8")
HELD = [tuple(map(int, row)) for row in re.findall(r"^\| (\d+) to (\d+) \| (\d+) \| d", LIMITS, flags=re.M)]


def fits(n: int, d: int, b: int) -> bool:
    """Tell whether the verdict of a sharded round fits the default ceiling."""
    params = Params.of(n=n, d=d, b=b)
    return verdict_gates(replace(params, chunk=params.pack)) <= SHARD_GATES


def test_the_table_of_clients_leaves_no_width_out() -> None:
    assert [low for low, _, _ in HELD] == [32, *(high + 1 for _, high, _ in HELD[:-1])]
    assert HELD[-1][1] == 63
    assert f"{HELD[-1][2]} to {HELD[0][2]}" in LIMITS


@pytest.mark.parametrize(("low", "high", "clients"), HELD)
def test_how_many_clients_a_verdict_holds(low: int, high: int, clients: int) -> None:
    """At every number of bits a value that gives distances of so many bits."""
    shapes = [(2**e - 1, b) for b in (8, 10, 12, 14, 16) for e in range(12, 31) if low <= e + 2 * b <= high]
    assert shapes
    for d, b in shapes:
        assert low <= Params.of(n=5, d=d, b=b).distance_bits <= high
        assert fits(clients, d, b)
        assert not fits(clients + 1, d, b)


@pytest.mark.parametrize(("d", "b", "clients"), [(61_706, 8, 56), (61_706, 12, 55), (10**7, 12, 49), (10**6, 14, 49)])
def test_the_instances_of_the_table(d: int, b: int, clients: int) -> None:
    assert fits(clients, d, b)
    assert not fits(clients + 1, d, b)
    assert any(low <= Params.of(n=5, d=d, b=b).distance_bits <= high and n == clients for low, high, n in HELD)


class TestArchives:
    """docs/reference/files.md has the arrays that are written, and their dtypes."""

    PAGE = (CHECKOUT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")

    def check(self, title: str, path: Path) -> None:
        section = self.PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, flags=re.M))
        with np.load(path) as found:
            assert list(rows) == list(found)
            for name, kind in rows.items():
                assert found[name].dtype.name in kind, name
                any_length = "(k,)" if name == "layout" else "(d,)"
                assert kind.endswith({(): "()", (32,): "(32,)"}.get(found[name].shape, any_length)), name

    @pytest.mark.parametrize("b", [8, 12])
    def test_an_opening(self, b: int, tmp_path: Path) -> None:
        save_opening(tmp_path / "eve.npz", Opening(np.arange(7), 5), b)
        self.check("openings/CLIENT.npz", tmp_path / "eve.npz")

    def test_an_aggregate(self, tmp_path: Path) -> None:
        file = AggregateFile(Aggregate(np.arange(7), 5), 3, 12, 1.0, (TensorSpec("w", (7,), "float32"),))
        file.save(tmp_path / "aggregate.npz")
        self.check("aggregate.npz", tmp_path / "aggregate.npz")


class TestRunner:
    def test_a_command_goes_on_as_in_bash_and_the_rest_is_output(self) -> None:
        block = "$ for x in 1 2; do\n    echo $x\n  done\n1\n2\n$ echo \\\n    3  # (not run here: why)\n"
        loop, heavy = commands(block)
        assert (loop.line, loop.output) == ("for x in 1 2; do\n    echo $x\n  done", "1\n2")
        assert heavy.heavy
        assert not loop.heavy

    def test_output_is_compared_but_for_ellipses_and_line_breaks(self) -> None:
        assert Command("x", "VERIFIED: a\n…flagged: b…").printed("VERIFIED:\na and more, flagged: b, c")
        assert not Command("x", "VERIFIED: a\n…flagged: b…").printed("VERIFIED: a; flagged: c")

    def test_options_that_do_not_exist_are_found(self) -> None:
        check_options("zkkrum verify bundle --round round.toml")
        check_options("docker run --rm zkkrum verify bundle")
        for line in ("zkkrum verify bundle --rounds x", "zkkrum veryfi bundle"):
            with pytest.raises(click.UsageError):
                check_options(line)
