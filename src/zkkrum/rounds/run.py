"""A training run on disk: the initial model and, round after round, what it takes to check the step to the next.

Must not know how rounds are proved or checked. Layout of a run::

    initial.safetensors             the model that round 1 starts from (.safetensors, .npz or .npy)
    accuracy.json                   optional: how good the model is after each round, by the server's word
    rounds/0001/round.toml          parameters and roster, as published before anybody committed
    rounds/0001/commitments/        as the clients published them; absent where nobody did
    rounds/0001/bundle/             the proof
    rounds/0001/aggregate.npz       the sum of the accepted clients' values and its salt
    rounds/0002/gap.toml            instead: why nothing was proved in this round, ``void`` or ``unproved``
    rounds/0003/gap.toml, model.safetensors
                                    after an ``unproved`` round: the model that the run went on with

Rounds are numbered from 1, without holes. A round's folder is what `zkkrum.rounds.directory` and ``zkkrum prove``
make of it, so a run grows by ``zkkrum prove rounds/0001``. Raw updates and openings are the server's and have no place
in a run that is handed out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import Field

from zkkrum.errors import InputError
from zkkrum.files import refuse_full, write_whole
from zkkrum.protocol.params import Round
from zkkrum.rounds.directory import RoundDirectory, save_commitment
from zkkrum.rounds.models import load_model, save_model
from zkkrum.rounds.roundfile import Strict, load_json, load_toml, save_round
from zkkrum.rounds.tensors import SUFFIXES, Layout, Tensors, read_layout

ACCURACY_BYTES_MAX = 2**20
"""Some ten thousand rounds."""


class Gap(str, Enum):
    """Why a round has no proof.

    ``void``: nothing was aggregated (a commitment or opening was missing, too few clients) and the model stays as it
    is. ``unproved``: the model moved, and no proof says how.
    """

    VOID = "void"
    UNPROVED = "unproved"


class GapFile(Strict):
    """``gap.toml``: the server's own word."""

    kind: Gap = Field(strict=False)
    reason: str


class AccuracyFile(Strict):
    """``accuracy.json``: round to the accuracy of the model after it, the server's own word."""

    accuracy: dict[int, Annotated[float, Field(ge=0, le=1)]] = Field(strict=False)


@dataclass(frozen=True)
class RunRound:
    """Paths of one round of a run and what is in them."""

    number: int
    path: Path

    @property
    def home(self) -> RoundDirectory:
        """The round directory: ``round.toml`` and ``commitments/``."""
        return RoundDirectory(self.path)

    @property
    def bundle(self) -> Path:
        """The proof; ``zkkrum.prove_round`` given this path writes the aggregate where `aggregate` is."""
        return self.path / "bundle"

    @property
    def aggregate(self) -> Path:
        """S and σ."""
        return self.path / "aggregate.npz"

    @property
    def gap_file(self) -> Path:
        """``gap.toml``, instead of a bundle."""
        return self.path / "gap.toml"

    def publish(self, round: Round, commitments: Mapping[str, bytes]) -> None:
        """Write ``round.toml`` and what the clients published, by client id."""
        save_round(self.home.round_file, round)
        for client, commitment in commitments.items():
            save_commitment(self.home.commitments / f"{client}.json", client, round.context, commitment)

    def save_gap(self, kind: Gap, reason: str, model: Tensors | None = None) -> None:
        """Record that nothing was proved.

        Parameters
        ----------
        reason
            In words, for readers.
        model
            After an ``unproved`` round, and only then: the model that the run goes on with.
        """
        assert (kind is Gap.UNPROVED) == (model is not None)
        if model is not None:
            save_model(self.path / "model.safetensors", model)
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (("kind", kind.value), ("reason", reason)))
        write_whole(self.gap_file, text.encode())

    def load_gap(self) -> GapFile | None:
        """Read the record of a gap, or return None where there is none.

        Raises
        ------
        InputError
            Naming the file, if it is damaged.
        """
        return load_toml(GapFile, self.gap_file) if self.gap_file.exists() else None

    def layout_after(self) -> Layout:
        """Read the layout of the model that the run went on with after an ``unproved`` round, without its values."""
        return read_layout(_only_model(self.path, "model"))

    def load_model_after(self) -> dict[str, NDArray[Any]]:
        """Load that model."""
        return load_model(_only_model(self.path, "model"))


@dataclass(frozen=True)
class Run:
    """Paths of a run and what is in them."""

    path: Path

    @classmethod
    def create(cls, path: Path, model: Tensors, suffix: str = ".safetensors") -> Run:
        """Begin a run with its initial model.

        Raises
        ------
        InputError
            If there is something at ``path`` already.
        """
        refuse_full(path)
        save_model(path / f"initial{suffix}", model)
        return cls(path)

    @property
    def rounds(self) -> Path:
        """The folder of the rounds."""
        return self.path / "rounds"

    def round(self, number: int) -> RunRound:
        """Return a round, numbered from 1; nothing need be there."""
        return RunRound(number, self.rounds / f"{number:04d}")

    def initial_layout(self) -> Layout:
        """Read names, shapes and dtypes of the model that round 1 starts from, and none of its values."""
        return read_layout(_only_model(self.path, "initial"))

    def load_initial(self) -> dict[str, NDArray[Any]]:
        """Load the model that round 1 starts from."""
        return load_model(_only_model(self.path, "initial"))

    @property
    def accuracy_file(self) -> Path:
        """``accuracy.json``."""
        return self.path / "accuracy.json"

    def save_accuracy(self, accuracy: Mapping[int, float]) -> None:
        """Record how good the model is after each round, in [0, 1]."""
        write_whole(self.accuracy_file, (json.dumps({"accuracy": dict(accuracy)}, indent=1) + "\n").encode())

    def load_accuracy(self) -> dict[int, float]:
        """Read that record; empty where there is none.

        Raises
        ------
        InputError
            Naming the file, if it is damaged.
        """
        if not self.accuracy_file.exists():
            return {}
        return load_json(AccuracyFile, self.accuracy_file, ACCURACY_BYTES_MAX).accuracy

    def numbers(self) -> list[int]:
        """Return the numbers of the rounds that have a folder, ascending; there may be holes.

        Raises
        ------
        InputError
            If there are none, or something else is among them.
        """
        if not self.rounds.is_dir():
            round = (self.path / "round.toml").is_file()
            hint = "this is a round: `zkkrum verify` takes its bundle/" if round else "docs/training.md has the layout"
            raise InputError(f"{self.path}: not a run: no folder rounds/", hint)
        found = []
        for entry in self.rounds.iterdir():
            if entry.name.startswith("."):
                continue
            number = int(entry.name) if re.fullmatch(r"[0-9]{4,9}", entry.name) else 0
            if not number or entry != self.round(number).path or not entry.is_dir():
                raise InputError(f"{entry}: expected only folders 0001, 0002, … here")
            found.append(number)
        if not found:
            raise InputError(f"{self.rounds}: no rounds")
        return sorted(found)


def _only_model(folder: Path, stem: str) -> Path:
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").exists()]
    if len(found) != 1:
        names = ", ".join(f"{stem}{suffix}" for suffix in SUFFIXES)
        shown = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{folder}: expected one of {names}, found {shown}")
    return found[0]
