"""Each habit as one command, in the environment that nox itself runs in: ``nox -s lint`` … or ``nox`` for all.

`scripts/test.sh` runs the same without nox, on a machine that has nothing yet; continuous integration runs that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
PROGRAMS = Path(sys.executable).parent


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of this environment."""
    session.run(str(PROGRAMS / program), *arguments, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the sources with ruff; ``nox -s lint -- --fix`` repairs what can be."""
    run(session, "ruff", "check", *session.posargs)


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Check the format; ``nox -s format -- .`` writes it."""
    run(session, "ruff", "format", *(session.posargs or ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of sources, tests, scripts and examples, strictly."""
    run(session, "mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Check the arrows between the rooms (docs/decisions/0005-rooms.md)."""
    run(session, "lint-imports", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site; check the pages that commands write, where it takes seconds, and the examples in docstrings."""
    run(session, "mkdocs", "build", "--strict", "--quiet")
    for script in ("reference", "performance", "onchain", "detection"):
        run(session, "python", f"scripts/{script}.py", "--check")
    run(session, "python", "-m", "pytest", "src/zkkrum", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests and doctests; arguments go to pytest."""
    run(session, "python", "-m", "pytest", *session.posargs)
