"""Mutation test of the contracts: remove each guard in turn and see whether a test of the contracts notices.

    python scripts/mutate_contracts.py [--only TEXT] [--jobs N]

For every ``if (…) revert …;`` and every alternative in one of ``KrumRounds.sol`` and ``SlashingRouter.sol``, and
every ``onlyRole`` and ``onlyOwner`` of a function, a copy of the package without it is compiled and the tests of the
contracts run against the copy, on an EVM, until one goes red; the working tree is not touched. The table names that
test. Exit code 1 if a mutant survives that `UNREACHABLE` does not explain. Takes an hour; not part of the
continuous integration.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutate_circuits import use_private_cache

CHECKOUT = Path(__file__).resolve().parents[1]
CONTRACTS = ("KrumRounds.sol", "SlashingRouter.sol")
TESTS = ("test_slashing_router", "test_contract_rounds", "test_contract_verdicts", "test_contract_machine")
SECONDS_MAX = 600
"""Without some guards a call goes on for ever; with all of them the tests take ten seconds."""
UNREACHABLE = {
    "Sha256Failed": "the precompile of SHA-256 answers on every chain there is; it cannot be taken away for a test",
}
"""Errors whose guards no test can reach, and why they stand."""

_GUARD = re.compile(
    r"^[ \t]*if \((?P<when>(?:[^;{}]|\{\})*?)\) (?P<open>\{\s*)?revert (?P<error>\w+)\([^;]*;(?(open)\s*\})$",
    re.MULTILINE,
)
_ALTERNATIVE = re.compile(r"(?:\((?:[^()]|\([^()]*\))*\)|[^()|])+")
"""What stands between two ``||`` outside of parentheses."""
_MODIFIER = re.compile(r"^[^\n]*\) external( only(?:Role\(\w+(?:\.\w+)?\)|Owner))[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A source, the guard that is removed from it, the error it reverts with, and the text without it."""

    file: str
    line: int
    guard: str
    error: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}"


def mutants() -> Iterator[Mutant]:
    """Yield every mutant."""
    for file in CONTRACTS:
        text = (CHECKOUT / "src" / "zkkrum" / "contracts" / file).read_text()
        found = list(_GUARD.finditer(text))
        if (reverts := len(re.findall(r"\brevert \w+\(", text))) != len(found):
            raise SystemExit(f"mutate_contracts: {file} has {reverts} reverts, of which {len(found)} are guards")
        for match in found:
            line = text.count("\n", 0, match.start()) + 1
            without = text[: match.start()] + text[match.end() :]
            yield Mutant(file, line, " ".join(match[0].split()), match["error"], without)
            terms = list(_ALTERNATIVE.finditer(text, match.start("when"), match.end("when")))
            for term in terms if len(terms) > 1 else ():
                without = f"{text[: term.start()]} false {text[term.end() :]}"
                yield Mutant(file, line, f"without {' '.join(term[0].split())}", match["error"], without)
        for match in _MODIFIER.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Mutant(file, line, match[0].strip(), "NotAuthorized", text[: match.start(1)] + text[match.end(1) :])


def killer(mutant: Mutant, home: Path) -> str:
    """Run the tests against a copy of the package; return the first that goes red, or nothing."""
    folder = Path(tempfile.mkdtemp(dir=home)) / "src"
    shutil.copytree(CHECKOUT / "src", folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    (folder / "zkkrum" / "contracts" / mutant.file).write_text(mutant.text)
    tests = [str(CHECKOUT / "tests" / "integration" / f"{name}.py") for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        return "(no end: the tests hang)"
    finally:
        shutil.rmtree(folder)
    if done.returncode == 0:
        return ""
    failed = re.search(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not failed:  # errors of fixtures included: a mutant that does not compile proves nothing
        raise SystemExit(f"{mutant.name}: the mutant is broken, not killed\n{done.stdout[-3000:]}{done.stderr}")
    return failed[1]


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="only mutants whose place or guard contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    wanted = [mutant for mutant in mutants() if options.only in f"{mutant.name} {mutant.guard}"]
    survivors, explained, started = 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, ThreadPoolExecutor(options.jobs) as pool:
        home = Path(scratch)
        use_private_cache(home / "cache")
        for mutant, test in zip(wanted, pool.map(killer, wanted, [home] * len(wanted)), strict=True):
            known = not test and mutant.error in UNREACHABLE
            explained, survivors = explained + known, survivors + (not test and not known)
            said = test or ("unreachable" if known else "SURVIVES")
            print(f"{mutant.name:<24} {mutant.guard[:110]}\n{'':<24} {said}", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(wanted)} mutants, {survivors} survive, {explained} cannot be reached, {seconds:.0f} s")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
