"""Models and the step from one to the next: the specified arithmetic, the same bits on every machine; what is bound."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.numpy import save as save_by_library

from zkkrum.errors import InputError
from zkkrum.protocol.aggregate import mean_update
from zkkrum.protocol.params import BITS, Params, Round
from zkkrum.protocol.quantize import step
from zkkrum.rounds.models import (
    buffers,
    check_fits,
    check_subject,
    load_model,
    next_model,
    save_model,
    subject_of,
    trained,
)
from zkkrum.rounds.tensors import (
    BFLOAT16,
    DTYPES,
    SUFFIXES,
    TensorSpec,
    conversion,
    narrow,
    read_tensors,
    save_tensors,
    to_bytes,
    widen,
)
from zkkrum.rounds.updates import layout_hash

Array = NDArray[Any]


def model() -> dict[str, Array]:
    """One tensor of every dtype there is."""
    rng = np.random.default_rng(5)
    return {
        "conv.weight": rng.normal(size=(4, 3, 3)).astype(np.float32),
        "bn.running_mean": rng.normal(size=4),
        "bn.num_batches_tracked": np.array(17),
        "head.weight": narrow(rng.normal(size=(3, 4)), "bfloat16"),
        "half": rng.normal(size=5).astype(np.float16),
        "mask": np.array([True, False]),
        "scale": np.array(0.5, np.float32),
    }


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


# The arithmetic, against a slow reference: exact fractions, rounded by the definition of rounding


def rounded(exact: Fraction, precision: int, least: int) -> Fraction:
    """Round to nearest, ties to even, to ``precision`` bits and no finer than 2^least."""
    if exact == 0:
        return exact
    exponent = 0
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - precision + 1, least)
    whole, rest = divmod(abs(exact) / unit, 1)
    whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2)
    return (1 if exact > 0 else -1) * whole * unit


FORMATS = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149), "float64": (53, -1074)}
"""Bits of precision, and exponent of the smallest step."""


def slow_step(base: float, total: int, count: int, clip: float, b: int, dtype: str) -> Fraction:
    """The model step of one entry, as protocol.md words it."""

    def binary64(exact: Fraction) -> Fraction:
        return rounded(exact, *FORMATS["float64"])

    delta = binary64(Fraction(clip) / (2 ** (b - 1) - 1))
    product = binary64((total - count * 2 ** (b - 1)) * delta)
    mean = binary64(product / count)
    return rounded(binary64(Fraction(base) + mean), *FORMATS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data(), b=st.sampled_from(BITS), count=st.integers(1, 253), clip=st.floats(1e-6, 100))
def test_the_step_is_the_slow_references(dtype: str, data: st.DataObject, b: int, count: int, clip: float) -> None:
    total = data.draw(st.integers(count, count * (2**b - 1)))
    start = data.draw(st.floats(-1000, 1000))
    base = narrow(np.array([start]), dtype)
    mean = mean_update(np.array([total]), count, clip, b)
    moved = widen(next_model({"w": base}, mean)["w"])[0]
    assert Fraction(float(moved)) == slow_step(float(widen(base)[0]), total, count, clip, b, dtype)


@given(st.floats(-60000, 60000), st.floats(-1, 1), st.floats(1e-300, 1e4))
def test_the_step_is_plain_pythons(base: float, part: float, clip: float) -> None:
    """Python's floats are binary64, and struct packs binary32 and binary16 with one rounding."""
    for dtype, code in (("float16", "<e"), ("float32", "<f"), ("float64", "<d")):
        start = struct.unpack(code, struct.pack(code, base))[0]
        moved = next_model({"w": np.array([start], dtype)}, np.array([part * clip]))["w"]
        assert moved.tobytes() == struct.pack(code, start + part * clip)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e-35, 1e-35))
def test_one_rounding_to_every_dtype(dtype: str, value: float) -> None:
    found = float(widen(narrow(np.array([value]), dtype))[0])
    expected = rounded(Fraction(value), *FORMATS[dtype])
    largest = {"float16": 65504, "bfloat16": 255 * 2**120, "float32": (2**24 - 1) * 2**104, "float64": 2**1025}[dtype]
    assert found == (np.copysign(np.inf, value) if abs(expected) > largest else float(expected))
    assert np.signbit(found) == np.signbit(value)


def test_every_bfloat16_survives() -> None:
    bits = np.arange(2**16, dtype="<u2")
    finite = bits[(bits & 0x7F80) != 0x7F80]
    assert np.array_equal(narrow(widen(finite.view(BFLOAT16)), "bfloat16").view("<u2"), finite)


def test_the_step_by_a_mean_of_zero_changes_nothing() -> None:
    start = model()
    d = sum(tensor.size for name, tensor in start.items() if name not in buffers(start))
    assert same(next_model(start, np.zeros(d)), start)


def test_what_is_too_large_for_the_dtype_is_refused() -> None:
    with pytest.raises(InputError, match=r"next model: tensor 'w': expected finite values, found inf at index 1") as e:
        next_model({"w": np.array([1, 65000], np.float16)}, np.array([0, 1000.0]))
    assert "too large for float16" in str(e.value)


def test_a_mean_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected 3 values of floats \(d\), found 2"):
        next_model({"w": np.zeros(2), "steps": np.array(4)}, np.zeros(3))


SCRIPT = """
import hashlib, sys
import numpy as np
from zkkrum.protocol.aggregate import mean_update
from zkkrum.rounds.models import next_model, subject_of
from zkkrum.rounds.tensors import narrow
d = 40_000
stream = np.frombuffer(hashlib.shake_256(b"zkkrum").digest(20 * d), "<u4").astype(np.int64)  # no random distribution
values = (stream[:d] - 2**31) / 2.0**31
model = {name: narrow(values, name) for name in ("bfloat16", "float16", "float32", "float64")}
mean = mean_update(stream[d:] % (7 * 4096), 7, 0.37, 12)
print(hashlib.sha256(mean.tobytes()).hexdigest()[:16], subject_of(next_model(model, mean)).hex()[:16])
"""


EVERYWHERE = "78162f688375ee0d e7dfd2f6dcb525fe\n"
"""What the script says on every machine."""


def test_the_same_bits_under_other_thread_counts_and_instruction_sets() -> None:
    said = set()
    for threads, disabled in (("1", ""), ("2", ""), ("7", ""), ("1", "AVX2 FMA3 AVX512F AVX512_SKX F16C")):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        # NumPy warns where a processor has not what is disabled, and goes on.
        environment = {**os.environ, **dict.fromkeys(names, threads), "NPY_DISABLE_CPU_FEATURES": disabled}
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout)
    assert said == {EVERYWHERE}


# What a model is, and what binds it


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_model_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    save_model(path, model())
    assert same(load_model(path), model())
    data = path.read_bytes()
    save_model(path, dict(reversed(load_model(path).items())) if suffix == ".safetensors" else load_model(path))
    assert path.read_bytes() == data


def test_safetensors_are_the_librarys_own() -> None:
    plain = {name: tensor for name, tensor in model().items() if tensor.dtype != BFLOAT16}
    assert to_bytes(plain, Path("m.safetensors")) == save_by_library(plain)


def test_bfloat16_has_the_bits_of_the_format(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m.safetensors", {"w": narrow(np.array([1.0, -2.0, 0.15625]), "bfloat16")})
    data = (tmp_path / "m.safetensors").read_bytes()
    assert b'"dtype":"BF16"' in data
    assert data[-6:] == bytes.fromhex("803f00c0203e")


def test_bfloat16_of_ml_dtypes_is_the_same(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).normal(size=(3, 5))
    theirs, ours = {"w": values.astype(ml_dtypes.bfloat16)}, {"w": narrow(values, "bfloat16")}
    assert widen(theirs["w"]).tolist() == widen(ours["w"]).tolist()
    assert subject_of(theirs) == subject_of(ours)
    assert to_bytes(theirs, Path("m.safetensors")) == to_bytes(ours, Path("m.safetensors"))
    save_tensors(tmp_path / "m.safetensors", ours)
    assert load_file(tmp_path / "m.safetensors")["w"].tolist() == theirs["w"].tolist()


def test_a_model_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    for bad, said in (
        ({"w": np.array([1.0, np.nan])}, r"m\.npz: tensor 'w': expected finite values, found nan at index 1"),
        ({"w": np.array([1j])}, "expected dtype float16, bfloat16, float32, float64, found complex128"),
        ({"steps": np.array(1)}, "found only buffers: steps"),
        ({}, "found none"),
    ):
        save_tensors(tmp_path / "m.npz", bad)
        with pytest.raises(InputError, match=said):
            load_model(tmp_path / "m.npz")


def test_buffers_are_part_of_the_model_and_of_no_update() -> None:
    assert buffers(model()) == ("bn.num_batches_tracked", "mask")
    assert [spec.name for spec in trained(model())] == [
        "bn.running_mean",
        "conv.weight",
        "half",
        "head.weight",
        "scale",
    ]
    moved = next_model(model(), np.ones(4 + 36 + 5 + 12 + 1))
    assert moved["bn.num_batches_tracked"].tolist() == 17
    assert moved["bn.running_mean"].tolist() == (model()["bn.running_mean"] + 1).tolist()
    assert list(moved) == list(model())


Change = Callable[[dict[str, Array]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["conv.weight"].view(np.uint32).__ixor__(np.uint32(1)),
        lambda m: m["head.weight"].view("<u2").__ixor__(np.uint16(1)),
        lambda m: m["bn.num_batches_tracked"].__iadd__(1),
        lambda m: m.update(mask=np.array([True, True])),
        lambda m: m.update(half=m["half"].astype(np.float32)),
        lambda m: m.update(half=m["half"].reshape(5, 1)),
        lambda m: m.update(other=m.pop("half")),
        lambda m: m.pop("mask"),
        lambda m: m["scale"].__imul__(-0.0) is None or m.update(scale=np.float32(-m["scale"])),
    ],
)
def test_the_subject_binds_names_shapes_dtypes_and_every_bit(change: Change) -> None:
    changed = {name: tensor.copy() for name, tensor in model().items()}
    change(changed)
    assert subject_of(changed) != subject_of(model())


def test_the_subject_does_not_depend_on_order_or_memory() -> None:
    reordered: dict[str, Array] = {name: np.array(tensor, order="F") for name, tensor in reversed(model().items())}
    reordered["bn.running_mean"] = reordered["bn.running_mean"].astype(">f8")
    assert subject_of(reordered) == subject_of(model())


def test_the_subject_is_what_the_protocol_says() -> None:
    import hashlib

    small: dict[str, Array] = {"b": np.array([1.5], np.float32), "a": np.array([[1, 2]], np.float64)}
    values = struct.pack("<dd", 1, 2) + struct.pack("<f", 1.5)
    text = b'[["a",[1,2],"float64"],["b",[1],"float32"]]'
    assert subject_of(small) == hashlib.sha256(text + b"\0" + hashlib.sha256(values).digest()).digest()


def round_of(subject: bytes) -> Round:
    return Round(Params.of(n=5, d=2), 1.0, tuple("abcde"), bytes(32), subject)


def test_a_round_names_its_model_or_none_or_another() -> None:
    base = {"w": np.array([1.0, 2.0])}
    bound = round_of(subject_of(base))
    assert check_subject(base, bound)
    for unbound, said in ((bytes(32), "zero"), (layout_hash(trained(base)), "that of the layout alone")):
        assert not check_subject(base, replace(bound, subject=unbound), any_base=True)
        with pytest.raises(InputError, match=f"names no model that it starts from: its subject is {said}"):
            check_subject(base, replace(bound, subject=unbound))
    other = {"w": np.array([1.0, np.nextafter(2.0, 3.0)])}
    for any_base in (False, True):
        with pytest.raises(InputError, match="the round starts from another model"):
            check_subject(other, bound, any_base=any_base)


def test_a_model_of_other_tensors_than_the_updates_is_named() -> None:
    check_fits(model(), trained(model()))
    check_fits(model(), tuple(spec._replace(dtype="float32") for spec in trained(model())))
    with pytest.raises(InputError, match=r"tensor 'half' differs: in the update shape \(6,\), in the model .*\(5,\)"):
        check_fits(model(), tuple(s._replace(shape=(6,)) if s.name == "half" else s for s in trained(model())))
    with pytest.raises(InputError, match=r"tensor 'w' differs: in the update shape \(2,\), in the model none"):
        check_fits(model(), (*trained(model()), TensorSpec("w", (2,), "float32")))
    with pytest.raises(InputError, match=r"tensor 'bn.running_mean' differs: in the update none"):
        check_fits(model(), trained(model())[1:])


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickled_models_are_refused_with_the_lines_that_convert_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(InputError, match=rf"found '{suffix}', which is pickled") as caught:
        read_tensors(path)
    assert caught.value.hint.splitlines()[1:] == conversion(path).splitlines()
    assert len(conversion(path).splitlines()) == 2


def test_the_lines_that_convert_work(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    layer[0].weight = torch.nn.Parameter(layer[0].weight.T.contiguous().T)  # not contiguous
    torch.save(layer.state_dict(), tmp_path / "m.pt")
    exec(conversion(tmp_path / "m.pt"), {})
    found = load_model(tmp_path / "m.safetensors")
    assert found["0.weight"].tolist() == layer[0].weight.tolist()
    assert buffers(found) == ("1.num_batches_tracked",)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"m{suffix}").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match=rf"m\{suffix}: not a readable {suffix} file"):
        load_model(tmp_path / f"m{suffix}")


def test_a_float_of_eight_bits_is_refused(tmp_path: Path) -> None:
    data = to_bytes({"w": np.zeros(8, np.uint8)}, Path("m.safetensors")).replace(b'"U8"', b'"F8_E4M3"')
    head = data[8:].split(b"}}")[0].rstrip() + b"}}"
    (tmp_path / "m.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(InputError, match=r"tensor 'w': expected dtype .* found 'F8_E4M3'"):
        load_model(tmp_path / "m.safetensors")


def test_delta_is_one_rounded_number() -> None:
    assert step(1.0, 12) == 1.0 / 2047
