"""bb: keys, proofs, verification and Poseidon2, through the native program.

Must not know zkkrum's statement. Inputs are checked before bb starts, because its exit code 1 means both
"the proof is false" and "I could not look".
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import msgpack  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import InputError, ToolFailedError
from zkkrum.files import ScratchFolder
from zkkrum.protocol.field import P
from zkkrum.toolchain import process
from zkkrum.toolchain.crs import BASE_FIELD, GENERATOR
from zkkrum.toolchain.service import Died, Service

TARGET = "evm"
"""Keccak transcript, zero knowledge: the flavour a contract can verify."""

KEY_HEADER_WORDS = 3
KEY_POINTS = 28
KEY_BYTES = 32 * KEY_HEADER_WORDS + 64 * KEY_POINTS
LOG_ROWS_END = 32
"""No circuit has 2^32 rows."""
VERIFY_SECONDS = 120
"""After so long bb hangs: it verifies in a tenth of a second, and proofs come from anybody."""

# bb's words for "the proof is false". The key is checked by us, so a point off the curve is the proof's.
_FALSE = (
    "verification failed",
    "Non-canonical proof element",
    "Non-canonical public input",
    "Deserialized point is not on the curve",
    "num_public_inputs mismatch with VK",
    "Cannot aggregate: incoming pairing points",
)
_TRUE = "Proof verified successfully"


@dataclass(frozen=True)
class Proof:
    """A proof and the public inputs it is for, as bb writes them."""

    proof: bytes
    public_inputs: bytes


class Bb:
    """The bb in use. Its methods may be called from several threads.

    Parameters
    ----------
    path
        The native program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hasher = Service((path, "msgpack", "run"))

    @cached_property
    def version(self) -> str:
        """What ``bb --version`` prints."""
        done = process.run((self.path, "--version"))
        if done.code:
            raise process.failure("bb --version", done)
        return done.out.strip()

    def gates(self, artifact: Path) -> int:
        """Return the circuit's total size in gates (``circuit_size`` of ``bb gates``)."""
        done = self._run("gates", "-b", _existing(artifact), "-t", TARGET)
        return int(json.loads(done.out[done.out.index("{") :])["functions"][0]["circuit_size"])

    def write_vk(self, artifact: Path, crs: Path) -> bytes:
        """Return the verification key of a circuit.

        Parameters
        ----------
        artifact
            What nargo compiled.
        crs
            Folder with enough points of the reference string (`Toolchain.reference_string`).
        """
        with ScratchFolder() as folder:
            self._run("write_vk", "-b", _existing(artifact), "-o", folder, "-t", TARGET, "-c", crs)
            return (Path(folder) / "vk").read_bytes()

    def prove(
        self, artifact: Path, witness: Path, vk: Path, out_dir: Path, crs: Path, threads: int | None = None
    ) -> Proof:
        """Prove; leaves ``proof`` and ``public_inputs`` in ``out_dir``.

        Parameters
        ----------
        artifact, witness, vk
            What nargo compiled and solved, and the circuit's key.
        out_dir
            Created if it is missing.
        crs
            Folder with enough points of the reference string.
        threads
            Cores for this proof; all by default. With k jobs at once give each its share.

        Raises
        ------
        InputError
            If a file is missing.
        ToolFailedError, ResourceError
            If bb failed, was killed, or memory or disk ran out.
        """
        out_dir.mkdir(parents=True, exist_ok=True)
        files = ("-b", _existing(artifact), "-w", _existing(witness), "-k", _existing(vk))
        self._run("prove", *files, "-o", out_dir, "-t", TARGET, "-c", crs, threads=threads)
        return Proof((out_dir / "proof").read_bytes(), (out_dir / "public_inputs").read_bytes())

    def verify(self, vk: bytes, proof: bytes, public_inputs: bytes) -> bool:
        """Tell whether ``proof`` holds for ``public_inputs`` under ``vk``. Needs no reference string.

        Returns
        -------
        bool
            False for everything that is wrong with the proof or the public inputs: their size, a word that
            is not below its modulus, a point off the curve, an equation that does not hold.

        Raises
        ------
        InputError
            If ``vk`` is not a verification key of this bb.
        ToolFailedError, ResourceError
            If bb could not decide.
        """
        check_key(vk)
        if len(public_inputs) % 32 or len(proof) % 32:
            return False
        with ScratchFolder() as folder:
            # A reference string of one point, the generator, suffices to verify.
            (Path(folder) / "bn254_g1.dat").write_bytes(GENERATOR)
            names = {"-k": ("vk", vk), "-p": ("proof", proof), "-i": ("public_inputs", public_inputs)}
            arguments: list[str | Path] = ["verify", "-t", TARGET, "-c", folder]
            for flag, (name, data) in names.items():
                path = Path(folder) / name
                path.write_bytes(data)
                arguments += [flag, path]
            try:
                done = process.run((self.path, *arguments), timeout=VERIFY_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise ToolFailedError(f"bb verify: no answer within {VERIFY_SECONDS} seconds, ended") from error
        if done.code == 0 and _TRUE in done.said:
            return True
        if done.code == 1 and any(word in done.said for word in _FALSE):
            return False
        raise process.failure("bb verify", done)

    def write_solidity_verifier(self, vk: bytes, *, optimized: bool = True) -> str:
        """Return the Solidity source of a verifier for ``vk``.

        Parameters
        ----------
        vk
            The circuit's key.
        optimized
            The assembly version, a third of the gas of the plain one.
        """
        check_key(vk)
        with ScratchFolder() as folder:
            key, source = Path(folder) / "vk", Path(folder) / "Verifier.sol"
            key.write_bytes(vk)
            flags = ("--optimized",) if optimized else ()
            self._run("write_solidity_verifier", "-k", key, "-o", source, "-t", TARGET, *flags)
            return source.read_text()

    def hash_many(self, inputs: Sequence[Sequence[int]]) -> list[int]:
        """Hash each sequence of field elements with Poseidon2, as `poseidon2.hash_many` does, but natively.

        Parameters
        ----------
        inputs
            Sequences of field elements in [0, P).

        Raises
        ------
        InputError
            If a word is not a field element (bb would die of it).
        """
        return [self._hash(words) for words in inputs]

    def _hash(self, words: Sequence[int]) -> int:
        if words and (min(words) < 0 or max(words) >= P):
            raise InputError("hash: expected field elements in [0, p), found one outside")
        body = b"".join([b"\xc4\x20" + word.to_bytes(32, "big") for word in words])
        head = msgpack.packb([["Poseidon2Hash", {"inputs": []}]])[:-1] + b"\xdd" + struct.pack(">I", len(words))

        def exchange(stdin: IO[bytes], stdout: IO[bytes]) -> Any:
            stdin.write(struct.pack("<I", len(head) + len(body)) + head)
            stdin.write(body)
            stdin.flush()
            (size,) = struct.unpack("<I", _exactly(stdout, 4))
            return msgpack.unpackb(_exactly(stdout, size))

        try:
            name, fields = self._hasher.ask(exchange)
        except Died as died:
            raise process.failure("bb msgpack run", died.done) from None
        if name != "Poseidon2HashResponse":
            raise ToolFailedError(f"bb msgpack run: {fields.get('message', name)}")
        return int.from_bytes(fields["hash"], "big")

    def _run(self, command: str, *arguments: str | Path, threads: int | None = None) -> process.Completed:
        env = {"HARDWARE_CONCURRENCY": str(threads)} if threads else None
        done = process.run((self.path, command, *arguments), env=env)
        if done.code:
            raise process.failure(f"bb {command}", done)
        return done

    def close(self) -> None:
        """End the hashing service, if it runs."""
        self._hasher.close()


def rows_of(vk: bytes) -> int:
    """Return the rows of the circuit that a verification key is for, a power of two; `InputError` for no key's."""
    log = int.from_bytes(vk[:32], "big")
    if not 0 < log < LOG_ROWS_END:
        raise InputError("verification key: its header is not one of this bb")
    return 1 << log


def check_key(vk: bytes) -> None:
    """Check that ``vk`` has the form of a verification key: its size, and every point on the curve or zero.

    Raises
    ------
    InputError
        If it has not.
    """
    if len(vk) != KEY_BYTES:
        raise InputError(f"verification key: expected {KEY_BYTES} bytes, found {len(vk)}")
    words = [int.from_bytes(vk[k : k + 32], "big") for k in range(0, KEY_BYTES, 32)]
    points = zip(words[KEY_HEADER_WORDS::2], words[KEY_HEADER_WORDS + 1 :: 2], strict=True)
    for k, (x, y) in enumerate(points):
        on_curve = (x, y) == (0, 0) or (y * y - x**3 - 3) % BASE_FIELD == 0
        if not (on_curve and x < BASE_FIELD and y < BASE_FIELD):
            raise InputError(f"verification key: its point {k} is not on the curve")
    if not 0 < words[0] < LOG_ROWS_END or words[1] >= 2**32 or words[2] >= 2**32:
        raise InputError("verification key: its header is not one of this bb")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    return path


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data
