"""``aggregate.npz``: the sum of the accepted clients' values and what opens its commitment, for those who may hold it.

Must not know bundles or proofs. A holder believes nothing in the file: `zkkrum.proof.verify` compares it with what was
proved. It is a NumPy archive of exactly these arrays:

========== ============= ===========================================================================================
``sum``    int64, (d,)   S = Σ a_i v_i over the accepted clients, v = q + 2^(b-1)
``salt``   uint8, (32,)  σ, a field element, big-endian: secret, like the sum, from whoever should not learn the mean
``count``  int64, ()     \\|a\\|, how many were accepted
``bits``   int64, ()     b
``clip``   float64, ()   the quantization bound, in units of an update's entries
``layout`` uint8, (k,)   UTF-8 JSON, ``[[name, shape, dtype], …]`` in the order of coordinates; ``[]`` if unknown
========== ============= ===========================================================================================

It is read only as NumPy writes it: one list of members, one header a kind, so that nobody can be shown another sum.

The mean update is (S - count·2^(bits-1))·Δ / count with Δ = clip / (2^(bits-1) - 1), in binary64.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from zkkrum.errors import InputError
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.params import D_MAX, Round
from zkkrum.rounds.archive import Expected, read_archive, secret_bytes, secret_of, write_archive
from zkkrum.rounds.roundfile import Many, first_problem
from zkkrum.rounds.tensors import AXES_MAX, DTYPES, Layout, TensorSpec, require_usable

MODE = 0o600
"""Only the roster should have it: with one accepted client the sum is that client's update."""
LAYOUT_BYTES_MAX = 16 * 2**20

_LAYOUT = TypeAdapter(Many[tuple[str, Many[int], str]])


@dataclass(frozen=True, eq=False)
class AggregateFile:
    """The contents of an ``aggregate.npz``.

    Parameters
    ----------
    aggregate
        S and σ.
    count, b, clip
        What it takes to dequantize.
    layout
        The tensors of the update; empty where they are not known.
    """

    aggregate: Aggregate
    count: int
    b: int
    clip: float
    layout: Layout

    def check(self, round: Round, who: str) -> None:
        """Raise `InputError` naming ``who``, and the array and index, unless all values are such as this round has."""
        p = round.params
        self.aggregate.check(p, who)
        for name, ours, theirs in (("bits", self.b, p.b), ("clip", self.clip, round.clip)):
            if ours != theirs:
                raise InputError(f"{who}: {name}: expected the round's {theirs}, found {ours}")
        if self.layout and (size := sum(spec.size for spec in self.layout)) != p.d:
            raise InputError(f"{who}: layout: expected tensors of {p.d} values (d) in all, found {size}")

    def save(self, path: Path) -> None:
        """Write the file, readable by its owner alone, whole or not at all."""
        layout = json.dumps([[spec.name, spec.shape, spec.dtype] for spec in self.layout]).encode()
        arrays = {
            "sum": self.aggregate.total,
            "salt": secret_bytes(self.aggregate.salt),
            "count": np.int64(self.count),
            "bits": np.int64(self.b),
            "clip": np.float64(self.clip),
            "layout": np.frombuffer(layout, dtype=np.uint8),
        }
        write_archive(path, {name: np.asarray(value) for name, value in arrays.items()}, MODE)


def load_aggregate(path: Path, d: int) -> AggregateFile:
    """Read an ``aggregate.npz`` of d values; `AggregateFile.check` says whether they can be those of a round.

    Raises
    ------
    InputError
        Naming file and array, if it cannot be read as one.
    """
    arrays = read_archive(
        path,
        "an aggregate",
        {
            "sum": Expected(("int64",), (d,)),
            "salt": Expected(("uint8",), (32,)),
            "count": Expected(("int64",)),
            "bits": Expected(("int64",)),
            "clip": Expected(("float64",)),
            "layout": Expected(("uint8",), None, LAYOUT_BYTES_MAX),
        },
    )
    return AggregateFile(
        Aggregate(arrays["sum"], secret_of(arrays["salt"])),
        int(arrays["count"]),
        int(arrays["bits"]),
        float(arrays["clip"]),
        _layout(path, arrays["layout"].tobytes()),
    )


def _layout(path: Path, data: bytes) -> Layout:
    try:
        found = tuple(TensorSpec(*spec) for spec in _LAYOUT.validate_json(data, strict=True))
    except ValidationError as error:
        raise InputError(f"{path}: layout: {first_problem(error)}") from error
    if not all(spec.dtype in DTYPES and _is_shape(spec.shape) for spec in found):
        raise InputError(f"{path}: layout: expected tensors of dtype {', '.join(DTYPES)}, found {ascii(found)[:100]}")
    for spec in found:
        require_usable(spec.name, f"{path}: layout")
    names = [spec.name for spec in found]
    if any(after.encode() <= before.encode() for before, after in pairwise(names)):
        raise InputError(f"{path}: layout: expected names in ascending order, found {ascii(names)[:100]}")
    return found


def _is_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) <= AXES_MAX and all(0 <= x <= D_MAX for x in shape) and math.prod(x or 1 for x in shape) <= D_MAX
