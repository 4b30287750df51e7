"""Removing folders that somebody still writes to: what a run does with the remains of a killed one."""

from __future__ import annotations

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
