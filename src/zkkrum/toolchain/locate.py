"""Finds the pinned nargo and bb: what the user named, what is installed, what the cache holds.

Must not know what they are used for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from zkkrum.errors import ToolFailedError, ToolMissingError, ZkkrumError
from zkkrum.toolchain import crs, process, provision
from zkkrum.toolchain.bb import Bb
from zkkrum.toolchain.nargo import NODE_FLAGS, Nargo
from zkkrum.toolchain.pins import NOIR_VERSION, SETUP_HINT

Notify = Callable[[str], None]


def _nargo_version(command: Path) -> str:
    try:
        done = process.run((command, "--version"), timeout=20)
    except (ZkkrumError, subprocess.TimeoutExpired) as error:
        return f"one that does not start ({error})"
    found = re.search(r"nargo version = (\S+)", done.out)
    return found[1] if found else f"one that says {done.said[:80]!r}"


def find_nargo(tools: Path, notify: Notify | None = None) -> Nargo:
    """Return ``ZKKRUM_NARGO``, a native nargo of the pinned version on the PATH, or the one of the tools folder.

    Raises
    ------
    ToolMissingError
        If ``ZKKRUM_NARGO`` is of another version, or nothing was found.
    """
    if named := os.environ.get("ZKKRUM_NARGO"):
        version = _nargo_version(Path(named))
        if version != NOIR_VERSION:
            raise ToolMissingError(
                f"nargo named in ZKKRUM_NARGO: expected version {NOIR_VERSION}, found {version}",
                f"run `noirup --version {NOIR_VERSION}`, or unset ZKKRUM_NARGO",
            )
        return Nargo((Path(named),), serves=False, version=version)
    if native := shutil.which("nargo"):
        version = _nargo_version(Path(native))
        if version == NOIR_VERSION:
            return Nargo((Path(native),), serves=False, version=version)
        if notify:
            notify(f"ignoring {native}: expected nargo {NOIR_VERSION}, found {version}")
    script = tools / "nargo.mjs"
    if not script.is_file():
        raise ToolMissingError(f"nargo {NOIR_VERSION} is not installed", SETUP_HINT)
    return Nargo((provision.find_node().command, *NODE_FLAGS, script), serves=True, version=NOIR_VERSION)


def find_bb(tools: Path) -> Path:
    """Return ``ZKKRUM_BB`` if it is of the pinned version, else the bb of the tools folder.

    Raises
    ------
    ToolMissingError
        If it is of another version, or nothing was found.
    """
    if named := os.environ.get("ZKKRUM_BB"):
        path = Path(named)
        provision.check_bb(path)
        return path
    path = provision.bb_path(tools)
    if not os.access(path, os.X_OK):
        raise ToolMissingError("bb is not installed", SETUP_HINT)
    return path


class Toolchain:
    """The pinned tools, ready to run. A context manager: leaving it ends the persistent processes.

    Parameters
    ----------
    nargo, bb
        The two programs.
    tools
        Folder of the provisioned packages.

    Examples
    --------
    >>> with Toolchain.find() as tools:  # doctest: +SKIP
    ...     artifact = tools.nargo.compile(folder)
    ...     tools.bb.gates(artifact)
    """

    def __init__(self, nargo: Nargo, bb: Bb, tools: Path) -> None:
        self.nargo = nargo
        self.bb = bb
        self.tools = tools
        self._download = threading.Lock()
        self._no_network: str | None = None

    @classmethod
    def find(cls, *, provision: bool = True, notify: Notify | None = None) -> Toolchain:
        """Look the tools up, and install the pinned ones into the cache if they are missing.

        Parameters
        ----------
        provision
            Whether to install what is missing.
        notify
            Told, in a sentence, what is ignored or installed.

        Raises
        ------
        ToolMissingError
            If a tool is missing or of the wrong version; the hint names the command that repairs it.
        """
        process.guard()
        return cls(*_find(provision, notify))

    def reference_string(self, points: int) -> Path:
        """Return a folder with at least ``points`` points, downloaded by bb if need be and possible.

        Parameters
        ----------
        points
            A power of two: `points_for` the gates of the circuit.

        Raises
        ------
        ReferenceStringError
            Saying what was found, what is needed and how to get it.
        """
        if folder := crs.look_up(points):
            return folder
        with self._download:
            if folder := crs.look_up(points):
                return folder
            if self._no_network is not None:  # one wait for a network that is not there is enough
                raise crs.missing(points, self._no_network)
            try:
                return crs.download(points, lambda package, to: self.bb.write_vk(self.nargo.compile(package), to))
            except ZkkrumError:
                self._no_network = "the download failed a moment ago"
                raise

    @cached_property
    def _node(self) -> Path:
        return provision.find_node().command

    def solc(self, standard_json: dict[str, Any]) -> dict[str, Any]:
        """Compile Solidity with the pinned solc.

        Parameters
        ----------
        standard_json
            solc's standard JSON input.

        Returns
        -------
        dict
            Its standard JSON output.

        Raises
        ------
        ToolFailedError
            With solc's own messages if a source does not compile.
        ToolMissingError
            If solc is not installed.
        """
        script = self.tools / "node_modules" / "solc" / "solc.js"
        if not script.is_file():
            raise ToolMissingError("solc is not installed", SETUP_HINT)
        with tempfile.TemporaryFile() as stdin:  # over a pipe solcjs loses input half of the time
            stdin.write(json.dumps(standard_json).encode())
            stdin.seek(0)
            done = process.run((self._node, script, "--standard-json"), stdin=stdin)
        if done.code or "{" not in done.out:
            raise process.failure("solc", done)
        output: dict[str, Any] = json.loads(done.out[done.out.index("{") :])
        errors = [e for e in output.get("errors", []) if e.get("severity") == "error"]
        if errors:
            messages = "\n".join(e.get("formattedMessage", e.get("message", "")).strip() for e in errors)
            raise ToolFailedError(f"solc: {messages}")
        return output

    def close(self) -> None:
        """End the persistent processes; they start again when needed."""
        self.nargo.close()
        self.bb.close()

    def __enter__(self) -> Toolchain:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _find(install: bool, notify: Notify | None) -> tuple[Nargo, Bb, Path]:
    tools = provision.tools_dir()
    own_nargo, own_bb = os.environ.get("ZKKRUM_NARGO"), os.environ.get("ZKKRUM_BB")
    if not own_bb:
        provision.bb_path(tools)  # refuses a platform without one before anything is installed
    if install and not (own_nargo and own_bb):
        tools = provision.provision(notify)
    return find_nargo(tools, notify), Bb(find_bb(tools)), tools
