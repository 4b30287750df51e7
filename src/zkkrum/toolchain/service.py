"""A child process that answers many requests: one at a time, restarted when it died.

Must not know what is asked; `exchange` of the caller writes one request and reads one answer.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar

from zkkrum.toolchain import process

Answer = TypeVar("Answer")


class Died(Exception):
    """The service ended before it answered."""

    def __init__(self, done: process.Completed) -> None:
        super().__init__(done.said)
        self.done = done


class Service:
    """One persistent process, safe to use from several threads.

    Parameters
    ----------
    command
        Program and arguments; started by the first request.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._err: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def ask(self, exchange: Callable[[IO[bytes], IO[bytes]], Answer]) -> Answer:
        """Let ``exchange(stdin, stdout)`` write a request and read its answer.

        Parameters
        ----------
        exchange
            Raises `EOFError` when the answer ends early.

        Raises
        ------
        Died
            If the process ended instead of answering.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._stop()
            if self._process is None:
                err = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _stop)
                try:
                    self._process = process.start(
                        self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err
                    )
                except BaseException:  # Ctrl-C, too
                    err.close()
                    raise
                self._err = err
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                return exchange(self._process.stdin, self._process.stdout)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                done = self._last_words()
                self._stop()
                if process.stopping():
                    raise KeyboardInterrupt from None
                raise Died(done) from None
            except BaseException:
                self._stop()  # the answer may still be on its way: never read it as another's
                raise

    def _last_words(self) -> process.Completed:
        assert self._process is not None
        assert self._err is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 1
        self._err.seek(0)
        return process.Completed(code, "", self._err.read().decode(errors="replace"))

    def _stop(self) -> None:
        if self._process is not None:
            process.end(self._process)
            for stream in (self._process.stdin, self._process.stdout, self._err):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._process = self._err = None

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            self._stop()
