"""``round.toml``: the public parameters and roster of a round, read strictly and written whole.

Must not know updates, openings or proofs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from zkkrum.errors import InputError
from zkkrum.files import write_whole
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import PROTOCOL, Params, Round
from zkkrum.rounds.foreign import parse_json, read_plain, read_toml


def _strict_text(value: object) -> object:
    """Keep thresholds exact: text, or an integer, never a binary fraction."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError('write it as text, such as "5", "1.25" or "5/4"')
    return str(value)


class Strict(BaseModel):
    """A model that takes nothing it was not told of and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Item = TypeVar("Item")
Many: TypeAlias = Annotated[tuple[Item, ...], FailFast()]
"""An array of a stranger's file: its first wrong entry is complained of, and not millions of others, too."""


def _each(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if not isinstance(value, dict):
        return handler(value)
    return {key: found for name in value for key, found in handler({name: value[name]}).items()}


FIRST_ONLY = WrapValidator(_each)
"""The same for an object of any names."""


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
    acceptance: str

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
            acceptance=p.acceptance.value,
        )

    def params(self) -> Params:
        """Return checked parameters (`InputError` names the bound that is broken)."""
        return Params(**self.model_dump())


class RoundFile(Strict):
    """``round.toml`` and the ``round`` of a manifest: everything `context` is made of."""

    protocol: str
    round_id: str
    clip: float
    roster: Many[str] = Field(strict=False)
    subject: str = "0x" + "0" * 64
    chain_id: Annotated[str, BeforeValidator(_strict_text)] = "0"
    contract: str = "0x" + "0" * 40
    parameters: ParametersFile

    @classmethod
    def of(cls, round: Round) -> RoundFile:
        """Describe a round."""
        return cls(
            protocol=PROTOCOL,
            round_id=hex_of(round.round_id),
            clip=round.clip,
            roster=round.roster,
            subject=hex_of(round.subject),
            chain_id=str(round.chain_id),
            contract=hex_of(round.contract),
            parameters=ParametersFile.of(round.params),
        )

    def round(self) -> Round:
        """Return the checked round (`InputError` otherwise)."""
        if self.protocol != PROTOCOL:
            raise InputError(
                f"protocol: expected {PROTOCOL!r}, found {self.protocol!r}",
                "this zkkrum speaks one protocol: open the round again with it, or use the version that wrote this",
            )
        return Round(
            self.parameters.params(),
            self.clip,
            self.roster,
            parse_bytes(self.round_id, 32, "round_id"),
            parse_bytes(self.subject, 32, "subject"),
            _integer(self.chain_id, "chain_id"),
            parse_bytes(self.contract, 20, "contract"),
        )


def parse_bytes(text: str, size: int, name: str) -> bytes:
    """Parse ``0x`` and exactly ``2 * size`` hexadecimal digits (`InputError` otherwise)."""
    if not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", text):
        raise InputError(f"{name}: expected 0x and {2 * size} hexadecimal digits, found {text[:80]!r}")
    return bytes.fromhex(text[2:])


def _integer(text: str, name: str) -> int:
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,64}|[0-9]{1,78}", text):
        raise InputError(f"{name}: expected an integer below 2^256, found {text[:80]!r}")
    return int(text, 0) if text.startswith("0x") else int(text)


COMPLAINTS_MAX = 10_000
"""Of more complaints (an object may have any number of fields too many) none is looked at: pydantic has all or none."""


def first_problem(error: ValidationError) -> str:
    """Return pydantic's first complaint on one line: where, what."""
    if (count := error.error_count()) > COMPLAINTS_MAX:
        return f"file: {count:,} things are wrong with it"
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "file"
    return f"{where if where.isprintable() else ascii(where)}: {first['msg']}"[:300]


Model = TypeVar("Model", bound=BaseModel)


def parse_model(model: type[Model], data: bytes) -> Model:
    """Parse and validate JSON that every parser reads alike; `ValueError`, on one line, for anything else."""
    try:
        found = model.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
    parse_json(data)  # a key that stands twice is no problem to pydantic
    return found


def load_json(model: type[Model], path: Path, most: int) -> Model:
    """Read a small file of JSON; `InputError` naming it and, in one that can be read, the field."""
    try:
        return parse_model(model, read_plain(path, most))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def load_toml(model: type[Model], path: Path, missing: str = "") -> Model:
    """Read a small file of TOML; as `load_json`. ``missing`` is the hint where there is no such file."""
    try:
        return model.model_validate(read_toml(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", missing) from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of which TOML's and Unicode's are kinds
        raise InputError(f"{path}: cannot be read as TOML: {error}") from error


def load_round(path: Path) -> Round:
    """Read ``round.toml``; raises `InputError` naming the file and the field."""
    found = load_toml(RoundFile, path, "a round starts with `zkkrum open` or `zkkrum simulate`")
    try:
        return found.round()
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.hint) from error


def save_round(path: Path, round: Round) -> None:
    """Write ``round.toml``."""
    fields = RoundFile.of(round).model_dump()
    parameters = fields.pop("parameters")

    def text(table: Mapping[str, Any]) -> str:  # JSON's strings, numbers and arrays of strings are TOML's
        return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())

    head = "# The public parameters of one round. Whoever commits under them should read them first.\n"
    write_whole(path, f"{head}{text(fields)}\n[parameters]\n{text(parameters)}".encode())
