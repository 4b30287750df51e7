"""Named arrays in memory and in files: ``.npy``, ``.npz`` and ``.safetensors``, bfloat16 included.

Must not know updates, models or rounds. Nothing is unpickled, and nothing is converted on the way in or out.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from zkkrum.errors import InputError
from zkkrum.files import write_whole
from zkkrum.rounds.archive import Header, one_line, open_zip, read_header
from zkkrum.rounds.foreign import open_plain, parse_json, size_of

Tensors = Mapping[str, NDArray[Any]]

DTYPES = ("float16", "bfloat16", "float32", "float64")
"""Of what is trained. What else a model holds are buffers: integers, such as BatchNorm's ``num_batches_tracked``."""
SUFFIXES = (".npy", ".npz", ".safetensors")
SINGLE = "update"
"""Name of the tensor where a file or a caller has only one and gives it none."""
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""NumPy has no bfloat16: its 16 bits stand in an array with one field of that name. Arrays of ``ml_dtypes.bfloat16``
are taken for the same."""

HEADER_BYTES_MAX = 16 * 2**20
"""No ``.safetensors`` has a longer header: some 10^5 tensors."""
AXES_MAX = 32
"""No tensor has more: NumPy 1 could not hold it."""

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

    @property
    def size(self) -> int:
        """Values in it."""
        return math.prod(self.shape)


Layout = tuple[TensorSpec, ...]
NAME_BYTES_MAX = 1000


def require_usable(name: str, where: str) -> None:
    """Raise `InputError` unless every format can hold a tensor of this name, and nothing reads it otherwise."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = NAME_BYTES_MAX + 1
    if size > NAME_BYTES_MAX or name == "__metadata__" or any(c < " " or c == "\x7f" for c in name):
        raise InputError(
            f"{where}: expected names of tensors of at most {NAME_BYTES_MAX:,} bytes, without control characters and "
            f"other than __metadata__, found {ascii(name)[:100]}"
        )


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
    return _sorted(TensorSpec(name, tensor.shape, dtype_name(tensor.dtype)) for name, tensor in tensors.items())


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
    sizes = [spec.size for spec in layout]
    assert vector.shape == (sum(sizes),)
    ends = np.cumsum(sizes).tolist()
    return {
        spec.name: vector[end - size : end].reshape(spec.shape)
        for spec, size, end in zip(layout, sizes, ends, strict=True)
    }


def read_tensors(
    path: Path, what: str = "", check: Callable[[Layout], None] = lambda found: None
) -> dict[str, NDArray[Any]]:
    """Read the tensors of a file; its suffix decides how. An ``.npy`` holds one, named ``update``.

    Parameters
    ----------
    what
        What the file is, for messages: ``client 'alice'``.
    check
        Is given the layout of all its tensors before any of them is read, and raises `InputError` where it is not
        the one to expect: a small file may claim, and unpack to, gigabytes.

    Raises
    ------
    InputError
        If the file is missing, truncated, pickled or of another kind, or ``check`` refuses it.
    """
    with _opened(path, what) as found:
        check(found.layout)
        return found.load()


def read_layout(path: Path, what: str = "") -> Layout:
    """Read names, shapes and dtypes of a file's tensors, and none of their values; raises as `read_tensors`."""
    with _opened(path, what) as found:
        return found.layout


class _Found(NamedTuple):
    """What a file holds by its headers, and how to read it."""

    layout: Layout
    load: Callable[[], dict[str, NDArray[Any]]]


@contextmanager
def _opened(path: Path, what: str) -> Iterator[_Found]:
    readers = {".npy": _open_npy, ".npz": _open_npz, ".safetensors": _open_safetensors}
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
        with open_plain(path) as file:
            yield readers[path.suffix](file, size_of(file))
    except InputError as error:
        raise InputError(f"{where}{error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise InputError(f"{where}no such file") from error
    except OSError as error:
        raise InputError(f"{where}cannot be read: {error.strerror or error}") from error
    except Exception as error:  # parsers of foreign bytes raise anything, tokenize.TokenError and zlib.error included
        raise InputError(
            f"{where}not a readable {path.suffix} file: {one_line(error)}", "truncated or damaged?"
        ) from error


def conversion(path: Path) -> str:
    """Return the two lines of Python that turn a PyTorch ``state_dict`` into a ``.safetensors`` beside it."""
    state, out = f'torch.load({str(path)!r}, map_location="cpu", weights_only=True)', path.with_suffix(".safetensors")
    return (
        "import torch; from safetensors.torch import save_file\n"
        f"save_file({{k: v.clone().contiguous() for k, v in {state}.items()}}, {str(out)!r})"
    )


def save_tensors(path: Path, tensors: Tensors | NDArray[Any], mode: int = 0o644) -> None:
    """Write tensors, or one array, in the format of the suffix; a crash leaves nothing or the whole.

    Raises
    ------
    InputError
        For an unknown suffix, or several tensors for an ``.npy``.
    """
    write_whole(path, to_bytes(tensors, path), mode)


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


def _spec(name: str, header: Header) -> TensorSpec:
    if header.dtype.hasobject:
        raise InputError(f"tensor {name!r}: expected an array of floats, found pickled objects; they are never loaded")
    return TensorSpec(name, header.shape, dtype_name(header.dtype))


def _read_values(file: IO[bytes], header: Header) -> NDArray[Any]:
    data = file.read(header.bytes)
    if len(data) != header.bytes:
        raise ValueError("truncated")
    order = "F" if header.fortran else "C"
    return np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload, no-any-return, unused-ignore]


def _open_npy(file: BinaryIO, size: int) -> _Found:
    header = read_header(file)
    layout = (_spec(SINGLE, header),)
    if (found := size - file.tell()) != header.bytes:
        raise ValueError(f"its header says {header.bytes:,} bytes, and {found:,} follow")
    return _Found(layout, lambda: {SINGLE: _read_values(file, header)})


def _open_npz(file: BinaryIO, size: int) -> _Found:
    archive = open_zip(file)
    headers: dict[str, tuple[zipfile.ZipInfo, Header]] = {}
    specs = []
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise InputError(f"expected only .npy members, found {member.filename!r}")
        if name in headers:
            raise InputError(f"tensor {name!r} stands in it twice")
        with archive.open(member) as content:
            headers[name] = (member, read_header(content))
            specs.append(_spec(name, headers[name][1]))
            if member.file_size != content.tell() + headers[name][1].bytes:
                raise ValueError(f"tensor {name!r} is not as long as its header says")

    def load() -> dict[str, NDArray[Any]]:
        tensors = {}
        for name, (member, header) in headers.items():
            with archive.open(member) as content:
                read_header(content)
                tensors[name] = _read_values(content, header)
                if content.read(1):  # reads to the end, where the checksum is looked at
                    raise ValueError(f"tensor {name!r} is not as long as its header says")
        return tensors

    return _Found(_sorted(specs), load)


def _open_safetensors(file: BinaryIO, size: int) -> _Found:
    length = int.from_bytes(file.read(8), "little")
    if length > min(HEADER_BYTES_MAX, size - 8):
        raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
    specs, held = [], 0
    for name, entry in parse_json(file.read(length)).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS:
            raise InputError(f"tensor {name!r}: expected dtype {', '.join(DTYPES)}, found {entry['dtype']!a:.20}")
        dtype = _SAFETENSORS[entry["dtype"]]
        shape = tuple(entry["shape"])
        if len(shape) > AXES_MAX or not all(type(x) is int and x >= 0 for x in shape):
            raise ValueError(f"tensor {name!r} has the shape {shape!a:.60}")
        specs.append(TensorSpec(name, shape, dtype_name(dtype)))
        held += math.prod(shape) * dtype.itemsize
    if held != size - 8 - length:
        raise ValueError(f"its header says {held:,} bytes, and {size - 8 - length:,} follow")

    def load() -> dict[str, NDArray[Any]]:
        file.seek(0)
        found: list[tuple[str, Any]] = deserialize(file.read(size))  # type: ignore[no-untyped-call, unused-ignore]
        return {
            name: np.frombuffer(held["data"], dtype=_SAFETENSORS[held["dtype"]]).reshape(held["shape"])
            for name, held in found
        }

    return _Found(_sorted(specs), load)


def _sorted(specs: Iterable[TensorSpec]) -> Layout:
    return tuple(sorted(specs, key=lambda spec: spec.name.encode()))
