"""Writing files so that a crash leaves nothing or the whole, and scratch folders that can be told from abandoned ones.

Must not know what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zkkrum.errors import InputError, ResourceError

SCRATCH = "zkkrum-run-"
"""How the names of our folders under the system's temporary one begin."""
UNHELD_SECONDS = 60
"""Age from which a scratch folder nobody holds, or a file half written, is abandoned; a younger one may be in use."""
MKSTEMP_LENGTH = 8
"""Characters that `tempfile` adds to a name."""
STRAGGLER_SECONDS = 10.0
"""How long a process that outlived its killed parent may go on writing: longer than one proof's last step."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write ``path`` into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{path}: no space left on the disk", "free some space and run it again") from error
        raise InputError(f"{path}: cannot write: {error.strerror}") from error


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file under a temporary name beside it, then rename; parents are created. On the disk when it returns.

    What a killed process has half written for this file is removed.

    Raises
    ------
    InputError, ResourceError
        If the file cannot be written, or the disk is full.
    """
    with explained(path):
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is there already, and no plain file", "choose another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in half_written(path.parent, f".{glob.escape(path.name)}.{'?' * MKSTEMP_LENGTH}"):
            left.unlink(missing_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync(path.parent)


def half_written(parent: Path, pattern: str) -> list[Path]:
    """Return our own files of that name that nobody has written to for a while: temporary ones of killed processes."""
    found, old = [], time.time() - UNHELD_SECONDS
    for path in sorted(parent.glob(pattern)):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mtime < old:
                found.append(path)
    return found


def refuse_full(folder: Path) -> None:
    """Refuse a folder that has something in it, before any work is done for it.

    Raises
    ------
    InputError
        If it is not empty, or no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already exists", "choose another folder, or remove it")


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk: without it a power cut leaves an empty file of that name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it for folders
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring everything below a folder to the disk."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            sync(path)


def remove_folder(path: Path) -> None:
    """Remove a folder in which a process of a killed run may still be writing for a moment.

    Raises
    ------
    InputError
        If it cannot be removed, or something keeps writing there.
    """
    end = time.monotonic() + STRAGGLER_SECONDS
    with explained(path):
        while True:
            try:
                shutil.rmtree(path)
                return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or time.monotonic() > end:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    An existing ``target`` is replaced only at the end. What a killed run left beside it is put right first.
    """
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _put_right(target)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.writing-", dir=target.parent))
    held = hold(scratch)
    try:
        yield scratch
        with explained(target):
            sync_tree(scratch)
            scratch.chmod(0o755)
            if target.exists():
                old = scratch.with_name(scratch.name + "-old")
                target.rename(old)
                scratch.rename(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                scratch.rename(target)
            sync(target.parent)
    finally:
        os.close(held)
        shutil.rmtree(scratch, ignore_errors=True)


def _put_right(target: Path) -> None:
    """Bring back the target of a run that was killed between two renames, and remove what killed runs left."""
    for old in target.parent.glob(f".{glob.escape(target.name)}.writing-*-old"):
        if not target.exists() and not is_held(old.with_name(old.name.removesuffix("-old"))):
            old.rename(target)
    for folder in abandoned(target.parent, f".{glob.escape(target.name)}.writing-*"):
        shutil.rmtree(folder, ignore_errors=True)


# Scratch folders: whoever makes one holds a lock on it, which the system gives free however its maker ends


def hold(folder: Path) -> int:
    """Lock a scratch folder as in use; returns the descriptor to close when it is not any more."""
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks: its folders are kept
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def is_held(folder: Path) -> bool:
    """Tell whether somebody holds a scratch folder, or it cannot be told."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return folder.exists()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def abandoned(parent: Path, pattern: str) -> list[Path]:
    """Return our own scratch folders of that name that a killed run left: nobody holds them."""
    found = []
    for folder in sorted(parent.glob(pattern)):
        try:
            status = folder.lstat()
        except OSError:
            continue
        mine = status.st_uid == os.geteuid() and folder.is_dir() and not folder.is_symlink()
        if mine and time.time() - status.st_mtime > UNHELD_SECONDS and not is_held(folder):
            found.append(folder)
    return found


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A private temporary folder (mode 0700) that is held while its maker lives; see `abandoned`.

    Parameters
    ----------
    where
        Its parent; the system's temporary folder by default.
    prefix
        How its name begins.
    """

    def __init__(self, where: Path | None = None, prefix: str = SCRATCH) -> None:
        super().__init__(prefix=prefix, dir=where)
        self._held: int | None = hold(Path(self.name))

    def cleanup(self) -> None:
        """Remove it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
        super().cleanup()
