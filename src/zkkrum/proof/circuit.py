"""The circuits as sources: which crate, with which constants, and the hash that names them.

Must not know tools, witnesses or bundles. The logic is in ``circuits/zkkrum``.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zkkrum.protocol.params import Acceptance, Detection, Params, Score
from zkkrum.protocol.widths import Widths
from zkkrum.toolchain.pins import PAIR

_SCORE_STRUCT = {Score.KRUM_2017: "Krum2017", Score.ALL_PAIRS: "AllPairs"}
_DETECTION_STRUCT = {Detection.MAD: "Mad", Detection.BRACKETS: "Brackets"}


# Sources and constants


@cache
def source_folder() -> Path:
    """Return the folder of the Noir sources: inside the installed package, or at the top of a checkout."""
    installed = Path(__file__).parents[1] / "circuits"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "circuits"


def source_files(crate: str) -> Iterator[Path]:
    """Yield the files a crate is compiled from, without the constants that are rendered over."""
    for folder in ("zkkrum", crate):
        for path in sorted((source_folder() / folder).rglob("*")):
            if path.suffix in (".nr", ".toml") and path.name not in ("constants.nr", "Prover.toml"):
                yield path


@dataclass(frozen=True)
class Circuit:
    """A crate with its constants: what a verification key belongs to.

    Parameters
    ----------
    crate
        Folder under ``circuits/``: ``round``, ``shard`` or ``verdict``.
    constants
        Text of its ``constants.nr``.
    """

    crate: str
    constants: str

    @property
    def key_id(self) -> str:
        """SHA-256 over sources, constants and tool versions: the name in the cache and in the key table."""
        digest = hashlib.sha256(f"{PAIR}\n{self.crate}\n{self.constants}\n".encode())
        for path in source_files(self.crate):
            digest.update(f"{path.relative_to(source_folder()).as_posix()}\n".encode() + path.read_bytes())
        return digest.hexdigest()


def _render(uses: Sequence[str], numbers: Mapping[str, int], extra: Sequence[str] = ()) -> str:
    lines = ["//! Constants of one shape, rendered by `zkkrum.proof.circuit`.", *uses, ""]
    lines += [f"pub global {name}: u32 = {value};" for name, value in numbers.items()]
    return "\n".join([*lines, *extra, ""])


def _rule_constants(params: Params) -> tuple[list[str], dict[str, int], list[str]]:
    """Return uses, numbers and declarations of everything that follows the values."""
    p, w = params, Widths.of(params)
    score, detection = _SCORE_STRUCT[p.score], _DETECTION_STRUCT[p.detection]
    uses = [f"use zkkrum::detection::{{{detection}, Thresholds}};", f"use zkkrum::scores::{score};"]
    numbers = {
        "N": p.n,
        "PAIRS": p.pairs,
        "CLAIMS": p.claims,
        "M": p.m,
        "COUNT": p.neighbours,
        "LIMB": w.limb,
        "DISTANCE_BITS": w.distance,
        "KEY_BITS": w.key,
        "DETECTION_BITS": w.detection,
        "NEAR_BITS": w.near,
        "THRESHOLD_BITS": w.threshold,
    }
    z, gamma = p.z, p.gamma
    by_selection = str(p.acceptance is Acceptance.SELECTED).lower()
    extra = [
        f"pub global BY_SELECTION: bool = {by_selection};",
        "pub global THRESHOLDS: Thresholds = Thresholds {",
        f"    z_n: {z.numerator}, z_d: {z.denominator}, gamma_n: {gamma.numerator}, gamma_d: {gamma.denominator},",
        "};",
        f"pub type ScoreAdvice = {score}<N>;",
        f"pub type DetectionAdvice = {detection}<N>;",
    ]
    return uses, numbers, extra


def _value_constants(params: Params) -> dict[str, int]:
    return {"B": params.b, "PACK": params.pack, "GROUP": params.group, "SUM_BITS": params.sum_bits}


def round_circuit(params: Params) -> Circuit:
    """Return the circuit that proves a whole round at once; for rounds of one chunk only."""
    uses, numbers, extra = _rule_constants(params)
    return Circuit("round", _render(uses, {**numbers, "D": params.d, **_value_constants(params)}, extra))


def shard_circuit(params: Params, coordinates: int) -> Circuit:
    """Return the circuit of a shard of so many coordinates: one for all full chunks, one for a shorter last."""
    return Circuit("shard", _render([], {"N": params.n, "K": coordinates, **_value_constants(params)}))


def verdict_circuit(params: Params) -> Circuit:
    """Return the circuit that closes a sharded round; it does not depend on d but through the distances' width."""
    uses, numbers, extra = _rule_constants(params)
    return Circuit("verdict", _render(uses, numbers, extra))


def write_sources(circuit: Circuit, folder: Path) -> None:
    """Write the crates of a circuit, its constants rendered, into a folder."""
    for path in source_files(circuit.crate):
        target = folder / path.relative_to(source_folder())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / circuit.crate / "src" / "constants.nr").write_text(circuit.constants)
