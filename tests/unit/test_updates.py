"""Update files in every format: how they are flattened, what is refused, layouts and the subject."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.rounds.tensors import SUFFIXES, TensorSpec
from zkkrum.rounds.updates import (
    check_same_layout,
    flatten,
    layout_hash,
    load_update,
    save_update,
    unflatten,
)

TENSORS: dict[str, NDArray[Any]] = {
    "b": np.arange(3, dtype=np.float32),
    "B": np.array([[1.5, -2.0], [0.25, 8.0]], dtype=np.float16),
    "é": np.full((), 7.0),
    "a.weight": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
}
FLAT = [1.5, -2.0, 0.25, 8.0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 7.0]
LAYOUT = (("B", (2, 2), "float16"), ("a.weight", (2, 3), "float64"), ("b", (3,), "float32"), ("é", (), "float64"))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_several_tensors_are_flattened_by_name_in_c_order(tmp_path: Path, suffix: str) -> None:
    save_update(tmp_path / f"u{suffix}", TENSORS)
    update = load_update(tmp_path / f"u{suffix}", "alice")
    assert update.client == "alice"
    assert update.vector.dtype == np.float64
    assert update.vector.tolist() == FLAT
    assert update.layout == LAYOUT
    back = unflatten(update.vector, update.layout)
    assert all(np.array_equal(back[k], TENSORS[k]) and back[k].dtype == TENSORS[k].dtype for k in TENSORS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_vector_is_the_same_in_every_format(tmp_path: Path, suffix: str, dtype: type) -> None:
    vector: NDArray[Any] = np.random.default_rng(0).standard_normal(40).astype(dtype)
    save_update(tmp_path / f"u{suffix}", vector)
    update = load_update(tmp_path / f"u{suffix}", "alice")
    assert np.array_equal(update.vector, vector.astype(np.float64))
    assert update.layout == (TensorSpec("update", (40,), np.dtype(dtype).name),)
    assert [p.name for p in tmp_path.iterdir()] == [f"u{suffix}"]


def test_big_endian_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", np.array([1.0, 2.0], dtype=">f4"))
    assert load_update(tmp_path / "u.npy", "a").vector.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_non_finite_value_is_named_by_file_client_tensor_and_index(tmp_path: Path, suffix: str, value: float) -> None:
    tensor = np.zeros((3, 4), dtype=np.float32)
    tensor[1, 2] = tensor[2, 3] = value
    save_update(tmp_path / f"u{suffix}", {"update": tensor})
    with pytest.raises(InputError) as caught:
        load_update(tmp_path / f"u{suffix}", "alice")
    for part in (f"u{suffix}", "'alice'", "'update'", "index (1, 2)", str(value), "2 of 12"):
        assert part in str(caught.value)


@pytest.mark.parametrize("array", [np.array([1j]), np.zeros(2, np.longdouble), np.array(["1"])])
def test_another_dtype_is_refused(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "u.npy", array)
    with pytest.raises(InputError, match=rf"expected dtype float16, bfloat16, float32, float64, found {array.dtype}"):
        load_update(tmp_path / "u.npy", "alice")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_buffers_are_left_out_and_named(tmp_path: Path, suffix: str) -> None:
    more = {"bn.num_batches_tracked": np.array(12), "a.mask": np.array([True, False]), "small": np.ones(3, np.uint8)}
    save_update(tmp_path / f"u{suffix}", {**TENSORS, **more})
    update = load_update(tmp_path / f"u{suffix}", "alice")
    assert update.vector.tolist() == FLAT
    assert update.layout == LAYOUT
    assert update.left_out == ("a.mask", "bn.num_batches_tracked", "small")


def test_buffers_alone_are_no_update(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", np.arange(3))
    with pytest.raises(InputError, match=r"client 'alice': expected at least one value .*, found only buffers: update"):
        load_update(tmp_path / "u.npy", "alice")


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    array = np.array([_Touch(tmp_path / "ran")], dtype=object)
    if suffix == ".npy":
        np.save(tmp_path / "u.npy", array, allow_pickle=True)
    else:
        np.savez(tmp_path / "u.npz", w=array)
    with pytest.raises(InputError, match=r"client 'alice': .*pickled objects; they are never loaded"):
        load_update(tmp_path / f"u{suffix}", "alice")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"u{suffix}"
    save_update(path, np.arange(5.0))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="client 'alice'"):
            load_update(path, "alice")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_after_the_end_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"u{suffix}"
    save_update(path, np.arange(5.0))
    if suffix == ".npz":
        pytest.skip("a zip archive may be followed by a comment; its members are checked")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="not a readable"):
        load_update(path, "alice")


def test_a_flipped_byte_in_an_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.npz"
    np.savez_compressed(path, w=np.random.default_rng(0).standard_normal(500))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable"):
        load_update(path, "alice")


def test_an_archive_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "u.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"only \.npy members, found 'readme.txt'"):
        load_update(tmp_path / "u.npz", "alice")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_tensor_that_stands_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    save_update(tmp_path / "u.npy", np.ones(2))
    with zipfile.ZipFile(tmp_path / "u.npz", "w") as archive:
        for _ in range(2):
            archive.write(tmp_path / "u.npy", "w.npy")
    with pytest.raises(InputError, match="tensor 'w' stands in it twice"):
        load_update(tmp_path / "u.npz", "alice")


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.npy"
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(40))
    with pytest.raises(InputError, match="client 'alice': not a readable"):
        load_update(path, "alice")


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.npy"
    save_update(path, np.arange(5.0))
    whole = path.read_bytes()
    for at in range(128):
        path.write_bytes(whole[:at] + b"(" + whole[at + 1 :])
        with suppress(InputError):  # and nothing else
            assert load_update(path, "alice").vector.size == 5  # a changed blank is harmless


@pytest.mark.parametrize("suffix", [".txt", "", ".pt"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"expected a file \.npy, \.npz, \.safetensors"):
        load_update(tmp_path / f"u{suffix}", "alice")
    with pytest.raises(InputError, match=r"expected a file"):
        save_update(tmp_path / f"u{suffix}", np.ones(1))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"u\.npz: client 'alice': no such file"):
        load_update(tmp_path / "u.npz", "alice")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_values_are_refused(tmp_path: Path, suffix: str) -> None:
    save_update(tmp_path / f"u{suffix}", np.zeros((0, 3)))
    with pytest.raises(InputError, match="at least one value"):
        load_update(tmp_path / f"u{suffix}", "alice")


def test_an_npy_holds_one_tensor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one tensor, found 4"):
        save_update(tmp_path / "u.npy", TENSORS)
    assert not list(tmp_path.iterdir())


def test_layouts_must_agree() -> None:
    a = flatten({"w": np.ones((2, 3)), "b": np.ones(2)}, "alice")
    assert check_same_layout([a, flatten({"w": np.zeros((2, 3)), "b": np.zeros(2)}, "bob")]) == a.layout
    others: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"w": np.ones((3, 2)), "b": np.ones(2)}, r"tensor 'w': .*float64 of shape \(2, 3\).*shape \(3, 2\)"),
        ({"w": np.ones((2, 3)), "b": np.ones(2, np.float32)}, r"tensor 'b': .*found float32 of shape \(2,\)"),
        ({"w": np.ones((2, 3))}, "tensor 'b': .*found none"),
        ({"w": np.ones((2, 3)), "b": np.ones(2), "c": np.ones(1)}, "tensor 'c': expected none"),
    ]
    for tensors, found in others:
        with pytest.raises(InputError, match=f"client 'bob': {found}"):
            check_same_layout([a, flatten(tensors, "bob")])


def test_subject_binds_layout_and_base_model() -> None:
    layout = (TensorSpec("w", (2, 3), "float32"), TensorSpec("b", (3,), "float32"))
    others = [
        layout_hash(layout[:1]),
        layout_hash(layout[::-1]),
        layout_hash(layout, b"x"),
        layout_hash((TensorSpec("w", (3, 2), "float32"), layout[1])),
        layout_hash((TensorSpec("w", (2, 3), "float64"), layout[1])),
        layout_hash((TensorSpec('w",[2,3],"float32"],["b', (3,), "float32"),)),
    ]
    assert len({layout_hash(layout), *others}) == 7
    assert all(len(h) == 32 for h in others)
