"""nargo: compiles Noir packages and solves their witnesses, through whichever program was found.

Must not know zkkrum's circuits. The two backends take the same arguments and leave the same artefacts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

from zkkrum.errors import ConstraintError, InputError
from zkkrum.toolchain import process
from zkkrum.toolchain.process import Completed
from zkkrum.toolchain.service import Died, Service

# Without the optimizing WebAssembly compiler a 2^15 circuit compiles in 2.3 s instead of 7.8 (178 MB instead of
# 435), and the server takes 95 MB instead of 300; a solve takes 80 ms instead of 70. A small nursery keeps it there.
NODE_FLAGS = ("--liftoff-only", "--max-semi-space-size=2")

_UNSATISFIED = re.compile(r"Failed to solve program|Cannot satisfy constraint|Failed assertion|Failed constraint")
_LOCATION = re.compile(r"[^\s()]+\.nr:\d+(?::\d+)?")


class Nargo:
    """The nargo in use.

    Parameters
    ----------
    command
        Program and leading arguments.
    serves
        Whether the program has our ``serve`` extension, which spares its start-up on every execute.
    version
        The version it was checked to have.
    """

    def __init__(self, command: Sequence[str | Path], *, serves: bool, version: str) -> None:
        self.command = tuple(command)
        self.version = version
        self._service = Service((*self.command, "serve")) if serves else None

    def compile(self, program_dir: Path) -> Path:
        """Compile the package in ``program_dir``.

        Returns
        -------
        Path
            The artefact ``target/<package>.json``.

        Raises
        ------
        ToolFailedError
            With the compiler's messages if the program does not compile.
        ResourceError
            If memory or disk ran out.
        """
        artifact = _artifact(program_dir)
        # Never in the server: it would keep the compiler's memory.
        done = process.run((*self.command, "compile", "--program-dir", program_dir.absolute()))
        if done.code:
            raise process.failure("nargo compile", done)
        if not artifact.is_file():
            raise process.failure("nargo compile (it left no artefact)", done)
        return artifact

    def execute(self, program_dir: Path, witness: str = "witness", prover: str = "Prover") -> Path:
        """Solve the witness for the inputs in ``<prover>.toml``. Safe to call from several threads.

        Parameters
        ----------
        program_dir
            Folder of the package, compiled before.
        witness, prover
            Names, without extension, of the witness to write and of the inputs to read.

        Returns
        -------
        Path
            The gzipped witness ``target/<witness>.gz``.

        Raises
        ------
        ConstraintError
            If an assertion does not hold: its message, then the call stack as ``at … (file:line:column)``.
        ToolFailedError
            If the inputs do not fit the program, or nargo failed otherwise.
        """
        if not _artifact(program_dir).is_file():
            raise InputError(f"{program_dir} is not compiled: {_artifact(program_dir)} is missing", "compile it first")
        arguments = ["execute", witness, "--program-dir", str(program_dir.absolute()), "-p", prover]
        done = self._ask(arguments) if self._service else process.run((*self.command, *arguments))
        if done.code:
            _refuse(done)
        return program_dir / "target" / f"{witness}.gz"

    def _ask(self, arguments: list[str]) -> Completed:
        assert self._service is not None

        def exchange(stdin: IO[bytes], stdout: IO[bytes]) -> Completed:
            stdin.write(json.dumps(arguments).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            reply = json.loads(line)
            return Completed(reply["code"], reply["stdout"], reply["stderr"])

        try:
            return self._service.ask(exchange)
        except Died as died:
            raise process.failure("nargo execute", without_values(died.done)) from None

    def close(self) -> None:
        """End the server, if one runs."""
        if self._service:
            self._service.close()


def _artifact(program_dir: Path) -> Path:
    manifest = program_dir / "Nargo.toml"
    try:
        name = re.search(r'^\s*name\s*=\s*"([^"]+)"', manifest.read_text(), re.MULTILINE)
    except OSError as error:
        raise InputError(f"{manifest}: {error.strerror}", "expected the folder of a Noir package") from error
    if name is None:
        raise InputError(f"{manifest}: expected a package name")
    return program_dir / "target" / f"{name[1]}.json"


# A number that is no part of a path, a name or a place (file.nr:line:column).
_NUMBER = re.compile(r"(?<![\w./:])(?:0x[0-9a-fA-F]+|\d+)(?![\w:])")


def without_values(done: Completed) -> Completed:
    """Return what a failed execution said without its numbers: nargo quotes inputs, which are private."""
    return Completed(done.code, *(_NUMBER.sub("#", text) for text in (done.out, done.err)))


def _refuse(done: Completed) -> NoReturn:
    """Raise `ConstraintError` if the program was not satisfied, else what the failure stands for."""
    if not _UNSATISFIED.search(done.said):
        raise process.failure("nargo execute", without_values(done))
    lines = done.said.splitlines()
    first = next((line for line in lines if line.startswith("error:")), lines[0])
    message = re.sub(r"^error:\s*(Assertion failed:\s*)?", "", first).strip().strip("'")
    calls = [line.strip() for line in lines if _LOCATION.search(line)]
    raise ConstraintError("\n".join([message, *(f"  {call}" for call in calls)]))
