"""The remains of a killed run: folders that somebody still writes to, files half written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from zkkrum import files
from zkkrum.errors import InputError


def writer(folder: Path, stop: threading.Event) -> None:
    """Put files back as they vanish, as a tool does that outlived its parent."""
    k = 0
    while not stop.is_set():
        k += 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(k)).touch()
        except OSError:
            continue


def test_a_folder_is_removed_once_the_last_writer_has_ended(tmp_path: Path) -> None:
    folder, stop = tmp_path / "work" / "shard", threading.Event()
    thread = threading.Thread(target=writer, args=(folder, stop))
    thread.start()
    while not folder.is_dir():
        time.sleep(0.001)
    threading.Timer(0.3, stop.set).start()
    try:
        files.remove_folder(folder.parent)
    finally:
        stop.set()
        thread.join()
    files.remove_folder(folder.parent) if folder.parent.exists() else None
    assert not folder.parent.exists()


def test_a_folder_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        files.remove_folder(tmp_path / "nowhere")


KILLED = (
    "import os, sys; from pathlib import Path; from zkkrum import files; os.fsync = lambda _: os.kill(os.getpid(), 9)"
)


def test_what_a_killed_process_has_half_written_goes_with_the_next_write(tmp_path: Path) -> None:
    secret, other = tmp_path / "[a].npz", tmp_path / ".[a].npz.x"
    other.write_bytes(b"of somebody else")
    script = f"{KILLED}; files.write_whole(Path(sys.argv[1]), b'salt', 0o600)"
    assert subprocess.run([sys.executable, "-c", script, secret], check=False).returncode == -9
    (left,) = {*tmp_path.iterdir()} - {other}
    assert left.read_bytes() == b"salt"
    files.write_whole(secret, b"whole", 0o600)
    assert left.exists(), "it might be written to at this moment"
    for path in (left, other):
        os.utime(path, (time.time() - 3600,) * 2)
    files.write_whole(secret, b"whole", 0o600)
    assert {*tmp_path.iterdir()} == {secret, other}
