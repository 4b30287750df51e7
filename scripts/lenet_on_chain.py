"""LeNet-5 on chain (n = 10, d = 61,706): one round, really proved, on an EVM from the deployment to the slash.

    python scripts/lenet_on_chain.py                  shards of 2^15 gates: 80 proofs, two to ten minutes
    python scripts/lenet_on_chain.py --toy FOLDER     shards of 2^18 gates under a toy reference string in FOLDER

For 2^18 gates there must be 2^18 points. Where the real ones are at hand, name them in CRS_PATH and pass
--points 262144; else --toy measures the same circuits, proofs and verifiers under points whose secret is known
(`toy_reference_string.py`), with that secret's point exchanged in the verifiers. Such a run shows gas and time, and
proves nothing; it keeps to a cache of its own. The lines it prints stand in docs/onchain.md.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from toy_reference_string import second_point, write_points

from zkkrum.evm import demo, gas
from zkkrum.proof import keys
from zkkrum.protocol import forecast
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Bb, Toolchain

N, LENET5 = 10, 61_706
TOY_POINTS = 2**18
REAL_SECOND_POINT = (
    0x260E01B251F6F1C7E7FF4E580791DEE8EA51D87A358E038B4EFE30FAC09383C1,
    0x0118C4D5B837BCC2BC89B5B398B5974E9F5944073B32078B7E231FEC938883B0,
    0x04FC6369F7110FE3D25156C1BB9A72859CF2A04641F99BA4EE413C80DA6A5FE4,
    0x22FEBDA3C0C0632A56475B4214E5615E11E6DD3F96E6CEA2854A87D4DACC5E55,
)
"""What bb renders: the ceremony's secret times the generator of the second group."""


class ToyBb(Bb):
    """bb under the toy string: its verifiers get the toy's second point, and its own, which cannot, is not asked."""

    def write_solidity_verifier(self, vk: bytes, *, optimized: bool = True) -> str:
        text = super().write_solidity_verifier(vk, optimized=optimized)
        for real, toy in zip(REAL_SECOND_POINT, second_point(), strict=True):
            text, count = re.subn(f"0x0*{real:x}", f"{toy:#066x}", text)
            assert count == 1, "bb renders the second point otherwise"
        return text

    def verify(self, vk: bytes, proof: bytes, public_inputs: bytes) -> bool:
        return True


class ToyToolchain(Toolchain):
    """The tools, with the points of a folder whatever they are."""

    folder: Path

    @property
    def bb(self) -> Bb:
        return ToyBb(super().bb.path)

    def reference_string(self, points: int) -> Path:
        return self.folder


def toolchain(toy: Path | None) -> Toolchain:
    if toy is None:
        return Toolchain.find(notify=print)
    points = toy / "bn254_g1.dat"
    if not points.is_file():
        toy.mkdir(parents=True, exist_ok=True)
        write_points(TOY_POINTS + 1, points)
    os.environ["ZKKRUM_CACHE"] = str(toy.absolute() / "cache")
    patched: Any = keys
    patched.points_available, patched.key_table = (lambda: TOY_POINTS), dict
    tools = ToyToolchain(notify=print)
    tools.folder = toy.absolute()
    return tools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", type=Path, metavar="FOLDER")
    parser.add_argument("--points", type=int, default=2**15)
    arguments = parser.parse_args()
    points = TOY_POINTS if arguments.toy else arguments.points
    ceiling = forecast.SHARD_GATES if points == 2**15 else int(points * forecast.MARGIN)
    params = Params.of(N, LENET5)
    params = replace(params, chunk=forecast.default_chunk(params, ceiling))
    started = time.perf_counter()
    with toolchain(arguments.toy) as tools:
        life = demo.life(params, tools, byzantine=2, tell=print)
    print(f"{time.perf_counter() - started:.0f} s in all, proving included")
    planned = gas.forecast(params)
    proving = [step for step in life.steps if step.name.split()[0] in ("begin", "prove", "conclude") and step.gas]
    rows = [
        ("points", f"2^{points.bit_length() - 1}{' (toy)' if arguments.toy else ''}"),
        ("shards", f"{params.chunks} of {max(life.gates.values()):,} gates"),
        ("verdict's circuit", f"{life.gates['verdict']:,} gates"),
        ("deploy verifiers", f"{sum(s.gas for s in life.steps if s.name.endswith(' verifier')):,}"),
        ("deploy KrumRounds", f"{life.gas('deploy KrumRounds'):,}"),
        ("open", f"{life.gas('open'):,}"),
        ("commit, each client", f"{life.gas('commit'):,}"),
        *((step.name, f"{step.gas:,} ({step.bytes:,} bytes)") for step in proving),
        ("the verdict", f"{sum(life.proving):,} in {len(proving)} transactions; forecast {planned.verdict_gas:,}"),
        ("a shard", f"{sum(s.gas for s in proving if s.name.startswith('prove')) // params.chunks:,}"),
        ("a committed value", f"{sum(life.proving) / (N * LENET5):.1f}"),
        ("slash, two clients", f"{life.gas('slash'):,}"),
        ("outcome", life.outcome.name.lower()),
    ]
    print("\n".join(f"| {name} | {value} |" for name, value in rows))
    assert max(life.proving) < 2**24
    assert all(step.bytes < 128 * 1024 for step in proving)


if __name__ == "__main__":
    main()
