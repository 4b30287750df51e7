"""From a model that a client trusts to the one it receives: every step between is a proved round, or it is refused.

Must not know Flower's apps, nor how rounds are proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord
from numpy.typing import NDArray

from zkkrum.errors import InputError, ZkkrumError
from zkkrum.files import ScratchFolder
from zkkrum.flower.messages import unpack_step
from zkkrum.proof.bundle import load_manifest
from zkkrum.proof.model import apply_aggregate
from zkkrum.proof.verify import Verification, verify
from zkkrum.protocol.field import hex_of
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.tensors import Tensors
from zkkrum.toolchain import Toolchain

Check = Callable[[Verification, Mapping[str, str]], str]
"""Given what was verified and the commitments by client, why the round is refused; empty where it is not."""


def follow(
    known: Tensors,
    received: Tensors,
    steps: Mapping[int, ConfigRecord],
    check: Check,
    tools: Callable[[], AbstractContextManager[Toolchain]],
) -> list[int]:
    """Walk from a known model to a received one by proved rounds.

    Rounds that start from another model than the one reached so far are passed over: what must fit is the end.

    Parameters
    ----------
    steps
        Round number to its record (`zkkrum.flower.messages.pack_step`), ascending.
    tools
        Opens the tools; not called where the models are equal.

    Returns
    -------
    list of int
        The rounds that lead from one to the other.

    Raises
    ------
    InputError
        If a proof is refuted, a round is refused, or the end is not the received model; the round is named.
    """
    taken: list[int] = []
    model, target = dict(known), subject_of(received)
    if subject_of(model) == target:
        return taken
    with tools() as opened:
        for number, record in steps.items():
            if subject_of(model) == target:
                break
            try:
                moved = _step(model, record, check, opened)
            except ZkkrumError as error:
                raise type(error)(f"round {number}: {error.message}", error.hint) from error
            if moved is not None:
                model = moved
                taken.append(number)
    if subject_of(model) != target:
        by = f"by the proved means of rounds {', '.join(map(str, taken))}" if taken else "by no proved round"
        raise InputError(
            f"the model received ({hex_of(target)}) is not the one this client knows: that one "
            f"({hex_of(subject_of(known))}) is moved {by} to {hex_of(subject_of(model))}",
            "either the server sent another model, or it withheld the proof of a round",
        )
    return taken


def _step(model: Tensors, record: ConfigRecord, check: Check, tools: Toolchain) -> dict[str, NDArray[Any]] | None:
    """Return the model after a verified round, or None where the round claims to start from another one."""
    with ScratchFolder() as scratch:
        bundle, aggregate = unpack_step(record, Path(scratch))
        try:
            manifest = load_manifest(bundle)
            if manifest.round.subject != hex_of(subject_of(model)):
                return None
            found = verify(bundle, tools, aggregate=aggregate)
        except InputError as error:
            said = error.message.removeprefix(f"{bundle}: ").replace(f"{scratch}/", "")
            raise InputError(said, error.hint) from error
        if not found.ok:
            raise InputError(f"its proof is refuted: {found.reason.replace(f'{scratch}/', '')}")
        if reason := check(found, {entry.client: entry.commitment for entry in manifest.commitments}):
            raise InputError(reason)
        return apply_aggregate(model, found)
