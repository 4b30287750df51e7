"""What server and clients say to each other under Flower: names, records, layouts.

Must not know how rounds are proved.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
)
from numpy.typing import NDArray

from zkkrum.errors import InputError

COMMIT, OPEN = "zkkrum_commit", "zkkrum_open"
"""Actions of the query messages by which the server asks for commitments and openings."""
MODE = "zkkrum-mode"
TWO_MESSAGES, ONE_MESSAGE = "two-message", "one-message"
STATE, UPDATE, OPENING = "zkkrum", "zkkrum-update", "zkkrum-opening"
UNFLAGGED, SELECTED = "unflagged", "selected"

log = logging.getLogger("flwr")


def client_id(node_id: int) -> str:
    """Return the roster's name of a Flower node."""
    return f"node-{node_id}"


def to_numpy(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Return the arrays of a record by name."""
    return {name: array.numpy() for name, array in record.items()}


def to_record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Return arrays as a record."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})


def only(records: Mapping[str, Any], what: str) -> Any:
    """Return the only record of its kind (`InputError` where there are more or none)."""
    if len(records) != 1:
        raise InputError(f"message: expected one {what}, found {len(records)}")
    return next(iter(records.values()))
