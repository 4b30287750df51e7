"""The cache: where it is, who may have written it, and what killed runs left in it.

Must not know what lies in it. Whoever can write to the cache decides which program runs and which key a proof is
checked with; so nothing is taken from a folder that others than its user or root can write to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from zkkrum.errors import InputError, ResourceError
from zkkrum.files import SCRATCH, abandoned, half_written, write_whole

BUILDING, PARTIAL = ".building-", ".partial-"
"""How the names of unfinished folders begin: circuits, tools."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ANOTHER = "name a folder you can write to in ZKKRUM_CACHE"


def user_cache() -> Path:
    """Return the platform's cache of this user, which may not exist yet.

    Raises
    ------
    ResourceError
        If this user has no home folder.
    """
    path = Path(platformdirs.user_cache_path("zkkrum"))
    if not path.is_absolute():
        raise ResourceError("no cache: this user has no home folder", ANOTHER)
    return path


def cache_dir() -> Path:
    """Return zkkrum's cache: ``ZKKRUM_CACHE``, else the platform's user cache. It may not exist yet."""
    override = os.environ.get("ZKKRUM_CACHE")
    return Path(os.path.expanduser(override)).absolute() if override else user_cache()  # noqa: PTH111 (never raises)


def roots() -> list[Path]:
    """Return where to look, in order: the cache, then the user's own where the cache is another's, read only."""
    first = cache_dir()
    if os.environ.get("ZKKRUM_CACHE") and first.is_dir() and not os.access(first, os.W_OK):
        with contextlib.suppress(ResourceError):
            return [first, user_cache()]
    return [first]


def is_there(path: Path) -> bool:
    """Tell whether something stands at a path, as far as we may look."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def writable(folder: Path) -> bool:
    """Tell whether a folder can be written to, or made."""
    there = next(path for path in (folder, *folder.parents) if is_there(path))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def place(*parts: str) -> Path:
    """Return where something new goes, below the first cache that can be written to; its parents are made.

    Raises
    ------
    ResourceError
        If there is no such cache, or it must not be trusted.
    """
    looked = roots()
    root = next((root for root in looked if writable(root.joinpath(*parts[:-1]))), None)
    if root is None:
        raise ResourceError(f"cache: cannot write to {' or '.join(map(str, looked))}", ANOTHER)
    path = root.joinpath(*parts)
    with explained(path):
        make_folder(path.parent)
    trusted(path.parent, root)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents as others may read but not write them, whatever the umask says."""
    for path in reversed([p for p in (folder, *folder.parents) if not is_there(p)]):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o755)
            path.chmod(0o755)


def find(*parts: str) -> Iterator[Path]:
    """Yield where something stands in the caches, after a look at who may have written it.

    Raises
    ------
    ResourceError
        If it must not be trusted.
    """
    for root in roots():
        path = root.joinpath(*parts)
        if is_there(path):
            trusted(path, root)
            yield path


def trusted(path: Path, root: Path) -> None:
    """Check that only this user and root can write to ``path`` and to every folder from ``root`` down to it.

    Raises
    ------
    ResourceError
        Saying who can, and how to repair it.
    """
    for folder in root.resolve().parents:
        mode = folder.stat().st_mode if is_there(folder) else 0
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ResourceError(f"cache: everybody may rename what is in {folder}, so also {root}", ANOTHER)
    below = path.relative_to(root).parts
    for depth in range(len(below) + 1):
        if not _check_writers(root.joinpath(*below[:depth]), root):
            return


def trusted_tree(folder: Path) -> None:
    """Check the same of everything in a folder, which is `trusted` itself.

    Raises
    ------
    ResourceError
        Saying who else can write where, and how to repair it.
    """
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if not path.is_symlink():
                _check_writers(path, folder)


def _check_writers(step: Path, root: Path) -> bool:
    """Refuse what others than this user and root can write to; tell whether it is there at all."""
    try:
        status = step.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ResourceError(f"cache: cannot read {step}: {error.strerror}", ANOTHER) from error
    quoted = shlex.quote(str(root))
    if status.st_uid not in (0, os.geteuid()):
        raise ResourceError(
            f"cache: {step} belongs to user {status.st_uid}; expected root or you ({os.geteuid()}): whoever "
            "writes there decides what is called verified",
            f"if you know its contents, `chown -R {os.geteuid()} {quoted}`; else remove it, or {ANOTHER}",
        )
    if status.st_mode & OTHERS_WRITE:
        raise ResourceError(
            f"cache: others may write to {step} (mode {stat.S_IMODE(status.st_mode):04o}): whoever writes there "
            "decides what is called verified",
            f"if nobody has, `chmod -R go-w {quoted}`; else remove it, or {ANOTHER}",
        )
    return True


def share(folder: Path) -> None:
    """Let others read, but not write, a folder and all in it: what it holds is public, a cache may be shared."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            executable = 0o111 if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod((mode | 0o444 | executable) & ~OTHERS_WRITE)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write into the cache into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"cache: no space left for {path}", f"free some space there, or {ANOTHER}") from error
        raise ResourceError(f"cache: cannot write {path}: {error.strerror}", ANOTHER) from error


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file of the cache, whole or not at all.

    Raises
    ------
    ResourceError
        If it cannot be written.
    """
    try:
        write_whole(path, data, mode)
    except InputError as error:
        raise ResourceError(f"cache: {error.message}", ANOTHER) from error


def leftovers() -> list[Path]:
    """Return what killed runs left: unfinished folders and files in the cache, scratch folders with private inputs."""
    found = abandoned(Path(tempfile.gettempdir()), f"{SCRATCH}*")
    for root in roots():
        found += abandoned(root / "compiled", f"{BUILDING}*") + abandoned(root / "tools", f"{PARTIAL}*")
        for pattern in ("compiled/*/*/target/.*", "checked/.*", "logs/.*", "solidity/.*"):
            found += half_written(root, pattern)
    return found


def clean() -> list[Path]:
    """Remove the `leftovers`, and return what could be removed."""
    removed = []
    for path in leftovers():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if not path.exists():
            removed.append(path)
    return removed
