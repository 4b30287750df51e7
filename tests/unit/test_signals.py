"""A run of the tests may be interrupted, and so may its children, however it was started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTED = "import signal; signal.raise_signal(signal.SIGINT)"
BACKGROUND = ["bash", "-c", 'trap "" INT; exec "$@"', "bash"]
"""As a script starts what it does not wait for: its children inherit that SIGINT is ignored."""


def test_sigint_interrupts_this_run_and_its_children() -> None:
    assert signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)
    child = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, check=False)
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "1"]])
def test_a_run_in_the_background_too(options: list[str], tmp_path: Path) -> None:
    """In its own process and in a worker of xdist; without `conftest.py` it would be ignored."""
    name = f"{__file__}::{test_sigint_interrupts_this_run_and_its_children.__name__}"
    run = [*BACKGROUND, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'run'}"]
    done = subprocess.run([*run, *options, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    if options == ["-n", "0"]:
        ignored = subprocess.run([*run, *options, "--noconftest", name], capture_output=True, text=True, check=False)
        assert ignored.returncode == 1, ignored.stdout
        assert "1 failed" in ignored.stdout
