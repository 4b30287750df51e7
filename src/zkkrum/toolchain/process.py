"""Starts processes, each in a session of its own, and ends every one of them when we are told to stop.

Must not know what the tools mean: it turns exit codes and last words into errors, no more.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from zkkrum.errors import ResourceError, ToolFailedError, ToolMissingError, ZkkrumError
from zkkrum.toolchain import cache

LOGS_KEPT = 20
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "Out of memory", "Cannot allocate memory", "Allocation failed")
_DISK_FULL = ("No space left on device", "ENOSPC")

_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()
_previous: dict[int, Any] = {}
_starting = False
"""Whether the main thread is starting a process: one that it would not remember if a handler raised now."""
_postponed: list[int] = []


@dataclass(frozen=True)
class Completed:
    """What a finished process said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, standard error last."""
        return "\n".join(part.strip() for part in (self.out, self.err) if part.strip())


def search_path() -> str:
    """Return the PATH without its empty and relative entries: there, the folder we happen to be in names programs."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())


def which(name: str) -> tuple[Path | None, str]:
    """Look a program up on the PATH.

    Returns
    -------
    Path or None, str
        The first that stands in an absolute entry; and a sentence about one that was refused, or nothing.
    """
    found = shutil.which(name, path=search_path())
    refused = shutil.which(name)
    sentence = ""
    if refused and not Path(refused).is_absolute():
        sentence = f"refusing {refused}: the PATH names its folder by a relative or empty entry"
    return Path(found) if found else None, sentence


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children, and reap it."""
    _kill(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    with _lock:
        _running.discard(process)


def end_all() -> None:
    """Kill every process this module started."""
    with _lock:
        processes = list(_running)
    for process in processes:
        _kill(process)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _stopping.set()
    for process in list(_running):  # no lock: the handler may have interrupted its holder
        _kill(process)
    if _starting:  # `start` goes on with this once it knows the process
        _postponed.append(number)
        return
    _as_before(number, frame)


def _as_before(number: int, frame: FrameType | None) -> None:
    """Do what a signal did before we had a handler."""
    previous = _previous[number]
    if callable(previous):
        previous(number, frame)
    else:  # SIG_DFL of SIGTERM: leave through every `finally`, so that secrets on disk are removed
        raise SystemExit(128 + number)


def guard() -> None:
    """Make Ctrl-C and SIGTERM end our processes too, then do what they did before.

    Our processes have sessions of their own (so that a whole tree can be ended), hence the terminal does
    not reach them. Only the main thread may set handlers; elsewhere (a Dask worker) this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _stopping.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        current = signal.getsignal(number)
        if current not in (_on_signal, signal.SIG_IGN, None):
            _previous[number] = current
            signal.signal(number, _on_signal)


atexit.register(end_all)


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own and remember it.

    Raises
    ------
    ToolMissingError
        If the program does not exist or cannot be executed.
    KeyboardInterrupt
        In a worker thread, once the program has been told to stop.
    """
    global _starting
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        _stopping.clear()
        _starting = True
    elif _stopping.is_set():
        raise KeyboardInterrupt
    try:
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **options)
        with _lock:
            _running.add(process)
    except (FileNotFoundError, PermissionError) as error:
        raise ToolMissingError(f"cannot start {command[0]}: {error.strerror}", "run `zkkrum doctor`") from error
    except OSError as error:
        raise ResourceError(f"cannot start {command[0]}: {error.strerror}", "free memory or processes") from error
    finally:
        if in_main:
            _starting = False
    if _stopping.is_set():  # told to stop while it started: the handler did not know it yet
        _kill(process)
    if in_main and _postponed:
        number = _postponed[0]
        _postponed.clear()
        _as_before(number, None)
    return process


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a process to its end; whatever its exit code, return it.

    Parameters
    ----------
    command
        Program and arguments.
    cwd, env
        Working directory; variables added to the environment.
    stdin
        An open file; nothing is read from our own standard input.
    timeout
        Seconds after which the process is killed.

    Raises
    ------
    KeyboardInterrupt
        If we were told to stop while it ran; the process is dead by then.
    subprocess.TimeoutExpired
        If `timeout` passed; the process is dead by then.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin or subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            code = process.wait(timeout)
        finally:
            end(process) if process.returncode is None else _forget(process)
        if code == -signal.SIGKILL and _stopping.is_set():
            raise KeyboardInterrupt
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return Completed(code, *texts)


def _forget(process: subprocess.Popen[bytes]) -> None:
    with _lock:
        _running.discard(process)


def stopping() -> bool:
    """Tell whether our processes are being ended because we were told to stop."""
    return _stopping.is_set()


def failure(tool: str, done: Completed) -> ZkkrumError:
    """Return the error that a failed process stands for; its log is kept.

    Parameters
    ----------
    tool
        Name and command, such as ``"bb prove"``.
    done
        What it left.
    """
    path = keep_log(tool, done)
    log = f"log: {path}" if path else ""
    if any(word in done.said for word in _DISK_FULL):
        return ResourceError(f"{tool}: the disk is full", f"free some space and run it again; {log}")
    if any(word in done.said for word in _OUT_OF_MEMORY):
        return ResourceError(f"{tool} ran out of memory", f"use smaller circuits or fewer jobs, or free memory; {log}")
    if done.code == -signal.SIGKILL:
        return ResourceError(
            f"{tool} was killed (signal 9), most likely because memory ran out",
            f"use smaller circuits or fewer jobs, or free memory; {log}",
        )
    how = f"was ended by signal {-done.code}" if done.code < 0 else f"failed with exit code {done.code}"
    lines = [line.strip() for line in done.said.splitlines() if line.strip() and not line.startswith("Scheme is:")]
    first = next((k for k, line in enumerate(lines) if "error" in line.lower()), max(len(lines) - 3, 0))
    return ToolFailedError(f"{tool} {how}: {' / '.join(lines[first : first + 4]) or 'it said nothing'}", log)


def keep_log(tool: str, done: Completed) -> Path | None:
    """Write a log only we can read, into the cache or else the temporary folder; None where that cannot be written."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06d}-{tool.replace(' ', '-')}.log"
    text = f"{tool}: exit code {done.code}\n--- stdout\n{done.out}\n--- stderr\n{done.err}\n"
    try:
        path = cache.place("logs", name)
        cache.write(path, text.encode(), mode=0o600)
        for old in sorted(path.parent.glob("*.log"))[:-LOGS_KEPT]:
            old.unlink(missing_ok=True)
    except (ZkkrumError, OSError):
        return _keep_elsewhere(name, text)
    return path


def _keep_elsewhere(name: str, text: str) -> Path | None:
    try:
        handle, path = tempfile.mkstemp(prefix="zkkrum-", suffix=f"-{name}")  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(text)
    except OSError:
        return None
    return Path(path)
