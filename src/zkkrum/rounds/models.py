"""A model: named tensors that rounds move, what identifies it, and the step from one to the next.

Must not know proofs: whether the mean is one that was proved is `zkkrum.proof.model`'s to say.

Floats are trained; buffers (integers and truth values, such as BatchNorm's ``num_batches_tracked``) are part of the
model and of its identity, and no round changes them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Round
from zkkrum.rounds.tensors import (
    Layout,
    Tensors,
    content,
    cut,
    is_buffer,
    layout_of,
    narrow,
    read_tensors,
    save_tensors,
    widen,
)
from zkkrum.rounds.updates import flatten_named, layout_hash, require_finite


def load_model(path: Path) -> dict[str, NDArray[Any]]:
    """Load a model from ``.npy``, ``.npz`` or ``.safetensors``.

    A small file of a stranger may unpack to gigabytes: look at its layout first (`zkkrum.rounds.tensors.read_layout`).

    Raises
    ------
    InputError
        If the file is missing, damaged, pickled or of another kind, or a tensor of it cannot be trained: a dtype that
        is neither a float nor a buffer's, a value that is not finite, no floats at all.
    """
    model = read_tensors(path)
    flatten_named(model, str(path))
    return model


def save_model(path: Path, model: Tensors) -> None:
    """Write a model in the format of the suffix; a crash leaves nothing or the whole, equal models give equal files.

    Raises
    ------
    InputError
        For an unknown suffix, or several tensors for an ``.npy``.
    """
    save_tensors(path, model)


def trained(model: Tensors) -> Layout:
    """Return the layout of a model's updates: its floats, in the order in which they are flattened."""
    return layout_of({name: tensor for name, tensor in model.items() if not is_buffer(tensor.dtype)})


def buffers(model: Tensors) -> tuple[str, ...]:
    """Return the names of the tensors that no round changes, in order."""
    return tuple(spec.name for spec in layout_of(model) if is_buffer(model[spec.name].dtype))


def subject_of(model: Tensors) -> bytes:
    """Return the `subject` of a round that starts from a model: SHA-256 of its tensor layout and its values.

    Returns
    -------
    bytes, 32
        SHA-256 of the layout of *all* tensors as JSON (`layout_hash`), a zero byte, and the SHA-256 of their values:
        little-endian, each in C order, tensor after tensor in the layout's order.

    Examples
    --------
    >>> subject_of({"w": np.zeros(2, np.float32)}).hex()[:16]
    'b3f0b93e26a273f4'
    """
    digest = hashlib.sha256()
    layout = layout_of(model)
    for spec in layout:
        digest.update(content(model[spec.name]))
    return layout_hash(layout, digest.digest())


def next_model(model: Tensors, mean: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return a model moved by a mean update.

    The arithmetic is specified (protocol: The aggregate) and gives the same bits on every machine: an entry is widened
    to binary64, which is exact, one binary64 sum, and one rounding to the tensor's dtype (to nearest, ties to even).

    Parameters
    ----------
    model
        Name to array.
    mean
        Shape (d,), binary64, in the order of `trained`.

    Raises
    ------
    InputError
        If the model's floats are not d values, or a value of the next model is too large for its dtype.

    Examples
    --------
    >>> model = {"w": np.array([1, 2], np.float32), "steps": np.array(7)}
    >>> moved = next_model(model, np.array([0.5, -0.25]))
    >>> moved["w"].tolist(), moved["steps"].tolist()
    ([1.5, 1.75], 7)
    """
    base = flatten_named(model, "model")
    if base.vector.shape != mean.shape:
        raise InputError(f"model: expected {mean.size} values of floats (d), found {base.vector.size}")
    sums = cut(base.vector + mean, base.layout)
    moved = dict(model)
    for spec in base.layout:
        rounded = narrow(sums[spec.name], spec.dtype)
        require_finite(widen(rounded), f"next model: tensor {spec.name!r}", f"too large for {spec.dtype}")
        moved[spec.name] = rounded
    return moved


def check_fits(model: Tensors, layout: Layout) -> None:
    """Raise `InputError` naming the first tensor by which a model's floats differ from updates' in name or shape.

    The dtype of an update is its sender's business: every one converts exactly.
    """
    ours, theirs = ({spec.name: spec.shape for spec in found} for found in (trained(model), layout))
    different = sorted((n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)), key=str.encode)
    if different:
        name = different[0]
        shown = [f"shape {shape[name]}" if name in shape else "none" for shape in (theirs, ours)]
        raise InputError(
            f"tensor {name!r} differs: in the update {shown[0]}, in the model {shown[1]}",
            "is this the model that the round starts from, and the update of the same one?",
        )


def check_subject(model: Tensors, round: Round, *, any_base: bool = False) -> bool:
    """Tell whether a round names this model as the one it starts from.

    Parameters
    ----------
    any_base
        Return False, and do not refuse, where the round names no model: its subject is zero, or of the layout alone.

    Raises
    ------
    InputError
        If the round names another model, or none.
    """
    if round.subject == subject_of(model):
        return True
    if round.subject in (bytes(32), layout_hash(trained(model))):
        if any_base:
            return False
        raise InputError(
            "the round names no model that it starts from: its subject is "
            + ("zero" if round.subject == bytes(32) else "that of the layout alone"),
            "open rounds with `zkkrum open --base MODEL`, so that the proof binds the model",
        )
    raise InputError(
        f"the round starts from another model: its subject is {hex_of(round.subject)}, "
        f"that of this model {hex_of(subject_of(model))}",
        "a round's mean is an update of the model its clients trained on, and of no other",
    )
