"""One client's update: tensors in a file or in memory, checked and flattened to one float vector.

Must not know rounds, quantization or commitments. Nothing is unpickled, and whatever is wrong is named by
file, client, tensor and index before anything is computed from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save as save_safetensors

from zkkrum.errors import InputError
from zkkrum.files import write_whole

Tensors = Mapping[str, NDArray[Any]]

DTYPES = ("float16", "float32", "float64")
SUFFIXES = (".npy", ".npz", ".safetensors")
SINGLE = "update"
"""Name of the tensor where a file or a caller has only one and gives it none."""

_SAFETENSORS_DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}


class TensorSpec(NamedTuple):
    """Name, shape and dtype (``float16``, ``float32`` or ``float64``) of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


Layout = tuple[TensorSpec, ...]


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
    """

    client: str
    vector: NDArray[np.float64]
    layout: Layout


def flatten(tensors: Tensors, client: str, source: str = "update") -> Update:
    """Check tensors and flatten them in ascending order of their names (UTF-8 bytes), each in C order.

    Parameters
    ----------
    tensors
        Name to array of float16, float32 or float64, any shape.
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
    """
    layout, parts = [], []
    for name in sorted(tensors, key=str.encode):
        tensor = tensors[name]
        where = f"{source}: client {client!r}: tensor {name!r}"
        if tensor.dtype.name not in DTYPES:
            raise InputError(f"{where}: expected dtype {', '.join(DTYPES)}, found {tensor.dtype}")
        finite = np.isfinite(tensor)
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            shown = index[0] if len(index) == 1 else index
            raise InputError(
                f"{where}: expected finite values, found {tensor[index]} at index {shown}",
                f"{int((~finite).sum())} of {tensor.size} values are not finite: has training diverged?",
            )
        layout.append(TensorSpec(name, tensor.shape, tensor.dtype.name))
        parts.append(tensor.astype(np.float64).reshape(-1))
    vector = np.concatenate(parts) if parts else np.zeros(0)
    if vector.size == 0:
        raise InputError(f"{source}: client {client!r}: expected at least one value, found none")
    return Update(client, vector, tuple(layout))


def unflatten(vector: NDArray[np.floating[Any]], layout: Layout) -> dict[str, NDArray[Any]]:
    """Cut a vector of shape (d,) back into the tensors of a layout, each in its own dtype.

    Examples
    --------
    >>> update = flatten({"w": np.ones((2, 2), np.float32)}, "alice")
    >>> unflatten(update.vector, update.layout)["w"].dtype.name
    'float32'
    """
    sizes = [int(np.prod(spec.shape, dtype=np.int64)) for spec in layout]
    assert vector.shape == (sum(sizes),)
    ends = np.cumsum(sizes).tolist()
    return {
        spec.name: vector[end - size : end].reshape(spec.shape).astype(spec.dtype)
        for spec, size, end in zip(layout, sizes, ends, strict=True)
    }


def load_update(path: Path, client: str) -> Update:
    """Load a client's update from ``.npy``, ``.npz`` or ``.safetensors``.

    Parameters
    ----------
    path
        The file; its suffix decides how it is read. An ``.npy`` holds one tensor, named ``update``.
    client
        Whose it is.

    Raises
    ------
    InputError
        If the file is missing, truncated, pickled or of another kind, or `flatten` refuses its tensors.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise InputError(f"{path}: client {client!r}: expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}")
    try:
        tensors = readers[path.suffix](path)
    except InputError as error:
        raise InputError(f"{path}: client {client!r}: {error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: client {client!r}: no such file") from error
    except Exception as error:  # parsers of foreign bytes raise anything, tokenize.TokenError and zlib.error included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: client {client!r}: not a readable {path.suffix} file: {reason}", "truncated or damaged?"
        ) from error
    return flatten(tensors, client, str(path))


def save_update(path: Path, tensors: Tensors | NDArray[np.floating[Any]]) -> None:
    """Write tensors, or one array, in the format of the suffix; a crash leaves nothing or the whole.

    Raises
    ------
    InputError
        For an unknown suffix, or several tensors for an ``.npy``.
    """
    named: Tensors = {SINGLE: tensors} if isinstance(tensors, np.ndarray) else tensors
    contiguous = {name: np.ascontiguousarray(t) if t.ndim else t for name, t in named.items()}
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        if len(contiguous) != 1:
            raise InputError(f"{path}: an .npy holds one tensor, found {len(contiguous)}", "use .npz or .safetensors")
        np.save(buffer, next(iter(contiguous.values())), allow_pickle=False)
    elif path.suffix == ".npz":
        with zipfile.ZipFile(buffer, "w") as archive:  # np.savez would take a tensor named "file" for its argument
            for name, tensor in contiguous.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, tensor, allow_pickle=False)
    elif path.suffix == ".safetensors":
        buffer.write(save_safetensors(contiguous))
    else:
        raise InputError(f"{path}: expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}")
    write_whole(path, buffer.getvalue())


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
    first = updates[0]
    for update in updates[1:]:
        if update.layout == first.layout:
            continue
        ours, theirs = ({s.name: s for s in u.layout} for u in (first, update))
        name = min((n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)), key=str.encode)
        raise InputError(
            f"client {update.client!r}: tensor {name!r}: expected {_describe(ours.get(name))} as client "
            f"{first.client!r} has it, found {_describe(theirs.get(name))}",
            "all clients of a round send the same tensors",
        )
    return first.layout


def _describe(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} of shape {spec.shape}" if spec else "none"


def _read_array(file: BinaryIO) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error):
            raise InputError("expected an array of floats, found pickled objects; they are never loaded") from error
        raise
    if file.read(1):
        raise ValueError("bytes after the end of the array")
    return array


def _read_npy(path: Path) -> Tensors:
    with path.open("rb") as file:
        return {SINGLE: _read_array(file)}


def _read_npz(path: Path) -> Tensors:
    tensors: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise InputError(f"expected only .npy members, found {member.filename!r}")
            if name in tensors:
                raise InputError(f"tensor {name!r} stands in it twice")
            with archive.open(member) as file:
                try:
                    tensors[name] = _read_array(file)  # type: ignore[arg-type]
                except InputError as error:
                    raise InputError(f"tensor {name!r}: {error.message}") from error
    return tensors


def _read_safetensors(path: Path) -> Tensors:
    tensors: dict[str, NDArray[Any]] = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118  (not a dict)
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _SAFETENSORS_DTYPES:
                raise InputError(f"tensor {name!r}: expected dtype {', '.join(DTYPES)}, found {dtype}")
            tensors[name] = file.get_tensor(name)
    return tensors
