"""Named arrays in memory and in files: ``.npy``, ``.npz`` and ``.safetensors``, bfloat16 included.

Must not know updates, models or rounds. Nothing is unpickled, and nothing is converted on the way in or out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from zkkrum.errors import InputError
from zkkrum.files import write_whole

Tensors = Mapping[str, NDArray[Any]]

DTYPES = ("float16", "bfloat16", "float32", "float64")
"""Of what is trained. What else a model holds are buffers: integers, such as BatchNorm's ``num_batches_tracked``."""
SUFFIXES = (".npy", ".npz", ".safetensors")
SINGLE = "update"
"""Name of the tensor where a file or a caller has only one and gives it none."""
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""NumPy has no bfloat16: its 16 bits stand in an array with one field of that name. Arrays of ``ml_dtypes.bfloat16``
are taken for the same."""

_SAFETENSORS = {
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BOOL": np.dtype("?"),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
}


class TensorSpec(NamedTuple):
    """Name, shape and dtype of one tensor; dtypes have NumPy's names, and ``bfloat16``."""

    name: str
    shape: tuple[int, ...]
    dtype: str


Layout = tuple[TensorSpec, ...]


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype as layouts have it."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def layout_of(tensors: Tensors) -> Layout:
    """Return names, shapes and dtypes in ascending order of the names (UTF-8 bytes).

    Examples
    --------
    >>> [spec.name for spec in layout_of({"b": np.zeros(1), "a": np.zeros(2)})]
    ['a', 'b']
    """
    return tuple(
        TensorSpec(name, tensors[name].shape, dtype_name(tensors[name].dtype))
        for name in sorted(tensors, key=str.encode)
    )


def is_buffer(dtype: np.dtype[Any]) -> bool:
    """Tell whether a tensor of this dtype is a buffer: integers or truth values, which nobody averages."""
    return dtype.kind in "iub"


def widen(tensor: NDArray[Any]) -> NDArray[np.float64]:
    """Return a tensor in binary64, which every accepted dtype converts to exactly.

    Examples
    --------
    >>> widen(narrow(np.array([1.0, -2.5]), "bfloat16")).tolist()
    [1.0, -2.5]
    """
    if dtype_name(tensor.dtype) != "bfloat16":
        return tensor.astype(np.float64)
    bits = np.ascontiguousarray(tensor).view("<u2").reshape(tensor.shape).astype(np.uint32)
    return (bits << np.uint32(16)).view(np.float32).astype(np.float64)


def narrow(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Round binary64 once, to nearest, ties to even, to a dtype of `DTYPES`; what is too large becomes infinite.

    Examples
    --------
    >>> widen(narrow(np.array([1 + 2**-8, 1 + 2**-8 + 2**-40]), "bfloat16")).tolist()
    [1.0, 1.0078125]
    """
    with np.errstate(over="ignore", under="ignore"):
        if dtype != "bfloat16":
            return np.asarray(values.astype(np.dtype(dtype)))
        # Through binary32 rounded to odd, of whose 24 bits the last says whether something was cut off: two plain
        # roundings would not be one.
        values = np.asarray(values, dtype=np.float64)
        nearest = values.astype(np.float32)
        wide = nearest.astype(np.float64)
        bits = nearest.view(np.uint32)
        bits = bits - (np.abs(wide) > np.abs(values)).astype(np.uint32)
        bits = bits | (wide != values).astype(np.uint32)
        bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.asarray(bits >> np.uint32(16), dtype="<u2").view(BFLOAT16).reshape(values.shape)


def content(tensor: NDArray[Any]) -> bytes:
    """Return a tensor's values as little-endian bytes in C order."""
    little = tensor.dtype if tensor.dtype.fields else tensor.dtype.newbyteorder("<")
    return np.ascontiguousarray(tensor.astype(little, copy=False)).tobytes()


def cut(vector: NDArray[Any], layout: Layout) -> dict[str, NDArray[Any]]:
    """Cut a vector of shape (d,) into arrays of a layout's names and shapes, in the vector's own dtype."""
    sizes = [int(np.prod(spec.shape, dtype=np.int64)) for spec in layout]
    assert vector.shape == (sum(sizes),)
    ends = np.cumsum(sizes).tolist()
    return {
        spec.name: vector[end - size : end].reshape(spec.shape)
        for spec, size, end in zip(layout, sizes, ends, strict=True)
    }


def read_tensors(path: Path, what: str = "") -> dict[str, NDArray[Any]]:
    """Read the tensors of a file; its suffix decides how. An ``.npy`` holds one, named ``update``.

    Parameters
    ----------
    what
        What the file is, for messages: ``client 'alice'``.

    Raises
    ------
    InputError
        If the file is missing, truncated, pickled or of another kind.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    where = f"{path}: {what}: " if what else f"{path}: "
    if path.suffix in (".pt", ".pth"):
        raise InputError(
            f"{where}expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}, which is pickled: reading it can "
            "run anything",
            f"convert it where you trust it:\n{conversion(path)}",
        )
    if path.suffix not in readers:
        raise InputError(f"{where}expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}")
    try:
        return readers[path.suffix](path)
    except InputError as error:
        raise InputError(f"{where}{error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise InputError(f"{where}no such file") from error
    except Exception as error:  # parsers of foreign bytes raise anything, tokenize.TokenError and zlib.error included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}not a readable {path.suffix} file: {reason}", "truncated or damaged?") from error


def conversion(path: Path) -> str:
    """Return the two lines of Python that turn a PyTorch ``state_dict`` into a ``.safetensors`` beside it."""
    state, out = f'torch.load({str(path)!r}, map_location="cpu", weights_only=True)', path.with_suffix(".safetensors")
    return (
        "import torch; from safetensors.torch import save_file\n"
        f"save_file({{k: v.clone().contiguous() for k, v in {state}.items()}}, {str(out)!r})"
    )


def save_tensors(path: Path, tensors: Tensors | NDArray[Any]) -> None:
    """Write tensors, or one array, in the format of the suffix; a crash leaves nothing or the whole.

    Raises
    ------
    InputError
        For an unknown suffix, or several tensors for an ``.npy``.
    """
    write_whole(path, to_bytes(tensors, path))


def to_bytes(tensors: Tensors | NDArray[Any], path: Path) -> bytes:
    """Return what `save_tensors` writes to a path."""
    named: Tensors = {SINGLE: tensors} if isinstance(tensors, np.ndarray) else tensors
    plain = {name: _own(t) for name, t in named.items()}
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        if len(plain) != 1:
            raise InputError(f"{path}: an .npy holds one tensor, found {len(plain)}", "use .npz or .safetensors")
        np.save(buffer, next(iter(plain.values())), allow_pickle=False)
    elif path.suffix == ".npz":
        with zipfile.ZipFile(buffer, "w") as archive:  # np.savez would take a tensor named "file" for its argument
            for name, tensor in plain.items():
                member = zipfile.ZipInfo(f"{name}.npy")  # of 1980: equal tensors give equal bytes
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, tensor, allow_pickle=False)
    elif path.suffix == ".safetensors":
        buffer.write(_safetensors(plain))
    else:
        raise InputError(f"{path}: expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}")
    return buffer.getvalue()


def _own(tensor: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous array; ``ml_dtypes.bfloat16`` as `BFLOAT16`."""
    tensor = np.ascontiguousarray(tensor) if tensor.ndim else tensor
    if tensor.dtype.name == "bfloat16":
        return tensor.view("<u2").view(BFLOAT16)
    return tensor


def _safetensors(tensors: Tensors) -> bytes:
    """Return what safetensors' own writer does, bfloat16 included: that one takes it from torch alone."""
    header, parts, end = {}, [], 0
    names = {dtype_name(dtype): name for name, dtype in _SAFETENSORS.items()}
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):  # wide ones first: aligned
        tensor = tensors[name]
        if dtype_name(tensor.dtype) not in names:
            raise InputError(f"tensor {name!r}: a .safetensors holds no {tensor.dtype}")
        parts.append(content(tensor))
        start, end = end, end + len(parts[-1])
        kind = names[dtype_name(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


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


def _read_npy(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        return {SINGLE: _read_array(file)}


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
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


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    found: dict[str, Any]
    for name, found in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call, unused-ignore]
        if found["dtype"] not in _SAFETENSORS:
            raise InputError(f"tensor {name!r}: expected dtype {', '.join(DTYPES)}, found {found['dtype']}")
        dtype = _SAFETENSORS[found["dtype"]]
        tensors[name] = np.frombuffer(found["data"], dtype=dtype).reshape(found["shape"])
    return tensors
