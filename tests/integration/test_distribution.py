"""Wheel and sdist: made, checked, and installed into empty environments of every Python that this machine has."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.tools import CHECKOUT
from zkkrum.version import __version__

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def interpreter(version: str) -> Path | None:
    """Return a Python of a version: on the PATH, or one that pyenv has, whatever is switched on."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    for found in [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]:
        code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([found, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return found
    return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both, the wheel made from the sdist as others would."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    return out


def test_both_are_complete_and_pass_twine(made: Path) -> None:
    sdist, wheel = made / f"zkkrum-{__version__}.tar.gz", made / f"zkkrum-{__version__}-py3-none-any.whl"
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "proof/keys.json", "circuits/round/src/main.nr", "examples/digits/bundle/proof"):
        assert f"zkkrum/{name}" in inside
    assert not [name for name in inside if not name.startswith(("zkkrum/", "zkkrum-"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "circuits/round/src/main.nr", "scripts/test.sh", "tests/vectors.json"} <= names
    assert not [name for name in names if name.startswith((".venv", "site/", "demo/"))]


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_runs_in_an_empty_environment(version: str, made: Path, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    home = tmp_path / "environment"
    run(python, "-m", "venv", home)
    (wheel,) = made.glob("*.whl")
    run(
        home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile", wheel
    )
    zkkrum = home / "bin" / "zkkrum"
    assert run(zkkrum, "--version").split()[-1] == __version__
    (bundle,) = home.glob("lib/python*/site-packages/zkkrum/examples/digits/bundle")
    found = json.loads(run(zkkrum, "verify", bundle, "--commitments", bundle.parent / "commitments", "--json"))
    assert found["ok"] is True
