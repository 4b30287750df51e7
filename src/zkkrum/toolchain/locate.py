"""Finds the pinned nargo and bb: what the user named, what is installed, what the cache holds.

Must not know what they are used for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from zkkrum.errors import ToolFailedError, ToolMissingError, ZkkrumError
from zkkrum.progress import Notify, unheard
from zkkrum.toolchain import crs, process, provision
from zkkrum.toolchain.bb import Bb
from zkkrum.toolchain.nargo import NODE_FLAGS, Nargo
from zkkrum.toolchain.pins import NOIR_VERSION, SETUP_HINT


def _nargo_version(command: Path) -> str:
    try:
        done = process.run((command, "--version"), timeout=20)
    except (ZkkrumError, subprocess.TimeoutExpired) as error:
        return f"one that does not start ({error})"
    found = re.search(r"nargo version = (\S+)", done.out)
    return found[1] if found else f"one that says {done.said[:80]!r}"


def _named(variable: str) -> Path | None:
    """Return the program that the user named in a variable of the environment, if any.

    Raises
    ------
    ToolMissingError
        If it is not an absolute path: another folder, or the PATH, would then say which program it is.
    """
    named = os.environ.get(variable)
    if named and not Path(named).is_absolute():
        raise ToolMissingError(
            f"{variable}: expected an absolute path, found {named!r}", f"unset or correct {variable}"
        )
    return Path(named) if named else None


def find_nargo(notify: Notify = unheard, tools: Callable[[], Path] = provision.tools_dir) -> Nargo:
    """Return ``ZKKRUM_NARGO``, a native nargo of the pinned version on the PATH, or the one of the tools folder.

    Parameters
    ----------
    notify
        Told, in a sentence, which nargo is ignored and why.
    tools
        Gives the tools folder; called only when it is needed.

    Raises
    ------
    ToolMissingError
        If ``ZKKRUM_NARGO`` is of another version, or nothing was found.
    """
    if named := _named("ZKKRUM_NARGO"):
        version = _nargo_version(named)
        if version != NOIR_VERSION:
            raise ToolMissingError(
                f"nargo named in ZKKRUM_NARGO: expected version {NOIR_VERSION}, found {version}",
                f"run `noirup --version {NOIR_VERSION}`, or unset ZKKRUM_NARGO",
            )
        return Nargo((named,), serves=False, version=version)
    native, refused = process.which("nargo")
    if refused:
        notify(refused)
    if native:
        version = _nargo_version(native)
        if version == NOIR_VERSION:
            return Nargo((native,), serves=False, version=version)
        notify(f"ignoring {native}: expected nargo {NOIR_VERSION}, found {version}")
    script = tools() / "nargo.mjs"
    if not script.is_file():
        raise ToolMissingError(f"nargo {NOIR_VERSION} is not installed", SETUP_HINT)
    return Nargo((provision.find_node().command, *NODE_FLAGS, script), serves=True, version=NOIR_VERSION)


def find_bb(tools: Callable[[], Path] = provision.tools_dir) -> Path:
    """Return ``ZKKRUM_BB`` if it is of the pinned version, else the bb of the tools folder.

    Raises
    ------
    ToolMissingError
        If it is of another version, or nothing was found.
    """
    if named := _named("ZKKRUM_BB"):
        provision.check_bb(named)
        return named
    provision.bb_path(Path())  # refuses a platform without one before anything is installed
    path = provision.bb_path(tools())
    if not os.access(path, os.X_OK):
        raise ToolMissingError("bb is not installed", SETUP_HINT)
    return path


class Toolchain:
    """The pinned tools, each looked up when it is first needed: who only verifies needs neither nargo nor Node.js.

    A context manager: leaving it ends the persistent processes.

    Parameters
    ----------
    install
        Whether to install what is missing.
    notify
        Told, in a sentence, what is ignored, removed or installed.

    Examples
    --------
    >>> with Toolchain.find() as tools:  # doctest: +SKIP
    ...     artifact = tools.nargo.compile(folder)
    ...     tools.bb.gates(artifact)
    """

    def __init__(self, *, install: bool = True, notify: Notify = unheard) -> None:
        self._install = install
        self._notify = notify
        self._finding = threading.RLock()
        self._nargo: Nargo | None = None
        self._bb: Bb | None = None
        self._tools: Path | None = None
        self._download = threading.Lock()
        self._no_network: str | None = None

    @classmethod
    def find(cls, *, provision: bool = True, notify: Notify = unheard) -> Toolchain:
        """Return the tools of this machine; nothing is started, and nothing installed before it is needed.

        Parameters
        ----------
        provision
            Whether to install, into the cache, what is missing when it is needed.
        notify
            Told, in a sentence, what is ignored, removed or installed.
        """
        process.guard()
        return cls(install=provision, notify=notify)

    def ready(self) -> Toolchain:
        """Look up, and install if need be, nargo and bb now: before long work, not in the middle of it.

        Raises
        ------
        ToolMissingError
            If a tool is missing or of the wrong version; the hint names the command that repairs it.
        ResourceError
            If the cache cannot be written or must not be trusted.
        """
        _ = self.bb, self.nargo
        return self

    @property
    def tools(self) -> Path:
        """Folder of the provisioned packages."""
        with self._finding:
            if self._tools is None:
                self._tools = provision.provision(self._notify) if self._install else provision.tools_dir()
            return self._tools

    @property
    def nargo(self) -> Nargo:
        """nargo, looked up once; raises as `ready` does."""
        with self._finding:
            if self._nargo is None:
                self._nargo = find_nargo(self._notify, lambda: self.tools)
            return self._nargo

    @property
    def bb(self) -> Bb:
        """bb, looked up once; raises as `ready` does."""
        with self._finding:
            if self._bb is None:
                self._bb = Bb(find_bb(lambda: self.tools))
            return self._bb

    def reference_string(self, points: int, *, remember: bool = True) -> Path:
        """Return a folder with at least ``points`` points, downloaded by bb if need be and possible.

        Parameters
        ----------
        points
            A power of two: `points_for` the gates of the circuit.
        remember
            Whether to believe, and to leave, notes of the cache on what was checked before.

        Raises
        ------
        ReferenceStringError
            Saying what was found, what is needed and how to get it.
        """
        if folder := crs.look_up(points, remember=remember):
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
        script = provision.solc_path(self.tools)
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
        for tool in (self._nargo, self._bb):
            if tool is not None:
                tool.close()

    def __enter__(self) -> Toolchain:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
