"""One client's update: tensors in a file or in memory, checked and flattened to one float vector.

Must not know rounds, quantization or commitments. Nothing is unpickled, and whatever is wrong is named by
file, client, tensor and index before anything is computed from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.rounds.tensors import (
    DTYPES,
    Layout,
    Tensors,
    TensorSpec,
    cut,
    is_buffer,
    layout_of,
    narrow,
    read_layout,
    read_tensors,
    require_usable,
    save_tensors,
    widen,
)

BUFFERS_FREE = 2**17
"""So many values of buffers may come with an update of any size."""


@dataclass(frozen=True, eq=False)
class Update:
    """One client's update.

    Parameters
    ----------
    client
        Its id in the roster.
    vector
        Shape (d,), finite, binary64 (every accepted dtype converts exactly).
    layout
        The tensors it was flattened from, in order.
    left_out
        Names of the buffers that came with them: integers and truth values are no part of an update.
    """

    client: str
    vector: NDArray[np.float64]
    layout: Layout
    left_out: tuple[str, ...] = ()


def flatten(tensors: Tensors, client: str, source: str = "update") -> Update:
    """Check tensors and flatten them in ascending order of their names (UTF-8 bytes), each in C order.

    Parameters
    ----------
    tensors
        Name to array of any shape. Floats (`DTYPES`) are the update; buffers, such as BatchNorm's
        ``num_batches_tracked``, are left out.
    client
        Whose they are.
    source
        Where they come from (a path), for messages.

    Raises
    ------
    InputError
        For a wrong dtype, a non-finite value or no values at all.

    Examples
    --------
    >>> flatten({"b": np.zeros(1), "a": np.ones((1, 2))}, "alice").vector.tolist()
    [1.0, 1.0, 0.0]
    >>> flatten({"w": np.ones(1), "num_batches_tracked": np.array(3)}, "alice").left_out
    ('num_batches_tracked',)
    """
    return flatten_named(tensors, f"{source}: client {client!r}", client)


def flatten_named(tensors: Tensors, who: str, client: str = "") -> Update:
    """Flatten as `flatten` does, with any words for messages."""
    layout, parts, left_out = [], [], []
    for spec in layout_of(tensors):
        require_usable(spec.name, who)
        tensor = tensors[spec.name]
        if is_buffer(tensor.dtype):
            left_out.append(spec.name)
            continue
        where = f"{who}: tensor {spec.name!r}"
        if spec.dtype not in DTYPES:
            raise InputError(f"{where}: expected dtype {', '.join(DTYPES)}, found {tensor.dtype}")
        wide = widen(tensor)
        require_finite(wide, where, "has training diverged?")
        layout.append(spec)
        parts.append(wide.reshape(-1))
    vector = np.concatenate(parts) if parts else np.zeros(0)
    if vector.size == 0:
        found = f"only buffers: {', '.join(left_out)}" if left_out else "none"
        raise InputError(f"{who}: expected at least one value of dtype {', '.join(DTYPES)}, found {found}")
    return Update(client, vector, tuple(layout), tuple(left_out))


def require_finite(tensor: NDArray[np.float64], where: str, hint: str) -> None:
    """Raise `InputError` naming the first value that is not finite, and how many are not."""
    finite = np.isfinite(tensor)
    if finite.all():
        return
    index = tuple(int(i) for i in np.argwhere(~finite)[0])
    shown = index[0] if len(index) == 1 else index
    raise InputError(
        f"{where}: expected finite values, found {tensor[index]} at index {shown}",
        f"{int((~finite).sum())} of {tensor.size} values are not finite: {hint}",
    )


def unflatten(vector: NDArray[np.floating[Any]], layout: Layout) -> dict[str, NDArray[Any]]:
    """Cut a vector of shape (d,) back into the tensors of a layout, each rounded to its own dtype.

    Examples
    --------
    >>> update = flatten({"w": np.ones((2, 2), np.float32)}, "alice")
    >>> unflatten(update.vector, update.layout)["w"].dtype.name
    'float32'
    """
    parts = cut(vector, layout)
    return {spec.name: narrow(parts[spec.name].astype(np.float64), spec.dtype) for spec in layout}


def load_update(path: Path, client: str, check: Callable[[Layout], None] = lambda layout: None) -> Update:
    """Load a client's update from ``.npy``, ``.npz`` or ``.safetensors``.

    Parameters
    ----------
    path
        The file; its suffix decides how it is read. An ``.npy`` holds one tensor, named ``update``.
    client
        Whose it is.
    check
        Is given the layout of the update before any value is read, and raises `InputError` where it is not the one to
        expect.

    Raises
    ------
    InputError
        If the file is missing, truncated, pickled or of another kind, ``check`` refuses it, or `flatten` its tensors.
    """
    tensors = read_tensors(path, f"client {client!r}", lambda found: check(updatable(found)))
    return flatten(tensors, client, str(path))


def read_update_layout(path: Path, client: str) -> Layout:
    """Read the layout of a client's update, and none of its values; raises as `load_update`."""
    return updatable(read_layout(path, f"client {client!r}"))


def updatable(found: Layout) -> Layout:
    """Return the floats among tensors; buffers that come with them may be as large, and no larger."""
    floats = tuple(spec for spec in found if spec.dtype in DTYPES)
    size, buffers = (sum(spec.size for spec in specs) for specs in (floats, set(found) - set(floats)))
    if buffers > size + BUFFERS_FREE:
        raise InputError(f"expected no more buffers than floats, found {buffers:,} values of them and {size:,} floats")
    return floats


def of_size(d: int) -> Callable[[Layout], None]:
    """Return a check for `load_update`: the update has d coordinates."""

    def check(layout: Layout) -> None:
        if (size := sum(spec.size for spec in layout)) != d:
            raise InputError(f"expected {d:,} values (d), found {size:,}")

    return check


def save_update(path: Path, tensors: Tensors | NDArray[np.floating[Any]]) -> None:
    """Write tensors, or one array, in the format of the suffix, readable by its owner alone: a raw update is private.

    Raises
    ------
    InputError
        For an unknown suffix, or several tensors for an ``.npy``.
    """
    save_tensors(path, tensors, 0o600)


def layout_hash(layout: Layout, base_model: bytes = b"") -> bytes:
    """Return the `subject` of a round: SHA-256 of the tensor layout and the base model.

    Parameters
    ----------
    layout
        Names, shapes and dtypes, in the order in which they are flattened.
    base_model
        Any bytes that identify the model the updates apply to, such as its file or a digest of it.

    Returns
    -------
    bytes, 32
        SHA-256 of the layout as JSON (``[["name",[2,3],"float32"],…]``, ASCII, no spaces), a zero byte (which that
        text cannot contain) and ``base_model``.

    Examples
    --------
    >>> layout_hash((TensorSpec("w", (2, 3), "float32"),)).hex()[:16]
    'c626ab7c082ad468'
    """
    text = json.dumps([[s.name, list(s.shape), s.dtype] for s in layout], separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii") + b"\0" + base_model).digest()


def check_same_layout(updates: Sequence[Update]) -> Layout:
    """Return the layout that all updates share.

    Raises
    ------
    InputError
        Naming the first client that differs from the first one, and the tensor.
    """
    return same_layout({update.client: update.layout for update in updates})


def same_layout(layouts: Mapping[str, Layout]) -> Layout:
    """Return the layout that all clients' updates share; raises as `check_same_layout`."""
    (leader, first), *others = layouts.items()
    for client, layout in others:
        if layout == first:
            continue
        ours, theirs = ({spec.name: spec for spec in found} for found in (first, layout))
        name = min((n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)), key=str.encode)
        raise InputError(
            f"client {client!r}: tensor {name!r}: expected {_describe(ours.get(name))} as client "
            f"{leader!r} has it, found {_describe(theirs.get(name))}",
            "all clients of a round send the same tensors",
        )
    return first


def _describe(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} of shape {spec.shape}" if spec else "none"
