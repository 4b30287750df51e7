"""Writing files so that a crash leaves nothing or the whole.

Must not know what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zkkrum.errors import InputError, ResourceError


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
    """Write a file under a temporary name beside it, then rename; parents are created.

    Raises
    ------
    InputError, ResourceError
        If the file cannot be written, or the disk is full.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    An existing ``target`` is replaced only at the end.
    """
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        with explained(target):
            scratch.chmod(0o755)
            if target.exists():
                old = scratch.with_name(scratch.name + "-old")
                target.rename(old)
                scratch.rename(target)
                shutil.rmtree(old)
            else:
                scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
