"""README, docs and the examples' pages: their commands and programs run as they stand, top to bottom, page by page.

What is too heavy is marked where the reader sees it, `(not run here: why)`, and is only parsed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import PAGES, SHOWN, blocks, check_options, commands
from support.tools import CHECKOUT
from zkkrum.rounds.models import load_model, subject_of

START = {
    "README.md": {"examples": "examples", "scripts": "scripts"},
    "examples/flower_digits/README.md": {
        name: f"examples/flower_digits/{name}" for name in ("run_in_process.py", "flower_digits", "pyproject.toml")
    },
    "docs/page.md": {"bundle": "examples/digits/bundle", "round.toml": "examples/digits/round.toml"},
}
"""What of the checkout lies in the folder where a page starts, by its name there; in all others nothing does."""
EXTRAS = {"examples/flower_digits/README.md": "flwr"}
"""What a page needs beyond what all need; where it is not installed, the page is only parsed."""
TEXTS = {page: (CHECKOUT / page).read_text(encoding="utf-8") for page in PAGES}
RUN = [page for page in PAGES if {"console", "python"} & {kind for kind, _ in blocks(TEXTS[page])}]


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_an_indented_block(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.M | re.S)
    assert not re.findall(r"\n\n    (?:\$ |(?:pip|python|zkkrum|flwr|nox|scripts/\S+) ).*", prose)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run_or_only_shown(page: str) -> None:
    for kind, text in blocks(TEXTS[page]):
        assert kind in {"console", "python", *SHOWN}
        if kind == "python":
            ast.parse(text)
        for command in commands(text) if kind == "console" else ():
            subprocess.run(["bash", "-n", "-c", command.line], check=True)
            check_options(command.line)
            assert not command.line.startswith("cd "), "each command runs where the page starts"


@pytest.mark.usefixtures("toolchain", "crs")
@pytest.mark.parametrize("page", RUN)
def test_the_page_runs(page: str, tmp_path: Path) -> None:
    for module in ("sklearn", *filter(None, [EXTRAS.get(page)])):
        pytest.importorskip(module)
    for name, place in START.get(page, {}).items():
        (tmp_path / name).symlink_to(CHECKOUT / place)
    for kind, text in blocks(TEXTS[page]):
        if kind == "python" and text.startswith("# "):
            (tmp_path / text.split()[1]).write_text(text)
        elif kind == "python":
            run([sys.executable, "-c", text], tmp_path)
        for command in commands(text) if kind == "console" else ():
            if not command.heavy:
                found = run(["bash", "-e", "-o", "pipefail", "-c", command.line], tmp_path)
                assert command.printed(found), f"{command.line}\nexpected {command.output}\nfound {found}"
    if page == "docs/training.md":
        assert subject_of(load_model(tmp_path / "final.npz")) != subject_of(load_model(tmp_path / "next.npz"))
