"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import CHECKOUT


@pytest.mark.usefixtures("toolchain", "crs")
def test_a_round_from_python(tmp_path: Path) -> None:
    script = CHECKOUT / "examples" / "prove_round.py"
    done = subprocess.run([sys.executable, script, tmp_path / "bundle"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "flagged: 'hospital-3', 'hospital-8'" in done.stdout
    assert "the proof is valid" in done.stdout
    assert (tmp_path / "bundle" / "manifest.json").is_file()
