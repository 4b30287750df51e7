"""The house's walls: `lint-imports` passes the sources as they are, and names the contract that a bad import breaks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import CHECKOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = CHECKOUT / "pyproject.toml"
NAMES = [contract["name"] for contract in tomllib.loads(CONFIG.read_text())["tool"]["importlinter"]["contracts"]]
BAD_IMPORTS = {
    "Data flows one way": ("rounds/parties.py", "import zkkrum.proof.prove"),
    "Whoever verifies": ("proof/verify.py", "import zkkrum.proof.witness"),
    "The protocol is integers only": ("protocol/krum.py", "import random"),
    "Only the toolchain starts processes": ("learning/training.py", "import multiprocessing"),
    "Forecasts run nothing": ("proof/form.py", "import zkkrum.proof.build"),
    "Extras stay optional": ("rounds/updates.py", "import flwr"),
}
MORE_BAD_IMPORTS = [
    ("The protocol is integers only", "protocol/krum.py", "import secrets"),
    ("Forecasts run nothing", "proof/estimate.py", "import zkkrum.proof.jobs"),
    ("Forecasts run nothing", "proof/estimate.py", "import zkkrum.toolchain.process"),
]
"""Others that a contract of above must catch."""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the package, to be spoiled."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    shutil.copytree(CHECKOUT / "src" / "zkkrum", tmp_path / "zkkrum", ignore=ignored)
    return tmp_path


def lint_imports(sources: Path) -> tuple[int, str]:
    """Return the exit code and what it said, in one line."""
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--config", str(CONFIG), "--no-cache"]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    return done.returncode, " ".join(done.stdout.split())


def test_the_sources_keep_every_contract(sources: Path) -> None:
    code, said = lint_imports(sources)
    assert code == 0, said
    assert all(f"{name} KEPT" in said for name in NAMES)


def test_each_contract_is_broken_below() -> None:
    assert len(BAD_IMPORTS) == len(NAMES)
    assert all(name.startswith(start) for start, name in zip(BAD_IMPORTS, NAMES, strict=True))


@pytest.mark.parametrize(("name", "file", "line"), [(k, *v) for k, v in BAD_IMPORTS.items()] + MORE_BAD_IMPORTS)
def test_a_bad_import_breaks_its_contract(sources: Path, name: str, file: str, line: str) -> None:
    module = sources / "zkkrum" / file
    module.write_text(f"{module.read_text()}\n{line}\n")
    code, said = lint_imports(sources)
    assert code == 1, said
    (full,) = [known for known in NAMES if known.startswith(name)]
    assert f"{full} BROKEN" in said
    importer = "zkkrum." + file.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> {line.removeprefix('import ')}" in said
