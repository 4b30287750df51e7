"""Mutation test of the circuits: remove each constraint in turn and see whether a test of the circuits notices.

    python scripts/mutate_circuits.py [--only TEXT] [--jobs N]

For every assertion and every call of one in ``circuits/`` a copy of the sources without it is compiled and
``tests/integration/test_circuit.py`` runs against the copy; the working tree is not touched. The table says how many
tests went red, and in how many of them the circuit now *accepts* a lie. The latter is what counts: a lie that is
refused elsewhere shows that the constraint is missed, one that is accepted shows what it is for. Exit code 1 if a
mutant survives. Takes a few minutes; not part of the continuous integration.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
CIRCUITS = CHECKOUT / "circuits"
TESTS = CHECKOUT / "tests" / "integration" / "test_circuit.py"
RULES = ("TestScores", "TestSelection", "TestMedians", "TestMad", "TestBrackets")
ROUND = ("TestOpenings", "TestDistances", "TestChallenges", "TestAggregate")
LIKELY = {
    "zkkrum/src/compare.nr": ("TestCompare", "TestDistances", *RULES),
    "zkkrum/src/commitment.nr": ("TestOpenings", "TestShard"),
    "zkkrum/src/distances.nr": ("TestDistances", "TestVerdict"),
    "zkkrum/src/challenge.nr": ("TestChallenges", "TestVerdict", "TestShard"),
    "zkkrum/src/aggregate.nr": ("TestAggregate", "TestVerdict", "TestShard"),
    "zkkrum/src/scores.nr": ("TestScores",),
    "zkkrum/src/selection.nr": ("TestSelection",),
    "zkkrum/src/detection.nr": ("TestMedians", "TestMad", "TestBrackets"),
    "round/src/main.nr": (*ROUND, *RULES),
    "shard/src/main.nr": ("TestShard",),
    "verdict/src/main.nr": ("TestVerdict",),
}
"""Test classes to run first; the whole file follows only where they stay green."""

# A statement ends at the first semicolon: no string and no type of the circuits contains one before it.
_STATEMENT = re.compile(
    r"^[ \t]*(?:let [\w(, )]+ =\s+)?(?:[\w.]+(?:\[[^\]\n]*\])*\.)?assert\w*(?:::<[^;]*?>)?\([^;]*;", re.MULTILINE
)
_SIGN = re.compile(r"^(\s*let \w+ = )assert_sign::<[^>]*>\(([^;]*)\);$", re.DOTALL)
_MEDIAN = re.compile(r"let deviations = self\.median\.assert_lower[^;]*;")
_RULE = re.compile(r"=\s+(?:\w+\.)?(assert_scores|assert_selected|assert_flagged|assert_scaled)(?:::|\()")
_FREE_DEVIATIONS = """let mut deviations = [0; N];
        for i in 0..N {
            deviations[i] = (2 * self.median.low[i] - 1) * (m - scores[i]);
        }"""


@dataclass(frozen=True)
class Mutant:
    """A file of the circuits, the statement that is removed from it, and all changed files."""

    file: str
    line: int
    statement: str
    changes: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.file.replace('/src', '')}:{self.line}"


def statements(text: str) -> Iterator[re.Match[str]]:
    """Yield the statements that assert something, in order."""
    code = re.sub(r"//[^\n]*", lambda comment: " " * len(comment[0]), text)
    yield from _STATEMENT.finditer(code)


def free(statement: str) -> str | None:
    """Return what stands for a statement without its constraint; None for a rule, whose values come from inside."""
    if _RULE.search(statement):
        return None
    if "let " not in statement or "let _ =" in statement:
        return ""
    if match := _SIGN.match(statement):
        bit, x, _ = (part.strip() for part in match[2].split(",", 2))
        return f"{match[1]}(2 * {bit} - 1) * ({x});"
    if _MEDIAN.search(statement):
        return _FREE_DEVIATIONS
    raise SystemExit(f"mutate_circuits: do not know what replaces\n{statement}")


def mutants() -> Iterator[Mutant]:
    """Yield every mutant."""
    sources = {path.relative_to(CIRCUITS).as_posix(): path.read_text() for path in sorted(CIRCUITS.rglob("*.nr"))}
    for file, text in sources.items():
        for match in statements(text):
            statement = text[match.start() : match.end()]
            line = text.count("\n", 0, match.start()) + 1 + len(statement) - len(statement.lstrip("\n"))
            replacement = free(statement)
            changes: tuple[tuple[str, str], ...]
            if replacement is not None:
                changes = ((file, text[: match.start()] + replacement + text[match.end() :]),)
            else:  # a whole rule: nothing in it is asserted any more
                (rule,) = _RULE.findall(statement)
                changes = tuple(
                    (name, without_rule(other, rule)) for name, other in sources.items() if f"fn {rule}<" in other
                )
            yield Mutant(file, line, " ".join(statement.split()), changes)


def without_rule(text: str, rule: str) -> str:
    """Return a library file in which the functions of a name assert nothing."""
    for match in list(re.finditer(rf"^( *)pub fn {rule}<", text, re.MULTILINE))[::-1]:
        start, end = match.start(), text.index(f"\n{match[1]}}}\n", match.start())
        body = text[start:end]
        for each in list(statements(body))[::-1]:
            body = body[: each.start()] + (free(body[each.start() : each.end()]) or "") + body[each.end() :]
        text = text[:start] + body + text[end:]
    return text


# One mutant, in a process of its own


class Collector:
    """A pytest plugin: the option that the tests look for, and what became of them."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.accepted: list[str] = []
        self.broken = ""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.addoption("--circuits", help="Noir sources to test in the place of the checkout's")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed += 1
        if not report.failed:
            return
        said = str(report.longrepr)
        if report.when != "call" or "nargo compile" in said:
            self.broken = said
        self.failed.append(report.nodeid.split("::", 1)[1])
        if "DID NOT RAISE" in said:
            self.accepted.append(self.failed[-1])


def run(circuits: Path, classes: Sequence[str]) -> Collector:
    """Run the tests against a copy of the circuits."""
    found = Collector()
    targets = [f"{TESTS}::{name}" for name in classes] or [str(TESTS)]
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-k", "not public_inputs", f"--circuits={circuits}"]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*targets, *options], plugins=[found])
    return found


def attempt(mutant: Mutant, home: Path) -> Collector:
    """Write a mutant's sources and run the tests that may kill it."""
    folder = home / mutant.name.replace("/", "-").replace(":", "-")
    shutil.copytree(CIRCUITS, folder, ignore=shutil.ignore_patterns("target"))
    for name, text in mutant.changes:
        (folder / name).write_text(text)
    found = run(folder, LIKELY[mutant.file])
    return found if found.failed else run(folder, ())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only mutants whose place or statement contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    wanted = [m for m in mutants() if options.only in f"{m.name} {m.statement}"]
    survivors, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        home = Path(folder)
        use_private_cache(home / "cache")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            print(f"{'killed by':>9} {'accepts':>7}  constraint")
            for mutant, found in zip(wanted, pool.map(attempt, wanted, [home] * len(wanted)), strict=True):
                if found.broken:
                    raise SystemExit(f"{mutant.name}: the mutant is broken, not killed\n{found.broken}")
                survivors += not found.failed
                count = len(found.failed) or "SURVIVES"
                print(f"{count:>9} {len(found.accepted):>7}  {mutant.name}  {mutant.statement[:100]}", flush=True)
    print(f"{len(wanted)} mutants, {survivors} survive, {time.monotonic() - started:.0f} s")
    return int(survivors > 0)


def use_private_cache(folder: Path) -> None:
    """Keep compiled mutants out of the user's cache, but use its tools."""
    from zkkrum.toolchain import cache_dir

    folder.mkdir(mode=0o700)
    (folder / "tools").symlink_to(cache_dir() / "tools")
    os.environ["ZKKRUM_CACHE"] = str(folder)


if __name__ == "__main__":
    sys.exit(main())
