"""`scripts/demo.sh` from end to end, in a copy of the checkout: what the README promises whoever has just cloned it.

Of a package index it needs what builds the package, as the script says; what zkkrum depends on is found here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.tools import CHECKOUT
from zkkrum.proof.bundle import Manifest

NEEDED = ("src", "circuits", "examples", "scripts", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy with an environment of its own, in which the packages of this one are found, but for this zkkrum."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in NEEDED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy / name)
    subprocess.run([sys.executable, "-m", "venv", copy / ".venv"], check=True)
    [packages] = copy.glob(".venv/lib/python*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return copy


@pytest.mark.usefixtures("toolchain", "crs")
def test_it_installs_trains_proves_and_verifies(checkout: Path) -> None:
    pytest.importorskip("sklearn")
    (checkout / "demo").mkdir()
    (checkout / "demo" / "mine").write_text("precious")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [checkout / "scripts" / "demo.sh"],
        cwd=checkout.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED" in done.stdout
    manifest = Manifest.model_validate_json((checkout / "demo-2" / "bundle" / "manifest.json").read_bytes())
    assert manifest.verdict.flagged
    assert [path.name for path in (checkout / "demo").iterdir()] == ["mine"]
    found = subprocess.run(
        [checkout / ".venv/bin/python", "-c", "import zkkrum; print(zkkrum.__file__)"],
        cwd=checkout.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(checkout), "the copy's own package, installed by the script"
