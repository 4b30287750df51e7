"""The documents as a site, warnings as errors; its notebook; and the pages that a command writes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import CHECKOUT


def run(*command: str | Path) -> str:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="mkdocs is not installed: extra zkkrum[docs]")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    run(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path)
    python = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("open_round", "verify_bundle", "ZkKrumClient", "ReferenceStringError"):
        assert re.search(rf'id="zkkrum\.[\w.]*{name}"|id="{name}"', python), name
    assert "docs/" not in re.findall(r'href="([^"]*)"', (tmp_path / "index.html").read_text(encoding="utf-8"))
    sources = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]*)"', python)
    assert sources == [], "the site loads nothing from elsewhere"


@pytest.mark.usefixtures("toolchain", "crs")
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs zkkrum[docs]")
    client = pytest.importorskip("nbclient", reason="needs zkkrum[docs]").NotebookClient
    notebook = nbformat.read(CHECKOUT / "docs" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not kept: they would grow stale"
    client(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "['eve']" in said


@pytest.mark.parametrize("script", ["reference.py", "performance.py", "onchain.py"])
def test_generated_pages_are_what_their_command_writes(script: str) -> None:
    run(sys.executable, f"scripts/{script}", "--check")
