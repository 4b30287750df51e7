"""The PyTorch example, where PyTorch is installed; what it relies on is tested without, in ``unit/test_models.py``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import CHECKOUT

EXAMPLE = CHECKOUT / "examples" / "pytorch" / "federated_cnn.py"


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
@pytest.mark.usefixtures("toolchain", "crs")
@pytest.mark.parametrize("dtype", [(), ("--bfloat16",)])
def test_the_example_runs(tmp_path: Path, dtype: tuple[str, ...]) -> None:
    command = [sys.executable, str(EXAMPLE), str(tmp_path), "--rounds", "1", *dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no part of an update: 1.num_batches_tracked" in done.stdout
    assert "round 1: flagged client-7" in done.stdout
    assert "audited: " in done.stdout
