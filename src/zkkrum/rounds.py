"""A round on disk: ``round.toml``, updates, commitments and openings, each checked as it comes in.

Must not know circuits, proofs or who is Byzantine. Layout of a round directory::

    round.toml                  parameters and roster, public before anybody commits
    updates/<client>.npy        raw floats, what a client keeps (.npy, .npz or .safetensors)
    commitments/<client>.json   public
    openings/<client>.npz       what the server receives: integers q and the salt
    truth.json                  written by `simulate`, never read by `prove`
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from zkkrum.commitment import Opening
from zkkrum.errors import InputError
from zkkrum.field import from_hex, to_hex
from zkkrum.files import write_whole
from zkkrum.params import PROTOCOL, Detection, Params, Round, Score, parse_fraction
from zkkrum.updates import SUFFIXES, Update, load_update

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _strict_text(value: object) -> object:
    """Keep thresholds exact: text, or an integer, never a binary fraction."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError('write it as text, such as "5", "1.25" or "5/4"')
    return str(value)


class Strict(BaseModel):
    """A model that takes nothing it was not told of and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ParametersFile(Strict):
    """The ``[parameters]`` of a round, in the papers' letters."""

    n: int
    d: int
    b: int
    chunk: int
    f: int
    m: int
    score: str
    detection: str
    z: Annotated[str, BeforeValidator(_strict_text)]
    gamma: Annotated[str, BeforeValidator(_strict_text)]

    @classmethod
    def of(cls, params: Params) -> ParametersFile:
        """Describe parameters."""
        p = params
        return cls(
            n=p.n,
            d=p.d,
            b=p.b,
            chunk=p.chunk,
            f=p.f,
            m=p.m,
            score=p.score.value,
            detection=p.detection.value,
            z=str(p.z),
            gamma=str(p.gamma),
        )

    def params(self) -> Params:
        """Return checked parameters (`InputError` names the bound that is broken)."""
        fields = self.model_dump()
        for name, kind in (("score", Score), ("detection", Detection)):
            known = [rule.value for rule in kind]
            if fields[name] not in known:
                raise InputError(f"parameters: {name} must be one of {', '.join(known)}, found {fields[name]!r}")
            fields[name] = kind(fields[name])
        for name in ("z", "gamma"):
            fields[name] = parse_fraction(fields[name], f"parameters: {name}")
        return Params(**fields)


class RoundFile(Strict):
    """``round.toml`` and the ``round`` of a manifest: everything `context` is made of."""

    protocol: str
    round_id: str
    clip: float = Field(strict=False)
    roster: tuple[str, ...] = Field(strict=False)
    subject: str = "0x" + "0" * 64
    chain_id: Annotated[str, BeforeValidator(_strict_text)] = "0"
    contract: str = "0x" + "0" * 40
    parameters: ParametersFile

    @classmethod
    def of(cls, round: Round) -> RoundFile:
        """Describe a round."""
        return cls(
            protocol=PROTOCOL,
            round_id="0x" + round.round_id.hex(),
            clip=round.clip,
            roster=round.roster,
            subject="0x" + round.subject.hex(),
            chain_id=str(round.chain_id),
            contract="0x" + round.contract.hex(),
            parameters=ParametersFile.of(round.params),
        )

    def round(self) -> Round:
        """Return the checked round (`InputError` otherwise)."""
        if self.protocol != PROTOCOL:
            raise InputError(f"protocol: expected {PROTOCOL!r}, found {self.protocol!r}", "upgrade zkkrum?")
        return Round(
            self.parameters.params(),
            self.clip,
            self.roster,
            _bytes(self.round_id, 32, "round_id"),
            _bytes(self.subject, 32, "subject"),
            _integer(self.chain_id, "chain_id"),
            _bytes(self.contract, 20, "contract"),
        )


def _bytes(text: str, size: int, name: str) -> bytes:
    if not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", text):
        raise InputError(f"{name}: expected 0x and {2 * size} hexadecimal digits, found {text[:80]!r}")
    return bytes.fromhex(text[2:])


def _integer(text: str, name: str) -> int:
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,64}|[0-9]{1,78}", text):
        raise InputError(f"{name}: expected an integer below 2^256, found {text[:80]!r}")
    return int(text, 0) if text.startswith("0x") else int(text)


def first_problem(error: ValidationError) -> str:
    """Return pydantic's first complaint on one line: where, what."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "file"
    return f"{where if where.isprintable() else ascii(where)}: {first['msg']}"[:300]


def load_round(path: Path) -> Round:
    """Read ``round.toml``; raises `InputError` naming the file and the field."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return RoundFile.model_validate(data).round()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "a round starts with `zkkrum open` or `zkkrum simulate`") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.hint) from error
    except (OSError, ValueError, RecursionError) as error:  # of which TOML's and Unicode's are kinds
        raise InputError(f"{path}: cannot be read as TOML: {error}") from error


def save_round(path: Path, round: Round) -> None:
    """Write ``round.toml``."""
    fields = RoundFile.of(round).model_dump()
    parameters = fields.pop("parameters")

    def text(table: Mapping[str, Any]) -> str:  # JSON's strings, numbers and arrays of strings are TOML's
        return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())

    head = "# The public parameters of one round. Whoever commits under them should read them first.\n"
    write_whole(path, f"{head}{text(fields)}\n[parameters]\n{text(parameters)}".encode())


class CommitmentFile(Strict):
    """What a client publishes."""

    client: str
    context: str
    commitment: str


@dataclass(frozen=True)
class RoundDirectory:
    """Paths of a round directory and what is in them."""

    path: Path

    @property
    def round_file(self) -> Path:
        """``round.toml``."""
        return self.path / "round.toml"

    @property
    def updates(self) -> Path:
        """Raw updates."""
        return self.path / "updates"

    @property
    def commitments(self) -> Path:
        """Published commitments."""
        return self.path / "commitments"

    @property
    def openings(self) -> Path:
        """Openings."""
        return self.path / "openings"

    @property
    def truth(self) -> Path:
        """Who is Byzantine; for tests and reports."""
        return self.path / "truth.json"

    def save_commitment(self, round: Round, client: str, opening: Opening, commitment: int) -> None:
        """Write what a client publishes and what it sends to the server."""
        save_opening(self.openings / f"{client}.npz", opening, round.params.b)
        save_commitment(self.commitments / f"{client}.json", client, round.context, commitment)

    def load_updates(self, roster: Sequence[str]) -> list[Update] | None:
        """Load every client's raw update in roster order, or None where there is no ``updates/``."""
        if not self.updates.is_dir():
            return None
        files = _one_file_a_client(self.updates, SUFFIXES, roster)
        return [load_update(files[client], client) for client in roster]

    def load_openings(self, round: Round) -> list[Opening]:
        """Load every client's opening in roster order, checked against d and b."""
        files = _one_file_a_client(self.openings, (".npz",), round.roster)
        return [load_opening(files[client], round.params) for client in round.roster]


def clients_of_updates(folder: Path) -> tuple[str, ...]:
    """Return the clients that a folder of updates names, in ascending order."""
    names = sorted(path.stem for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not names:
        raise InputError(f"{folder}: expected updates ({', '.join(SUFFIXES)}), found none")
    return tuple(names)


def _one_file_a_client(folder: Path, suffixes: Sequence[str], roster: Sequence[str]) -> dict[str, Path]:
    """Map each client to its only file; a missing, repeated or extra client is an error."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix not in suffixes:
            raise InputError(f"{path}: expected only files {', '.join(suffixes)} here")
        if path.stem in found:
            raise InputError(f"{folder}: client {path.stem!r} has two files, {found[path.stem].name} and {path.name}")
        found[path.stem] = path
    _complete(folder, list(found), roster)
    return found


def _complete(folder: Path, found: Sequence[str], roster: Sequence[str]) -> None:
    if missing := [client for client in roster if client not in found]:
        hint = "a roster client that does not deliver makes the round void: reopen it under a new round id and roster"
        raise InputError(
            f"{folder}: nothing from client {missing[0]!r} ({len(missing)} of {len(roster)} missing)", hint
        )
    if extra := [client for client in found if client not in roster]:
        raise InputError(
            f"{folder}: client {extra[0]!r} is not in the roster", "a round has exactly its roster's files"
        )


def load_opening(path: Path, params: Params) -> Opening:
    """Read an opening; raises `InputError` naming the file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            q, salt = file["q"], file["salt"]
    except Exception as error:  # zipfile, NumPy and zlib raise many kinds on damaged bytes
        raise InputError(f"{path}: not a readable opening: {error or type(error).__name__}") from error
    if q.dtype.kind != "i" or salt.dtype != np.uint8 or salt.shape != (32,):
        raise InputError(f"{path}: expected signed integers q and a salt of 32 bytes, found {q.dtype} and {salt.dtype}")
    opening = Opening(q.astype(np.int64), int.from_bytes(salt.tobytes(), "big"))
    opening.check(params, str(path))
    return opening


def save_opening(path: Path, opening: Opening, b: int) -> None:
    """Write an opening, readable by its owner alone."""
    buffer = io.BytesIO()
    salt = np.frombuffer(opening.salt.to_bytes(32, "big"), dtype=np.uint8)
    np.savez_compressed(buffer, q=opening.q.astype(np.int8 if b == 8 else np.int16), salt=salt)
    write_whole(path, buffer.getvalue(), mode=0o600)


def save_commitment(path: Path, client: str, context: int, commitment: int) -> None:
    """Write a published commitment."""
    file = CommitmentFile(client=client, context=to_hex(context), commitment=to_hex(commitment))
    write_whole(path, (file.model_dump_json(indent=2) + "\n").encode())


def read_commitments(folder: Path, roster: Sequence[str]) -> list[tuple[int, int]]:
    """Read published commitments by client id, in roster order: (context, commitment) each.

    Raises
    ------
    InputError
        If a client is missing, extra or repeated, or something is not canonical.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, tuple[Path, int, int]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            file = CommitmentFile.model_validate_json(path.read_bytes())
            context, value = from_hex(file.context), from_hex(file.commitment)
        except (ValidationError, ValueError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise InputError(f"{path}: not a commitment: {problem}") from error
        if file.client in found:
            raise InputError(
                f"{folder}: client {file.client!r} commits twice: {found[file.client][0].name}, {path.name}"
            )
        found[file.client] = (path, context, value)
    _complete(folder, list(found), roster)
    return [found[client][1:] for client in roster]


def load_commitments(folder: Path, round: Round) -> list[int]:
    """Read the commitments published for a round, in roster order.

    Raises
    ------
    InputError
        As `read_commitments`, or if one was made for another context.
    """
    published = read_commitments(folder, round.roster)
    for client, (context, _) in zip(round.roster, published, strict=True):
        if context != round.context:
            raise InputError(
                f"{folder}: client {client!r} committed under another context (another round, roster or parameters)"
            )
    return [commitment for _, commitment in published]
