"""What server and clients say to each other under Flower: names, records, and what is read from them.

Must not know how rounds are proved or checked. Whatever comes from the other side is checked as it is read, and what is
wrong is an `InputError`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from pydantic import TypeAdapter, model_validator

from zkkrum.errors import InputError
from zkkrum.files import explained
from zkkrum.proof.bundle import read_file, read_manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.protocol.params import Round
from zkkrum.rounds.models import check_fits, trained
from zkkrum.rounds.roundfile import Many, RoundFile, Strict, parse_bytes, parse_model
from zkkrum.rounds.run import RunRound
from zkkrum.rounds.tensors import Tensors, narrow, widen

COMMIT, OPEN, SHOWN = "zkkrum_commit", "zkkrum_open", "zkkrum_shown"
"""Actions of the query messages: commit, open, and say what commitments you were shown."""
MODE = "zkkrum-mode"
"""Key in a training message's configuration."""
TWO_MESSAGES, ONE_MESSAGE = "two-message", "one-message"
HISTORY, STEP, START = "zkkrum-history", "zkkrum-step-", "zkkrum-start"
"""Records of a training message: where its model comes from, one proved round each, the initial model."""
AGGREGATE = "aggregate.npz"
BUNDLE = "bundle"

STEP_FILES = re.compile(
    r"manifest\.json|proof|public_inputs|vk(\.shard|\.last)?|shards/[0-9]{5,9}\.(proof|public_inputs)"
)

log = logging.getLogger("flwr")
T = TypeVar("T")


def client_id(node_id: int) -> str:
    """Return the roster's name of a Flower node."""
    return f"node-{node_id}"


def on_a_line(text: str | None) -> str:
    """Return a stranger's words so that they can be logged and printed: one line, printable, not long."""
    return (text if text and text.isprintable() else ascii(text or ""))[:300]


# Reading


def value_of(content: RecordDict, record: str, key: str, kind: type[T]) -> T:
    """Return one value of a ConfigRecord (`InputError` where it is missing or of another kind)."""
    value = content.config_records[record].get(key) if record in content.config_records else None
    if not isinstance(value, kind):
        raise InputError(f"message: {record}: {key}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def texts_of(content: RecordDict, record: str, key: str) -> list[str]:
    """Return a list of strings of a ConfigRecord (`InputError` otherwise)."""
    values: list[Any] = value_of(content, record, key, list)
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"message: {record}: {key}: expected strings")
    return values


def round_of(content: RecordDict) -> Round:
    """Return the round that a server asks to commit to (`InputError` names what is wrong with it)."""
    try:
        file = parse_model(RoundFile, value_of(content, "round", "round", str).encode())
    except ValueError as error:
        raise InputError(f"message: round: {error}") from error
    return file.round()


def model_of(content: RecordDict) -> dict[str, NDArray[Any]]:
    """Return the model of a message: its only arrays but for `START` (`InputError` otherwise)."""
    found = [record for name, record in content.array_records.items() if name != START]
    if len(found) != 1:
        raise InputError(f"message: expected one ArrayRecord, found {len(found)}")
    return to_numpy(found[0])


def mode_of(content: RecordDict) -> str:
    """Return the mode that a server trains in; one that says nothing expects the model in the reply."""
    found = [record[MODE] for record in content.config_records.values() if MODE in record]
    if found not in ([], [ONE_MESSAGE], [TWO_MESSAGES]):
        raise InputError(f"message: {MODE}: expected {ONE_MESSAGE} or {TWO_MESSAGES}, found {ascii(found)[:60]}")
    return ONE_MESSAGE if found in ([], [ONE_MESSAGE]) else TWO_MESSAGES


# Arrays


def to_numpy(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Return the arrays of a record by name."""
    try:
        return {name: array.numpy() for name, array in record.items()}
    except Exception as error:  # NumPy raises many kinds on foreign bytes
        raise InputError(f"message: arrays: cannot be read: {error or type(error).__name__}") from error


def to_record(arrays: Tensors) -> ArrayRecord:
    """Return arrays as a record."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})


def difference(model: Tensors, base: Tensors) -> dict[str, NDArray[Any]]:
    """Return the update of a trained model: for every float tensor of ``base`` what was added, in its dtype.

    Raises
    ------
    InputError
        Naming the first tensor whose name or shape is not the base model's.
    """
    layout = trained(base)
    check_fits(model, layout)
    return {spec.name: narrow(widen(model[spec.name]) - widen(base[spec.name]), spec.dtype) for spec in layout}


# Proved rounds


def pack_step(place: RunRound) -> ConfigRecord:
    """Return a proved round as a record: the bundle's files by name, and the aggregate's."""
    names = [MANIFEST, *read_manifest(place.bundle).files]
    files = {name: read_file(place.bundle / name) for name in names}
    return ConfigRecord({**files, AGGREGATE: place.aggregate.read_bytes()})


def unpack_step(record: ConfigRecord, folder: Path) -> tuple[Path, Path]:
    """Write a proved round's files into a folder; return the bundle and the aggregate.

    Nothing in them is believed; names that no bundle has are refused before anything is written.
    """
    for name, data in record.items():
        if not (name == AGGREGATE or STEP_FILES.fullmatch(name)) or not isinstance(data, bytes):
            raise InputError(f"message: {ascii(name)[:80]} is not a file of a bundle")
    for name, data in record.items():
        assert isinstance(data, bytes)
        path = folder / name if name == AGGREGATE else folder / BUNDLE / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder / BUNDLE, folder / AGGREGATE


def steps_of(content: RecordDict) -> dict[int, ConfigRecord]:
    """Return the proved rounds in a training message by number, ascending."""
    found = {
        int(name.removeprefix(STEP)): record
        for name, record in content.config_records.items()
        if re.fullmatch(STEP + "[0-9]{1,9}", name)
    }
    return dict(sorted(found.items()))


# What clients were shown


class Shown(Strict):
    """The commitments that a client was shown before it opened.

    Two clients that were shown the same in one round hold equal ones: compare `digest`, and where it differs
    `compare_shown` names whose commitment it is.
    """

    round_id: str
    context: str
    roster: Many[str]
    commitments: Many[str]

    @model_validator(mode="after")
    def _one_a_client(self) -> Shown:
        if len(self.roster) != len(self.commitments):
            raise ValueError(f"expected {len(self.roster)} commitments, found {len(self.commitments)}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the context and the commitments, in roster order."""
        words = [parse_bytes(word, 32, "commitment") for word in (self.context, *self.commitments)]
        return "0x" + hashlib.sha256(b"".join(words)).hexdigest()


SHOWN_LIST = TypeAdapter(list[Shown])


def compare_shown(views: Mapping[str, Sequence[Shown]]) -> list[str]:
    """Compare what clients were shown, round by round, and return every difference in words.

    Parameters
    ----------
    views
        Client id to what that client published; taken from the clients, not from the server.

    Returns
    -------
    list of str
        Empty where nobody was shown anything else than the others.
    """
    first: dict[str, tuple[str, Shown]] = {}
    found = []
    for client, view in views.items():
        for shown in view:
            other, before = first.setdefault(shown.round_id, (client, shown))
            if (shown.context, shown.roster) != (before.context, before.roster):
                found.append(f"round {shown.round_id}: {other!r} and {client!r} committed under different terms")
                continue
            named = zip(shown.roster, before.commitments, shown.commitments, strict=True)
            found += [
                f"round {shown.round_id}: {other!r} and {client!r} were shown different commitments of {whose!r}"
                for whose, ours, theirs in named
                if ours != theirs
            ]
    return found
